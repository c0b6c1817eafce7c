package commitlog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/message"
)

// flushState is what appends, waiters and whoever flushes share.
type flushState struct {
	flushed atomic.Int64 // fsynced up to here; only who is busy, and Recover, moves it
	dirty   atomic.Bool  // something was written since the last fsync began
	timer   *time.Timer  // when what is dirty is fsynced though nobody waits
	wake    chan struct{}
	quit    chan struct{}
	done    chan struct{}

	mu      sync.Mutex // guards the fields below
	waiters []waiter   // by end, equal ends as they came
	spare   []waiter   // room that answer uses again; whoever is busy has it
	asked   bool       // a waiter wants the next fsync to begin
	busy    bool       // the flusher, or an appender in FlushAlone, is at it
	idle    sync.Cond  // busy became false
	ended   bool       // the flusher is gone
}

type waiter struct {
	end int64
	fn  func(error)
}

func (f *flushState) init() {
	f.wake, f.quit, f.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	f.timer = time.NewTimer(time.Hour)
	f.timer.Stop()
	f.idle.L = &f.mu
}

func (f *flushState) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// written notes that the end has moved: an fsync follows at last after so long.
func (f *flushState) written(atLast time.Duration) {
	if !f.dirty.Load() && f.dirty.CompareAndSwap(false, true) {
		f.timer.Reset(atLast)
	}
}

func (f *flushState) stop() {
	close(f.quit)
	<-f.done
}

// Flushed returns the position up to which the log is fsynced.
func (l *Log) Flushed() message.Position { return position(l.flush.flushed.Load()) }

// Safe returns the position up to which an append may be acknowledged.
func (l *Log) Safe() message.Position {
	if l.o.Sync {
		return l.Flushed()
	}
	return l.Max()
}

// WhenSafe calls fn once, when the log is safe up to end (nil) or never will be
// (ErrFailed, ErrClosed): at once on this goroutine if that is known already,
// else on the flusher, in the order of their ends. fn must be short.
func (l *Log) WhenSafe(end message.Position, fn func(error)) {
	if l.Safe() >= end {
		fn(nil)
		return
	}
	l.WhenFlushed(end, fn)
}

// WhenFlushed is WhenSafe for the fsync alone, whatever Options.Sync says.
func (l *Log) WhenFlushed(end message.Position, fn func(error)) { l.when(end, fn, true) }

// OnceFlushed is WhenFlushed without asking for an fsync: for who only looks on
// while somebody else, or the time, brings it about.
func (l *Log) OnceFlushed(end message.Position, fn func(error)) { l.when(end, fn, false) }

func (l *Log) when(end message.Position, fn func(error), ask bool) {
	f := &l.flush
	if f.flushed.Load() >= int64(end) {
		fn(nil)
		return
	}
	kick, err := l.enqueue(int64(end), fn, ask)
	if err != nil {
		fn(err)
		return
	}
	if kick {
		f.kick()
	}
}

// enqueue adds a waiter and tells whether the flusher is to look at it, or says
// why there is nothing to wait for.
func (l *Log) enqueue(end int64, fn func(error), ask bool) (kick bool, err error) {
	f := &l.flush
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case end > l.end.Load():
		return false, fmt.Errorf("%w: %d is behind the end, %d", ErrNotFound, end, l.end.Load())
	case l.failure.Load() != nil:
		return false, l.Failed()
	case f.ended:
		return false, ErrClosed
	}
	// An fsync that has ended meanwhile may have answered its waiters already,
	// and nobody need come for another one.
	ask = ask || f.flushed.Load() >= end
	f.asked = f.asked || ask
	f.waiters = append(f.waiters, waiter{end, fn})
	for i := len(f.waiters) - 1; i > 0 && f.waiters[i-1].end > end; i-- {
		f.waiters[i], f.waiters[i-1] = f.waiters[i-1], f.waiters[i]
	}
	return ask, nil
}

// Flush fsyncs what is written and returns when that is done.
func (l *Log) Flush() error {
	done := make(chan error, 1)
	l.WhenFlushed(l.Max(), func(err error) { done <- err })
	return <-done
}

// FlushAlone fsyncs on the caller's goroutine, if nobody else is at it or
// waits for it, and returns true and what came of it. For a lone appender this
// is quicker than to wake the flusher and to be woken; many share an fsync by
// WhenSafe, so false says that this is the way to go. begun, if it is not nil, is
// called before the fsync.
func (l *Log) FlushAlone(begun func()) (alone bool, err error) {
	f := &l.flush
	f.mu.Lock()
	if f.busy || f.asked || f.ended || l.failure.Load() != nil {
		f.mu.Unlock()
		return false, nil
	}
	f.busy = true
	f.mu.Unlock()
	if begun != nil {
		begun()
	}
	l.flushOnce()
	if l.failure.Load() == nil {
		l.answer()
	}
	l.rest()
	return true, l.Failed()
}

