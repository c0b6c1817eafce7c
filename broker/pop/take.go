package pop

import (
	"cmp"
	"slices"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Query asks for messages of one queue.
type Query struct {
	Key       Key
	Max       int   // messages, MaxTake at most
	MaxBytes  int   // at least one message is given
	Now       int64 // ms; it is the pop time of what is handed out
	Invisible time.Duration
	// Order hands out nothing while something that was handed out may still be
	// acknowledged in time.
	Order bool
	// Attempt names an ordered pop: the same one again gets the same messages.
	Attempt string
	// Limit is how often a message may be handed out again; more is for Expired.
	Limit int32
	// Begin tells where a group begins in a queue of which it never popped.
	Begin       func() (message.Offset, error)
	MatchTag    func(code int64) bool   // nil: all
	MatchRecord func(message.View) bool // nil: all
	// Try gives up, with Busy, while somebody else pops from the queue.
	Try bool
}

// Message is one that was handed out.
type Message struct {
	Offset message.Offset
	Times  int32 // how often it was handed out before
}

// Taken is what came of a Query.
type Taken struct {
	Messages []Message // by offset
	Body     []byte    // the caller's, with their records appended in that order
	Rest     int64     // messages behind those that were ever handed out
	Busy     bool      // somebody else popped; nothing was looked at
	Full     bool      // too many messages are not acknowledged: only those come again
}

// Take hands messages out: first those whose time is over, then new ones. The
// records of the former say how often they were tried. What it changes is
// written soon; a caller that waits for Safe finds nothing that is needed.
func (t *Table) Take(r *Query, dst []byte) (Taken, error) {
	res := Taken{Body: dst}
	if err := t.writer.stuck(); err != nil {
		return res, err
	}
	for {
		q, err := t.queue(r.Key, r.Begin)
		if err != nil {
			return res, err
		}
		if !r.Try {
			q.mu.Lock()
		} else if !q.mu.TryLock() {
			res.Busy = true
			return res, nil
		}
		if q.gone {
			q.mu.Unlock()
			continue
		}
		err = q.takeLocked(r, &res)
		q.mu.Unlock()
		if n := int64(len(res.Messages)); n > 0 {
			t.handed.Add(n)
			t.o.OnVisible(r.Key, r.Now+r.Invisible.Milliseconds())
		}
		return res, err
	}
}

func (q *queue) takeLocked(r *Query, res *Taken) error {
	start := len(res.Body)
	h := &handout{popTime: r.Now, visible: r.Now + r.Invisible.Milliseconds()}
	same := r.Order && r.Attempt != "" && r.Attempt == q.attempt
	defer func() { res.Rest = max(0, int64(q.table.o.Log.QueueMax(q.key.Topic, q.key.Queue)-q.next)) }()
	if r.Order && !same && q.blockedLocked(r.Now) {
		return nil
	}
	if err := q.takeAgainLocked(r, h, res, start, same); err != nil {
		return err
	}
	next := q.next
	room := r.Max - len(h.offsets)
	if len(h.offsets) > 0 && q.next-h.offsets[0] >= maxSpan || r.Order && len(q.entries) > 0 {
		room = 0
	}
	if room > 0 {
		var err error
		if next, err = q.readNew(r, h, res, room, start); err != nil {
			return err
		}
	}
	if next == q.next && len(h.offsets) == 0 {
		return nil
	}
	q.table.writer.add(func(w *kv.Batch) {
		q.leaveOldLocked(w, h)
		if next != q.next {
			q.next, q.dirty = next, true
			q.putCursorLocked(w)
		}
		if len(h.offsets) > 0 {
			q.newHandoutLocked(w, h)
			if r.Order {
				q.attempt = r.Attempt
			}
		}
	}, false)
	for i, off := range h.offsets {
		res.Messages = append(res.Messages, Message{off, h.times[i]})
	}
	return nil
}

// maxSpan bounds how far the offsets of one hand-out are apart: acknowledgements
// of several of them come as bits.
const maxSpan = 4096

// blockedLocked tells whether something that was handed out is invisible.
func (q *queue) blockedLocked(now int64) bool {
	for _, h := range q.out.All() {
		if !h.due(now) {
			return true
		}
	}
	return false
}

// due tells whether the hand-out's time is over. Within the millisecond of the
// hand-out it is not, so that no two handles of a message are the same.
func (h *handout) due(now int64) bool { return h.visible <= now && h.popTime < now }

// takeAgainLocked reads the messages whose time is over into h, lowest offsets
// first. They stay where they are until leaveOldLocked.
func (q *queue) takeAgainLocked(r *Query, h *handout, res *Taken, start int, same bool) error {
	due := q.dueLocked(r, same)
	for len(due) > 0 {
		run := 1
		for run < len(due) && due[run].Offset == due[run-1].Offset+1 {
			run++
		}
		before := len(h.offsets)
		room := r.MaxBytes - (len(res.Body) - start)
		if before > 0 && room <= 0 {
			return nil
		}
		got, err := q.table.o.Log.Read(&Read{Topic: q.key.Topic, Queue: q.key.Queue, Offset: due[0].Offset, Max: run, MaxBytes: max(room, 1)}, res.Body)
		if err != nil {
			return err
		}
		last := due[run-1].Offset
		q.keepRead(h, res, got.Body, func(off message.Offset) (int32, bool) {
			if off > last {
				return 0, false
			}
			return due[off-due[0].Offset].Times, true
		})
		q.forgetGoneLocked(due[:run], h.offsets[before:], got.Next)
		if got.Next <= due[0].Offset {
			return nil
		}
		for len(due) > 0 && due[0].Offset < got.Next {
			due = due[1:]
		}
	}
	return nil
}

// dueLocked returns up to Max messages to hand out again, by offset.
func (q *queue) dueLocked(r *Query, same bool) []Message {
	if q.out.Len() == 0 || !same && !q.out.First().due(r.Now) {
		return nil
	}
	var due []Message
	collect := func(h *handout) {
		h.each(func(i int) {
			times := h.again(i)
			if same {
				times = h.times[i]
			}
			if times <= r.Limit {
				due = append(due, Message{h.offsets[i], times})
			}
		})
	}
	if r.Order {
		for _, h := range q.out.All() {
			collect(h)
		}
	} else {
		var looked []*handout
		for q.out.Len() > 0 && q.out.First().due(r.Now) && len(due) < r.Max {
			h := q.out.Pop()
			looked = append(looked, h)
			collect(h)
		}
		for _, h := range looked {
			q.out.Push(h)
		}
	}
	slices.SortFunc(due, func(a, b Message) int { return cmp.Compare(a.Offset, b.Offset) })
	due = due[:min(len(due), r.Max)]
	for i := range due {
		if due[i].Offset-due[0].Offset >= maxSpan {
			return due[:i]
		}
	}
	return due
}

// keepRead goes through records that were read behind what the answer holds,
// and takes into h those that wanted accepts; it tells them how often they came.
func (q *queue) keepRead(h *handout, res *Taken, body []byte, wanted func(message.Offset) (times int32, ok bool)) {
	to := len(res.Body)
	for rest := body[to:]; len(rest) > 0; {
		v, err := message.Parse(rest)
		if err != nil || len(v) > len(rest) {
			break // the log gives whole records
		}
		rest = rest[len(v):]
		off := v.QueueOffset()
		times, ok := wanted(off)
		if !ok {
			continue
		}
		if times > 0 {
			v.SetReconsumeTimes(max(v.ReconsumeTimes(), min(v.ReconsumeTimes()+times, MaxShown)))
		}
		to += copy(body[to:], v)
		h.offsets = append(h.offsets, off)
		h.times = append(h.times, times)
	}
	res.Body = body[:to]
}

// MaxShown is the highest number of attempts that a record is given: the Java
// client acknowledges by itself what came 16 times, without having handled it.
const MaxShown = 15

// forgetGoneLocked drops what the log passed over without giving it: retention
// took it, or its record cannot be read.
func (q *queue) forgetGoneLocked(due []Message, got []message.Offset, next message.Offset) {
	for _, m := range due {
		if m.Offset >= next {
			return
		}
		if _, found := slices.BinarySearch(got, m.Offset); found {
			continue
		}
		h := q.entries[m.Offset]
		q.table.forgotten.Add(1)
		q.table.writer.add(func(w *kv.Batch) {
			q.removeLocked(h, h.index(m.Offset))
			q.settleLocked(w, h)
		}, false)
	}
}

// leaveOldLocked takes the messages of h that were handed out before out of
// their old hand-outs.
func (q *queue) leaveOldLocked(w *kv.Batch, h *handout) {
	for i := 0; i < len(h.offsets); {
		old := q.entries[h.offsets[i]]
		if old == nil {
			i++
			continue
		}
		for ; i < len(h.offsets) && q.entries[h.offsets[i]] == old; i++ {
			q.removeLocked(old, old.index(h.offsets[i]))
			q.table.again.Add(1)
		}
		q.settleLocked(w, old)
	}
}

// readRounds bounds how many filtered stretches one Take looks at.
const readRounds = 16

// readNew reads messages from the cursor on into h and returns where the
// cursor goes.
func (q *queue) readNew(r *Query, h *handout, res *Taken, room, start int) (message.Offset, error) {
	t := q.table
	next, end := q.next, t.o.Log.QueueMax(q.key.Topic, q.key.Queue)
	if len(q.entries)+room > t.o.MaxQueue || t.inFlight.Load()+int64(room) > int64(t.o.MaxAll) {
		res.Full = next < end
		return next, nil
	}
	for round := 0; round < readRounds && next < end && room > 0; round++ {
		space := r.MaxBytes - (len(res.Body) - start)
		if len(h.offsets) > 0 && space <= 0 {
			break
		}
		got, err := t.o.Log.Read(&Read{
			Topic: q.key.Topic, Queue: q.key.Queue, Offset: next, Max: room, MaxBytes: max(space, 1),
			MatchTag: r.MatchTag, MatchRecord: r.MatchRecord,
		}, res.Body)
		if err != nil {
			return q.next, err
		}
		before := len(h.offsets)
		q.keepRead(h, res, got.Body, func(message.Offset) (int32, bool) { return 0, true })
		if got.Next <= next {
			break
		}
		next = got.Next
		if room -= len(h.offsets) - before; len(h.offsets) > before {
			break
		}
	}
	return next, nil
}

// Ready tells whether a Take would find something now, as far as can be told
// without reading, and else when it would: in ms, 0 if that is not known.
func (t *Table) Ready(k Key, now int64, order bool) (ready bool, at int64) {
	q := t.find(k)
	end := t.o.Log.QueueMax(k.Topic, k.Queue)
	if q == nil {
		return end > t.o.Log.QueueMin(k.Topic, k.Queue), 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if order && len(q.entries) > 0 {
		for _, h := range q.out.All() {
			if !h.due(now) {
				at = max(at, h.visible, h.popTime+1)
			}
		}
		return at == 0, at
	}
	if q.out.Len() > 0 {
		if h := q.out.First(); h.due(now) {
			return true, 0
		} else {
			at = max(h.visible, h.popTime+1)
		}
	}
	return end > q.next && len(q.entries)+MaxTake <= t.o.MaxQueue, at
}
