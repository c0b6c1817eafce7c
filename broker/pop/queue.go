package pop

import (
	"math/bits"
	"slices"
	"sync"

	"github.com/merlinmq/merlin/internal/heap"
	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// MaxTake is how many messages one hand-out holds at most.
const MaxTake = 32

// handout is some messages of one queue that one client was given together.
type handout struct {
	id       uint64
	popTime  int64 // ms
	visible  int64 // ms; from then on its messages may be handed out again
	offsets  []message.Offset
	times    []int32 // for each offset: how often it was handed out before
	left     uint32  // bits of the offsets that are not acknowledged
	uncounts bool    // that its time passed does not count as an attempt
	place    int     // in the heap
}

func (h *handout) index(off message.Offset) int {
	i, _ := slices.BinarySearch(h.offsets, off)
	return i
}

// each calls fn with the place of each message that is left.
func (h *handout) each(fn func(i int)) {
	for left := h.left; left != 0; left &= left - 1 {
		fn(bits.TrailingZeros32(left))
	}
}

// again returns how often the i-th message was handed out, this time included.
func (h *handout) again(i int) int32 {
	if h.uncounts {
		return h.times[i]
	}
	return h.times[i] + 1
}

// queue is one queue of one group.
type queue struct {
	table  *Table
	key    Key
	prefix []byte // of its rows

	mu      sync.Mutex // guards what follows
	gone    bool       // deleted: whoever found it before looks again
	next    message.Offset
	dirty   bool // the floor may have changed
	lastID  uint64
	entries map[message.Offset]*handout // of what is not acknowledged
	out     heap.Heap[*handout]         // by when they become visible
	attempt string                      // of the last ordered hand-out
}

func newQueue(t *Table, k Key) *queue {
	return &queue{
		table: t, key: k, prefix: rowPrefix(k), entries: map[message.Offset]*handout{}, dirty: true,
		out: heap.New(func(a, b *handout) bool { return a.visible < b.visible }, func(h *handout, place int) { h.place = place }),
	}
}

// addLocked takes in a hand-out.
func (q *queue) addLocked(h *handout) {
	h.each(func(i int) { q.entries[h.offsets[i]] = h })
	q.table.inFlight.Add(int64(bits.OnesCount32(h.left)))
	q.out.Push(h)
}

// newHandoutLocked takes in a new hand-out and writes it.
func (q *queue) newHandoutLocked(w *kv.Batch, h *handout) {
	q.lastID++
	h.id = q.lastID
	h.left = uint32(1<<len(h.offsets) - 1)
	q.addLocked(h)
	q.putLocked(w, h)
}

// removeLocked takes a message out of its hand-out.
func (q *queue) removeLocked(h *handout, i int) {
	h.left &^= 1 << i
	delete(q.entries, h.offsets[i])
	q.table.inFlight.Add(-1)
	q.dirty = true
}

// settleLocked writes a hand-out of which messages were removed.
func (q *queue) settleLocked(w *kv.Batch, h *handout) {
	if h.left != 0 {
		q.putLocked(w, h)
		return
	}
	if h.place >= 0 {
		q.out.Remove(h.place)
	}
	q.deleteLocked(w, h)
}

func (q *queue) dropHandoutsLocked(w *kv.Batch) {
	for _, h := range q.out.All() {
		q.deleteLocked(w, h)
	}
	q.table.inFlight.Add(-int64(len(q.entries)))
	q.out.Fill(nil)
	clear(q.entries)
	q.attempt = ""
}

func (q *queue) deleteAllLocked(w *kv.Batch) {
	q.dropHandoutsLocked(w)
	q.table.stored.DeleteTo(w, q.cursorRow())
	q.gone = true
}

func (q *queue) floorLocked() message.Offset {
	floor := q.next
	for _, h := range q.out.All() {
		h.each(func(i int) { floor = min(floor, h.offsets[i]) })
	}
	return floor
}

func (q *queue) state() QueueState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := QueueState{Key: q.key, Next: q.next, Floor: q.floorLocked(), InFlight: len(q.entries)}
	for _, h := range q.out.All() {
		if s.Oldest == 0 || h.popTime < s.Oldest {
			s.Oldest = h.popTime
		}
	}
	return s
}

// fit drops what the log does not hold; only Open calls it, alone.
func (q *queue) fit(w *kv.Batch, low, high message.Offset) {
	if q.next > high || q.next < low {
		q.next = min(max(q.next, low), high)
		q.putCursorLocked(w)
	}
	q.trimLocked(w, low, high)
}

// trimLocked drops handed-out messages that the log does not hold.
func (q *queue) trimLocked(w *kv.Batch, low, high message.Offset) {
	for _, h := range slices.Clone(q.out.All()) {
		before := h.left
		h.each(func(i int) {
			if off := h.offsets[i]; off < low || off >= high {
				q.removeLocked(h, i)
				q.table.forgotten.Add(1)
			}
		})
		if h.left != before {
			q.settleLocked(w, h)
		}
	}
}
