package broker

import (
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// storeSpecial adds a message that is delayed or transactional to the batch,
// rewritten to the topic where it waits.
func (b *Broker) storeSpecial(batch *store.Batch, m *message.Message, found *foundProperties) error {
	if found.transaction && !(m.ReconsumeTimes > 0 && found.delay) {
		if err := b.prepare(m, found); err != nil {
			return b.illegal(err)
		}
		return b.illegal(batch.Add(m))
	}
	d, err := b.addDeferred(batch, m)
	found.recallTime = d.Handle
	return err
}

// storeFinal adds the message of a committed transaction, which may be delayed.
func (b *Broker) storeFinal(batch *store.Batch, m *message.Message) error {
	found := scanProperties(m.Properties)
	if found.transaction = false; found.special() {
		return b.storeSpecial(batch, m, &found)
	}
	return b.illegal(batch.Add(m))
}
