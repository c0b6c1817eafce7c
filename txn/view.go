package txn

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/merlinmq/merlin/message"
)

// Info describes a transaction.
type Info struct {
	Key      string           `json:"key"` // unique key of the message
	Group    string           `json:"group"`
	Topic    string           `json:"topic"`
	Queue    int32            `json:"queue"`
	Keys     string           `json:"keys,omitempty"`
	Tags     string           `json:"tags,omitempty"`
	Offset   message.Offset   `json:"offset"` // of the half in its queue
	Position message.Position `json:"position"`
	OffsetID string           `json:"offset_id"`
	BornHost string           `json:"born_host"`
	Born     time.Time        `json:"born"`
	Stored   time.Time        `json:"stored"`
	State    string           `json:"state"` // pending, commit, rollback, discarded, carried, lost, or StateForgotten
	Checks   int32            `json:"checks"`
	Next     time.Time        `json:"next_check,omitzero"`
	Orphan   bool             `json:"without_producer,omitempty"` // nobody of its group can be asked
	BodySize int              `json:"body_size"`
}

// StateForgotten is the state of a transaction that has its outcome, of which
// nothing knows any more what it was.
const StateForgotten = "outcome unknown"

// Step is a line of a transaction's timeline.
type Step struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
	Text string    `json:"text"`
}

// Timeline is a transaction and what happened to it, in order.
type Timeline struct {
	Info
	Steps []Step `json:"steps"`
}

// Filter says which pending transactions to list. Empty fields match all.
type Filter struct {
	Group string
	Topic string
	Key   string        // one of the message's keys, or its unique key
	Age   time.Duration // at least, from birth
	Max   int           // default 100
}

// ErrNotFound says that there is no such transaction.
var ErrNotFound = errors.New("there is no such transaction")

const (
	defaultList = 100
	maxList     = 10_000
	// maxListReads bounds the records that a filtered list reads.
	maxListReads = 200_000
)

// List returns pending transactions, oldest first, and how many are pending in
// all. With a key it also returns those that have ended.
func (c *Coordinator) List(f Filter) (list []Info, pending int, err error) {
	limit := f.Max
	if limit <= 0 {
		limit = defaultList
	}
	limit = min(limit, maxList)
	if f.Key != "" {
		return c.listByKey(f, limit)
	}
	offs, pending := c.offsets(f.Group)
	reads := 0
	for _, off := range offs {
		if len(list) >= limit || reads >= maxListReads {
			break
		}
		c.mu.Lock()
		h, ok := c.pending[off]
		c.mu.Unlock()
		if !ok {
			continue
		}
		reads++
		v, err := c.log.Record(h.pos)
		if err != nil {
			continue
		}
		if in := c.info(v); f.matches(&in, c.now()) {
			list = append(list, in)
		}
	}
	return list, pending, nil
}

func (f *Filter) matches(in *Info, now time.Time) bool {
	return (f.Group == "" || f.Group == in.Group) && (f.Topic == "" || f.Topic == in.Topic) && (f.Age == 0 || now.Sub(in.Born) >= f.Age)
}

// offsets returns the pending halves in order; of a group, and those whose
// group is not known yet, if one is named.
func (c *Coordinator) offsets(group string) (offs []message.Offset, pending int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	want, known := c.groups.byName[group]
	for off, h := range c.pending {
		if group == "" || h.group < 0 || known && h.group == want {
			offs = append(offs, off)
		}
	}
	slices.Sort(offs)
	return offs, len(c.pending)
}

