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
	v, err := b.store.Record(r.Position)
	var corrupt *store.CorruptError
	if errors.Is(err, store.ErrNotFound) || errors.As(err, &corrupt) {
		return fail(KindSystem, err, "look message by offset failed, %d", r.Position)
	}
	if err != nil {
		return fail(KindSystem, err, "reading the message at %d that is given back", r.Position)
	}
	// What is dead needs no retry topic.
	limit := r.limit(g)
	dead := v.ReconsumeTimes() >= limit || r.DelayLevel < 0
	if !dead && g.RetryQueues <= 0 {
		return nil // the group wants no retries
	}
	var topic *Topic
	var queue int32
	if dead {
		topic, err = b.topics.CreateOwn(message.DLQTopic(r.Group), 1)
	} else {
		topic, queue, err = b.retryQueue(g)
	}
	if err != nil {
		return err
	}
	m := b.sentBack(r, v)
	m.Topic, m.QueueID = topic.Name, queue
	if dead {
		reason := DeadMaxAttempts
		if r.DelayLevel < 0 {
			reason = cmp.Or(r.Reason, DeadConsumer)
		}
		m.Properties = withDeath(m.Properties, reason, limit).Append(message.PropDelay, "0")
	} else {
		m.Properties = b.untilRetry(m.Properties, r, g, v.ReconsumeTimes())
	}
	if len(m.Properties) > message.MaxPropertiesSize {
		return refuse(KindIllegalMessage, "the properties of the message take %d bytes with those of a retry; a record holds %d at most", len(m.Properties), message.MaxPropertiesSize)
	}
	batch := b.store.NewBatch()
	if _, err := b.addDeferred(batch, &m); err != nil {
		return err
	}
	if err := b.store.Append(batch); err != nil {
		return b.storeRefusal(err)
	}
	b.traffic.count(b.now, trafficKey{TrafficSentBack, cmp.Or(r.OriginTopic, string(v.Topic())), r.Group}, 1, 0)
	return nil
}

// limit returns how often the message may come again.
func (r *SendBackRequest) limit(g *Group) int32 {
	if r.MaxReconsumeTimes >= 0 {
		return r.MaxReconsumeTimes
	}
	return g.RetryMaxTimes
}

// retryQueue returns the retry topic of a group, and one of its queues that the
// members read.
func (b *Broker) retryQueue(g *Group) (*Topic, int32, error) {
	topic, err := b.topics.CreateRetry(message.RetryTopic(g.Name), g.RetryQueues, false)
	if err != nil {
		return nil, 0, err
	}
	if topic.Perm&PermWrite == 0 {
		return nil, 0, refuse(KindNoPermission, "the topic[%s] sending message is forbidden", topic.Name)
	}
	// A topic may have fewer write queues than the group asks for: to empty some.
	queues := min(g.RetryQueues, topic.ReadQueues, topic.WriteQueues)
	if queues <= 0 {
		return nil, 0, refuse(KindNoPermission, "the topic[%s] sending message is forbidden: it has %d read and %d write queues; give it at least one of each", topic.Name, topic.ReadQueues, topic.WriteQueues)
	}
	return topic, rand.Int32N(queues), nil
}

// sentBack returns the record to store for a message that is given back, but
// for where it goes and when.
func (b *Broker) sentBack(r *SendBackRequest, v message.View) message.Message {
	m := v.Message()
	p := m.Properties.Without(message.PropWait).Append(message.PropWait, "false")
	if _, found := p.Get(message.PropRetryTopic); !found {
		p = p.Append(message.PropRetryTopic, m.Topic)
	}
	if _, found := p.Get(message.PropOriginMessageID); !found {
		p = p.Append(message.PropOriginMessageID, v.OffsetID()).Append(PropOriginQueue, strconv.Itoa(int(m.QueueID)))
	}
	p = withAttempt(p, b.failedAt(r.Group, r.Client))
	// Its own delay is over: timer properties would keep it waiting again.
	m.Properties = p.Without(message.PropDelay, message.PropTimerDelaySec, message.PropTimerDelayMs, message.PropTimerDeliverMs,
		message.PropStartDeliverTime)
	m.ReconsumeTimes = max(m.ReconsumeTimes+1, r.Times)
	m.PreparedPosition = 0
	m.StoreHost = r.StoreHost
	return m
}

// untilRetry returns properties of a message that came back so often before,
// with how long it waits now.
func (b *Broker) untilRetry(p message.Properties, r *SendBackRequest, g *Group, before int32) message.Properties {
	if r.DelayLevel != 0 {
		return p.Append(message.PropDelay, strconv.Itoa(int(r.DelayLevel)))
	}
	if wait, own := g.RetryPolicy.wait(before); own {
		return b.afterWait(p, wait)
	}
	return p.Append(message.PropDelay, strconv.Itoa(int(firstRetryLevel+before)))
}
