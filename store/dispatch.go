package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/index"
	"github.com/merlinmq/merlin/message"
)

// dispatchChunk is how many messages are put into the views at a time: what a
// delete or a checkpoint waits for at most.
const dispatchChunk = 512

// runDispatcher takes what appends hand over and puts it into the views, in
// log order. With SyncFlush it keeps back what is not fsynced yet.
func (s *Store) runDispatcher() {
	defer close(s.dispatcherDone)
	defer s.wakeWaiters(true)
	var items []dispatch
	var ask bool
	for {
		if items, ask = s.pending.take(items); items == nil {
			return
		}
		for rest := items; len(rest) > 0; {
			n := s.visiblePrefix(rest, ask)
			if n == 0 {
				break
			}
			s.dispatchSome(rest[:n])
			rest = rest[n:]
		}
		s.pending.done(len(items))
		clear(items)
	}
}

// visiblePrefix returns how many of the items may be seen now, waiting for the
// first, for whose fsync it asks or not; 0 says that the rest never may.
func (s *Store) visiblePrefix(items []dispatch, ask bool) int {
	n := min(len(items), dispatchChunk)
	if !s.o.SyncFlush {
		return n
	}
	for {
		safe := s.log.Safe()
		i := 0
		for i < n && items[i].end() <= safe {
			i++
		}
		if i > 0 {
			return i
		}
		if ask {
			s.log.WhenFlushed(items[n-1].end(), s.tellSafe)
		} else {
			s.log.OnceFlushed(items[n-1].end(), s.tellSafe)
		}
		if err := <-s.safe; err != nil {
			s.fail(err)
			return 0
		}
	}
}

// dispatchSome puts items into the views and tells who waits for them.
func (s *Store) dispatchSome(items []dispatch) {
	arrivals := s.arrivals[:0]
	s.dispatchMu.Lock()
	n, err := s.putEntries(items)
	// The keys of what has an entry, whatever became of the next.
	if kerr := s.putKeys(items[:n]); kerr != nil {
		n, err = 0, kerr
	}
	if n > 0 {
		d := &items[n-1]
		s.done.end, s.done.last, s.done.lastTime = d.end(), d.position, d.storeTime
	}
	for i := range items[:n] {
		if d := &items[i]; d.queue != nil && !d.queue.topic.gone.Load() {
			arrivals = append(arrivals, Arrival{
				Topic: d.queue.topic.name, Queue: d.queue.id, Offset: d.offset,
				TagCode: d.tagCode, StoreTime: d.storeTime, Position: d.position, Size: d.size,
			})
		}
	}
	if err != nil {
		s.failLocked(err)
	}
	end := s.done.end
	s.moved.Broadcast()
	s.dispatchMu.Unlock()
	s.visible.Store(int64(end))
	if s.o.OnArrive != nil && len(arrivals) > 0 {
		s.o.OnArrive(arrivals)
	}
	s.arrivals = arrivals
	if int64(end)-s.markedEnd.Load() >= s.o.CheckpointBytes {
		select {
		case s.checkpointNow <- struct{}{}:
		default:
		}
	}
}

// putEntries puts the entries of the items, in order, and returns for how many
// it has; what follows must not be put after an error. dispatchMu is held.
func (s *Store) putEntries(items []dispatch) (n int, err error) {
	if err := s.Failed(); err != nil {
		return 0, err
	}
	for i := range items {
		if items[i].queue == nil {
			continue
		}
		if err := s.putEntry(&items[i]); err != nil {
			return i, err
		}
	}
	return len(items), nil
}

func (s *Store) putEntry(d *dispatch) error {
	q := d.queue
	before := q.cq.Max()
	e := Entry{Position: d.position, Size: d.size, TagCode: d.tagCode}
	err := q.cq.Put(d.offset, e)
	for errors.Is(err, consumequeue.ErrNoSpace) {
		if err = s.waitForSpace(err); err == nil {
			err = q.cq.Put(d.offset, e)
		}
	}
	switch {
	case errors.Is(err, consumequeue.ErrDeleted):
		// The topic went while the message was on its way.
	case err != nil:
		return fmt.Errorf("store: put %s queue %d offset %d: %w", q.topic.name, q.id, d.offset, err)
	default:
		s.done.entries += int64(q.cq.Max() - before)
	}
	return nil
}

