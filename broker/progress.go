package broker

import (
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// QueueBounds is what a queue holds.
type QueueBounds struct {
	Queue    QueueRef
	Min, Max message.Offset
	LastTime int64 // ms; when the last message was stored, 0 if there is none
}

// TopicStats returns what the queues of a topic hold.
func (b *Broker) TopicStats(name string) ([]QueueBounds, error) {
	topic := b.topics.LookupString(name)
	if topic == nil {
		return nil, refuse(KindTopicNotExist, "topic[%s] not exist", name)
	}
	list := make([]QueueBounds, 0, topic.WriteQueues)
	for q := range topic.WriteQueues {
		bounds := QueueBounds{
			Queue: QueueRef{name, b.cfg.Name, q},
			Min:   b.store.QueueMin(name, q), Max: b.store.QueueMax(name, q),
		}
		bounds.LastTime = b.storeTime(name, q, bounds.Max-1)
		list = append(list, bounds)
	}
	return list, nil
}

// storeTime returns when the message was stored, 0 if there is none.
func (b *Broker) storeTime(topic string, queue int32, offset message.Offset) int64 {
	if offset < 0 {
		return 0
	}
	at, err := b.store.StoreTimeAt(topic, queue, offset)
	if err != nil {
		return 0 // removed by retention, which is not worth failing a whole list for
	}
	return at
}

// QueueProgress is how far a group is in a queue.
type QueueProgress struct {
	Queue     QueueRef
	End       message.Offset // where the next message goes
	Committed message.Offset
	Pulled    message.Offset
	LastTime  int64 // ms; when the last consumed message was stored, 0 if unknown
}

// ConsumeProgress returns how far a group is in topics; in all topics in which
// it has offsets, if none is named. Topics that its members do not subscribe to
// are left out.
func (b *Broker) ConsumeProgress(group string, topics ...string) []QueueProgress {
	b.publishPops()
	if len(topics) == 0 {
		topics = b.offsets.TopicsOf(group)
	}
	var list []QueueProgress
	for _, name := range topics {
		topic := b.topics.LookupString(name)
		if topic == nil || b.unsubscribed(group, name) {
			continue
		}
		for q := range topic.ReadQueues {
			p := QueueProgress{Queue: QueueRef{name, b.cfg.Name, q}, End: b.store.QueueMax(name, q)}
			if at, found := b.offsets.Query(group, name, q); found {
				p.Committed = max(0, at)
			}
			at, _ := b.offsets.QueryPull(group, name, q)
			p.Pulled = max(at, p.Committed)
			p.LastTime = b.storeTime(name, q, p.Committed-1)
			list = append(list, p)
		}
	}
	return list
}

// QueueSpan is which times a queue holds and at which time a group is; ms.
type QueueSpan struct {
	Queue    QueueRef
	Min, Max int64 // store times of the first and the last message
	Consumed int64 // of the last message that was consumed, or Min
	Delay    int64 // how long the next message has waited
}

// ConsumeSpans returns for each queue of a topic at which time a group is.
func (b *Broker) ConsumeSpans(group, name string) ([]QueueSpan, error) {
	topic := b.topics.LookupString(name)
	if topic == nil {
		return nil, refuse(KindTopicNotExist, "topic[%s] not exist", name)
	}
	list := make([]QueueSpan, 0, topic.WriteQueues)
	for q := range topic.WriteQueues {
		end := b.store.QueueMax(name, q)
		s := QueueSpan{Queue: QueueRef{name, b.cfg.Name, q}, Min: b.earliest(name, q), Max: b.storeTime(name, q, end-1)}
		s.Consumed = s.Min
		at, _ := b.offsets.Query(group, name, q)
		if at > 0 {
			s.Consumed = b.storeTime(name, q, at-1)
		}
		if at < end {
			if next := b.storeTime(name, q, at); next > 0 {
				s.Delay = max(0, b.now().UnixMilli()-next)
			}
		}
		list = append(list, s)
	}
	return list, nil
}

func (b *Broker) earliest(topic string, queue int32) int64 {
	at, err := b.store.EarliestTime(topic, queue)
	if err != nil {
		return -1 // an empty queue has none; Apache says so by -1
	}
	return at
}

// EarliestTime returns when the first message of a queue was stored, in ms; -1
// if the queue is empty.
func (b *Broker) EarliestTime(topic string, queue int32) int64 { return b.earliest(topic, queue) }

// OffsetByTime returns the offset of the first message of a queue that is not
// older than the time in ms; with upper, of the last one that is not younger.
func (b *Broker) OffsetByTime(topic string, queue int32, ms int64, upper bool) (message.Offset, error) {
	boundary := store.Lower
	if upper {
		boundary = store.Upper
	}
	at, err := b.store.OffsetByTime(topic, queue, ms, boundary)
	if err != nil {
		return 0, fail(KindSystem, err, "finding the offset of %s queue %d by time", topic, queue)
	}
	return at, nil
}
