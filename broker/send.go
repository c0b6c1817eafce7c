package broker

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
	"github.com/merlinmq/merlin/store"
)

// SendRequest is one send in no wire's words. Its slices may die when Add
// returns: what is stored is copied.
type SendRequest struct {
	Group             []byte
	Topic             []byte
	DefaultTopic      []byte // the template of an auto-created topic
	DefaultQueues     int32  // how many queues the producer wants for it
	QueueID           int32  // negative: any writable one
	SysFlag           message.SysFlag
	BornTimestamp     int64
	Flag              int32
	Properties        message.Properties
	ReconsumeTimes    int32
	MaxReconsumeTimes int32 // -1: not told
	UnitMode          bool
	Batch             bool // Body holds several messages
	Body              []byte
	BornHost          netip.AddrPort
	StoreHost         netip.AddrPort // the address under which the client reached the broker
	Client            Client         // that sends; nil: replies to what it asks find it by its heartbeat alone
}

// SendResult is the outcome of one send.
type SendResult struct {
	Err       error // an *Error, or nil: stored
	QueueID   int32
	Offset    message.Offset // of the first message of a batch
	UniqueKey []byte         // dies with the next Reset
	StoreHost netip.AddrPort
	Topic     string // that it was sent to
	// RecallTime is the time that a recall handle of the message names; 0 if it
	// cannot be recalled.
	RecallTime int64
	first      int
	count      int
	sender     *Sender
}

// AppendMessageID appends the ids of the stored messages, with commas between
// those of a batch.
func (r *SendResult) AppendMessageID(dst []byte) []byte {
	for i := range r.count {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = message.AppendOffsetID(dst, r.StoreHost, r.sender.batch.Result(r.first+i).Position)
	}
	return dst
}

// RecallHandle returns what recalls the message, "" if it cannot be recalled.
func (r *SendResult) RecallHandle() string {
	if r.RecallTime == 0 || r.Err != nil {
		return ""
	}
	return schedule.Handle{Topic: r.Topic, Broker: r.sender.broker.cfg.Name, Time: r.RecallTime, Unique: string(r.UniqueKey)}.String()
}

// Sender gathers the sends that arrived together and stores them with one
// write. Each connection has its own; it is not safe for concurrent use.
type Sender struct {
	broker  *Broker
	batch   *store.Batch
	sends   []pendingSend
	props   []byte          // room for rewritten properties, until the record is encoded
	keys    []byte          // unique keys that answers need
	message message.Message // the one being added
	waits   bool
	results []SendResult
}

type pendingSend struct {
	result  SendResult
	keyFrom int
	keyTo   int
}

// NewSender returns a Sender.
func (b *Broker) NewSender() *Sender {
	return &Sender{broker: b, batch: b.store.NewBatch()}
}

// Len returns how many sends were added since the last Reset.
func (s *Sender) Len() int { return len(s.sends) }

// Reset forgets the sends and their results.
func (s *Sender) Reset() {
	s.batch.Reset()
	s.sends, s.keys, s.results, s.waits = s.sends[:0], s.keys[:0], s.results[:0], false
}

// Add checks one send and encodes it for the next Commit. What it refuses gets
// its result at Commit like the others.
func (s *Sender) Add(r *SendRequest) {
	p := pendingSend{keyFrom: len(s.keys)}
	p.result.first = s.batch.Len()
	p.result.StoreHost = r.StoreHost
	p.result.sender = s
	if err := s.add(r, &p.result); err != nil {
		p.result.Err = err
		s.keys = s.keys[:p.keyFrom]
	}
	p.result.count = s.batch.Len() - p.result.first
	p.keyTo = len(s.keys)
	s.sends = append(s.sends, p)
}

