package pop

import (
	"fmt"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
)

// maxUnwritten bounds the rows that wait to be written while writing fails.
const maxUnwritten = 100_000

// retryEvery is how long after a failed write the next is tried.
const retryEvery = time.Second

// syncEvery is how long a change that nobody wants to survive a power cut may
// be without it.
const syncEvery = 5 * time.Second

// writer writes changes in the order in which they were added, many together.
type writer struct {
	db   *kv.DB
	mark *kv.Bucket[int64] // when there was nothing to write but an fsync was due
	tell func(error)
	sync bool
	wake chan struct{}
	quit chan struct{}
	done chan struct{}

	mu       sync.Mutex // guards what follows; taken after a queue's
	moved    *sync.Cond // written, tries or err changed
	pending  *kv.Batch
	spare    *kv.Batch
	failed   []*kv.Batch // in order, before pending
	unsaid   int         // rows in failed
	added    uint64      // changes
	written  uint64
	tries    uint64    // writes that failed
	mustSync bool      // somebody of pending wants to survive a power cut
	lastSync time.Time // or, if it is later, the first write after it
	unsynced bool      // something was written since
	err      error
	closed   bool // nothing is written any more
}

func newWriter(o Options) *writer {
	w := &writer{
		db: o.DB, mark: kv.NewBucket(o.DB, "popsync", kv.Int64[int64]()), lastSync: time.Now(), tell: o.OnWrite, sync: o.Sync, pending: new(kv.Batch), spare: new(kv.Batch),
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	w.moved = sync.NewCond(&w.mu)
	go w.run()
	return w
}

// add adds a change. It does not wait; the caller holds the lock of the queue,
// so that changes of one queue are written in their order.
func (w *writer) add(fill func(*kv.Batch), important bool) {
	w.mu.Lock()
	fill(w.pending)
	w.added++
	w.mustSync = w.mustSync || important && w.sync
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// stuck returns why no more changes should be made.
func (w *writer) stuck() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil && w.unsaid+w.pending.Len() > maxUnwritten {
		return fmt.Errorf("%w: %w", ErrStuck, w.err)
	}
	return nil
}

// wait waits until what was added is written, or failed to be.
func (w *writer) wait() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	target, tries := w.added, w.tries
	for w.written < target && w.tries == tries && !w.closed {
		w.moved.Wait()
	}
	switch {
	case w.written >= target:
		return nil
	case w.err == nil:
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrStuck, w.err)
}

func (w *writer) run() {
	defer close(w.done)
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		w.write(false)
		select {
		case <-w.wake:
		case <-retry.C:
		case <-w.quit:
			w.write(true)
			return
		}
		retry.Reset(w.nextTry())
	}
}

func (w *writer) nextTry() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return retryEvery
	case w.unsynced:
		return max(0, syncEvery-time.Since(w.lastSync))
	}
	return time.Hour
}

// write writes what is pending, what failed before first.
func (w *writer) write(last bool) {
	w.mu.Lock()
	now := time.Now()
	late := last || w.unsynced && now.Sub(w.lastSync) >= syncEvery
	if late && w.unsynced && w.pending.Len() == 0 {
		_ = w.mark.PutTo(w.pending, []byte("at"), now.UnixMilli()) // a number always encodes
	}
	batch, upTo, synced, failed := w.pending, w.added, kv.Durability(w.mustSync || late), w.failed
	if batch.Len() == 0 && len(failed) == 0 {
		w.written = upTo
		w.moved.Broadcast()
		w.mu.Unlock()
		return
	}
	w.pending, w.spare, w.mustSync = w.spare, nil, false
	if w.pending == nil {
		w.pending = new(kv.Batch)
	}
	w.mu.Unlock()
	var err error
	done := 0
	for _, b := range failed {
		if err = w.db.Write(b, synced); err != nil {
			break
		}
		done++
	}
	if err == nil {
		err = w.db.Write(batch, synced)
	}
	w.mu.Lock()
	before := w.err
	w.err = err
	if w.failed = failed[done:]; err != nil {
		if batch.Len() > 0 {
			w.failed = append(w.failed, batch)
		}
		w.mustSync = w.mustSync || bool(synced)
		w.tries++
	} else {
		w.failed, w.written = nil, upTo
		if bool(synced) || !w.unsynced {
			w.lastSync = now
		}
		w.unsynced = !bool(synced)
		batch.Reset()
		w.spare = batch
	}
	w.unsaid = 0
	for _, b := range w.failed {
		w.unsaid += b.Len()
	}
	w.moved.Broadcast()
	w.mu.Unlock()
	if (before == nil) != (err == nil) {
		w.tell(err)
	}
}

// close writes what is left and returns why it could not.
func (w *writer) close() error {
	close(w.quit)
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.moved.Broadcast()
	if w.err != nil {
		return fmt.Errorf("%w: %w", ErrStuck, w.err)
	}
	return nil
}
