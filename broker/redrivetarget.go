package broker

import (
	"math/rand/v2"
	"strconv"

	"github.com/merlinmq/merlin/message"
)

// redriveTarget is where the messages of a re-drive go.
type redriveTarget struct {
	b    *Broker
	spec *RedriveSpec
	one  string // the one topic; "": each its own
	turn int32  // the next queue of messages that have none
}

// redriveTarget refuses a topic that takes no messages.
func (b *Broker) redriveTarget(spec *RedriveSpec) (*redriveTarget, error) {
	t := &redriveTarget{b: b, spec: spec, turn: rand.Int32N(1 << 16)}
	switch spec.To {
	case RedriveRetry:
		g, err := b.groupFor(spec.Group)
		if err != nil {
			return nil, err
		}
		if g.RetryQueues <= 0 {
			return nil, refuse(KindNoPermission, "the group %s has no retry queues (retryQueueNums); re-drive to the original topic or another one", g.Name)
		}
		retry, err := b.topics.CreateRetry(message.RetryTopic(spec.Group), g.RetryQueues, false)
		if err != nil {
			return nil, err
		}
		t.one = retry.Name
	case RedriveTopic:
		t.one = spec.Topic
	default:
		return t, nil
	}
	_, err := t.topic(t.one)
	return t, err
}

// topic returns a topic that can be sent to.
func (t *redriveTarget) topic(name string) (*Topic, error) {
	topic := t.b.topics.LookupString(name)
	switch {
	case topic == nil:
		return nil, refuse(KindTopicNotExist, "the topic %s does not exist at the broker %s; create it with: merlin topic create %s, or re-drive to another one with --topic", name, t.b.cfg.Name, name)
	case topic.NoSend || message.IsDLQTopic(name) || message.IsRetryTopic(name) && t.spec.To != RedriveRetry:
		return nil, refuse(KindNoPermission, "nothing can be re-driven to the topic %s; name another one with --topic", name)
	case topic.Perm&PermWrite == 0 || topic.WriteQueues <= 0:
		return nil, refuse(KindNoPermission, "the topic %s is not writable: its permission is %d; change that, or re-drive to another one with --topic", name, topic.Perm)
	}
	return topic, nil
}

// place returns the topic and queue for a dead letter.
func (t *redriveTarget) place(d *deadView) (string, int32, error) {
	name := t.one
	if name == "" {
		if name = d.topic; name == "" {
			return "", 0, refuse(KindIllegalMessage, "the dead letter %d of %s names no original topic; name one with --topic", d.ident, t.spec.Group)
		}
	}
	topic, err := t.topic(name)
	if err != nil {
		return "", 0, err
	}
	if t.one == "" && d.originQID >= 0 && d.originQID < topic.WriteQueues {
		return name, d.originQID, nil
	}
	t.turn++
	return name, (t.turn & 0x7fffffff) % topic.WriteQueues, nil
}

// lastTries are properties of what a message went through before. A message
// that goes to its retry topic keeps the first three.
var lastTries = []string{
	message.PropRetryTopic, message.PropOriginMessageID, PropOriginQueue,
	message.PropDelay, message.PropReconsumeTime, message.PropMaxReconsume, message.PropWait, message.PropTransaction,
	message.PropRealTopic, message.PropRealQueueID, message.PropDLQOriginTopic, message.PropDLQOriginMessageID,
	message.PropPopCheckpoint, message.PropFirstPopTime,
	PropAttempts, PropDeadReason, PropDeadLimit, PropDeadOffset, PropDeadSince, PropRedrive, PropRedriveOffset,
}

// redriven returns the message that a dead letter becomes.
func (t *redriveTarget) redriven(d *deadView) (message.Message, error) {
	m := d.Message()
	var err error
	if m.Topic, m.QueueID, err = t.place(d); err != nil {
		return m, err
	}
	drop := lastTries
	if t.spec.To == RedriveRetry {
		drop = drop[3:]
	}
	m.Properties = m.Properties.Without(drop...).Append(PropRedrive, t.spec.ID).Append(PropRedriveOffset, strconv.FormatInt(int64(d.ident), 10))
	m.SysFlag = m.SysFlag.WithTransaction(0)
	m.ReconsumeTimes, m.PreparedPosition = 0, 0
	m.StoreHost = t.b.StoreHost()
	if len(m.Properties) > message.MaxPropertiesSize {
		return m, refuse(KindIllegalMessage, "the properties take %d bytes with those of the re-drive; a record holds %d at most", len(m.Properties), message.MaxPropertiesSize)
	}
	return m, nil
}
