package broker

import (
	"context"
	"slices"
	"strings"

	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// DeleteTopic removes a topic with its queues and the offsets of its
// consumers; its records go with the log's retention. A topic that there is not
// is no error, so that what is left of one can be removed.
func (b *Broker) DeleteTopic(name string) error {
	if strings.TrimSpace(name) == "" {
		return refuse(KindInvalidParameter, "The specified topic is blank.")
	}
	if err := b.forgetDeadTopic(name); err != nil {
		return err
	}
	if _, err := b.topics.Delete(name); err != nil {
		return err
	}
	if err := b.pops.DeleteTopic(name); err != nil {
		return popRefusal(err, "forgetting what was handed out of %s", name)
	}
	if err := b.offsets.DeleteTopic(name); err != nil {
		return err
	}
	if err := b.store.DeleteTopic(name); err != nil {
		return fail(KindSystem, err, "removing the queues of %s", name)
	}
	return nil
}

// CleanUnusedTopics removes the queues and offsets of topics that have no
// settings any more: a log that was dispatched anew brings deleted ones back.
func (b *Broker) CleanUnusedTopics() error {
	for _, name := range b.store.Topics() {
		if b.topics.LookupString(name) != nil {
			continue
		}
		if err := b.forgetDeadTopic(name); err != nil {
			return err
		}
		if err := b.offsets.DeleteTopic(name); err != nil {
			return err
		}
		if err := b.store.DeleteTopic(name); err != nil {
			return fail(KindSystem, err, "removing the queues of %s", name)
		}
	}
	return nil
}

// DeleteGroup removes a group's settings and subscriptions and, if asked, its
// offsets. A group that there is not is no error.
func (b *Broker) DeleteGroup(name string, offsets bool) error {
	if _, err := b.groups.Delete(name); err != nil {
		return err
	}
	if err := b.clients.Forget(name); err != nil {
		return err
	}
	b.publishPops()
	if err := b.pops.DeleteGroup(name); err != nil {
		return popRefusal(err, "forgetting what was handed out to %s", name)
	}
	if !offsets {
		return nil
	}
	return b.offsets.DeleteGroup(name)
}

// QueryOffset returns where a group goes on in a queue. A group that never
// committed begins at 0 where the queue's beginning is still at hand, as with
// Apache's broker, and in a retry topic at its first message; elsewhere, and
// with strict set, KindNotFound leaves the choice to the client.
func (b *Broker) QueryOffset(group, topic string, queue int32, strict bool) (message.Offset, error) {
	if offset, found := b.offsets.Query(group, topic, queue); found && offset >= 0 {
		return offset, nil
	}
	if g := b.groups.Lookup(group); g != nil && b.topics.LookupString(topic) != nil {
		if text := g.initial(topic); text != "" {
			return b.initialOffset(text, topic, queue)
		}
	}
	low := max(b.store.QueueMin(topic, queue), 0)
	if strict {
		return 0, refuse(KindNotFound, "Not found, do not set to zero, maybe this group boot first")
	}
	if low == 0 && b.beginsHot(topic, queue) {
		return 0, nil
	}
	// Left to themselves, clients that begin at a time begin retry topics at
	// their end.
	if message.IsRetryTopic(topic) && b.store.QueueMax(topic, queue) > low {
		return low, nil
	}
	return 0, refuse(KindNotFound, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first")
}

// hotBytes is how far behind the log's end a record counts as at hand.
const hotBytes = 2 << 30

// beginsHot tells whether the first message of the queue is at offset 0 and
// near the end of the log.
func (b *Broker) beginsHot(topic string, queue int32) bool {
	var first [1]store.Entry
	n, err := b.store.Entries(topic, queue, 0, first[:])
	return err == nil && n == 1 && b.store.Max()-first[0].Position <= hotBytes
}

// CommitOffset stores how far a group has consumed a queue.
func (b *Broker) CommitOffset(group, topic string, queue int32, offset message.Offset) error {
	if b.groups.Lookup(group) == nil {
		return refuse(KindGroupNotExist, "Group %s not exist!", group)
	}
	if b.topics.LookupString(topic) == nil {
		return refuse(KindTopicNotExist, "Topic %s not exist!", topic)
	}
	if queue < 0 || queue >= MaxQueues {
		return refuse(KindInvalidParameter, "QueueId %d is illegal, topic is %s", queue, topic)
	}
	b.offsets.Commit(group, topic, queue, offset)
	b.pops.Advance(pop.Key{Topic: topic, Group: group, Queue: queue}, offset)
	b.pulls.committed(b.now(), group, topic, queue, offset)
	return nil
}

// CloneOffsets copies the offsets of a group in a topic, or in all its topics
// if that is empty, to another group. Unless offline, topics that the group's
// members do not subscribe to are left out.
func (b *Broker) CloneOffsets(from, to, topic string, offline bool) error {
	if err := message.CheckGroupName(to); err != nil {
		return fail(KindInvalidParameter, nil, "%s", err)
	}
	topics := []string{topic}
	if topic == "" {
		topics = b.offsets.TopicsOf(from)
	}
	for _, name := range topics {
		if b.topics.LookupString(name) == nil || !offline && b.unsubscribed(from, name) {
			continue
		}
		b.offsets.Clone(from, to, name)
		for queue, at := range b.offsets.OfTopic(to, name) {
			if err := b.pops.Reset(pop.Key{Topic: name, Group: to, Queue: queue}, at); err != nil {
				return popRefusal(err, "resetting what the group %s pops of %s", to, name)
			}
		}
	}
	return nil
}

// unsubscribed tells whether the group has members and none wants the topic.
func (b *Broker) unsubscribed(group, topic string) bool {
	_, online := b.clients.Consumers(group)
	return online && b.clients.Subscription(group, topic) == nil
}

// ResetRequest asks for new offsets of a group in a topic.
type ResetRequest struct {
	Group     string
	Topic     string
	Queue     int32          // -1: all
	Offset    message.Offset // of the one queue; -1: by time
	Timestamp int64          // ms; -1: the end
	Force     bool           // also forwards
}

// ResetOffsets computes a group's new offsets. Members that are connected are
// told to go on there and commit by themselves; without members the offsets are
// committed at once.
func (b *Broker) ResetOffsets(r *ResetRequest) (map[QueueRef]message.Offset, error) {
	topic := b.topics.LookupString(r.Topic)
	if topic == nil {
		return nil, refuse(KindTopicNotExist, "topic[%s] not exist, nothing can be reset", r.Topic)
	}
	if b.groups.Lookup(r.Group) == nil {
		return nil, refuse(KindGroupNotExist, "subscription group [%s] does not exist, nothing can be reset", r.Group)
	}
	queues := []int32{r.Queue}
	if r.Queue < 0 {
		queues = queues[:0]
		for q := range max(topic.WriteQueues, topic.ReadQueues) {
			queues = append(queues, q)
		}
	} else if r.Queue >= max(topic.WriteQueues, topic.ReadQueues) {
		return nil, refuse(KindInvalidParameter, "Invalid queue id: %d; the topic %s has the queues 0 to %d", r.Queue, r.Topic, max(topic.WriteQueues, topic.ReadQueues)-1)
	}
	offsets := make(map[QueueRef]message.Offset, len(queues))
	for _, q := range queues {
		at, err := b.resetTarget(r, q)
		if err != nil {
			return nil, err
		}
		offsets[QueueRef{r.Topic, b.cfg.Name, q}] = at
	}
	if err := b.resetPops(r, offsets); err != nil {
		return nil, err
	}
	group, online := b.clients.Consumers(r.Group)
	if !online {
		for ref, at := range offsets {
			b.offsets.Commit(r.Group, r.Topic, ref.Queue, at)
		}
		return offsets, nil
	}
	reset := &OffsetReset{Group: r.Group, Topic: r.Topic, Timestamp: r.Timestamp, Force: r.Force, Offsets: offsets}
	for _, m := range group.Members {
		m.Client.ResetOffsets(reset)
	}
	return offsets, nil
}

// resetTarget returns where the group shall go on in one queue.
func (b *Broker) resetTarget(r *ResetRequest, queue int32) (message.Offset, error) {
	low, high := b.store.QueueMin(r.Topic, queue), b.store.QueueMax(r.Topic, queue)
	if r.Queue >= 0 && r.Offset >= 0 {
		if r.Offset < low || r.Offset > high {
			return 0, refuse(KindSystem, "Target offset %d not in consume queue range [%d-%d] of %s queue %d; choose an offset in the range, earliest or latest", r.Offset, low, high, r.Topic, queue)
		}
		return r.Offset, nil
	}
	at := high
	if r.Timestamp >= 0 {
		var err error
		if at, err = b.store.OffsetByTime(r.Topic, queue, r.Timestamp, store.Lower); err != nil {
			return 0, fail(KindSystem, err, "finding the offset of %s queue %d by time", r.Topic, queue)
		}
	}
	if now, found := b.offsets.Query(r.Group, r.Topic, queue); !r.Force && found && now < at {
		return now, nil
	}
	return at, nil
}

// ConsumerStatus asks the members of a group how far each is in a topic; with
// an id, only that member. The answers are the clients' own texts by their ids.
func (b *Broker) ConsumerStatus(ctx context.Context, group, topic, clientID string) (map[string][]byte, error) {
	members, online := b.clients.Consumers(group)
	if !online {
		return nil, refuse(KindConsumerNotOnline, "No Any Consumer online in the consumer group: [%s]", group)
	}
	answers := map[string][]byte{}
	for _, m := range members.Members {
		if clientID != "" && m.ID != clientID {
			continue
		}
		text, err := m.Client.Ask(ctx, &Question{Kind: AskQueueOffsets, Group: group, Topic: topic, ClientID: m.ID})
		if err != nil {
			return nil, err
		}
		answers[m.ID] = text
	}
	return answers, nil
}

// AskConsumer asks one member of a group and returns its own words.
func (b *Broker) AskConsumer(ctx context.Context, q *Question) ([]byte, error) {
	m, found := b.clients.Consumer(q.Group, q.ClientID)
	if !found {
		return nil, refuse(KindSystem, "The Consumer <%s> <%s> not online", q.Group, q.ClientID)
	}
	if q.Kind == AskConsumeDirectly && q.Record == nil {
		_, pos, err := message.ParseOffsetID(q.MessageID)
		if err != nil {
			return nil, fail(KindInvalidParameter, nil, "%q is no message id: %s", q.MessageID, err)
		}
		record, err := b.Record(pos)
		if err != nil {
			return nil, err
		}
		q.Record, q.Topic = record, string(record.Topic())
	}
	return m.Client.Ask(ctx, q)
}

// Record returns the message at a position of the log.
func (b *Broker) Record(pos message.Position) (message.View, error) {
	v, err := b.store.Record(pos)
	if err != nil {
		return nil, fail(KindSystem, err, "can not find message by the offset, %d", pos)
	}
	return v, nil
}

// GroupsConsuming returns the groups that subscribe to a topic now, or have
// offsets in it, sorted.
func (b *Broker) GroupsConsuming(topic string) []string {
	groups := append(b.clients.GroupsOf(topic), b.offsets.GroupsOf(topic)...)
	slices.Sort(groups)
	return slices.Compact(groups)
}
