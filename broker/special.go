package broker

import (
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// storeSpecial adds a message that is delayed or transactional to the batch,
// rewritten to the topic where it waits.
func (b *Broker) storeSpecial(batch *store.Batch, m *message.Message, _ *foundProperties) error {
	return illegal(batch.Add(m))
}

// compile returns what an SQL92 subscription lets through.
func (b *Broker) compile(sub *Subscription) (func(message.View) bool, error) {
	return nil, refuse(KindSubscriptionParse, "the expression %q of the topic %s cannot be compiled", sub.Expression, sub.Topic)
}
