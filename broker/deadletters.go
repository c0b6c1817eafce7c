package broker

import (
	"strconv"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
)

// Properties that Merlin adds to messages that fail. Those of the attempts
// travel along from retry to retry.
const (
	// PropAttempts holds the failed attempts, oldest first: see Attempt.
	PropAttempts = "MERLIN_ATTEMPTS"
	// PropOriginQueue is the queue of the original topic.
	PropOriginQueue = "MERLIN_ORIGIN_QUEUE"
	// PropDeadReason is why a message is a dead letter: one of the Dead values.
	PropDeadReason = "MERLIN_DLQ_REASON"
	// PropDeadLimit is the number of retries that were allowed.
	PropDeadLimit = "MERLIN_DLQ_LIMIT"
	// PropDeadOffset is the first offset of a dead letter that was carried
	// forward when its part of the log was deleted; PropDeadSince when it was
	// stored there, in ms since 1970.
	PropDeadOffset = "MERLIN_DLQ_OFFSET"
	PropDeadSince  = "MERLIN_DLQ_SINCE"
	// PropRedrive is the id of the re-drive that sent the message, and
	// PropRedriveOffset which of the dead letters it was.
	PropRedrive       = "MERLIN_REDRIVE"
	PropRedriveOffset = "MERLIN_REDRIVE_OFFSET"
)

// Why a message is a dead letter.
const (
	DeadMaxAttempts = "MAX_ATTEMPTS" // it failed as often as it may
	DeadConsumer    = "CONSUMER"     // its consumer asked for it, by a negative delay level
	DeadOrderly     = "ORDERLY"      // an orderly consumer gave it up after trying it in place
	DeadSent        = "SENT"         // a client sent it to the dead letters
)

// Bounds of PropAttempts: the newest attempts stay.
const (
	maxAttempts     = 20
	maxAttemptBytes = 2048
	maxClientBytes  = 80
	// attemptRoom is left for what else is added to the properties.
	attemptRoom = 1024
)

// Attempt is one failed attempt to consume a message, as far as the broker
// sees it: who gave it back, and when.
type Attempt struct {
	Time   int64  `json:"time"`   // ms since 1970
	Client string `json:"client"` // the client's id, or its address if it never told one
}

// withAttempt returns properties with one more attempt. It is left out, and so
// are older ones, rather than that a message does not fit.
func withAttempt(p message.Properties, a Attempt) message.Properties {
	list := strings.Fields(p.Value(PropAttempts))
	list = append(list, strconv.FormatInt(a.Time, 10)+","+clientWord(a.Client))
	out := p.Without(PropAttempts)
	room := min(maxAttemptBytes, message.MaxPropertiesSize-attemptRoom-len(out)-len(PropAttempts)-2)
	size := 0
	for i := len(list) - 1; i >= 0; i-- {
		if size += len(list[i]) + 1; size > room || len(list)-i > maxAttempts {
			list = list[i+1:]
			break
		}
	}
	if len(list) == 0 {
		return out
	}
	return out.Append(PropAttempts, strings.Join(list, " "))
}

// clientWord makes a word of a client's id that neither ends a property nor an
// attempt.
func clientWord(id string) string {
	word := []byte(id[:min(len(id), maxClientBytes)])
	for i, c := range word {
		if c <= ' ' || c == ',' || c == 0x7f {
			word[i] = '_'
		}
	}
	if len(word) == 0 {
		return "?"
	}
	return string(word)
}

// Attempts reads the failed attempts of a message, oldest first.
func Attempts(p message.Properties) []Attempt {
	var list []Attempt
	for word := range strings.FieldsSeq(p.Value(PropAttempts)) {
		at, client, _ := strings.Cut(word, ",")
		if ms, err := strconv.ParseInt(at, 10, 64); err == nil {
			list = append(list, Attempt{ms, client})
		}
	}
	return list
}

// withDeath returns properties that say why a message is a dead letter. limit
// is told if it is not negative.
func withDeath(p message.Properties, reason string, limit int32) message.Properties {
	p = p.Without(PropDeadReason, PropDeadLimit, PropDeadOffset, PropDeadSince).Append(PropDeadReason, reason)
	if limit >= 0 {
		p = p.Append(PropDeadLimit, strconv.Itoa(int(limit)))
	}
	return p
}

// failedAt is the attempt that a client of a group reports now.
func (b *Broker) failedAt(group string, c Client) Attempt {
	return Attempt{Time: b.now().UnixMilli(), Client: b.clients.nameOf(group, c)}
}

