package broker

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// divertRetry sends to the dead letters what was sent to a retry topic too
// often, or by an orderly consumer, which has tried it in place before.
func (b *Broker) divertRetry(r *SendRequest, m *message.Message) error {
	group := strings.TrimPrefix(m.Topic, message.RetryPrefix)
	g, err := b.groupFor(group)
	if err != nil {
		return err
	}
	limit := g.RetryMaxTimes
	if r.MaxReconsumeTimes >= 0 {
		limit = r.MaxReconsumeTimes
	}
	m.Properties = withAttempt(m.Properties, b.failedAt(group, r.Client))
	reason := DeadMaxAttempts
	if r.ReconsumeTimes <= limit {
		if !b.locks.Any(group) {
			b.directRetry(g, r, m)
			return nil
		}
		reason = DeadOrderly
	}
	dead, err := b.topics.CreateOwn(message.DLQTopic(group), 1)
	if err != nil {
		return err
	}
	m.Topic, m.QueueID = dead.Name, 0
	m.Properties = withDeath(m.Properties.Without(message.PropDelay), reason, limit)
	return nil
}

// SendBackRequest gives a message back that a consumer could not handle.
type SendBackRequest struct {
	Group             string
	Position          message.Position // of the record that was consumed
	DelayLevel        int32            // 0: by how often it came back; negative: to the dead letters
	OriginTopic       string
	UnitMode          bool
	MaxReconsumeTimes int32 // -1: the group's
	Times             int32 // how often it was handed out, where its record does not say so
	StoreHost         netip.AddrPort
	Client            Client // that gives it back; nil: not known
	Reason            string // with a negative DelayLevel: why; default DeadConsumer
}

// firstRetryLevel is the delay level of the first retry.
const firstRetryLevel = 3

// SendBack stores a message anew for its group, to come again after a delay, or
// for the group's dead letters once it came too often.
func (b *Broker) SendBack(r *SendBackRequest) error {
	g, err := b.groupFor(r.Group)
	if err != nil {
		return err
	}
	if b.cfg.Permission.Load()&PermWrite == 0 {
		return refuse(KindNoPermission, "the broker[%s] sending message is forbidden", b.cfg.Name)
	}
	if err := b.mayStore(); err != nil {
		return err
	}
	if g.RetryQueues <= 0 {
		return nil
	}
	retry, err := b.topics.CreateOwn(message.RetryTopic(r.Group), g.RetryQueues)
	if err != nil {
		return err
	}
	if retry.Perm&PermWrite == 0 {
		return refuse(KindNoPermission, "the topic[%s] sending message is forbidden", retry.Name)
	}
	v, err := b.store.Record(r.Position)
	var corrupt *store.CorruptError
	if errors.Is(err, store.ErrNotFound) || errors.As(err, &corrupt) {
		return fail(KindSystem, err, "look message by offset failed, %d", r.Position)
	}
	if err != nil {
		return fail(KindSystem, err, "reading the message at %d that is given back", r.Position)
	}
	m, err := b.sentBack(r, g, retry, v)
	if err != nil {
		return err
	}
	batch := b.store.NewBatch()
	if _, err := b.addDeferred(batch, &m); err != nil {
		return err
	}
	if err := b.store.Append(batch); err != nil {
		return storeRefusal(err)
	}
	b.traffic.count(b.now, trafficKey{TrafficSentBack, cmp.Or(r.OriginTopic, string(v.Topic())), r.Group}, 1, 0)
	return nil
}

// sentBack returns the record to store for a message that is given back.
func (b *Broker) sentBack(r *SendBackRequest, g *Group, retry *Topic, v message.View) (message.Message, error) {
	m := v.Message()
	p := m.Properties.Without(message.PropWait).Append(message.PropWait, "false")
	if _, found := p.Get(message.PropRetryTopic); !found {
		p = p.Append(message.PropRetryTopic, m.Topic)
	}
	if _, found := p.Get(message.PropOriginMessageID); !found {
		p = p.Append(message.PropOriginMessageID, v.OffsetID()).Append(PropOriginQueue, strconv.Itoa(int(m.QueueID)))
	}
	p = withAttempt(p, b.failedAt(r.Group, r.Client))
	limit := g.RetryMaxTimes
	if r.MaxReconsumeTimes >= 0 {
		limit = r.MaxReconsumeTimes
	}
	level, wait, own := r.DelayLevel, int64(0), false
	if dead := m.ReconsumeTimes >= limit || level < 0; dead {
		topic, err := b.topics.CreateOwn(message.DLQTopic(r.Group), 1)
		if err != nil {
			return m, err
		}
		reason := DeadMaxAttempts
		if level < 0 {
			reason = cmp.Or(r.Reason, DeadConsumer)
		}
		m.Topic, m.QueueID, level, p = topic.Name, 0, 0, withDeath(p, reason, limit)
	} else {
		m.Topic, m.QueueID = retry.Name, rand.Int32N(g.RetryQueues)
		if level == 0 {
			level = firstRetryLevel + m.ReconsumeTimes
			wait, own = g.RetryPolicy.wait(m.ReconsumeTimes)
		}
	}
	// Its own delay is over: timer properties would keep it waiting again.
	m.Properties = p.Without(message.PropDelay, message.PropTimerDelaySec, message.PropTimerDelayMs, message.PropTimerDeliverMs,
		message.PropStartDeliverTime).Append(message.PropDelay, strconv.Itoa(int(level)))
	if own {
		m.Properties = b.afterWait(m.Properties, wait)
	}
	m.ReconsumeTimes = max(m.ReconsumeTimes+1, r.Times)
	m.PreparedPosition = 0
	m.StoreHost = r.StoreHost
	if len(m.Properties) > message.MaxPropertiesSize {
		return m, refuse(KindIllegalMessage, "the properties of the message take %d bytes with those of a retry; a record holds %d at most", len(m.Properties), message.MaxPropertiesSize)
	}
	return m, nil
}
