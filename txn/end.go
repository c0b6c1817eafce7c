package txn

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/merlinmq/merlin/message"
)

// End is one end of a transaction. Err is filled in.
type End struct {
	Group     string
	Offset    message.Offset   // of the half in its queue
	Position  message.Position // of the half
	Verdict   Verdict          // Unknown, Commit or Rollback
	FromCheck bool             // the answer to a check
	Client    netip.AddrPort
	Admin     bool // an operator's word: any group may be named
	Err       error

	off     message.Offset // where the half is now
	pos     message.Position
	view    message.View
	topic   string
	born    int64
	checks  int32
	claimed bool
	stands  Verdict // the one that the half had before, if it is known
}

// Reason says why an end was refused.
type Reason string

// The reasons.
const (
	ReasonUnknown    Reason = "unknown_offset" // there is no half at the position
	ReasonGroup      Reason = "other_group"    // the half is another group's
	ReasonOffset     Reason = "wrong_offset"   // position and offset do not belong together
	ReasonLate       Reason = "late"           // after the half's own immunity time, unasked
	ReasonContradict Reason = "contradicted"   // another verdict stands
	ReasonForgotten  Reason = "forgotten"      // it has a verdict, and nothing knows which
	ReasonBroken     Reason = "broken_half"
	ReasonMalformed  Reason = "malformed" // a field is missing or wrong
	ReasonDelayed    Reason = "delayed"   // a half, not an end: it wants to be delayed
)

// EndError says why an end was refused.
type EndError struct {
	Reason Reason
	Group  string
	Text   string
	Cause  error
}

// Error implements error.
func (e *EndError) Error() string {
	if e.Cause != nil {
		return e.Text + ": " + e.Cause.Error()
	}
	return e.Text
}

// Unwrap returns the cause.
func (e *EndError) Unwrap() error { return e.Cause }

// End applies ends, which may be of many transactions, with one write. b is
// used for it. Each gets its Err: an *EndError, or what the log says, in which
// case it may be tried again.
func (c *Coordinator) End(b Batch, ends []End) {
	c.moving.RLock()
	defer c.moving.RUnlock()
	now := c.now()
	for i := range ends {
		e := &ends[i]
		e.claimed = false
		if e.Verdict == Unknown {
			if e.Err = c.verify(e, now); e.Err == nil {
				c.noteAnswer(e, now)
			}
			continue
		}
		e.Err = c.verify(e, now)
	}
	flight := c.claim(ends, now)
	if flight == nil {
		return
	}
	err := c.store(b, ends, now)
	c.settle(flight, ends, err, now)
}

// verify finds the half and compares it with what the end says of it.
func (c *Coordinator) verify(e *End, now time.Time) error {
	e.off, e.pos, e.stands = e.Offset, e.Position, Unknown
	c.mu.Lock()
	if to, ok := c.moved[e.Offset]; ok && to.old == e.Position {
		e.off = to.off
		if h, ok := c.pending[to.off]; ok {
			e.pos = h.pos
		}
	}
	stands, ended := c.verdictLocked(e.off)
	c.mu.Unlock()
	v, err := c.log.Record(e.pos)
	switch {
	case err != nil:
		return c.refuse(e, ReasonUnknown, err, "Find prepared transaction message failed: there is none at position %d", e.pos)
	case string(v.Topic()) != message.TopicHalf:
		return c.refuse(e, ReasonUnknown, nil, "Find prepared transaction message failed: the message at position %d is none", e.pos)
	}
	p := v.Properties()
	if group, _ := p.Get(message.PropProducerGroup); !e.Admin && string(group) != e.Group {
		return c.refuse(e, ReasonGroup, nil, "The producer group wrong: the half at position %d is of the group %q", e.pos, group)
	}
	if v.QueueOffset() != e.off {
		return c.refuse(e, ReasonOffset, nil, "The transaction state table offset wrong: the half at position %d has the offset %d, not %d", e.pos, v.QueueOffset(), e.off)
	}
	if v.Position() != e.pos {
		return c.refuse(e, ReasonOffset, nil, "The commit log offset wrong: the half at position %d says it is at %d", e.pos, v.Position())
	}
	if e.Verdict == Unknown {
		return nil
	}
	if e.stands = stands; ended && (stands == Unknown || stands == carried) {
		if e.stands, err = c.outcome(e.off); err != nil {
			return err
		}
	}
	timeout := c.o.Rules().Timeout
	if d, own := immunity(p, timeout); own && !e.FromCheck && !e.Admin {
		if age := now.Sub(time.UnixMilli(v.BornTimestamp())); age > max(d, timeout) {
			return c.refuse(e, ReasonLate, nil, "Message commit/rollback too late: %s after its birth, it may only be ended in answer to a check", age.Round(time.Millisecond))
		}
	}
	e.view, e.born = v, v.BornTimestamp()
	return nil
}

func (c *Coordinator) refuse(e *End, why Reason, cause error, format string, args ...any) error {
	err := &EndError{Reason: why, Group: e.Group, Text: fmt.Sprintf(format, args...), Cause: cause}
	c.Refused(e.Group, why, err.Error())
	return err
}

