package txn

import (
	"encoding/binary"
	"errors"
	"maps"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// state is what the DB holds: pending halves, how far the two queues are
// applied to them, where carried halves went, and what happened to halves.
type state struct {
	db     *kv.DB
	halves *kv.Bucket[storedHalf]
	marks  *kv.Bucket[int64]
	moves  *kv.Bucket[storedMove]
	events *kv.Bucket[Event]
}

func newState(db *kv.DB) *state {
	return &state{
		db:     db,
		halves: kv.NewBucket(db, "txn.half", kv.Codec[storedHalf]{Append: appendStoredHalf, Decode: decodeStoredHalf}),
		marks:  kv.NewBucket(db, "txn.mark", kv.Int64[int64]()),
		moves:  kv.NewBucket(db, "txn.move", kv.JSON[storedMove]()),
		events: kv.NewBucket(db, "txn.event", kv.JSON[Event]()),
	}
}

var (
	keyHalfMark = []byte("half")
	keyOpMark   = []byte("op")
)

type storedHalf struct {
	pos               message.Position
	stored, born, due int64
	checks            int32
	group             string
}

func appendStoredHalf(dst []byte, h storedHalf) ([]byte, error) {
	for _, n := range []int64{int64(h.pos), h.stored, h.born, h.due, int64(h.checks)} {
		dst = binary.AppendVarint(dst, n)
	}
	return append(dst, h.group...), nil
}

var errHalf = errors.New("a stored half is cut short")

func decodeStoredHalf(b []byte) (h storedHalf, err error) {
	var n [5]int64
	for i := range n {
		v, size := binary.Varint(b)
		if size <= 0 {
			return h, errHalf
		}
		n[i], b = v, b[size:]
	}
	return storedHalf{pos: message.Position(n[0]), stored: n[1], born: n[2], due: n[3], checks: int32(n[4]), group: string(b)}, nil
}

type storedMove struct {
	To  message.Offset   `json:"to"`
	Old message.Position `json:"old"`
}

// Event is something that happened to a half.
type Event struct {
	At         time.Time `json:"at"`
	What       string    `json:"what"` // check, commit, rollback, discarded
	Number     int32     `json:"number,omitempty"`
	Client     string    `json:"client,omitempty"`
	Addr       string    `json:"addr,omitempty"`
	Answer     string    `json:"answer,omitempty"`
	AnsweredAt time.Time `json:"answered_at,omitzero"`
	FromCheck  bool      `json:"from_check,omitempty"`
	Admin      bool      `json:"admin,omitempty"`
	Text       string    `json:"text,omitempty"`
}

// CheckEvent is the event of a check.
type CheckEvent = Event

// keyedEvent waits to be written. check is the event as it is when that happens.
type keyedEvent struct {
	off   message.Offset
	n     int32
	check *CheckEvent
}

const (
	endEvent = 1<<31 - 1
	// maxEvents bounds the events that wait to be written.
	maxEvents = 100_000
	// keptEvents is how many events of ended halves are kept.
	keptEvents = 50_000
)

func offKey(off message.Offset) []byte { return binary.BigEndian.AppendUint64(nil, uint64(off)) }

func eventKey(off message.Offset, n int32) []byte {
	return binary.BigEndian.AppendUint32(offKey(off), uint32(n))
}

func offOf(key []byte) message.Offset {
	if len(key) < 8 {
		return message.NoOffset
	}
	return message.Offset(binary.BigEndian.Uint64(key))
}

// noteLocked adds an event of a half.
func (c *Coordinator) noteLocked(off message.Offset, n int32, e Event) {
	if len(c.events) < maxEvents {
		c.events = append(c.events, keyedEvent{off: off, n: n, check: &e})
	}
}

// snapshot is a batch of writes that waits until the log is durable up to end,
// so that the DB never knows of more than the log does.
type snapshot struct {
	w   kv.Batch
	end message.Position
}

// maxCapture bounds the halves of one snapshot.
const maxCapture = 50_000

type capturedHalf struct {
	off   message.Offset
	half  half
	group string
}

// capture takes what is to be written. It runs on the checker's goroutine.
func (c *Coordinator) capture() (*snapshot, error) {
	c.mu.Lock()
	halves := make([]capturedHalf, 0, min(len(c.changed), maxCapture))
	for off := range c.changed {
		if len(halves) == maxCapture {
			break
		}
		delete(c.changed, off)
		h, ok := c.pending[off]
		if !ok {
			continue
		}
		h.kept = true
		c.pending[off] = h
		halves = append(halves, capturedHalf{off, h, c.groups.list[h.group].name})
	}
	whole := len(c.changed) == 0
	outcomes := c.outcomes.capture()
	gone, goneMove, events := c.gone, c.goneMove, c.events
	c.gone, c.goneMove, c.events = nil, nil, nil
	for i := range events {
		e := *events[i].check
		events[i].check = &e
	}
	var moved map[message.Offset]movedTo
	if c.movesChanged {
		moved, c.movesChanged = maps.Clone(c.moved), false
	}
	c.noteOpMarkLocked(c.appliedOpsLocked())
	halfMark, opMark := c.cursor, c.saved[1]
	if op, ok := c.opBelowLocked(halfMark); ok {
		opMark = op
	}
	c.mu.Unlock()

	s := &snapshot{end: c.log.End()}
	var err error
	put := func(e error) {
		if err == nil {
			err = e
		}
	}
	for _, h := range halves {
		put(c.state.halves.PutTo(&s.w, offKey(h.off), storedHalf{h.half.pos, h.half.stored, h.half.born, h.half.due, h.half.checks, h.group}))
	}
	for _, off := range gone {
		c.state.halves.DeleteTo(&s.w, offKey(off))
	}
	put(c.outcomes.putTo(&s.w, outcomes))
	for off, to := range moved {
		put(c.state.moves.PutTo(&s.w, offKey(off), storedMove{to.off, to.old}))
	}
	for _, off := range goneMove {
		c.state.moves.DeleteTo(&s.w, offKey(off))
	}
	for _, e := range events {
		put(c.state.events.PutTo(&s.w, eventKey(e.off, e.n), *e.check))
	}
	if marks := [2]message.Offset{halfMark, opMark}; err == nil && whole && (marks != c.saved || s.w.Len() > 0) {
		c.saved = marks
		put(c.state.marks.PutTo(&s.w, keyHalfMark, int64(halfMark)))
		put(c.state.marks.PutTo(&s.w, keyOpMark, int64(opMark)))
	}
	if err != nil {
		c.uncapture(halves, gone, goneMove, events, moved != nil)
		return nil, err
	}
	return s, nil
}

// uncapture gives back what was taken and cannot be written.
func (c *Coordinator) uncapture(halves []capturedHalf, gone, goneMove []message.Offset, events []keyedEvent, moved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes.undo()
	for _, h := range halves {
		c.changed[h.off] = struct{}{}
	}
	c.gone, c.goneMove, c.events = append(gone, c.gone...), append(goneMove, c.goneMove...), append(events, c.events...)
	c.movesChanged = c.movesChanged || moved
}

// appliedOpsLocked is the offset below which every mark is applied to pending.
func (c *Coordinator) appliedOpsLocked() message.Offset {
	at := c.nextOp
	for f := range c.flights {
		at = min(at, *f)
	}
	return at
}

// save writes behind what changed, as far as the log is durable. With all, it
// does so until nothing is left.
func (c *Coordinator) save(all bool) error {
	d := kv.Buffered
	if all {
		d = kv.Synced
	}
	for more := true; more; {
		if c.waiting == nil {
			s, err := c.capture()
			if err != nil {
				return err
			}
			c.waiting = s
		}
		if c.log.Flushed() < c.waiting.end {
			return nil
		}
		if c.waiting.w.Len() > 0 {
			if err := c.state.db.Write(&c.waiting.w, d); err != nil {
				return err
			}
		}
		c.waiting = nil
		c.mu.Lock()
		c.outcomes.written()
		more = all && len(c.changed)+len(c.gone)+len(c.events) > 0
		c.mu.Unlock()
	}
	c.tellProgress()
	return nil
}

// opMark says that marks below op name no half above top.
type opMark struct{ op, top message.Offset }

const maxOpMarks = 1024

// opBelowLocked is an offset of the op queue such that all marks below it are of
// halves below first, or are applied already: who reads the half queue from
// first on must read the op queue from there on.
func (c *Coordinator) opBelowLocked(first message.Offset) (op message.Offset, ok bool) {
	for _, m := range c.opMarks {
		if m.top >= first {
			break
		}
		op, ok = m.op, true
	}
	return op, ok
}

func (c *Coordinator) noteOpMarkLocked(op message.Offset) {
	if n := len(c.opMarks); n > 0 && c.opMarks[n-1].op == op {
		return
	}
	if len(c.opMarks) >= maxOpMarks {
		thin := make([]opMark, 0, maxOpMarks)
		for i, m := range c.opMarks {
			if i%2 == 0 {
				thin = append(thin, m)
			}
		}
		c.opMarks = thin
	}
	c.opMarks = append(c.opMarks, opMark{op, c.maxMark})
}

// tellProgress says where Apache's broker would go on: at the first pending
// half, and at the first mark that may name one behind it.
func (c *Coordinator) tellProgress() {
	if c.o.Progress == nil {
		return
	}
	c.mu.Lock()
	first := c.cursor
	for off := range c.pending {
		first = min(first, off)
	}
	op, ok := c.opBelowLocked(first)
	if !ok {
		op = message.NoOffset
	}
	for len(c.opMarks) > 1 && c.opMarks[1].top < first {
		c.opMarks = c.opMarks[1:]
	}
	c.mu.Unlock()
	c.o.Progress(first, op)
}

// prune forgets what happened to halves that ended long ago.
func (c *Coordinator) prune() error {
	c.mu.Lock()
	first := c.cursor
	for off := range c.pending {
		first = min(first, off)
	}
	c.mu.Unlock()
	n := 0
	err := c.state.events.Range(nil, offKey(first), func([]byte, Event) bool { n++; return true })
	if err != nil {
		return err
	}
	var w kv.Batch
	oldest, _ := c.log.Bounds(message.TopicHalf)
	if err := c.outcomes.dropBefore(&w, oldest); err != nil {
		return err
	}
	if n <= keptEvents {
		return c.write(&w)
	}
	err = c.state.events.Range(nil, offKey(first), func(key []byte, _ Event) bool {
		c.state.events.DeleteTo(&w, key)
		n--
		return n > keptEvents
	})
	if err != nil {
		return err
	}
	return c.write(&w)
}

func (c *Coordinator) write(w *kv.Batch) error {
	if w.Len() == 0 {
		return nil
	}
	return c.state.db.Write(w, kv.Buffered)
}