// nameOf returns the id of a client in a group, or its address.
func (c *Clients) nameOf(group string, client Client) string {
	if client == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.consumers[group]; g != nil && g.members[client] != nil {
		return g.members[client].ID
	}
	return client.RemoteAddr().String()
}

// markDead notes on a message that a client sends to the dead letters itself
// who did it and when, unless the message says why it is there.
func (b *Broker) markDead(r *SendRequest, m *message.Message) {
	if _, told := m.Properties.Get(PropDeadReason); told || len(m.Properties) > message.MaxPropertiesSize-attemptRoom {
		return
	}
	group := strings.TrimPrefix(m.Topic, message.DLQPrefix)
	m.Properties = withAttempt(withDeath(m.Properties, DeadSent, -1), b.failedAt(group, r.Client))
}

// DeadLetter is a message that its group could not consume.
type DeadLetter struct {
	Offset     message.Offset    `json:"offset"` // names it in its group
	At         message.Offset    `json:"at"`     // where it stands now; another one if it was carried forward
	Time       int64             `json:"time"`   // when it died, ms
	Born       int64             `json:"born"`
	Topic      string            `json:"topic"` // the original one; "" if nobody told it
	Queue      int32             `json:"queue"` // of the original topic; -1: not known
	UniqueKey  string            `json:"unique_key"`
	Keys       string            `json:"keys,omitempty"`
	Tags       string            `json:"tags,omitempty"`
	ID         string            `json:"id"`                  // offset id of the dead letter
	OriginID   string            `json:"origin_id,omitempty"` // offset id of the first record
	Reason     string            `json:"reason,omitempty"`
	Limit      int32             `json:"limit"` // retries that were allowed; -1: not known
	Retries    int32             `json:"retries"`
	Attempts   []Attempt         `json:"attempts,omitempty"`
	Redrive    string            `json:"redrive,omitempty"` // the re-drive after which it failed again
	Size       int               `json:"size"`
	SysFlag    int32             `json:"sys_flag,omitempty"`
	Flag       int32             `json:"flag,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Body       []byte            `json:"body,omitempty"`
}

// deadView is what the re-drive and the filters read of a dead letter.
type deadView struct {
	message.View
	offset    message.Offset // where it stands now
	ident     message.Offset // where it stood first, which names it
	since     int64          // when it died
	topic     string         // original
	unique    string
	keys      []byte
	tags      []byte
	origin    string // offset id of the first record
	reason    string
	redriven  string // by an earlier re-drive
	originQID int32
}

// readDead reads a record of a dead-letter queue.
func readDead(v message.View, off message.Offset) deadView {
	d := deadView{View: v, offset: off, ident: off, since: v.StoreTimestamp(), originQID: -1}
	dlqTopic := ""
	for name, value := range v.Properties().All() {
		switch string(name) {
		case message.PropUniqueKey:
			d.unique = string(value)
		case message.PropKeys:
			d.keys = value
		case message.PropTags:
			d.tags = value
		case message.PropRetryTopic:
			d.topic = string(value)
		case message.PropDLQOriginTopic:
			dlqTopic = string(value)
		case message.PropOriginMessageID:
			d.origin = string(value)
		case PropDeadReason:
			d.reason = string(value)
		case PropRedrive:
			d.redriven = string(value)
		case PropOriginQueue:
			d.originQID = int32(numberOr(value, -1))
		case PropDeadOffset:
			d.ident = message.Offset(numberOr(value, int64(off)))
		case PropDeadSince:
			d.since = numberOr(value, d.since)
		}
	}
	if d.topic == "" {
		d.topic = dlqTopic
	}
	return d
}

func numberOr(text []byte, other int64) int64 {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n
	}
	return other
}

// letter is the dead letter for tools, with its properties and body if asked.
func (d *deadView) letter(full bool) DeadLetter {
	p := d.Properties()
	l := DeadLetter{
		Offset: d.ident, At: d.offset, Time: d.since, Born: d.BornTimestamp(), Topic: d.topic, Queue: d.originQID, UniqueKey: d.unique,
		Keys: string(d.keys), Tags: string(d.tags), ID: d.OffsetID(), OriginID: d.origin, Reason: d.reason,
		Limit: -1, Retries: d.ReconsumeTimes(), Attempts: Attempts(p), Redrive: d.redriven,
		Size: d.BodySize(), SysFlag: int32(d.SysFlag()), Flag: d.Flag(),
	}
	if limit, ok := p.Get(PropDeadLimit); ok {
		l.Limit = int32(numberOr(limit, -1))
	}
	if full {
		l.Properties, l.Body = p.Map(), d.Body()
	}
	return l
}

// hours is a span of whole hours.
func hours(n int64) time.Duration { return time.Duration(n) * time.Hour }