// keysOf returns the keys of the items, in room that the next call uses again.
func (s *Store) keysOf(items []dispatch) []index.Key {
	if s.o.NoIndex {
		return nil
	}
	keys := s.keys[:0]
	for i := range items {
		d := &items[i]
		for _, hash := range d.keys[:d.keyCount] {
			keys = append(keys, index.Key{Hash: hash, Position: d.position, StoreTime: d.storeTime})
		}
		for _, hash := range d.moreKeys {
			keys = append(keys, index.Key{Hash: hash, Position: d.position, StoreTime: d.storeTime})
		}
	}
	if cap(keys) <= keptKeys {
		s.keys = keys
	}
	return keys
}

// putKeys puts the items' keys into the index. dispatchMu is held.
func (s *Store) putKeys(items []dispatch) error {
	keys := s.keysOf(items)
	for len(keys) > 0 {
		n, err := s.index.PutKeys(keys)
		if n > 0 {
			s.done.index = keys[n-1].Position
		}
		keys = keys[n:]
		if errors.Is(err, ErrNoSpace) || isNoSpace(err) {
			err = s.waitForSpace(err)
		}
		if err != nil {
			return fmt.Errorf("store: put a key of the record at %d: %w", keys[0].Position, err)
		}
	}
	return nil
}

// keptKeys is how many keys' room is kept between two chunks.
const keptKeys = 16 * dispatchChunk

// waitForSpace refuses appends for a moment while the disk has no room for the
// views. It returns an error when the store closes meanwhile: the next start
// dispatches again.
func (s *Store) waitForSpace(cause error) (err error) {
	s.stalled = fmt.Errorf("%w: %w", ErrNoSpace, cause)
	s.pending.hold(s.stalled)
	// Who waits may be the one that would make room.
	s.moved.Broadcast()
	s.dispatchMu.Unlock()
	select {
	case <-s.closing:
		err = fmt.Errorf("store: closed before the disk had room for the queues again: %w", cause)
	case <-time.After(spaceRetry):
		err = s.Failed()
	}
	s.dispatchMu.Lock()
	s.stalled = nil
	if err == nil {
		s.pending.hold(nil)
	}
	return err
}

const spaceRetry = 200 * time.Millisecond

// runCheckpointer writes checkpoints until Close.
func (s *Store) runCheckpointer() {
	defer close(s.checkpointerDone)
	timer := time.NewTimer(s.o.CheckpointEvery)
	defer timer.Stop()
	full := false
	for {
		select {
		case <-s.quit:
			return
		case <-s.checkpointNow:
		case <-timer.C:
		}
		if s.Failed() == nil {
			err := s.checkpoint(false, false)
			switch {
			case err != nil && !isNoSpace(err):
				s.fail(err)
			case err != nil && !full && s.o.Events.Uncheckpointed != nil:
				s.o.Events.Uncheckpointed(err)
			}
			full = err != nil
		}
		timer.Reset(s.o.CheckpointEvery)
	}
}

// WaitVisible returns when everything that was appended before the call can be
// read, or with the reason why that will not be, or not soon: ErrNoSpace while
// the disk has no room for queues or index. It is for deletes, shutdowns and
// tests, not for the way of a message.
func (s *Store) WaitVisible() error {
	end := s.log.Max()
	s.dispatchMu.Lock()
	defer s.dispatchMu.Unlock()
	for s.done.end < end {
		if err := s.Failed(); err != nil {
			return err
		}
		if s.ended {
			return ErrClosed
		}
		if s.stalled != nil {
			return s.stalled
		}
		s.moved.Wait()
	}
	return nil
}

// wakeWaiters lets WaitVisible look again.
func (s *Store) wakeWaiters(ended bool) {
	s.dispatchMu.Lock()
	s.ended = s.ended || ended
	s.dispatchMu.Unlock()
	s.moved.Broadcast()
}

// Visible returns the position up to which records are dispatched.
func (s *Store) Visible() message.Position { return message.Position(s.visible.Load()) }
