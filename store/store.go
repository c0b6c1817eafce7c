package store

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/index"
	"github.com/merlinmq/merlin/message"
)

// Entry is one row of a queue.
type Entry = consumequeue.Entry

// Segment describes one file of the log.
type Segment = commitlog.Segment

// Store is an open folder. See the package comment.
type Store struct {
	dir      string
	o        Options
	lock     io.Closer
	log      *commitlog.Log
	table    *consumequeue.Table
	index    *index.Index
	registry *registry
	pending  *pending
	putters  sync.Pool // *putter
	counts   counts

	visible   atomic.Int64 // done.end, to be read without the lock
	markedEnd atomic.Int64 // marked.upto, likewise
	failure   atomic.Pointer[error]

	dispatchMu sync.Mutex // guards done, stalled and ended, and that queues are deleted between puts
	moved      sync.Cond  // done moved, or the store failed or ended
	done       progress
	stalled    error // why the dispatcher waits for room on the disk, nil if it does not
	ended      bool  // the dispatcher is gone

	checkpointMu sync.Mutex // guards marked, dropping and the two checkpoint files; taken before dispatchMu
	marked       mark
	dropping     message.Position // the log may begin there

	damagedMu sync.Mutex // held while Events.Damaged is told

	arrivals []Arrival   // the dispatcher's
	keys     []index.Key // likewise, or the recovery's
	safe     chan error  // from WhenSafe to the dispatcher
	tellSafe func(error)

	closeOnce        sync.Once
	closeErr         error
	closing          chan struct{} // closed when Close begins
	quit             chan struct{} // closed when the checkpointer must end
	checkpointNow    chan struct{}
	dispatcherDone   chan struct{}
	checkpointerDone chan struct{}
}

// Open takes the folder, making it if it is not there, makes queues and index
// agree with the log, and returns the store, ready. See the package comment for
// what it promises. Errors: ErrLocked, ErrMissing, ErrFormat, and what the file
// system says; nothing is left open then.
func Open(dir string, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, o: o, pending: newPending(o.DispatchLimit), safe: make(chan error, 1),
		closing: make(chan struct{}), quit: make(chan struct{}), checkpointNow: make(chan struct{}, 1),
		dispatcherDone: make(chan struct{}), checkpointerDone: make(chan struct{}),
	}
	s.moved.L = &s.dispatchMu
	s.tellSafe = func(err error) { s.safe <- err }
	if err := o.FS.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("store: make the folder %s: %w", dir, err)
	}
	lockTime := s.lockTime()
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	if err := s.recover(lockTime); err != nil {
		return nil, errors.Join(err, s.letGo())
	}
	go s.runDispatcher()
	go s.runCheckpointer()
	return s, nil
}

// letGo closes what is open and gives the folder back.
func (s *Store) letGo() error {
	err := s.closeViews()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
		s.lock = nil
	}
	return err
}

func (s *Store) closeViews() error {
	var errs []error
	if s.table != nil {
		errs = append(errs, s.table.Close())
	}
	if s.index != nil {
		errs = append(errs, s.index.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	s.table, s.index, s.log = nil, nil, nil
	return errors.Join(errs...)
}

// Close takes no more messages, waits until all that were taken are dispatched
// and durable, closes everything and gives the folder back. It returns what
// went wrong; then the next Open recovers as after a crash. Calling it again
// returns the same.
func (s *Store) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	s.pending.stop(ErrClosed)
	close(s.closing)
	s.pending.drain()
	err := s.Failed()
	if err == nil {
		err = s.log.Flush()
	}
	s.pending.close()
	<-s.dispatcherDone
	close(s.quit)
	<-s.checkpointerDone
	if err == nil {
		err = s.Failed()
	}
	if err == nil && s.done.end != s.log.Max() {
		err = fmt.Errorf("store: %d bytes of the log are not dispatched; the next start does it", s.log.Max()-s.done.end)
	}
	if err == nil {
		err = s.checkpoint(true, true)
	}
	if err == nil {
		s.table.SetStamp(s.marked.stamp())
	}
	return s.closeFiles(err)
}

// closeFiles closes the views. The sign of an unclean stop goes only when
// nothing went wrong.
func (s *Store) closeFiles(err error) error {
	// The views stay set: late readers get ErrClosed from them.
	err = errors.Join(err, s.table.Close(), s.index.Close(), s.log.Close())
	if err == nil {
		err = s.removeAbort()
	}
	return errors.Join(err, s.lock.Close())
}

// SyncFlush tells whether a message is safe only when it is fsynced.
func (s *Store) SyncFlush() bool { return s.o.SyncFlush }

// Writable returns why no message is taken now, or nil: ErrFailed for good,
// ErrNoSpace for now, ErrClosed.
func (s *Store) Writable() error {
	if err := s.Failed(); err != nil {
		return err
	}
	return s.pending.refused()
}

// Failed returns the sticky failure, which wraps ErrFailed, or nil.
func (s *Store) Failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes err the reason why nothing is taken any more, if there is none
// yet, and returns the reason. dispatchMu must not be held.
func (s *Store) fail(err error) error {
	err = s.failLocked(err)
	s.wakeWaiters(false)
	return err
}

// failLocked is fail for who holds dispatchMu and calls wakeWaiters later, or
// knows that nobody waits.
func (s *Store) failLocked(err error) error {
	if !errors.Is(err, ErrFailed) {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	if !s.failure.CompareAndSwap(nil, &err) {
		return s.Failed()
	}
	s.pending.stop(err)
	if s.o.Events.Failed != nil {
		s.o.Events.Failed(err)
	}
	return err
}

// Flushed returns the position up to which the log is fsynced, Safe the one up
// to which messages may be acknowledged.
func (s *Store) Flushed() message.Position { return s.log.Flushed() }

// Sync returns when everything that was appended before the call is fsynced and
// can be read, or with the reason why that will not be. ErrNoSpace: it is
// fsynced, but the disk has no room for queues or index; it can be read later.
func (s *Store) Sync() error {
	if err := s.log.Flush(); err != nil {
		return s.appendError(err)
	}
	return s.WaitVisible()
}

// Safe returns the position up to which messages may be acknowledged.
func (s *Store) Safe() message.Position { return s.log.Safe() }

// Min returns the position where the log begins.
func (s *Store) Min() message.Position { return s.log.Min() }

// Max returns the end of the log.
func (s *Store) Max() message.Position { return s.log.Max() }
