package pop

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("pop: closed")
	// ErrStuck says that changes cannot be written, and that no more are taken
	// until they can.
	ErrStuck = errors.New("pop: what was handed out cannot be written to the disk")
)

// Key names one queue as one group sees it.
type Key struct {
	Topic string
	Group string
	Queue int32
}

// Read asks for messages of a queue. Next of a ReadResult goes behind what was
// looked at, whether it matches or not.
type Read struct {
	Topic       string
	Queue       int32
	Offset      message.Offset
	Max         int // messages
	MaxBytes    int
	MatchTag    func(code int64) bool   // nil: all
	MatchRecord func(message.View) bool // nil: all
}

// ReadResult is what a Read found.
type ReadResult struct {
	Next message.Offset // where to go on
	Body []byte         // the caller's, with whole records appended
}

// Log is what a Table reads; safe for concurrent use.
type Log interface {
	Read(r *Read, dst []byte) (ReadResult, error)
	QueueMin(topic string, queue int32) message.Offset
	QueueMax(topic string, queue int32) message.Offset
}

// Options of Open. DB and Log are needed.
type Options struct {
	DB  *kv.DB
	Log Log
	// Sync makes Safe wait until acknowledgements survive a power cut.
	Sync bool
	// MaxQueue and MaxAll bound the messages that are handed out and not
	// acknowledged, of one queue of one group and of all; default 100,000 and a
	// million.
	MaxQueue, MaxAll int
	// OnVisible is told when messages of a queue become visible again, in ms. It
	// must not call the Table.
	OnVisible func(k Key, at int64)
	// OnWrite is told when writing begins to fail (err) and works again (nil).
	OnWrite func(err error)
}

func (o Options) withDefaults() Options {
	o.MaxQueue = cmp.Or(o.MaxQueue, 100_000)
	o.MaxAll = cmp.Or(o.MaxAll, 1_000_000)
	if o.OnVisible == nil {
		o.OnVisible = func(Key, int64) {}
	}
	if o.OnWrite == nil {
		o.OnWrite = func(error) {}
	}
	return o
}

// Table is the state of all queues of all groups that pop. All methods are
// safe for concurrent use.
type Table struct {
	o      Options
	writer *writer
	stored *kv.Bucket[[]byte]

	inFlight  atomic.Int64
	handed    atomic.Int64
	again     atomic.Int64
	acked     atomic.Int64
	refused   atomic.Int64
	forgotten atomic.Int64

	mu     sync.RWMutex // guards what follows, not the queues' insides; taken before theirs
	queues map[Key]*queue
	closed bool
}

// Open loads the state. What it says of messages that the log does not hold any
// more, or not yet, is dropped: a power cut may have taken the end of the log.
func Open(o Options) (*Table, error) {
	o = o.withDefaults()
	t := &Table{o: o, stored: kv.NewBucket(o.DB, "pop", kv.Bytes()), queues: map[Key]*queue{}}
	if err := t.load(); err != nil {
		return nil, err
	}
	var w kv.Batch
	for _, q := range t.queues {
		q.fit(&w, o.Log.QueueMin(q.key.Topic, q.key.Queue), o.Log.QueueMax(q.key.Topic, q.key.Queue))
	}
	if w.Len() > 0 {
		if err := o.DB.Write(&w, kv.Synced); err != nil {
			return nil, err
		}
	}
	t.writer = newWriter(o)
	return t, nil
}

// Close writes what is to be written and ends the Table. It returns the error
// of the last write.
func (t *Table) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	return t.writer.close()
}

// Safe waits until every change that was made before is written, and returns
// why it is not: ErrStuck with the cause.
func (t *Table) Safe() error { return t.writer.wait() }

// find returns the queue, or nil.
func (t *Table) find(k Key) *queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.queues[k]
}

// queue returns the queue, making it at the offset that begin tells.
func (t *Table) queue(k Key, begin func() (message.Offset, error)) (*queue, error) {
	if q := t.find(k); q != nil {
		return q, nil
	}
	at, err := begin()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	if q := t.queues[k]; q != nil {
		return q, nil
	}
	q := newQueue(t, k)
	q.next = at
	t.queues[k] = q
	t.writer.add(q.putCursorLocked, false) // nobody else has seen the queue
	return q, nil
}

