package broker

import (
	"fmt"
	"strings"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
)

// Delayed and recurring messages, as administrators see them.
type (
	DelayFilter  = schedule.Filter
	DelayList    = schedule.List
	DelayPending = schedule.Pending
	Schedule     = schedule.Schedule
)

// Recall takes a delayed message back that waits still. handle came with the
// answer to its send. It returns the message's unique key. KindIllegalOperation
// says that the handle is not one of ours, or that the message waits no more.
func (b *Broker) Recall(topic, handle string) (unique string, err error) {
	if !b.cfg.Recall.Load() {
		return "", refuse(KindNoPermission, "recall failed, operation is forbidden: recallMessageEnable is false")
	}
	if b.cfg.ID != 0 {
		return "", refuse(KindUnavailable, "recall failed, broker service not available: it is no master")
	}
	if err := b.mayStore(); err != nil {
		return "", err
	}
	h, err := schedule.ParseHandle(handle)
	if err != nil {
		return "", refuse(KindIllegalOperation, "recall failed, the handle is none that a broker gave out: %s", err)
	}
	if h.Topic != topic {
		return "", refuse(KindIllegalOperation, "recall failed, topic not match: the handle is for a message of another topic than %s", topic)
	}
	if h.Broker != b.cfg.Name {
		return "", refuse(KindIllegalOperation, "recall failed, broker service not available: the handle is of another broker than %s", b.cfg.Name)
	}
	longest := b.cfg.TimerMaxDelaySec.Load() * 1000
	if left := h.Time - b.now().UnixMilli(); left >= longest {
		return "", refuse(KindIllegalOperation, "recall failed, timestamp invalid: no message waits longer than timerMaxDelaySec allows")
	}
	return h.Unique, b.delayRefusal(b.Delays().Recall(h))
}

// DelayChange asks to cancel waiting messages, or to give them another instant.
type DelayChange struct {
	ID    string `json:"id,omitempty"`    // offset id or unique key
	Key   string `json:"key,omitempty"`   // all that have the key
	Topic string `json:"topic,omitempty"` // real topic; "" for any
	Due   int64  `json:"due,omitempty"`   // new instant in ms since 1970; 0 cancels
	// Page is where an earlier answer ended; the zero value begins.
	Page DelayPage `json:"page,omitzero"`
}

// DelayPage is a place in the list of messages with a key. What a change stores
// anew lies behind its end, so that nothing is changed twice.
type DelayPage struct {
	After schedule.Cursor  `json:"after,omitzero"`
	End   message.Position `json:"end,omitempty"`
}

// A page of messages with a key ends after so many, or with the one that makes
// it so many bytes: answers hold the bodies.
const (
	delayPageSize  = 64
	delayPageBytes = 4 << 20
)

// DelayChanged is what came of a change of one message.
type DelayChanged struct {
	DelayPending
	Error string `json:"error,omitempty"` // why it was not changed
}

// ListDelayed returns a page of waiting messages in order of due time.
func (b *Broker) ListDelayed(f DelayFilter) (DelayList, error) {
	list, err := b.Delays().List(f)
	return list, b.delayRefusal(err)
}

// FindDelayed returns the waiting messages with an offset id, a unique key or a
// key, a page at a time: next is not zero when there may be more. None at all is
// KindIllegalOperation: they were delivered, or never were.
func (b *Broker) FindDelayed(c DelayChange) (found []DelayPending, next DelayPage, err error) {
	if _, pos, err := message.ParseOffsetID(strings.ToUpper(c.ID)); err == nil {
		p, _, err := b.Delays().Show(pos)
		if err == nil && (c.Topic == "" || p.Topic == c.Topic) {
			return []DelayPending{p}, next, nil
		}
		if refusal := b.delayRefusal(err); err != nil && refusal.(*Error).Kind != KindIllegalOperation {
			return nil, next, refusal
		}
	}
	key := c.ID
	if key == "" {
		key = c.Key
	}
	if key == "" {
		return nil, next, refuse(KindInvalidParameter, "name the message by its id or key")
	}
	if c.Page.End <= 0 {
		c.Page.End = b.store.Max()
	}
	list, err := b.Delays().List(DelayFilter{Topic: c.Topic, Key: key, Limit: delayPageSize, After: c.Page.After, Below: c.Page.End})
	if err != nil {
		return nil, next, b.delayRefusal(err)
	}
	if len(list.Messages) == 0 && c.Page.After == (schedule.Cursor{}) {
		return nil, next, refuse(KindIllegalOperation, "no message with the id or key %q waits: it was delivered, recalled or moved, or never was", key)
	}
	bytes := 0
	for i := range list.Messages {
		p := &list.Messages[i]
		if bytes += p.Size; bytes >= delayPageBytes && i+1 < len(list.Messages) {
			list.Messages, list.Next, list.More = list.Messages[:i+1], schedule.Cursor{Due: p.Due, Position: p.Position}, true
			break
		}
	}
	if list.More {
		next = DelayPage{After: list.Next, End: c.Page.End}
	}
	return list.Messages, next, nil
}

