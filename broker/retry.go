package broker

import (
	"strings"

	"github.com/merlinmq/merlin/message"
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
	if r.ReconsumeTimes <= limit && !b.locks.Any(group) {
		return nil
	}
	dead, err := b.topics.CreateOwn(message.DLQTopic(group), 1)
	if err != nil {
		return err
	}
	m.Topic, m.QueueID = dead.Name, 0
	m.Properties = m.Properties.Without(message.PropDelay)
	return nil
}