// Refused counts a refusal of a group, and tells of it.
func (c *Coordinator) Refused(group string, why Reason, text string) {
	if c.stats.refused(group, why, c.now()) && c.o.Events.Refused != nil {
		c.o.Events.Refused(group, why, text)
	}
}

// claim takes the halves that these ends are the first for. It returns nil if
// there are none.
func (c *Coordinator) claim(ends []End, now time.Time) (flight *message.Offset) {
	c.mu.Lock()
	var wrong []int
	for i := range ends {
		e := &ends[i]
		if e.Verdict == Unknown || e.Err != nil {
			continue
		}
		c.answeredLocked(e.off, e, now)
		v, ended := c.verdictLocked(e.off)
		if !ended {
			c.settling[e.off] = e.Verdict
			e.claimed, e.checks = true, c.pending[e.off].checks
			if flight == nil {
				at := c.nextOp
				flight = &at
			}
			continue
		}
		if v != Unknown && v != carried {
			e.stands = v
		}
		c.stats.repeated.Add(1)
		if e.stands != e.Verdict {
			wrong = append(wrong, i)
		}
	}
	if flight != nil {
		c.flights[flight] = struct{}{}
	}
	c.mu.Unlock()
	for _, i := range wrong {
		e := &ends[i]
		switch e.stands {
		case Unknown:
			e.Err = c.refuse(e, ReasonForgotten, nil, "the half %d has a verdict already, and it is not known any more which; the %s is not done", e.off, e.Verdict)
		case carried:
			e.Err = c.refuse(e, ReasonForgotten, nil, "the half %d was stored again, and it is not known any more where; the %s is not done; if the transaction is pending, its producer is asked", e.off, e.Verdict)
		default:
			e.Err = c.refuse(e, ReasonContradict, nil, "the half %d has another verdict already, %s; it stands and the %s is not done", e.off, e.stands, e.Verdict)
		}
	}
	return flight
}

// verdictLocked tells whether a half has its outcome, and which, if that is
// still known.
func (c *Coordinator) verdictLocked(off message.Offset) (v Verdict, ended bool) {
	if v, ok := c.settling[off]; ok {
		return v, true
	}
	if _, ok := c.pending[off]; ok {
		return Unknown, false
	}
	v, known := c.recent.get(off)
	return v, known || off < c.nextHalf
}

// store writes the final messages and the marks.
func (c *Coordinator) store(b Batch, ends []End, now time.Time) error {
	b.Reset()
	var body, commits []byte
	flush := func() error {
		m := endMark(body, commits, now)
		body, commits = body[:0], commits[:0]
		return b.Add(&m)
	}
	for i := range ends {
		e := &ends[i]
		if !e.claimed || e.Verdict != Commit {
			continue
		}
		m, err := final(e.view, e.checks)
		if err != nil {
			e.Err = c.refuse(e, ReasonBroken, err, "the half cannot be committed")
			continue
		}
		e.topic = m.Topic
		e.Err = b.Final(&m)
	}
	for i := range ends {
		e := &ends[i]
		if !e.claimed || e.Err != nil {
			continue
		}
		if e.topic == "" {
			e.topic = e.view.Properties().Value(message.PropRealTopic)
		}
		if e.Verdict == Commit {
			commits = appendMark(commits, e.off)
		}
		if body = appendMark(body, e.off); len(body) > maxMarkBody {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(body) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return b.Append()
}

// settle makes known what store did.
func (c *Coordinator) settle(flight *message.Offset, ends []End, err error, now time.Time) {
	c.mu.Lock()
	for i := range ends {
		e := &ends[i]
		if !e.claimed {
			continue
		}
		delete(c.settling, e.off)
		if e.Err == nil {
			e.Err = err
		}
		if e.Err != nil {
			continue
		}
		if h, ok := c.pending[e.off]; ok && h.kept || e.Admin {
			c.noteLocked(e.off, endEvent, Event{At: now, What: e.Verdict.String(), Addr: addrText(e.Client), Admin: e.Admin, FromCheck: e.FromCheck})
		}
		c.settledLocked(e.off, e.Verdict)
	}
	delete(c.flights, flight)
	c.mu.Unlock()
	for i := range ends {
		if e := &ends[i]; e.claimed && e.Err == nil {
			c.stats.ended(e.Verdict, e.topic, now.UnixMilli()-e.born)
		}
		ends[i].view = nil
	}
}

func addrText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// noteAnswer takes in that a producer does not know.
func (c *Coordinator) noteAnswer(e *End, now time.Time) {
	c.stats.unknown.Add(1)
	if !e.FromCheck {
		return
	}
	c.mu.Lock()
	c.answeredLocked(e.off, e, now)
	c.mu.Unlock()
}

// answeredLocked notes the answer to a check.
func (c *Coordinator) answeredLocked(off message.Offset, e *End, now time.Time) {
	if !e.FromCheck {
		return
	}
	if w := c.windows[e.Client]; w != nil && w.open > 0 {
		w.open--
	}
	if ev := c.asked[off]; ev != nil {
		ev.Answer, ev.AnsweredAt = e.Verdict.String(), now
		c.events = append(c.events, keyedEvent{off: off, n: ev.Number, check: ev})
		delete(c.asked, off)
	}
}
