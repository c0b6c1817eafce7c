package broker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
	"github.com/merlinmq/merlin/txn"
)

// WhyQuery names messages: by an offset id, a unique key or, with a topic, a
// key.
type WhyQuery struct {
	ID    string `json:"id"`
	Topic string `json:"topic,omitempty"`
	Group string `json:"group,omitempty"` // tell of this group alone
}

// MessageWhy says where a message is now, and what became of it.
type MessageWhy struct {
	Broker    string            `json:"broker"`
	Topic     string            `json:"topic"`
	UniqueKey string            `json:"unique_key"`
	Keys      string            `json:"keys,omitempty"`
	Tags      string            `json:"tags,omitempty"`
	State     string            `json:"state"` // one of the At values
	Text      string            `json:"text"`  // a sentence
	Copies    []MessageCopy     `json:"copies"`
	Groups    []GroupWhy        `json:"groups"`
	Steps     []TransactionStep `json:"steps,omitempty"` // of a transaction
}

// Where a message is.
const (
	AtStored     = "stored"
	AtWaiting    = "waiting for its time"
	AtHalf       = "half"
	AtRolledBack = "rolled back"
	AtGivenUp    = "given up" // a half that nobody settled
	AtRecalled   = "recalled"
	AtExpired    = "expired"
)

// MessageCopy is a record of the message, oldest first.
type MessageCopy struct {
	Topic    string           `json:"topic"`
	Queue    int32            `json:"queue"`
	Offset   message.Offset   `json:"offset"`
	Position message.Position `json:"position"`
	ID       string           `json:"id"` // offset id
	Born     time.Time        `json:"born"`
	Stored   time.Time        `json:"stored"`
	Retries  int32            `json:"retries,omitempty"`
	Due      time.Time        `json:"due,omitzero"` // while it waits
}

// GroupWhy is what became of a message in one consumer group.
type GroupWhy struct {
	Group    string    `json:"group"`
	State    string    `json:"state"` // one of the Got values
	Text     string    `json:"text"`
	Client   string    `json:"client,omitempty"` // to which it was delivered last
	First    time.Time `json:"first,omitzero"`   // the delivery was not before
	Last     time.Time `json:"last,omitzero"`    // and not after
	Retry    int32     `json:"retry,omitempty"`
	Retries  int32     `json:"retries,omitempty"` // that the group allows
	Due      time.Time `json:"due,omitzero"`      // of the next retry
	Attempts []Attempt `json:"attempts,omitempty"`
}

// What a group got of a message.
const (
	GotNothing   = "not delivered"
	GotFiltered  = "filtered"
	GotUnwanted  = "not subscribed"
	GotDelivered = "delivered"
	GotConsumed  = "consumed"
	GotRetry     = "in retry"
	GotDead      = "dead"
	GotExpired   = "expired"
)

// TransactionStep is a line of a transaction's timeline.
type TransactionStep struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
	Text string    `json:"text"`
}

// maxWhy bounds how many messages with one key are told of.
const maxWhy = 16

// whyCopy is one record while it is looked at.
type whyCopy struct {
	message.View
	topic   string // under which it is stored
	real    string // that the producer meant
	group   string // of a retry or a dead letter
	due     int64  // ms; while it waits
	waits   bool
	delayed bool // it is, or was, a message to be delivered later
}

// WhyMessage says where the messages are that an id or key names. It is
// KindNotFound if this broker knows none.
func (b *Broker) WhyMessage(q WhyQuery) ([]MessageWhy, error) {
	if q.ID == "" {
		return nil, refuse(KindInvalidParameter, "name the message by its offset id, its unique id, or its key and topic")
	}
	copies, expired, err := b.findCopies(q)
	if err != nil {
		return nil, err
	}
	if len(copies) == 0 && expired != "" {
		return []MessageWhy{{Broker: b.cfg.Name, State: AtExpired, Text: expired, Copies: []MessageCopy{}, Groups: []GroupWhy{}}}, nil
	}
	if len(copies) == 0 {
		return nil, refuse(KindNotFound, "the broker %s has no message with the id or key %q: it never was here, or retention has removed it%s", b.cfg.Name, q.ID, b.oldest())
	}
	byKey := map[string][]whyCopy{}
	var keys []string
	for _, c := range copies {
		key := cmp.Or(c.Properties().Value(message.PropUniqueKey), c.OffsetID())
		if byKey[key] == nil {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], c)
	}
	var all []MessageWhy
	for _, key := range keys[:min(len(keys), maxWhy)] {
		all = append(all, b.whyOne(key, byKey[key], q.Group))
	}
	return all, nil
}