// each returns the queues that which accepts.
func (t *Table) each(which func(Key) bool) []*queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var list []*queue
	for k, q := range t.queues {
		if which(k) {
			list = append(list, q)
		}
	}
	return list
}

// DeleteGroup forgets all queues of a group, durably.
func (t *Table) DeleteGroup(group string) error {
	return t.delete(func(k Key) bool { return k.Group == group })
}

// DeleteTopic forgets all queues of a topic, durably.
func (t *Table) DeleteTopic(topic string) error {
	return t.delete(func(k Key) bool { return k.Topic == topic })
}

func (t *Table) delete(which func(Key) bool) error {
	t.mu.Lock()
	found := false
	for k, q := range t.queues {
		if !which(k) {
			continue
		}
		found = true
		delete(t.queues, k)
		q.mu.Lock()
		t.writer.add(q.deleteAllLocked, true)
		q.mu.Unlock()
	}
	t.mu.Unlock()
	if !found {
		return nil
	}
	return t.writer.wait()
}

// Reset makes the group go on at an offset in a queue: what is handed out is
// forgotten, and its handles end. A queue that was never popped is left alone.
func (t *Table) Reset(k Key, at message.Offset) error {
	q := t.find(k)
	if q == nil {
		return nil
	}
	q.mu.Lock()
	if q.gone {
		q.mu.Unlock()
		return nil
	}
	t.writer.add(func(w *kv.Batch) {
		q.dropHandoutsLocked(w)
		q.next, q.dirty = at, true
		q.putCursorLocked(w)
	}, true)
	q.mu.Unlock()
	t.o.OnVisible(k, 0)
	return t.writer.wait()
}

// Advance hands out nothing new before an offset: somebody else consumed it.
// What is handed out already stays so.
func (t *Table) Advance(k Key, to message.Offset) {
	q := t.find(k)
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.gone && q.next < to {
		q.next, q.dirty = to, true
		t.writer.add(q.putCursorLocked, false)
	}
}

// Floors calls fn for each queue whose floor may have changed since the last
// call: everything below the floor is acknowledged.
func (t *Table) Floors(fn func(k Key, floor message.Offset)) {
	for _, q := range t.each(func(Key) bool { return true }) {
		q.mu.Lock()
		dirty, floor, gone := q.dirty, message.Offset(0), q.gone
		if dirty {
			floor = q.floorLocked()
			q.dirty = false
		}
		q.mu.Unlock()
		if dirty && !gone {
			fn(q.key, floor)
		}
	}
}

// Queues returns the queues of which a group popped, sorted; of all groups if
// it is empty.
func (t *Table) Queues(group string) []QueueState {
	var list []QueueState
	for _, q := range t.each(func(k Key) bool { return group == "" || k.Group == group }) {
		list = append(list, q.state())
	}
	slices.SortFunc(list, func(a, b QueueState) int {
		return cmp.Or(cmp.Compare(a.Key.Topic, b.Key.Topic), cmp.Compare(a.Key.Group, b.Key.Group), cmp.Compare(a.Key.Queue, b.Key.Queue))
	})
	return list
}

// QueueState is what a queue of a group is like.
type QueueState struct {
	Key      Key
	Next     message.Offset // the first that was never handed out
	Floor    message.Offset // everything below is acknowledged
	InFlight int            // handed out and not acknowledged
	Oldest   int64          // ms; when the oldest of them was handed out last, 0 if there is none
}

// Stats are counters since Open, and what there is now.
type Stats struct {
	Queues   int
	InFlight int64 // handed out and not acknowledged
	Oldest   int64 // ms; when the oldest of them was handed out last, 0 if there is none
	Handed   int64 // hand-outs of messages
	Again    int64 // of them, to hand them out again
	Acked    int64
	Refused  int64 // acknowledgements and changes with handles that are not the last ones
	Gone     int64 // handed out, and removed by retention before they were acknowledged
}

// Stats returns the counters.
func (t *Table) Stats() Stats {
	s := Stats{
		InFlight: t.inFlight.Load(), Handed: t.handed.Load(), Again: t.again.Load(),
		Acked: t.acked.Load(), Refused: t.refused.Load(), Gone: t.forgotten.Load(),
	}
	for _, q := range t.each(func(Key) bool { return true }) {
		s.Queues++
		if at := q.state().Oldest; at > 0 && (s.Oldest == 0 || at < s.Oldest) {
			s.Oldest = at
		}
	}
	return s
}
