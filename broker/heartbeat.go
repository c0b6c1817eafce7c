package broker

import "github.com/merlinmq/merlin/message"

// Heartbeat takes in what a client tells about itself: its groups get settings
// and retry topics if they have none, and when it returns the client is in the
// lists of its groups. A group that may not be created is left out, as Apache's
// broker leaves it out; its pulls say why.
func (b *Broker) Heartbeat(c Client, h *Heartbeat) error {
	known := h.Consumers[:0:0]
	for _, consumer := range h.Consumers {
		group, err := b.groupFor(consumer.Group)
		if err != nil {
			b.events.Warn("a consumer's group is refused", "group", consumer.Group, "client", h.ClientID, "address", c.RemoteAddr(), "error", err)
			continue
		}
		if group.RetryQueues > 0 {
			if _, err := b.topics.CreateRetry(message.RetryTopic(group.Name), group.RetryQueues, consumer.UnitMode); err != nil {
				b.events.Warn("a group's retry topic is refused", "group", group.Name, "error", err)
			}
		}
		b.checkFilters(h.ClientID, &consumer)
		known = append(known, consumer)
	}
	beat := *h
	beat.Consumers = known
	return b.clients.Heartbeat(c, &beat)
}

// UpdateGroups creates or changes groups as Groups.Update does, and gives the
// retry topics that there are the queues that the groups ask for now.
func (b *Broker) UpdateGroups(configs ...GroupConfig) error {
	if err := b.groups.Update(configs...); err != nil {
		return err
	}
	for i := range configs {
		name := message.RetryTopic(configs[i].Name)
		if b.topics.LookupString(name) == nil {
			continue
		}
		if _, err := b.topics.CreateRetry(name, configs[i].RetryQueues, false); err != nil {
			return err
		}
	}
	return nil
}

// CheckFilter tells whether a subscription's expression can be used here.
func (b *Broker) CheckFilter(s *Subscription) error {
	_, err := b.filterFor(s)
	return err
}