func (c *Coordinator) listByKey(f Filter, limit int) (list []Info, pending int, err error) {
	found, err := c.log.Find(message.TopicHalf, f.Key)
	if err != nil {
		return nil, 0, err
	}
	for _, v := range found {
		if in := c.info(v); f.matches(&in, c.now()) && len(list) < limit {
			list = append(list, in)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return list, len(c.pending), nil
}

// info describes the transaction of a half.
func (c *Coordinator) info(v message.View) Info {
	p := v.Properties()
	queue, _ := strconv.ParseInt(p.Value(message.PropRealQueueID), 10, 32)
	in := Info{
		Key: p.Value(message.PropUniqueKey), Group: p.Value(message.PropProducerGroup), Topic: p.Value(message.PropRealTopic), Queue: int32(queue),
		Keys: p.Value(message.PropKeys), Tags: p.Value(message.PropTags), Offset: v.QueueOffset(), Position: v.Position(), OffsetID: v.OffsetID(),
		BornHost: v.BornHost().String(), Born: time.UnixMilli(v.BornTimestamp()), Stored: time.UnixMilli(v.StoreTimestamp()), BodySize: v.BodySize(),
	}
	c.mu.Lock()
	h, pending := c.pending[in.Offset]
	if pending {
		in.State, in.Checks = "pending", h.checks
		if h.group >= 0 {
			in.Next = time.UnixMilli(h.due)
			in.Orphan = c.groups.list[h.group].without != 0
		}
	}
	_, moved := c.moved[in.Offset]
	verdict, known := c.recent.get(in.Offset)
	arrived := in.Offset < c.nextHalf
	c.mu.Unlock()
	switch {
	case pending:
	case moved:
		in.State = carried.String()
	case verdict != Unknown:
		in.State = verdict.String()
	case known || arrived:
		in.State = c.endedState(in.Offset)
	default: // it can be read a moment before its arrival is told
		in.State = "pending"
	}
	return in
}

// endedState is the state of a half that ended before the last verdicts.
func (c *Coordinator) endedState(off message.Offset) string {
	v, err := c.outcome(off)
	if err != nil {
		c.failed("what became of a transaction cannot be told", err)
	}
	if v == Unknown {
		return StateForgotten
	}
	return v.String()
}

// find returns the halves that an id names: a unique key, an offset id, or an
// offset in the half queue. Of a half that was carried forward there are several.
func (c *Coordinator) find(id string) ([]message.View, error) {
	if off, err := strconv.ParseInt(id, 10, 64); err == nil && len(id) < 20 {
		pos, err := c.log.Place(message.TopicHalf, message.Offset(off))
		if err == nil {
			if v, err := c.log.Record(pos); err == nil {
				return []message.View{v}, nil
			}
		}
		return nil, fmt.Errorf("%w: the half queue has no message at offset %d", ErrNotFound, off)
	}
	found, err := c.log.Find(message.TopicHalf, id)
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		return found, nil
	}
	if _, pos, err := message.ParseOffsetID(id); err == nil {
		if v, err := c.log.Record(pos); err == nil && string(v.Topic()) == message.TopicHalf {
			return []message.View{v}, nil
		}
	}
	return nil, fmt.Errorf("%w: %q is no unique key, no key, no offset id and no offset of a half", ErrNotFound, id)
}

// Show returns what happened to a transaction. The id may be a unique key, a
// key, an offset id, or an offset in the half queue.
func (c *Coordinator) Show(id string) (*Timeline, error) {
	found, err := c.find(id)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b message.View) int { return cmp.Compare(a.Position(), b.Position()) })
	t := &Timeline{Info: c.info(found[len(found)-1])}
	halves := map[message.Position]bool{}
	for i, v := range found {
		if v.Properties().Value(message.PropUniqueKey) != t.Key {
			continue // another transaction with the same key
		}
		halves[v.Position()] = true
		what, from := "half stored", ""
		if i > 0 {
			what = "carried forward"
		} else {
			from = ", sent by " + t.BornHost
		}
		t.add(time.UnixMilli(v.StoreTimestamp()), what, fmt.Sprintf("offset %d, position %d%s", v.QueueOffset(), v.Position(), from))
		if err := c.addEvents(t, v.QueueOffset()); err != nil {
			return nil, err
		}
	}
	if err := c.addOutcome(t, halves); err != nil {
		return nil, err
	}
	// The log's times are whole milliseconds: within one, the order in which
	// things follow from one another stands.
	slices.SortStableFunc(t.Steps, func(a, b Step) int { return cmp.Compare(a.At.UnixMilli(), b.At.UnixMilli()) })
	return t, nil
}

func (t *Timeline) add(at time.Time, what, text string) {
	t.Steps = append(t.Steps, Step{at, what, text})
}

// addEvents adds the checks and the end that are remembered.
func (c *Coordinator) addEvents(t *Timeline, off message.Offset) error {
	events := map[int32]Event{}
	err := c.state.events.RangePrefix(offKey(off), func(key []byte, e Event) bool {
		n := e.Number
		if e.What != "check" {
			n = endEvent
		}
		events[n] = e
		return true
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	for _, k := range c.events {
		if k.off == off {
			events[k.n] = *k.check
		}
	}
	if e := c.asked[off]; e != nil {
		events[e.Number] = *e
	}
	c.mu.Unlock()
	for _, e := range events {
		t.addEvent(e)
	}
	return nil
}

func (t *Timeline) addEvent(e Event) {
	if e.What != "check" {
		by := "the producer at " + e.Addr
		switch {
		case e.Admin:
			by = "an operator at " + e.Addr
		case e.What == Discarded.String():
			by = "nobody: the checks or the time were used up"
		case e.FromCheck:
			by += ", in answer to a check"
		}
		t.add(e.At, e.What, "by "+by)
		return
	}
	text := fmt.Sprintf("number %d, %s at %s was asked", e.Number, e.Client, e.Addr)
	switch {
	case e.Text != "":
		text += ", but it " + e.Text
	case e.Answer != "":
		text += fmt.Sprintf(" and said %s after %s", e.Answer, e.AnsweredAt.Sub(e.At).Round(time.Millisecond))
	default:
		text += " and has not answered"
	}
	t.add(e.At, "check", text)
}

// addOutcome adds the delivery, and tells the state where only the log knows it.
func (c *Coordinator) addOutcome(t *Timeline, halves map[message.Position]bool) error {
	if t.State == "pending" || t.Key == "" {
		return nil
	}
	ended := slices.ContainsFunc(t.Steps, func(s Step) bool { return s.What == "commit" || s.What == "rollback" || s.What == "discarded" })
	finals, err := c.log.Find(t.Topic, t.Key)
	if err != nil {
		return err
	}
	for _, v := range finals {
		if !halves[v.PreparedPosition()] || v.SysFlag().Transaction() != message.FlagCommit {
			continue
		}
		at := time.UnixMilli(v.StoreTimestamp())
		if t.State = Commit.String(); !ended {
			t.add(at, "commit", "by the producer")
		}
		t.add(at, "delivered", fmt.Sprintf("to %s, queue %d, offset %d", v.Topic(), v.QueueID(), v.QueueOffset()))
		return nil
	}
	given, err := c.log.Find(message.TopicCheckMax, t.Key)
	if err != nil {
		return err
	}
	if len(given) > 0 {
		v := given[0]
		t.State = Discarded.String()
		if !ended {
			t.add(time.UnixMilli(v.StoreTimestamp()), "discarded", fmt.Sprintf("to %s, offset %d", v.Topic(), v.QueueOffset()))
		}
		return nil
	}
	if t.State == StateForgotten {
		for _, s := range t.Steps {
			if s.What == "commit" || s.What == "rollback" {
				t.State = s.What
			}
		}
	}
	return nil
}