func (b *Broker) oldest() string {
	if v, err := b.store.Record(b.store.Min()); err == nil {
		return "; the oldest that is stored is of " + time.UnixMilli(v.StoreTimestamp()).UTC().Format(time.RFC3339)
	}
	return ""
}

// findCopies returns the records of the messages that a query names, oldest
// first. expired is a sentence if the id is the place of a record that is gone.
func (b *Broker) findCopies(q WhyQuery) (found []whyCopy, expired string, err error) {
	if found, err = b.copiesByKey(q.ID, q.Topic); err != nil || len(found) > 0 {
		return found, "", err
	}
	_, pos, notID := message.ParseOffsetID(strings.ToUpper(q.ID))
	if notID != nil {
		if b.cfg.NoIndex {
			return nil, "", refuse(KindSystem, "messages cannot be found by key: messageIndexEnable is false; name the message by its offset id")
		}
		return nil, "", nil
	}
	v, err := b.store.Record(pos)
	if err != nil {
		if low := b.store.Min(); pos < low {
			expired = fmt.Sprintf("The id names position %d of the log of %s, which begins at %d: retention has removed the message%s.", pos, b.cfg.Name, low, b.oldest())
		}
		return nil, expired, nil
	}
	own := b.copyOf(v)
	if q.Topic != "" && q.Topic != own.real {
		return nil, "", nil
	}
	if key := v.Properties().Value(message.PropUniqueKey); key != "" && !b.cfg.NoIndex {
		found, err = b.copiesByKey(key, own.real)
	}
	if !slices.ContainsFunc(found, func(c whyCopy) bool { return c.Position() == pos }) {
		found = append(found, own)
		slices.SortFunc(found, byPosition)
	}
	return found, "", err
}

func byPosition(a, b whyCopy) int { return cmp.Compare(a.Position(), b.Position()) }

// copiesByKey looks a key up under the topic and under those where its messages
// wait, are tried again or lie dead; under all topics, if none is named.
func (b *Broker) copiesByKey(key, topic string) ([]whyCopy, error) {
	if b.cfg.NoIndex {
		return nil, nil
	}
	topics := b.store.Topics()
	if topic != "" {
		topics = slices.DeleteFunc(topics, func(t string) bool {
			switch t {
			case message.TopicHalf, message.TopicSchedule, message.TopicTimer, message.TopicCheckMax:
				return false
			}
			return t == topic || !message.IsRetryTopic(t) && !message.IsDLQTopic(t)
		})
		topics = append(topics, topic) // a deleted one, too
	}
	var found []whyCopy
	var body []byte
	for _, t := range topics {
		if t == message.TopicOp {
			continue
		}
		res, err := b.store.Query(&store.KeyQuery{Topic: t, Key: key, Max: 64}, body[:0])
		if err != nil {
			return nil, fail(KindSystem, err, "looking for %q in %s", key, t)
		}
		for rest := slices.Clone(res.Body); len(rest) > 0; {
			v, err := message.Parse(rest)
			if err != nil {
				return nil, fail(KindSystem, err, "looking for %q in %s", key, t)
			}
			rest = rest[v.Size():]
			_, mark := v.Properties().Get(message.PropTimerDelUniqueKey)
			if c := b.copyOf(v); !mark && (topic == "" || c.real == topic || c.topic == topic) {
				found = append(found, c)
			}
		}
		body = res.Body
	}
	slices.SortFunc(found, byPosition)
	return found, nil
}

// copyOf looks at one record.
func (b *Broker) copyOf(v message.View) whyCopy {
	p := v.Properties()
	c := whyCopy{View: v, topic: string(v.Topic())}
	c.real = c.topic
	switch c.topic {
	case message.TopicSchedule, message.TopicTimer:
		c.delayed = true
		if pending, _, err := b.Delays().Show(v.Position()); err == nil {
			c.waits, c.due = true, pending.Due
		}
		fallthrough
	case message.TopicHalf, message.TopicCheckMax:
		c.real = cmp.Or(p.Value(message.PropRealTopic), c.topic)
	}
	switch {
	case message.IsRetryTopic(c.real):
		c.group = strings.TrimPrefix(c.real, message.RetryPrefix)
	case message.IsDLQTopic(c.real):
		c.group = strings.TrimPrefix(c.real, message.DLQPrefix)
	}
	if c.group != "" {
		c.real = cmp.Or(p.Value(message.PropRetryTopic), c.real)
	}
	return c
}