// flusher is the one goroutine that fsyncs for others: at once when somebody
// asks, else FlushEvery after the first write since the last time.
func (l *Log) flusher() {
	f := &l.flush
	defer close(f.done)
	defer f.timer.Stop()
	for {
		due := false
		select {
		case <-f.wake:
		case <-f.timer.C:
			due = true
		case <-f.quit:
			l.lastFlush()
			return
		}
		if !f.begin(due || l.failure.Load() != nil) {
			continue // whoever is busy wakes us at its end if there is more to do
		}
		l.flushOnce()
		l.answer()
		if l.o.Events.Answered != nil {
			l.o.Events.Answered()
		}
		l.tellFailed()
		l.rest()
	}
}

// begin makes the caller the one that flushes, if there is reason to and nobody
// else does.
func (f *flushState) begin(must bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy {
		f.asked = f.asked || must
		return false
	}
	f.busy = must || f.asked
	f.asked = false
	return f.busy
}

// rest lets the next one flush. What was asked for meanwhile, or failed, is the
// flusher's.
func (l *Log) rest() {
	f := &l.flush
	f.mu.Lock()
	f.busy = false
	more := f.asked || l.failure.Load() != nil && !l.failedTold
	f.idle.Broadcast()
	f.mu.Unlock()
	if more {
		f.kick()
	}
}

// flushOnce fsyncs everything up to the present end; who calls it is busy. A
// failed fsync is never tried again: the kernel may have dropped the pages and would now say yes.
func (l *Log) flushOnce() {
	f := &l.flush
	if l.failure.Load() != nil {
		return
	}
	f.dirty.Store(false) // before end is read, so that a later write sets it again
	target, from := l.end.Load(), f.flushed.Load()
	if target <= from {
		return
	}
	began := l.o.Now()
	for _, s := range *l.segs.Load() {
		if s.end() <= from || s.base >= target {
			continue
		}
		if err := l.syncSegment(s); err != nil {
			l.fail(err)
			return
		}
		f.flushed.Store(min(target, s.end()))
	}
	if l.o.Events.Flushed != nil {
		l.o.Events.Flushed(target-from, l.o.Now().Sub(began))
	}
}

func (l *Log) syncSegment(s *segment) error {
	if !s.acquire() {
		return nil // dropped: nothing of it can be lost any more
	}
	defer s.release()
	if !s.named.Load() {
		if err := errors.Join(l.o.FS.SyncDir(l.parent()), l.o.FS.SyncDir(l.dir)); err != nil {
			return fmt.Errorf("commitlog: flush the folder's names: %w", err)
		}
		s.named.Store(true)
	}
	file, err := s.open()
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return fmt.Errorf("commitlog: flush %s: %w", s.name, err)
	}
	return nil
}

// answer calls the waiters whose end is flushed, all of them after a failure.
// It swaps its spare slice with the queue's, so that waiting allocates nothing.
// Who calls it is busy.
func (l *Log) answer() {
	f := &l.flush
	f.mu.Lock()
	failed := l.Failed()
	n := 0
	for flushed := f.flushed.Load(); n < len(f.waiters) && f.waiters[n].end <= flushed; {
		n++
	}
	ok := n
	if failed != nil {
		n = len(f.waiters)
	}
	if n == 0 {
		f.mu.Unlock()
		return
	}
	ready, rest := f.waiters[:n], f.waiters[n:]
	f.waiters = append(f.spare[:0], rest...)
	clear(rest)
	f.spare = nil
	f.mu.Unlock()
	for i := range ready {
		if i < ok {
			ready[i].fn(nil)
		} else {
			ready[i].fn(failed)
		}
		ready[i] = waiter{}
	}
	f.mu.Lock()
	f.spare = ready[:0]
	f.mu.Unlock()
}

// tellFailed gives Events.Failed its one call; only the flusher calls it.
func (l *Log) tellFailed() {
	err := l.Failed()
	if err == nil {
		return
	}
	if l.o.Events.Failed != nil && !l.failedTold {
		l.o.Events.Failed(err)
	}
	l.flush.mu.Lock()
	l.failedTold = true
	l.flush.mu.Unlock()
}

// lastFlush is the flusher's end: nobody is left waiting.
func (l *Log) lastFlush() {
	f := &l.flush
	f.mu.Lock()
	for f.busy {
		f.idle.Wait()
	}
	f.busy = true
	f.mu.Unlock()
	l.flushOnce()
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	l.answer()
	if l.o.Events.Answered != nil {
		l.o.Events.Answered()
	}
	l.tellFailed()
	f.mu.Lock()
	left := f.waiters
	f.waiters = nil
	f.mu.Unlock()
	for _, w := range left {
		w.fn(ErrClosed)
	}
}