func (s *Sender) add(r *SendRequest, res *SendResult) error {
	b := s.broker
	if err := b.mayStore(); err != nil {
		return err
	}
	topic, err := b.topicForSend(r)
	if err != nil {
		return err
	}
	queue, err := pickWriteQueue(topic, r.QueueID)
	if err != nil {
		return err
	}
	res.QueueID = queue
	if limit := b.cfg.MaxMessageSize.Load(); int64(len(r.Body)) > limit {
		return refuse(KindIllegalMessage, "the body takes %d bytes; maxMessageSize allows %d", len(r.Body), limit)
	}
	if len(r.Properties) > message.MaxPropertiesSize {
		return refuse(KindIllegalMessage, "the properties take %d bytes; a record holds %d at most", len(r.Properties), message.MaxPropertiesSize)
	}
	s.message = message.Message{
		Topic: topic.Name, QueueID: queue, Flag: r.Flag, SysFlag: r.SysFlag, BornTimestamp: r.BornTimestamp,
		BornHost: r.BornHost, StoreHost: r.StoreHost, ReconsumeTimes: r.ReconsumeTimes, Body: r.Body, Properties: r.Properties,
	}
	if r.Batch {
		return s.addBatch(r, &s.message)
	}
	return s.addOne(r, &s.message, res)
}

// addOne encodes a send that is one message.
func (s *Sender) addOne(r *SendRequest, m *message.Message, res *SendResult) error {
	b := s.broker
	found := scanProperties(r.Properties)
	if message.IsRetryTopic(m.Topic) {
		if err := b.divertRetry(r, m); err != nil {
			return err
		}
	} else if message.IsDLQTopic(m.Topic) {
		b.markDead(r, m)
	}
	if err := s.completeProperties(m, &found); err != nil {
		return err
	}
	s.waits = s.waits || found.waits
	if len(found.replyTo) > 0 && r.Client != nil && !found.reply && r.ReconsumeTimes == 0 {
		b.requesters.remember(found.replyTo, r.Client)
	}
	if found.special() {
		res.Topic = m.Topic
		err := b.storeSpecial(s.batch, m, &found)
		if !message.IsRetryTopic(res.Topic) {
			res.RecallTime = found.recallTime
		}
		return err
	}
	return s.broker.illegal(s.batch.AddKnown(m, &store.Known{Tags: found.tags, Keys: found.keys, Unique: found.uniqueKey}))
}

// completeProperties adds what the broker adds to every message.
func (s *Sender) completeProperties(m *message.Message, found *foundProperties) error {
	b := s.broker
	props := append(s.props[:0], m.Properties...)
	if found.own {
		props = append(s.props[:0], m.Properties.Without(brokerProperties...)...)
	}
	if n := len(props); n > 0 && props[n-1] != 0x02 {
		props = append(props, 0x02)
	}
	if len(found.uniqueKey) == 0 {
		from := len(s.keys)
		s.keys = append(s.keys, b.ids.Next(b.now())...)
		found.uniqueKey = s.keys[from:len(s.keys):len(s.keys)]
		props = message.Properties(props).Append(message.PropUniqueKey, string(found.uniqueKey))
	} else {
		s.keys = append(s.keys, found.uniqueKey...)
	}
	props = append(props, b.stamp...)
	s.props = props
	if len(props) > message.MaxPropertiesSize {
		return refuse(KindIllegalMessage, "the properties take %d bytes with those that the broker adds; a record holds %d at most", len(props), message.MaxPropertiesSize)
	}
	m.Properties = props
	return nil
}

// addBatch encodes a send that holds several messages: they get consecutive
// offsets in one queue. A broken batch leaves nothing behind.
func (s *Sender) addBatch(r *SendRequest, m *message.Message) error {
	if message.IsRetryTopic(m.Topic) {
		return refuse(KindIllegalMessage, "a batch may not go to the retry topic %s", m.Topic)
	}
	if len(m.Topic) > message.MaxTopicLen {
		return refuse(KindIllegalMessage, "the topic of a batch has %d characters; %d are allowed", len(m.Topic), message.MaxTopicLen)
	}
	outer := scanProperties(r.Properties)
	if outer.special() {
		return refuse(KindIllegalMessage, "a batch may be neither delayed nor transactional; send the messages one by one")
	}
	if len(r.Body) == 0 {
		return refuse(KindIllegalMessage, "the batch holds no message")
	}
	s.waits = s.waits || outer.waits
	s.keys = append(s.keys, outer.uniqueKey...)
	return s.batch.AddGroup(func(add func(*message.Message) error) error {
		for n, rest := 0, r.Body; len(rest) > 0; n++ {
			item, after, err := message.NextBatchItem(rest)
			if err != nil {
				return fail(KindIllegalMessage, err, "message %d of the batch is broken", n)
			}
			rest = after
			m.Flag, m.Body, m.Properties = item.Flag, item.Body, item.Properties
			if err := add(m); err != nil {
				return s.broker.illegal(err)
			}
		}
		return nil
	})
}