// whyOne says what became of one message, of which copies are the records.
func (b *Broker) whyOne(key string, copies []whyCopy, group string) MessageWhy {
	first := copies[0]
	p := first.Properties()
	w := MessageWhy{
		Broker: b.cfg.Name, Topic: first.real, UniqueKey: key, Keys: p.Value(message.PropKeys), Tags: p.Value(message.PropTags), Groups: []GroupWhy{},
	}
	var final *whyCopy // under its own topic, the newest
	for i := range copies {
		c := &copies[i]
		if c.topic == c.real && c.group == "" && c.topic != message.TopicHalf {
			final = c
		}
		w.Copies = append(w.Copies, c.shown())
	}
	b.place(&w, copies, final)
	groups := []string{group}
	if group == "" {
		groups = b.GroupsConsuming(w.Topic)
		for _, c := range copies {
			if c.group != "" {
				groups = append(groups, c.group)
			}
		}
		slices.Sort(groups)
		groups = slices.Compact(groups)
	}
	for _, name := range groups {
		if g, told := b.whyGroup(name, copies, final); told {
			w.Groups = append(w.Groups, g)
		}
	}
	return w
}

func (c *whyCopy) shown() MessageCopy {
	m := MessageCopy{
		Topic: c.topic, Queue: c.QueueID(), Offset: c.QueueOffset(), Position: c.Position(), ID: c.OffsetID(),
		Born: time.UnixMilli(c.BornTimestamp()), Stored: time.UnixMilli(c.StoreTimestamp()), Retries: c.ReconsumeTimes(),
	}
	if c.waits {
		m.Due = time.UnixMilli(c.due)
	}
	return m
}

// place tells the state of the message as such.
func (b *Broker) place(w *MessageWhy, copies []whyCopy, final *whyCopy) {
	say := func(state, format string, args ...any) { w.State, w.Text = state, fmt.Sprintf(format, args...) }
	if final != nil && b.topics.LookupString(final.topic) == nil {
		say(AtExpired, "It was stored in queue %d at offset %d; its topic has been deleted.", final.QueueID(), final.QueueOffset())
		return
	}
	if final != nil {
		if low := b.store.QueueMin(final.topic, final.QueueID()); final.QueueOffset() < low {
			say(AtExpired, "It was stored in queue %d at offset %d; the queue begins at %d now.", final.QueueID(), final.QueueOffset(), low)
			return
		}
		say(AtStored, "It is stored in queue %d at offset %d since %s.", final.QueueID(), final.QueueOffset(), clockTime(final.StoreTimestamp()))
		return
	}
	var half, delayed *whyCopy
	for i := range copies {
		switch c := &copies[i]; {
		case c.group != "":
		case c.waits:
			say(AtWaiting, "It waits until %s; merlin delay show %s has the details.", clockTime(c.due), c.OffsetID())
			return
		case c.delayed:
			delayed = c
		case c.topic == message.TopicHalf, c.topic == message.TopicCheckMax:
			half = c
		}
	}
	switch {
	case half != nil:
		b.placeHalf(w, half)
	case delayed != nil && b.topics.LookupString(w.Topic) == nil:
		say(AtExpired, "It was delayed; its topic has been deleted.")
	case delayed != nil:
		say(AtRecalled, "It was delayed, and waits no more without having been delivered: it was recalled or cancelled.")
	default:
		say(AtExpired, "Retention has removed the record under its own topic; copies for retries or dead letters are left.")
	}
}

// placeHalf tells the state of a transaction that has not been delivered.
func (b *Broker) placeHalf(w *MessageWhy, half *whyCopy) {
	t, err := b.Transaction(half.Properties().Value(message.PropUniqueKey))
	if err != nil {
		w.State, w.Text = AtHalf, "It is a half message; its state cannot be told: "+err.Error()+"."
		return
	}
	for _, s := range t.Steps {
		w.Steps = append(w.Steps, TransactionStep{s.At, s.What, s.Text})
	}
	switch t.State {
	case "pending":
		w.State, w.Text = AtHalf, fmt.Sprintf("It is a half message of the producer group %s, which has neither committed it nor rolled it back; %d checks so far.", t.Group, t.Checks)
		if t.Orphan {
			w.Text += " No producer of the group is connected, so that nobody can be asked."
		}
	case "rollback":
		w.State, w.Text = AtRolledBack, "Its transaction was rolled back: no consumer gets it."
	case "discarded":
		w.State, w.Text = AtGivenUp, "Its transaction was given up after the last check, and lies in "+message.TopicCheckMax+": no consumer gets it."
	case txn.StateForgotten:
		w.State, w.Text = AtHalf, "It is the half message of a transaction that has ended; how is not known any more."
	default:
		w.State, w.Text = AtExpired, "Its transaction was committed; retention has removed the message."
	}
}

func clockTime(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
