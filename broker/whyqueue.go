package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// QueueWhy says how a group gets on with one queue, and what holds it back.
type QueueWhy struct {
	Broker     string         `json:"broker"`
	Topic      string         `json:"topic"`
	Queue      int32          `json:"queue"`
	Group      string         `json:"group"`
	Min        message.Offset `json:"min"` // of the queue
	Max        message.Offset `json:"max"`
	Committed  message.Offset `json:"committed"` // -1: nothing
	Lag        int64          `json:"lag"`       // messages behind what is committed
	LagSeconds float64        `json:"lag_seconds"`
	Model      string         `json:"model,omitempty"` // of members that are connected
	Members    []string       `json:"members"`
	Owner      string         `json:"owner,omitempty"` // the client that pulls the queue, or holds its lock
	OwnerSince time.Time      `json:"owner_since,omitzero"`
	Pull       *LastPull      `json:"last_pull,omitempty"`
	Parked     []ParkedPull   `json:"parked,omitempty"`
	Pop        *PopWhy        `json:"pop,omitempty"`  // of a group that pops the queue
	Lock       *Lock          `json:"lock,omitempty"` // of an orderly consumer
	Holds      []Held         `json:"held_back_by"`   // the gravest first; empty: nothing does
	Now        time.Time      `json:"now"`            // the broker's
}

// Held is a reason why a group does not get on with a queue.
type Held struct {
	Cause string `json:"cause"`
	Text  string `json:"text"` // a sentence, with what to do
}

// ParkedPull is a pull that waits for messages.
type ParkedPull struct {
	Client string         `json:"client"`
	Offset message.Offset `json:"offset"`
	Until  time.Time      `json:"until"`
}

// The causes that hold a group back.
const (
	HeldNoGroup      = "no group"
	HeldPermission   = "no permission"
	HeldNoMember     = "no member"
	HeldSubscription = "not subscribed"
	HeldConflict     = "subscriptions differ"
	HeldFilter       = "filter does not compile"
	HeldFiltered     = "filtered"
	HeldLock         = "locked"
	HeldNotPulled    = "not pulled"
	HeldStalled      = "member stalled"
	HeldUncommitted  = "not committed"
	HeldOrderly      = "suspended in order"

	HeldUnacknowledged = "not acknowledged"
	HeldBehind         = "behind the queue's beginning"
	HeldNoMessages     = "broker takes no messages"
)

// pullSilence is after how long without a pull a queue counts as not pulled:
// clients park their pulls for 15 to 30 s, and ask again at once.
const pullSilence = 60 * time.Second

// commitSilence is after how long without progress what was given counts as
// stuck: clients commit every 5 s.
const commitSilence = 30 * time.Second

// WhyQueue says how a group gets on with one queue. Refusals are *Error.
func (b *Broker) WhyQueue(topicName string, queue int32, group string) (*QueueWhy, error) {
	topic := b.topics.LookupString(topicName)
	if topic == nil {
		return nil, refuse(KindTopicNotExist, "topic[%s] not exist; see: merlin why topic %s", topicName, topicName)
	}
	if queue < 0 || queue >= max(topic.ReadQueues, topic.WriteQueues) {
		return nil, refuse(KindInvalidParameter, "the topic %s has the queues 0 to %d, not %d", topicName, max(topic.ReadQueues, topic.WriteQueues)-1, queue)
	}
	if group == "" {
		return nil, refuse(KindInvalidParameter, "name the consumer group")
	}
	w := &QueueWhy{
		Broker: b.cfg.Name, Topic: topicName, Queue: queue, Group: group, Committed: message.NoOffset,
		Min: b.store.QueueMin(topicName, queue), Max: b.store.QueueMax(topicName, queue), Members: []string{}, Holds: []Held{}, Now: b.now(),
	}
	if at, found := b.offsets.Query(group, topicName, queue); found && at >= 0 {
		w.Committed = at
	}
	var floor message.Offset
	if w.Pop, floor = b.popWhy(group, topicName, queue); w.Pop != nil {
		w.Committed = max(w.Committed, floor)
	}
	b.lagOf(w)
	if pull, _, found := b.pulls.of(group, topicName, queue); found {
		w.Pull, w.Owner, w.OwnerSince = &pull, pull.Client, pull.Since
	}
	if lock, held := b.locks.Holder(group, QueueRef{topicName, b.cfg.Name, queue}); held {
		w.Lock, w.Owner, w.OwnerSince = &lock, lock.Client, lock.Since
	}
	w.Parked = b.holds.parkedBy(group, topicName, queue)
	members, online := b.clients.Consumers(group)
	if online {
		w.Members, w.Model = b.clients.ConsumerIDs(group), modelName(members.Model)
	}
	b.holdsBack(w, topic, members, online)
	return w, nil
}

