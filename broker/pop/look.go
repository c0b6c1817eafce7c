package pop

import "github.com/merlinmq/merlin/message"

// State returns what a queue of a group is like; false if it was never popped.
func (t *Table) State(k Key) (QueueState, bool) {
	q := t.find(k)
	if q == nil {
		return QueueState{}, false
	}
	return q.state(), true
}

// Handed is what is known of a message that may have been handed out.
type Handed struct {
	New      bool  // it never was
	InFlight bool  // it was, and is not acknowledged; else, if it is not New, nothing of it is left to hand out
	Times    int32 // how often it was handed out before the last time
	PopTime  int64 // ms; of the last time
	Visible  int64 // ms; from then on it may be handed out again
}

// Look tells about one message of a queue; false if the queue was never popped.
func (t *Table) Look(k Key, off message.Offset) (Handed, bool) {
	q := t.find(k)
	if q == nil {
		return Handed{}, false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if h := q.entries[off]; h != nil {
		return Handed{InFlight: true, Times: h.times[h.index(off)], PopTime: h.popTime, Visible: h.visible}, true
	}
	return Handed{New: off >= q.next}, true
}