// Commit stores what was added, with one write, and returns a result for each
// send in order; they are valid until the next Reset. A stored message may be
// lost in a power cut until WhenSafe says so.
func (s *Sender) Commit() []SendResult {
	s.batch.Awaited = s.Waits()
	err := s.broker.storeRefusal(s.broker.store.Append(s.batch))
	for i := range s.sends {
		p := &s.sends[i]
		if p.result.Err == nil && err != nil {
			p.result.Err = err
		}
		if p.result.Err == nil {
			p.result.Offset = s.batch.Result(p.result.first).Offset
			p.result.UniqueKey = s.keys[p.keyFrom:p.keyTo]
		}
		s.results = append(s.results, p.result)
	}
	return s.results
}

// Waits tells whether a message of this Commit asked for an answer only when
// it is safe, and the broker is set up to give such answers.
func (s *Sender) Waits() bool { return s.waits && s.broker.store.SyncFlush() }

// FlushAlone makes everything that was committed safe on this goroutine, unless
// somebody else is about to: then alone is false, and WhenSafe is the way. begun
// is called before the fsync. With true, Show must follow.
func (s *Sender) FlushAlone(begun func()) (alone bool, err error) {
	return s.broker.store.FlushAlone(begun)
}

// Show lets consumers have what FlushAlone made safe.
func (s *Sender) Show() { s.broker.store.Show() }

// WhenSafe calls fn once everything that was committed is safe, or cannot be
// made so. One of the two must be called where Waits says so. The Sender may be reset before that.
func (s *Sender) WhenSafe(fn func(error)) { s.broker.store.WhenSafe(s.batch.End(), fn) }

// topicForSend finds the topic of a send, or creates it by Apache's rules.
func (b *Broker) topicForSend(r *SendRequest) (*Topic, error) {
	if topic := b.topics.Lookup(r.Topic); topic != nil && !topic.NoSend {
		if topic.Perm&PermWrite == 0 {
			return nil, refuse(KindNoPermission, "the topic %s is not writable: its permission is %d", topic.Name, topic.Perm)
		}
		return topic, nil
	}
	name := string(r.Topic)
	if name == "" {
		return nil, refuse(KindInvalidParameter, "the request names no topic")
	}
	if err := message.CheckTopicName(name); err != nil {
		return nil, fail(KindInvalidParameter, nil, "%s", err)
	}
	if forbidsSend(name) {
		return nil, refuse(KindNoPermission, "Sending message to topic[%s] is forbidden: it is the broker's own", name)
	}
	return b.topics.CreateForSend(name, string(r.DefaultTopic), r.DefaultQueues, r.UnitMode)
}

func pickWriteQueue(topic *Topic, asked int32) (int32, error) {
	if asked < 0 {
		return rand.Int32N(max(topic.WriteQueues, 1)), nil
	}
	if limit := max(topic.WriteQueues, topic.ReadQueues); asked >= limit {
		return 0, refuse(KindInvalidParameter, "request queueId[%d] is illegal: the topic %s has the queues 0 to %d", asked, topic.Name, limit-1)
	}
	return asked, nil
}

// mayStore returns why nothing can be stored now, or nil.
func (b *Broker) mayStore() error {
	if at := b.cfg.StartAcceptSendAt; at > 0 && b.now().Before(time.UnixMilli(at)) {
		return refuse(KindSystem, "broker unable to service until %s", time.UnixMilli(at).UTC().Format(time.RFC3339))
	}
	if err := b.diskFull(); err != nil {
		return err
	}
	return b.storeRefusal(b.store.Writable())
}
