package broker

import (
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// PullRequest is one pull in no wire's words. A parked pull keeps a copy.
type PullRequest struct {
	Group          string
	Topic          string
	QueueID        int32
	Offset         message.Offset
	MaxCount       int32
	MaxBytes       int32 // 0: not told
	HasCommit      bool  // Commit is to be stored
	Commit         message.Offset
	MaySuspend     bool
	Suspend        time.Duration
	OwnExpression  bool // Expression counts, not the subscription of the group's heartbeats
	Expression     string
	ExpressionType string
	SubVersion     int64
	Lite           bool
	ClientID       string // its address, if it has sent no heartbeat
}

// PullStatus says what came of a pull.
type PullStatus int

// The outcomes of a pull.
const (
	PullFound       PullStatus = iota // records are in the body
	PullNothing                       // nothing there yet: ask again at Next
	PullNoMatch                       // nothing of it matches the filter: ask again at Next
	PullOffsetMoved                   // the offset is outside the queue: go on at Next
	PullParked                        // the answer comes when something arrives
)

// PullResult is the answer to a pull that was not refused.
type PullResult struct {
	Status  PullStatus
	Store   store.GetStatus // the reason behind Status, which clients show
	Next    message.Offset
	Min     message.Offset
	Max     message.Offset
	Suggest int64 // the broker id to pull from next
	Count   int   // messages in the body

	TopicFlag, GroupFlag int32 // system flags, which clients are told
}

// Pull reads messages for a consumer and appends their records to dst. With
// parked set, a pull that finds nothing and may wait is parked: the status is
// then PullParked and the answer comes through parked. Refusals are *Error.
func (b *Broker) Pull(r *PullRequest, dst []byte, parked Parked) (PullResult, []byte, error) {
	topic, group, err := b.mayPull(r)
	if err != nil {
		return PullResult{}, dst, err
	}
	filter, err := b.filterOf(r, group)
	if err != nil {
		return PullResult{}, dst, err
	}
	if r.HasCommit && parked != nil {
		b.offsets.Commit(r.Group, r.Topic, r.QueueID, r.Commit)
	}
	res, body, err := b.read(r, topic, filter, dst)
	res.TopicFlag, res.GroupFlag = topic.SysFlag, group.SysFlag
	if err == nil {
		b.pulls.note(b.now(), r, &res)
	}
	if err != nil || res.Status != PullNothing || parked == nil || !r.MaySuspend {
		return res, body, err
	}
	switch err := b.park(r, filter, parked); err {
	case nil:
		return PullResult{Status: PullParked}, dst, nil
	case errNoRoom:
		// That there is nothing would make a client ask again at once; after this
		// it waits a while.
		return PullResult{}, dst, b.tooMany(&b.refusedHolds, KindBusy, "pulls", r.ClientID, r.Topic)
	default:
		return res, body, nil
	}
}

// Repull reads for a pull that was parked: it counts no commit and does not
// park again.
func (b *Broker) Repull(r *PullRequest, dst []byte) (PullResult, []byte, error) {
	return b.Pull(r, dst, nil)
}

func (b *Broker) read(r *PullRequest, topic *Topic, filter Filter, dst []byte) (PullResult, []byte, error) {
	q := store.GetQuery{
		Topic: topic.Name, Queue: r.QueueID, Offset: r.Offset, MaxCount: int(r.MaxCount), MaxBytes: int(r.MaxBytes),
		MatchTag: filter.Tag, MatchRecord: filter.Record, MatchProperties: filter.Properties, MaxScan: filterScan,
	}
	got, err := b.store.Get(&q, dst)
	if err != nil {
		return PullResult{}, dst, fail(KindSystem, err, "reading %s queue %d at offset %d", topic.Name, r.QueueID, r.Offset)
	}
	res := PullResult{Store: got.Status, Next: got.Next, Min: got.Min, Max: got.Max, Count: got.Count}
	switch got.Status {
	case store.GetFound:
		b.stats.pulled(r, got.Count, len(got.Body)-len(dst))
		b.traffic.count(b.now, trafficKey{TrafficGet, topic.Name, r.Group}, got.Count, len(got.Body)-len(dst))
		return res, got.Body, nil
	case store.GetNoMatch, store.GetBeingRemoved:
		res.Status = PullNoMatch
	case store.GetOffsetAtEnd, store.GetGap:
		res.Status = PullNothing
	case store.GetEmptyQueue, store.GetNoQueue:
		res.Status = PullNothing
		if r.Offset != 0 {
			res.Status = PullOffsetMoved
		}
	default:
		res.Status = PullOffsetMoved
	}
	return res, got.Body, nil
}

func (b *Broker) park(r *PullRequest, filter Filter, parked Parked) error {
	wait := r.Suspend
	if !b.cfg.LongPolling.Load() {
		wait = time.Duration(b.cfg.ShortPollingMs.Load()) * time.Millisecond
	}
	if wait <= 0 {
		return errNoWait
	}
	if wait > maxSuspend {
		wait = maxSuspend
	}
	own := *r
	p := &hold{
		key: queueKey{r.Topic, r.QueueID}, request: &own, parked: parked, match: filter.Tag,
		deadline: time.Now().Add(wait),
	}
	if filter.Record != nil {
		p.screen = recordScreen{b}
	}
	if err := b.holds.park(p); err != nil {
		return err
	}
	if b.store.QueueMax(r.Topic, r.QueueID) > r.Offset {
		b.holds.nudge(p)
	}
	return nil
}

// filterScan is how many messages one pull with a filter over properties looks
// at: more than Apache's 800, so that a selective filter costs fewer pulls.
const filterScan = 4000

// maxSuspend bounds what a client may ask a pull to wait.
const maxSuspend = 5 * time.Minute

// mayPull checks what stands before reading: topic, group and permissions, in
// the order of Apache's broker.
func (b *Broker) mayPull(r *PullRequest) (*Topic, *Group, error) {
	if b.cfg.Permission.Load()&PermRead == 0 {
		return nil, nil, forbid(ForbiddenBroker, "the broker %s takes no pulls: brokerPermission lacks read", b.cfg.Name)
	}
	if r.Lite && !b.cfg.LitePull.Load() {
		return nil, nil, forbid(ForbiddenBroker, "the broker %s takes no lite pulls: litePullMessageEnable is off", b.cfg.Name)
	}
	if r.Topic == "" {
		return nil, nil, refuse(KindInvalidParameter, "the request names no topic")
	}
	group, err := b.groupFor(r.Group)
	if err != nil {
		return nil, nil, err
	}
	if !group.ConsumeEnable {
		return nil, nil, forbid(ForbiddenGroup, "subscription group no permission, %s: consumeEnable is off", r.Group)
	}
	topic := b.topics.LookupString(r.Topic)
	if topic == nil {
		return nil, nil, refuse(KindTopicNotExist, "topic[%s] not exist, apply first please! Create it with: merlin topic create %s", r.Topic, r.Topic)
	}
	if topic.Perm&PermRead == 0 {
		return nil, nil, forbid(ForbiddenTopic, "the topic[%s] pulling message is forbidden: its permission is %d", r.Topic, topic.Perm)
	}
	if r.QueueID < 0 || r.QueueID >= topic.ReadQueues {
		return nil, nil, refuse(KindInvalidParameter, "queueId[%d] is illegal: the topic %s has the read queues 0 to %d", r.QueueID, r.Topic, topic.ReadQueues-1)
	}
	return topic, group, nil
}

func forbid(by Forbidden, format string, args ...any) *Error {
	e := refuse(KindNoPermission, format, args...)
	e.Forbidden = by
	return e
}

// groupFor returns the group's settings, creating them where that is allowed.
func (b *Broker) groupFor(name string) (*Group, error) {
	if g := b.groups.Lookup(name); g != nil {
		return g, nil
	}
	return b.groups.AutoCreate(name)
}
