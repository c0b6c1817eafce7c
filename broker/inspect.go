package broker

import (
	"errors"
	"math"
	"slices"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// DelayProgress returns how far each delay level was delivered, by level, as
// offsets in the level's queue; levels of which nothing was are left out.
func (b *Broker) DelayProgress() map[int32]message.Offset {
	if delays := b.delays.Load(); delays != nil {
		return delays.LevelProgress()
	}
	return map[int32]message.Offset{}
}

// CorrectionOffsets returns for each queue of a topic the lowest offset that a
// group has committed and that can still be read, and the highest offset there
// is where that lies above the offset of the group compare. Groups in without
// do not count.
func (b *Broker) CorrectionOffsets(topic, compare string, without []string) map[int32]message.Offset {
	b.publishPops()
	skip := make(map[string]bool, len(without))
	for _, group := range without {
		skip[group] = true
	}
	lowest := map[int32]message.Offset{}
	for _, group := range b.offsets.GroupsOf(topic) {
		if skip[group] {
			continue
		}
		for queue, offset := range b.offsets.OfTopic(group, topic) {
			if offset < b.store.QueueMin(topic, queue) {
				continue
			}
			if low, ok := lowest[queue]; !ok || offset < low {
				lowest[queue] = offset
			}
		}
	}
	for queue, offset := range b.offsets.OfTopic(compare, topic) {
		if low, ok := lowest[queue]; ok && low > offset {
			lowest[queue] = math.MaxInt64
		}
	}
	return lowest
}

// MaxEntries is how many entries QueueEntries gives at most.
const MaxEntries = 10_000

// QueueRange is a part of a queue.
type QueueRange struct {
	Min, Max message.Offset // of the queue
	Entries  []store.Entry
	Found    bool // the queue has the offset where the range begins
}

// QueueEntries returns up to count entries of a queue from an offset on, as the
// queue's files hold them.
func (b *Broker) QueueEntries(topic string, queue int32, from message.Offset, count int32) (QueueRange, error) {
	r := QueueRange{Min: b.store.QueueMin(topic, queue), Max: b.store.QueueMax(topic, queue)}
	if !slices.Contains(b.store.Queues(topic), queue) {
		return r, refuse(KindSystem, "%d@%s is not exist: the topic has no such queue, or nothing was ever sent to it", queue, topic)
	}
	if r.Found = from >= r.Min && from < r.Max; !r.Found || count <= 0 {
		return r, nil
	}
	r.Entries = make([]store.Entry, min(int64(count), int64(r.Max-from), MaxEntries))
	for n := 0; n < len(r.Entries); {
		read, err := b.store.Entries(topic, queue, from+message.Offset(n), r.Entries[n:])
		if errors.Is(err, store.ErrNotFound) || err == nil && read == 0 {
			r.Entries = r.Entries[:n] // trimmed meanwhile
			break
		}
		if err != nil {
			return r, fail(KindSystem, err, "reading the queue %d of %s", queue, topic)
		}
		n += read
	}
	return r, nil
}