// DelayedRecord returns the record of a waiting message.
func (b *Broker) DelayedRecord(p *DelayPending) (message.View, error) { return b.Record(p.Position) }

// ChangeDelayed cancels or moves a page of waiting messages and tells of each
// what came of it. See FindDelayed.
func (b *Broker) ChangeDelayed(c DelayChange) (changed []DelayChanged, next DelayPage, err error) {
	if err := b.mayStore(); err != nil {
		return nil, next, err
	}
	found, next, err := b.FindDelayed(c)
	if err != nil {
		return nil, next, err
	}
	only := len(found) == 1 && c.Page == (DelayPage{}) && next == (DelayPage{})
	changed = make([]DelayChanged, len(found))
	for i, p := range found {
		changed[i].DelayPending = p
		if c.Due > 0 {
			err = b.Delays().Reschedule(p.Position, c.Due)
		} else {
			err = b.Delays().Cancel(p.Position)
		}
		if err != nil {
			if changed[i].Error = err.Error(); only {
				return nil, next, b.delayRefusal(err)
			}
		} else if c.Due > 0 {
			changed[i].Due = c.Due
		}
	}
	return changed, next, nil
}

// NewSchedule asks for a recurring message.
type NewSchedule struct {
	Name    string `json:"name"`
	Topic   string `json:"topic"`
	Spec    string `json:"spec"`
	Body    []byte `json:"body"`
	Tags    string `json:"tags,omitempty"`
	Keys    string `json:"keys,omitempty"`
	Until   string `json:"until,omitempty"`
	Count   int64  `json:"count,omitempty"`
	Missed  string `json:"missed,omitempty"`
	Replace bool   `json:"replace,omitempty"` // change the one of that name
}

// AddSchedule stores a recurring message and returns it as it is kept.
func (b *Broker) AddSchedule(n NewSchedule) (Schedule, error) {
	_, _, err := b.Delays().NextFirings(n.Name, 1)
	if err == nil && !n.Replace {
		return Schedule{}, refuse(KindInvalidParameter, "there is a schedule %q already; ask to replace it, or choose another name", n.Name)
	}
	var p message.Properties
	for _, pair := range [][2]string{
		{schedule.PropCron, n.Spec}, {schedule.PropCronName, n.Name}, {schedule.PropCronUntil, n.Until}, {schedule.PropCronMissed, n.Missed},
		{message.PropTags, n.Tags}, {message.PropKeys, n.Keys},
	} {
		if strings.ContainsAny(pair[1], "\x01\x02") {
			return Schedule{}, refuse(KindInvalidParameter, "%s holds a control character", pair[0])
		}
		if pair[1] != "" {
			p = p.Append(pair[0], pair[1])
		}
	}
	if n.Count != 0 {
		p = p.Append(schedule.PropCronCount, fmt.Sprint(n.Count))
	}
	if n.Name == "" || n.Spec == "" {
		return Schedule{}, refuse(KindInvalidParameter, "a schedule needs a name and a cron expression")
	}
	sender := b.NewSender()
	sender.Add(&SendRequest{
		Topic: []byte(n.Topic), QueueID: -1, Body: n.Body, Properties: p, MaxReconsumeTimes: -1,
		BornTimestamp: b.now().UnixMilli(), BornHost: b.StoreHost(), StoreHost: b.StoreHost(),
	})
	if err := sender.Commit()[0].Err; err != nil {
		return Schedule{}, err
	}
	if err := b.Delays().Settle(); err != nil {
		return Schedule{}, b.delayRefusal(err)
	}
	s, _, err := b.Delays().NextFirings(n.Name, 1)
	return s, b.delayRefusal(err)
}

// Schedules returns the recurring messages by name.
func (b *Broker) Schedules() []Schedule { return b.Delays().Schedules() }

// ShowSchedule returns a recurring message and its next firings, in ms since 1970.
func (b *Broker) ShowSchedule(name string, n int) (Schedule, []int64, error) {
	s, times, err := b.Delays().NextFirings(name, min(max(n, 0), 1000))
	return s, times, b.delayRefusal(err)
}

// ControlSchedule pauses, resumes or removes a recurring message.
func (b *Broker) ControlSchedule(name, operation string) error {
	switch operation {
	case "pause":
		return b.delayRefusal(b.Delays().Pause(name))
	case "resume":
		return b.delayRefusal(b.Delays().Resume(name))
	case "remove":
		return b.delayRefusal(b.Delays().Remove(name))
	}
	return refuse(KindInvalidParameter, "a schedule can be paused, resumed and removed, not %q", operation)
}
