package broker

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// PopRequest asks for messages that nobody else of the group gets until they
// are acknowledged, or until a time is over.
type PopRequest struct {
	Group          string
	Topic          string
	QueueID        int32 // -1: any
	MaxCount       int32
	Invisible      time.Duration
	FromEnd        bool // where the group never popped
	Expression     string
	ExpressionType string
	Order          bool
	Attempt        string // names an ordered pop that is repeated
	ClientID       string // its address, if it has sent no heartbeat
}

// PopQueue is what a pop found in one queue.
type PopQueue struct {
	Queue    int32
	Messages []pop.Message
}

// PopResult is the answer to a pop that was not refused.
type PopResult struct {
	PopTime int64 // ms; part of each handle
	Rest    int64 // messages that were not handed out yet
	Queues  []PopQueue
	Full    bool // nothing new: too many messages of a queue are not acknowledged
}

// Found tells whether there are messages.
func (r *PopResult) Found() bool { return len(r.Queues) > 0 }

// Bounds of pops.
const (
	maxPopBytes     = 256 << 10
	MaxPopInvisible = 3 * 24 * time.Hour
	maxPopLine      = 1024 // waiters for one queue of a group
)

// popping is what a broker keeps for pops.
type popping struct {
	pops      *pop.Table
	popWaits  atomic.Pointer[pop.Waits]           // set at the end of openPops
	popRoutes atomic.Pointer[map[string][]string] // brokers by topic
	popTurn   atomic.Uint32                       // of the queue that a pop looks at first
}

// popLog is what pops read of the store.
type popLog struct{ store *store.Store }

// QueueMin implements pop.Log.
func (l popLog) QueueMin(topic string, queue int32) message.Offset {
	return l.store.QueueMin(topic, queue)
}

// QueueMax implements pop.Log.
func (l popLog) QueueMax(topic string, queue int32) message.Offset {
	return l.store.QueueMax(topic, queue)
}

// Read implements pop.Log.
func (l popLog) Read(r *pop.Read, dst []byte) (pop.ReadResult, error) {
	q := store.GetQuery{
		Topic: r.Topic, Queue: r.Queue, Offset: r.Offset, MaxCount: r.Max, MaxBytes: r.MaxBytes,
		MatchTag: r.MatchTag, MatchRecord: r.MatchRecord,
	}
	got, err := l.store.Get(&q, dst)
	return pop.ReadResult{Next: got.Next, Body: got.Body}, err
}

// openPops loads what is handed out, once the store and the tables are open.
func (b *Broker) openPops() (err error) {
	b.pops, err = pop.Open(pop.Options{
		DB: b.db, Log: popLog{b.store}, Sync: b.cfg.SyncFlush,
		OnVisible: func(k pop.Key, at int64) {
			if w := b.popWaits.Load(); w != nil {
				w.Visible(k, at)
			}
		},
		OnWrite: func(err error) {
			if err != nil {
				b.events.Warn("what pops hand out cannot be written; acknowledgements are refused until it can", "error", err)
			} else {
				b.events.Warn("what pops hand out is written again")
			}
		},
	})
	if err != nil {
		return err
	}
	b.popWaits.Store(pop.NewWaits(pop.WaitOptions{MaxLine: maxPopLine, MaxAll: b.cfg.MaxHolds, Ready: b.popReady}))
	return nil
}

// Pop hands messages out and appends their records to dst, those of one queue
// after those of another, each in the order of Messages. Refusals are *Error.
func (b *Broker) Pop(r *PopRequest, dst []byte) (PopResult, []byte, error) {
	topic, group, err := b.mayPop(r)
	if err != nil {
		return PopResult{}, dst, err
	}
	filter, err := b.popFilter(r)
	if err != nil {
		return PopResult{}, dst, err
	}
	q := pop.Query{
		Key: pop.Key{Topic: r.Topic, Group: r.Group, Queue: r.QueueID},
		Now: b.now().UnixMilli(), Invisible: r.Invisible, Order: r.Order, Attempt: r.Attempt,
		Limit: max(0, group.RetryMaxTimes), MatchTag: filter.Tag, MatchRecord: filter.Record, Try: r.QueueID < 0,
	}
	q.Begin = func() (message.Offset, error) { return b.popBegin(r, group, q.Key.Queue) }
	res := PopResult{PopTime: q.Now}
	base := len(dst)
	if r.QueueID >= 0 {
		_, dst, err = b.popQueue(&q, int(r.MaxCount), base, &res, dst)
		return b.popped(r, res, dst, base, err)
	}
	busy := false
	start, n := int32(b.popTurn.Add(1)), topic.ReadQueues
	for {
		for i := int32(0); i < n; i++ {
			q.Key.Queue = int32(uint32(start+i) % uint32(n))
			room := int(r.MaxCount) - res.count()
			if room <= 0 || len(dst)-base >= maxPopBytes {
				break
			}
			var locked bool
			if locked, dst, err = b.popQueue(&q, room, base, &res, dst); err != nil {
				return b.popped(r, res, dst, base, err)
			}
			busy = busy || locked
		}
		if res.Found() || !busy || !q.Try {
			return b.popped(r, res, dst, base, nil)
		}
		q.Try = false // all that is left is with others: wait for them
	}
}

func (r *PopResult) count() (n int) {
	for i := range r.Queues {
		n += len(r.Queues[i].Messages)
	}
	return n
}

