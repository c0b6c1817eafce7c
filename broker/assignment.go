package broker

import (
	"slices"
	"strings"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// RequestMode is how a group gets the messages of a topic.
type RequestMode struct {
	Topic  string `json:"topic"`
	Group  string `json:"group"`
	Pop    bool   `json:"pop,omitempty"`
	Shared int32  `json:"shared,omitempty"` // queues that each member pops from; 0: all
}

// requestModes keeps what is not pull mode, by group and topic.
type requestModes struct{ stored *kv.Bucket[RequestMode] }

func openRequestModes(db *kv.DB) requestModes {
	return requestModes{kv.NewBucket(db, "requestmode", kv.JSON[RequestMode]())}
}

// Alone tells whether all name servers know no broker but this one, as it last
// registered there.
func (b *Broker) Alone() bool { return b.alone.Load() }

// SetAlone is told by whoever registers the broker.
func (b *Broker) SetAlone(alone bool) { b.alone.Store(alone) }

func requestModeKey(topic, group string) []byte { return []byte(topic + "\x00" + group) }

// SetRequestMode keeps how a group gets the messages of a topic. Retry topics
// are always pulled. Refusals are *Error.
func (b *Broker) SetRequestMode(m RequestMode) error {
	switch {
	case message.IsRetryTopic(m.Topic):
		return refuse(KindNoPermission, "retry topic is not allowed to set mode: %s", m.Topic)
	case b.topics.LookupString(m.Topic) == nil:
		return refuse(KindTopicNotExist, "topic[%s] not exist", m.Topic)
	case b.groups.Lookup(m.Group) == nil:
		return refuse(KindGroupNotExist, "subscription group [%s] does not exist", m.Group)
	}
	if err := b.modes.stored.Put(requestModeKey(m.Topic, m.Group), m, kv.Synced); err != nil {
		return fail(KindSystem, err, "storing how the group %s gets the topic %s", m.Group, m.Topic)
	}
	return nil
}

// RequestModes returns all that were set, by topic and group.
func (b *Broker) RequestModes() ([]RequestMode, error) {
	var all []RequestMode
	err := b.modes.stored.Range(nil, nil, func(_ []byte, m RequestMode) bool {
		all = append(all, m)
		return true
	})
	slices.SortFunc(all, func(a, b RequestMode) int {
		if n := strings.Compare(a.Topic, b.Topic); n != 0 {
			return n
		}
		return strings.Compare(a.Group, b.Group)
	})
	if err != nil {
		return nil, fail(KindSystem, err, "reading how groups get their messages")
	}
	return all, nil
}

// The strategies of Assign.
const (
	AssignAverage = "AVG"           // neighbouring queues to one member
	AssignCircle  = "AVG_BY_CIRCLE" // queues in turn
)

func (b *Broker) requestMode(topic, group string) (RequestMode, error) {
	m, _, err := b.modes.stored.Get(requestModeKey(topic, group))
	if err != nil {
		return m, fail(KindSystem, err, "reading how the group %s gets the topic %s", group, topic)
	}
	return m, nil
}

// SetPopRoutes is told by whoever registers the broker which brokers have the
// topics that groups pop.
func (b *Broker) SetPopRoutes(brokers map[string][]string) { b.popRoutes.Store(&brokers) }

// PopBrokers returns the brokers from which a group pops a topic, and whether
// it pops it at all. Where the name servers did not tell yet there are none.
// Refusals are *Error.
func (b *Broker) PopBrokers(topic, group string) (brokers []string, pops bool, err error) {
	m, err := b.requestMode(topic, group)
	if err != nil || !m.Pop {
		return nil, false, err
	}
	if routes := b.popRoutes.Load(); routes != nil {
		brokers = (*routes)[topic]
	}
	return brokers, true, nil
}

// AnyQueue is what a member is assigned that pops from all queues of a broker.
const AnyQueue = -1

// AssignPop returns from which queues of a topic a member of a group pops, and
// whether the group does pop it; if not, Assign says what it pulls. Refusals are
// *Error.
func (b *Broker) AssignPop(topic, group, member, strategy string) (queues []int32, pops, known bool, err error) {
	m, err := b.requestMode(topic, group)
	if err != nil || !m.Pop {
		return nil, false, false, err
	}
	own, known, err := b.Assign(topic, group, member, strategy, false)
	if err != nil || !known {
		return nil, true, known, err
	}
	members := b.clients.ConsumerIDs(group)
	if m.Shared <= 0 || int(m.Shared) >= len(members)-1 {
		return []int32{AnyQueue}, true, true, nil
	}
	t := b.topics.LookupString(topic)
	if t == nil || len(members) > int(t.ReadQueues) {
		return own, true, true, nil
	}
	// Each also pops what belongs to the members behind it.
	queues = slices.Clone(own)
	at := slices.Index(members, member)
	for i := 1; i <= int(m.Shared); i++ {
		more, known, err := b.Assign(topic, group, members[(at+i)%len(members)], strategy, false)
		if err != nil {
			return nil, true, false, err
		}
		if known {
			queues = append(queues, more...)
		}
	}
	slices.Sort(queues)
	return slices.Compact(queues), true, true, nil
}

// Assign divides the readable queues of a topic on this broker among the
// members of the group and returns those of one member. Every member of a
// broadcasting group gets all. known is false where the group or the member is
// not known here: the member keeps what it has. Refusals are *Error.
func (b *Broker) Assign(topic, group, member, strategy string, broadcasting bool) (queues []int32, known bool, err error) {
	t := b.topics.LookupString(topic)
	if t == nil {
		return nil, false, nil
	}
	all := make([]int32, t.ReadQueues)
	for i := range all {
		all[i] = int32(i)
	}
	if broadcasting {
		return all, true, nil
	}
	members := b.clients.ConsumerIDs(group)
	at := slices.Index(members, member)
	if at < 0 {
		return nil, false, nil
	}
	switch strategy {
	case AssignAverage:
		return shareOf(all, at, len(members)), true, nil
	case AssignCircle:
		mine := []int32{}
		for q := at; q < len(all); q += len(members) {
			mine = append(mine, all[q])
		}
		return mine, true, nil
	}
	return nil, false, refuse(KindSystem, "the strategy %q of dividing queues is neither %s nor %s", strategy, AssignAverage, AssignCircle)
}

// shareOf returns the neighbouring queues of member number at of n: the first
// members get one more where the division leaves a rest.
func shareOf(queues []int32, at, n int) []int32 {
	size, rest := len(queues)/n, len(queues)%n
	from := at*size + min(at, rest)
	if at < rest {
		size++
	}
	return queues[from : from+size]
}
