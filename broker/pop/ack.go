package pop

import (
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Outcome says what an acknowledgement met.
type Outcome int

// The outcomes of Ack and Change.
const (
	Done     Outcome = iota // it counts
	Repeated                // the message is acknowledged already
	Stale                   // the message was handed out again since, or its handle changed
	Unknown                 // the message was never handed out to the group
)

// Ack acknowledges messages that were handed out together, or one; popTime is
// that of their handle. It calls tell, which may be nil, with what became of
// each. Whoever answers a client waits for Safe before.
func (t *Table) Ack(k Key, popTime int64, offsets []message.Offset, tell func(message.Offset, Outcome)) error {
	if tell == nil {
		tell = func(message.Offset, Outcome) {}
	}
	if err := t.writer.stuck(); err != nil {
		return err
	}
	q := t.find(k)
	if q == nil {
		for _, off := range offsets {
			tell(off, Unknown)
		}
		t.refused.Add(int64(len(offsets)))
		return nil
	}
	q.mu.Lock()
	acked := false
	var touched *handout
	t.writer.add(func(w *kv.Batch) {
		for _, off := range offsets {
			h, outcome := q.lookLocked(off, popTime)
			if tell(off, outcome); outcome != Done {
				continue
			}
			if touched != nil && touched != h {
				q.settleLocked(w, touched)
			}
			q.removeLocked(h, h.index(off))
			touched, acked = h, true
			t.acked.Add(1)
		}
		if touched != nil {
			q.settleLocked(w, touched)
		}
	}, true)
	free := acked && len(q.entries) == 0
	q.mu.Unlock()
	if free {
		t.o.OnVisible(k, 0) // whoever pops in order may go on
	}
	return nil
}

// lookLocked finds the hand-out of a message by its handle.
func (q *queue) lookLocked(off message.Offset, popTime int64) (*handout, Outcome) {
	h := q.entries[off]
	switch {
	case q.gone, off < 0, h == nil && off >= q.next:
		q.table.refused.Add(1)
		return nil, Unknown
	case h == nil:
		return nil, Repeated
	case h.popTime != popTime:
		q.table.refused.Add(1)
		return nil, Stale
	}
	return h, Done
}

// Change makes a message visible again after a time from now on. It gets a new
// handle, whose pop time is returned: now, or as many ms later as it takes to
// differ from the old one. With uncounted its next hand-out does not count as
// an attempt.
func (t *Table) Change(k Key, off message.Offset, popTime, now int64, invisible time.Duration, uncounted bool) (newTime int64, o Outcome, err error) {
	if err := t.writer.stuck(); err != nil {
		return 0, 0, err
	}
	q := t.find(k)
	if q == nil {
		t.refused.Add(1)
		return 0, Unknown, nil
	}
	q.mu.Lock()
	old, o := q.lookLocked(off, popTime)
	if o != Done {
		q.mu.Unlock()
		return 0, o, nil
	}
	newTime = max(now, popTime+1)
	i := old.index(off)
	h := &handout{
		popTime: newTime, visible: now + invisible.Milliseconds(),
		offsets: []message.Offset{off}, times: []int32{old.times[i]}, uncounts: uncounted,
	}
	t.writer.add(func(w *kv.Batch) {
		q.removeLocked(old, i)
		q.settleLocked(w, old)
		q.newHandoutLocked(w, h)
	}, true)
	q.mu.Unlock()
	t.o.OnVisible(k, max(h.visible, newTime+1))
	return newTime, Done, nil
}

// Expired takes messages that were handed out more often than the limit and
// whose time is over: the caller has a lease to put them away and acknowledge
// them with now as pop time. It also forgets messages that the log lost.
func (t *Table) Expired(k Key, now int64, lease time.Duration, limit int32) []Message {
	q := t.find(k)
	if q == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone || q.out.Len() == 0 || !q.out.First().due(now) {
		return nil
	}
	var dead []Message
	var from []*handout
	for _, h := range q.out.All() {
		if !h.due(now) {
			continue
		}
		h.each(func(i int) {
			if times := h.again(i); times > limit && len(dead) < MaxTake {
				dead = append(dead, Message{h.offsets[i], times})
				from = append(from, h)
			}
		})
	}
	if len(dead) == 0 {
		return nil
	}
	t.writer.add(func(w *kv.Batch) {
		for i, m := range dead {
			q.removeLocked(from[i], from[i].index(m.Offset))
			q.settleLocked(w, from[i])
			// Should putting it away fail, it is as often handed out as it was.
			q.newHandoutLocked(w, &handout{
				popTime: now, visible: now + lease.Milliseconds(),
				offsets: []message.Offset{m.Offset}, times: []int32{m.Times}, uncounts: true,
			})
		}
	}, false)
	return dead
}

// Trim forgets what the log does not hold any more.
func (t *Table) Trim() {
	for _, q := range t.each(func(Key) bool { return true }) {
		low, high := t.o.Log.QueueMin(q.key.Topic, q.key.Queue), t.o.Log.QueueMax(q.key.Topic, q.key.Queue)
		q.mu.Lock()
		if !q.gone && q.out.Len() > 0 && q.floorLocked() < low {
			t.writer.add(func(w *kv.Batch) { q.trimLocked(w, low, high) }, false)
		}
		q.mu.Unlock()
	}
}

// Keys returns the queues of which something is handed out and not
// acknowledged, in no order.
func (t *Table) Keys() []Key {
	var keys []Key
	for _, q := range t.each(func(Key) bool { return true }) {
		q.mu.Lock()
		if len(q.entries) > 0 {
			keys = append(keys, q.key)
		}
		q.mu.Unlock()
	}
	return keys
}
