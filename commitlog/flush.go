package commitlog

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/message"
)

// flushState is what appends, waiters and the flusher share.
type flushState struct {
	flushed atomic.Int64 // fsynced up to here; only the flusher and Recover move it
	dirty   atomic.Bool  // something was written since the last fsync began
	wake    chan struct{}
	quit    chan struct{}
	done    chan struct{}

	mu      sync.Mutex // guards the fields below
	waiters []waiter   // by end, equal ends as they came
	ended   bool       // the flusher is gone
}

type waiter struct {
	end int64
	fn  func(error)
}

func (f *flushState) init() {
	f.wake, f.quit, f.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
}

func (f *flushState) kick() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// written notes that the end has moved.
func (f *flushState) written() {
	if !f.dirty.Load() && f.dirty.CompareAndSwap(false, true) {
		f.kick()
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
func (l *Log) WhenFlushed(end message.Position, fn func(error)) {
	f := &l.flush
	if f.flushed.Load() >= int64(end) {
		fn(nil)
		return
	}
	if err := l.enqueue(int64(end), fn); err != nil {
		fn(err)
		return
	}
	f.kick()
}

// enqueue adds a waiter, or says why there is nothing to wait for.
func (l *Log) enqueue(end int64, fn func(error)) error {
	f := &l.flush
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case end > l.end.Load():
		return fmt.Errorf("%w: %d is behind the end, %d", ErrNotFound, end, l.end.Load())
	case l.failure.Load() != nil:
		return l.Failed()
	case f.ended:
		return ErrClosed
	}
	f.waiters = append(f.waiters, waiter{end, fn})
	for i := len(f.waiters) - 1; i > 0 && f.waiters[i-1].end > end; i-- {
		f.waiters[i], f.waiters[i-1] = f.waiters[i-1], f.waiters[i]
	}
	return nil
}

// Flush fsyncs what is written and returns when that is done.
func (l *Log) Flush() error {
	done := make(chan error, 1)
	l.WhenFlushed(l.Max(), func(err error) { done <- err })
	return <-done
}

// flusher is the one goroutine that fsyncs: at once when somebody waits, else
// FlushEvery after the first write since the last time.
func (l *Log) flusher() {
	f := &l.flush
	defer close(f.done)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	armed := false
	var spare []waiter
	for {
		due := false
		select {
		case <-f.wake:
		case <-timer.C:
			armed, due = false, true
		case <-f.quit:
			l.lastFlush()
			return
		}
		if due || f.wanted() {
			l.flushOnce()
		}
		spare = l.answer(spare)
		if f.dirty.Load() && !armed {
			timer.Reset(l.o.FlushEvery)
			armed = true
		}
	}
}

// wanted tells whether somebody waits for an fsync.
func (f *flushState) wanted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiters) > 0
}

// flushOnce fsyncs everything up to the present end. A failed fsync is never
// tried again: the kernel may have dropped the pages and would now say yes.
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
func (l *Log) answer(spare []waiter) []waiter {
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
	ready := spare
	if n > 0 {
		ready = f.waiters[:n]
		rest := f.waiters[n:]
		f.waiters = append(spare[:0], rest...)
		clear(rest)
	}
	f.mu.Unlock()
	for i := range ready {
		if i < ok {
			ready[i].fn(nil)
		} else {
			ready[i].fn(failed)
		}
		ready[i] = waiter{}
	}
	if failed != nil {
		l.tellFailed(failed)
	}
	return ready[:0]
}

// tellFailed gives Events.Failed its one call; only the flusher calls it.
func (l *Log) tellFailed(err error) {
	if l.o.Events.Failed != nil && !l.failedTold {
		l.o.Events.Failed(err)
	}
	l.failedTold = true
}

// lastFlush is the flusher's end: nobody is left waiting.
func (l *Log) lastFlush() {
	f := &l.flush
	l.flushOnce()
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	l.answer(nil)
	f.mu.Lock()
	left := f.waiters
	f.waiters = nil
	f.mu.Unlock()
	for _, w := range left {
		w.fn(ErrClosed)
	}
}