// popQueue pops from one queue; busy says that somebody else did.
func (b *Broker) popQueue(q *pop.Query, room, base int, res *PopResult, dst []byte) (busy bool, body []byte, err error) {
	b.bury(q.Key, q.Limit)
	q.Max, q.MaxBytes = min(room, pop.MaxTake), max(1, maxPopBytes-(len(dst)-base))
	got, err := b.pops.Take(q, dst)
	if err != nil {
		return false, dst, err
	}
	res.Rest += got.Rest
	res.Full = res.Full || got.Full
	if len(got.Messages) > 0 {
		res.Queues = append(res.Queues, PopQueue{q.Key.Queue, got.Messages})
	}
	return got.Busy, got.Body, nil
}

// popped counts what was handed out.
func (b *Broker) popped(r *PopRequest, res PopResult, body []byte, base int, err error) (PopResult, []byte, error) {
	if err != nil && !res.Found() {
		var refusal *Error
		if errors.As(err, &refusal) {
			return res, body, err
		}
		return res, body, popRefusal(err, "reading %s", r.Topic)
	}
	if n := res.count(); n > 0 {
		now := b.now()
		for i := range res.Queues {
			b.pulls.notePop(now, r, &res.Queues[i])
		}
		b.stats.PulledMsgs.Add(int64(n))
		b.stats.PulledByte.Add(int64(len(body) - base))
		b.traffic.count(b.now, trafficKey{TrafficGet, r.Topic, r.Group}, n, len(body)-base)
	}
	return res, body, nil
}

func popRefusal(err error, format string, args ...any) error {
	switch {
	case errors.Is(err, pop.ErrStuck):
		return fail(KindUnavailable, err, "this broker cannot write down what it hands out; free its disk or restart it")
	case errors.Is(err, pop.ErrClosed), errors.Is(err, store.ErrClosed):
		return refuse(KindUnavailable, "the broker is shutting down")
	}
	return fail(KindSystem, err, format, args...)
}

// popFilter returns the filter of a pop, which carries its expression itself.
func (b *Broker) popFilter(r *PopRequest) (Filter, error) {
	if r.Expression == "" {
		return Filter{}, nil
	}
	sub, err := ParseSubscription(r.Topic, r.Expression, r.ExpressionType, 0)
	if err != nil {
		return Filter{}, err
	}
	return b.filterFor(sub)
}

// popBegin returns where a group begins in a queue of which it never popped.
func (b *Broker) popBegin(r *PopRequest, group *Group, queue int32) (message.Offset, error) {
	low, high := b.store.QueueMin(r.Topic, queue), b.store.QueueMax(r.Topic, queue)
	if at, found := b.offsets.Query(r.Group, r.Topic, queue); found && at >= 0 {
		return min(max(at, low), high), nil
	}
	if text := group.initial(r.Topic); text != "" {
		return b.initialOffset(text, r.Topic, queue)
	}
	if !r.FromEnd || message.IsRetryTopic(r.Topic) || low <= 0 && b.beginsHot(r.Topic, queue) {
		return low, nil
	}
	return high, nil
}

// mayPop checks what stands before a pop, in the order of Apache's broker.
func (b *Broker) mayPop(r *PopRequest) (*Topic, *Group, error) {
	switch {
	case b.cfg.Permission.Load()&PermRead == 0:
		return nil, nil, refuse(KindNoPermission, "the broker[%s] pop message is forbidden: brokerPermission lacks read", b.cfg.Name)
	case r.MaxCount > pop.MaxTake:
		return nil, nil, refuse(KindInvalidParameter, "the broker[%s] pop message's num is greater than %d: ask for 1 to %d messages", b.cfg.Name, pop.MaxTake, pop.MaxTake)
	case r.MaxCount <= 0:
		return nil, nil, refuse(KindInvalidParameter, "maxMsgNums is %d; ask for 1 to %d messages", r.MaxCount, pop.MaxTake)
	case r.Invisible < time.Millisecond || r.Invisible > MaxPopInvisible:
		return nil, nil, refuse(KindInvalidParameter, "invisibleTime is %d ms; 1 to %d are allowed", r.Invisible.Milliseconds(), MaxPopInvisible.Milliseconds())
	}
	return b.popTarget(r.Group, r.Topic, r.QueueID)
}

// popTarget checks the names of a pop, or of a question about one.
func (b *Broker) popTarget(groupName, topicName string, queue int32) (*Topic, *Group, error) {
	topic := b.topics.LookupString(topicName)
	if topic == nil {
		return nil, nil, refuse(KindTopicNotExist, "topic[%s] not exist, apply first please! Create it with: merlin topic create %s", topicName, topicName)
	}
	if topic.Perm&PermRead == 0 {
		return nil, nil, refuse(KindNoPermission, "the topic[%s] peeking message is forbidden: its permission is %d", topicName, topic.Perm)
	}
	if queue < -1 || queue >= topic.ReadQueues {
		return nil, nil, refuse(KindInvalidParameter, "queueId[%d] is illegal: the topic %s has the read queues 0 to %d, and -1 means all", queue, topicName, topic.ReadQueues-1)
	}
	group, err := b.groupFor(groupName)
	if err != nil {
		return nil, nil, err
	}
	if !group.ConsumeEnable {
		return nil, nil, refuse(KindNoPermission, "subscription group no permission, %s: consumeEnable is off", groupName)
	}
	if group.ForbidsRead(topicName) {
		return nil, nil, refuse(KindNoPermission, "the consumer group[%s] is forbidden for topic[%s]", groupName, topicName)
	}
	return topic, group, nil
}