func modelName(m MessageModel) string {
	if m == Broadcasting {
		return "BROADCASTING"
	}
	return "CLUSTERING"
}

// lagOf computes the lag from what is committed; from the queue's beginning, if
// nothing is.
func (b *Broker) lagOf(w *QueueWhy) {
	from := max(w.Committed, w.Min)
	if w.Lag = max(0, int64(w.Max-from)); w.Lag == 0 {
		return
	}
	if at := b.storeTime(w.Topic, w.Queue, from); at > 0 {
		w.LagSeconds = max(0, w.Now.Sub(time.UnixMilli(at)).Seconds())
	}
}

func (w *QueueWhy) held(cause, format string, args ...any) {
	w.Holds = append(w.Holds, Held{cause, fmt.Sprintf(format, args...)})
}

// holdsBack notes what holds the group back, in the order in which it counts.
func (b *Broker) holdsBack(w *QueueWhy, topic *Topic, members ConsumerGroup, online bool) {
	group := b.groups.Lookup(w.Group)
	if group == nil {
		w.held(HeldNoGroup, "The broker does not know the group %s: none of its members has been here. Check the name; groups are made when a consumer first connects, or by: merlin group create %s.", w.Group, w.Group)
		return
	}
	b.forbids(w, topic, group, members, online)
	if !online {
		gone := "none was here since the broker began"
		if w.Pull != nil {
			gone = fmt.Sprintf("the last pull was that of %s, %s ago", w.Pull.Client, span(w.Now.Sub(w.Pull.At)))
		}
		w.held(HeldNoMember, "No member of the group %s is connected to this broker; %s. Start one.", w.Group, gone)
		b.lockHolds(w)
		return
	}
	if b.clients.Subscription(w.Group, w.Topic) == nil {
		w.held(HeldSubscription, "No member of the group %s subscribes to %s; they subscribe to %s.", w.Group, w.Topic, topicsOf(members.Subscriptions))
	} else {
		b.filterHolds(w)
	}
	if conflict := b.clients.Conflict(w.Group); conflict != "" {
		w.held(HeldConflict, "%s. Each gets queues of topics that it does not want, and what it filters out is lost to the others.", upper(conflict))
	}
	b.lockHolds(w)
	b.pullHolds(w, members)
	if err := b.mayStore(); err != nil {
		w.held(HeldNoMessages, "Nothing new comes: %s.", strings.TrimSuffix(err.Error(), "."))
	}
}

// forbids notes what permissions forbid.
func (b *Broker) forbids(w *QueueWhy, topic *Topic, group *Group, members ConsumerGroup, online bool) {
	switch {
	case b.cfg.Permission.Load()&PermRead == 0:
		w.held(HeldPermission, "The broker %s takes no pulls: brokerPermission lacks read.", b.cfg.Name)
	case topic.Perm&PermRead == 0:
		w.held(HeldPermission, "The topic %s cannot be read: its permission is %d, which lacks read (4).", w.Topic, topic.Perm)
	case w.Queue >= topic.ReadQueues:
		w.held(HeldPermission, "The queue %d is not read: the topic %s has the read queues 0 to %d only.", w.Queue, w.Topic, topic.ReadQueues-1)
	case !group.ConsumeEnable:
		w.held(HeldPermission, "The group %s may not consume: consumeEnable is off.", w.Group)
	case group.ForbidsRead(w.Topic):
		w.held(HeldPermission, "The group %s is forbidden to read %s (mqadmin setConsumeMode and UPDATE_AND_GET_GROUP_FORBIDDEN lift it).", w.Group, w.Topic)
	case online && members.Model == Broadcasting && !group.BroadcastEnable:
		w.held(HeldPermission, "The group %s may not consume by broadcasting: consumeBroadcastEnable is off.", w.Group)
	}
}

// filterHolds notes an expression that cannot be used, and a next message that
// it leaves out.
func (b *Broker) filterHolds(w *QueueWhy) {
	sub := b.clients.Subscription(w.Group, w.Topic)
	f, err := b.filterFor(sub)
	if err != nil {
		w.held(HeldFilter, "The subscription of the group cannot be used, so that it gets nothing of %s: %s.", w.Topic, err)
		return
	}
	from := max(w.Committed, w.Min)
	if from >= w.Max {
		return
	}
	v, code, err := b.recordAt(w.Topic, w.Queue, from)
	if err != nil {
		return
	}
	if left := leftOut(f, sub, v, code); left != "" {
		w.held(HeldFiltered, "The next message, at offset %d, is not for the group: %s. It is stepped over, and counts as lag until the group commits behind it.", from, left)
	}
}

// leftOut says why a filter does not let a message through; "" if it does.
func leftOut(f Filter, sub *Subscription, v message.View, code int64) string {
	tags := v.Properties().Value(message.PropTags)
	switch {
	case f.Tag != nil && !f.Tag(code), sub.IsTag() && len(sub.Tags) > 0 && !slices.Contains(sub.Tags, tags):
		if tags == "" {
			return fmt.Sprintf("it has no tag, and the group wants %q", sub.Expression)
		}
		return fmt.Sprintf("its tag is %q, and the group wants %q", tags, sub.Expression)
	case f.Record != nil && !f.Record(v):
		return fmt.Sprintf("it does not match the group's SQL92 expression %q", sub.Expression)
	}
	return ""
}

// lockHolds notes a lock whose holder does not use it.
func (b *Broker) lockHolds(w *QueueWhy) {
	if w.Lock == nil {
		return
	}
	until := w.Lock.Until.UTC().Format(time.RFC3339)
	if !slices.Contains(w.Members, w.Lock.Client) {
		w.held(HeldLock, "The queue is locked by %s, which is not connected any more; nobody else gets it before %s (rebalanceLockMaxLiveTime after its last sign).", w.Lock.Client, until)
	} else if idle := w.Now.Sub(w.Lock.At); idle > pullSilence/2 {
		w.held(HeldLock, "The queue is locked by %s, which has not refreshed its lock for %s; others get it at %s.", w.Lock.Client, span(idle), until)
	}
}

// pullHolds notes what the pulls and commits tell. A pull that waits for
// messages says that the queue is pulled, not that what came before is done.
func (b *Broker) pullHolds(w *QueueWhy, members ConsumerGroup) {
	if members.Model == Clustering && w.Committed >= 0 && w.Committed < w.Min {
		w.held(HeldBehind, "The group stands at offset %d, and the queue begins at %d: retention has removed what is between.", w.Committed, w.Min)
	}
	if w.Pop != nil {
		b.popHolds(w)
		return
	}
	parked := len(w.Parked) > 0
	if w.Pull == nil {
		if !parked {
			w.held(HeldNotPulled, "No member has pulled the queue since the broker began, %s ago. Members that joined just now divide the queues within 20 s; a member that was given the queue and does not pull it is busy or stopped.", span(w.Now.Sub(b.started)))
		}
		return
	}
	idle, pull := w.Now.Sub(w.Pull.At), w.Pull
	since := w.Now.Sub(latestOf(pull.GivenAt, pull.CommitAt))
	// Members of a broadcasting group keep their progress themselves.
	stuck := members.Model == Clustering && pull.Given > max(w.Committed, 0) && since > commitSilence
	gone := !slices.Contains(w.Members, pull.Client)
	switch {
	case gone && !parked && idle > pullSilence/2:
		w.held(HeldNotPulled, "The member that pulled the queue last, %s, is gone since its pull %s ago, and nobody has taken the queue over.", pull.Client, span(idle))
	case stuck && w.Lock != nil:
		w.held(HeldOrderly, "%s consumes the queue in order and has been given the offsets up to %d, but the commits stand at %d for %s: the first message is still being handled, or is tried again and again.",
			pull.Client, pull.Given-1, w.Committed, span(since))
	case stuck:
		w.held(HeldUncommitted, "%s has been given the offsets up to %d, but the commits stand at %d for %s: it is still handling one of these messages, and nothing behind it counts as done before. See its threads with: mqadmin consumerStatus.",
			pull.Client, pull.Given-1, w.Committed, span(since))
	case !parked && idle > pullSilence:
		w.held(HeldStalled, "The member %s has not pulled the queue for %s: its process stands still, or what it holds in memory is over its limits.", pull.Client, span(idle))
	}
}

func latestOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func topicsOf(subs []*Subscription) string {
	var names []string
	for _, s := range subs {
		if !message.IsRetryTopic(s.Topic) {
			names = append(names, s.Topic)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

func span(d time.Duration) string { return d.Round(time.Second).String() }

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// recordAt returns the message at an offset of a queue, and the tag code of its
// entry.
func (b *Broker) recordAt(topic string, queue int32, offset message.Offset) (message.View, int64, error) {
	var e [1]store.Entry
	n, err := b.store.Entries(topic, queue, offset, e[:])
	if err != nil {
		return nil, 0, err
	}
	if n == 0 || e[0].Filler() {
		return nil, 0, refuse(KindNotFound, "queue %d of %s holds no message at offset %d", queue, topic, offset)
	}
	v, err := b.store.Record(e[0].Position)
	return v, e[0].TagCode, err
}
