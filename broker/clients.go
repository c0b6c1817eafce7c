package broker

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Client is a connection to a client, in no wire's words. Gateways implement
// it; a value must be comparable and stand for one connection. The methods may
// be called from any goroutine, and all but Ask return without waiting for the
// client.
type Client interface {
	RemoteAddr() netip.AddrPort
	// NotifyConsumersChanged tells that the members of the group or their
	// subscriptions changed, so that it divides the queues anew.
	NotifyConsumersChanged(group string)
	// ResetOffsets tells a consumer to go on at other offsets.
	ResetOffsets(r *OffsetReset)
	// CheckTransaction asks a producer what became of a transaction; the answer
	// comes as an end of the transaction.
	CheckTransaction(c *TransactionCheck) error
	// Ask asks a client for something and waits for the answer, which is in the
	// client's own words. The context bounds the wait.
	Ask(ctx context.Context, q *Question) ([]byte, error)
}

// OffsetReset tells the members of a group where to go on in a topic.
type OffsetReset struct {
	Group     string
	Topic     string
	Timestamp int64 // ms; what was asked for
	Force     bool
	Offsets   map[QueueRef]message.Offset
}

// TransactionCheck is a half message whose producer is asked for the outcome.
type TransactionCheck struct {
	Group       string
	Topic       string
	HalfOffset  message.Offset   // in the half queue
	Position    message.Position // of the half record
	MessageID   string           // the unique key
	OffsetID    string
	Transaction string
	Record      []byte // with the real topic and queue
}

// QuestionKind is what a Question is about.
type QuestionKind int

// What can be asked of a client.
const (
	AskRunningInfo     QuestionKind = iota // how a consumer is doing
	AskConsumeDirectly                     // consume this record now
	AskQueueOffsets                        // how far a consumer is in a topic
	AskTakeReply                           // take the reply to a request
)

// Question is something that only the client knows.
type Question struct {
	Kind      QuestionKind
	Group     string
	ClientID  string
	Topic     string
	MessageID string
	Stacks    bool   // with the client's thread stacks
	Record    []byte // for AskConsumeDirectly
	Reply     *Reply // for AskTakeReply
}

// ConsumeType is who starts the transfer of a message.
type ConsumeType byte

// The consume types.
const (
	ConsumeActively  ConsumeType = iota // the application pulls
	ConsumePassively                    // the client library pushes
	ConsumePop                          // the broker hands out
)

// MessageModel is how a group's members share messages.
type MessageModel byte

// The message models.
const (
	Clustering MessageModel = iota
	Broadcasting
)

// ConsumeFrom is where a group that has no offsets begins.
type ConsumeFrom byte

// Where to begin.
const (
	FromLastOffset ConsumeFrom = iota
	FromFirstOffset
	FromTimestamp
)

// Heartbeat is what a client tells about itself, every 30 s or so.
type Heartbeat struct {
	ClientID  string
	Language  byte // as the client numbers it
	Version   int32
	Producers []string // groups
	Consumers []ConsumerHeartbeat
	// Partial: the subscriptions are left out because they did not change.
	Partial bool
}

// ConsumerHeartbeat is one consumer group of a Heartbeat.
type ConsumerHeartbeat struct {
	Group         string
	Type          ConsumeType
	Model         MessageModel
	From          ConsumeFrom
	UnitMode      bool
	Subscriptions []*Subscription
}

// ClientInfo is one client of a group.
type ClientInfo struct {
	Client        Client
	ID            string
	Language      byte
	Version       int32
	LastHeartbeat time.Time
	Subscriptions []*Subscription // of this member; nil for producers

	signature string    // of the subscriptions
	joined    time.Time // when it first sent these subscriptions
}

// ConsumerGroup is what the members of a group say of it.
type ConsumerGroup struct {
	Name          string
	Type          ConsumeType
	Model         MessageModel
	From          ConsumeFrom
	Members       []ClientInfo // sorted by id
	Subscriptions []*Subscription
}

// clientLife is how long a client counts as alive after its last heartbeat.
const clientLife = 120 * time.Second

// Clients knows who is connected: producers and consumers by group and
// connection, and what each group subscribes to. Subscriptions are kept when
// the last member leaves and across restarts, until the group is deleted.
// Safe for concurrent use.
type Clients struct {
	groups *Groups
	now    func() time.Time
	warn   func(text string, pairs ...any) // nil for nobody; set before the first heartbeat
	stored *kv.Bucket[storedSubscriptions]
	subs   *nameTable[groupSubscriptions] // for pulls, which take no lock; written under mu

	mu        sync.Mutex // guards what follows
	consumers map[string]*consumerGroup
	producers map[string]map[Client]*ClientInfo
	turn      map[string]int              // which producer of a group is next
	of        map[Client]map[string]uint8 // the groups of a connection
}

// What a connection is in a group; bits.
const (
	isConsumer = 1 << iota
	isProducer
)

type consumerGroup struct {
	name    string
	kind    ConsumeType
	model   MessageModel
	from    ConsumeFrom
	members map[Client]*ClientInfo

	conflict    string // how the members' subscriptions differ; "": they do not
	conflicting string // the signatures that it is about
}

// groupSubscriptions is replaced as a whole when it changes.
type groupSubscriptions struct {
	kind    ConsumeType
	model   MessageModel
	from    ConsumeFrom
	byTopic map[string]*Subscription
}

// storedSubscriptions is how a group's subscriptions are kept.
type storedSubscriptions struct {
	Type          ConsumeType     `json:"type"`
	Model         MessageModel    `json:"model"`
	From          ConsumeFrom     `json:"from"`
	Subscriptions []*Subscription `json:"subscriptions"`
}

// openClients loads the stored subscriptions.
func openClients(db *kv.DB, groups *Groups, now func() time.Time) (*Clients, error) {
	c := &Clients{
		groups: groups, now: now,
		stored:    kv.NewBucket(db, "subscription", kv.JSON[storedSubscriptions]()),
		subs:      newNameTable[groupSubscriptions](),
		consumers: map[string]*consumerGroup{},
		producers: map[string]map[Client]*ClientInfo{},
		turn:      map[string]int{},
		of:        map[Client]map[string]uint8{},
	}
	err := c.stored.Range(nil, nil, func(key []byte, s storedSubscriptions) bool {
		g := &groupSubscriptions{kind: s.Type, model: s.Model, from: s.From, byTopic: map[string]*Subscription{}}
		for _, sub := range s.Subscriptions {
			g.byTopic[sub.Topic] = sub
		}
		c.subs.set(string(key), g)
		return true
	})
	return c, err
}

// Subscription returns what the group wants of the topic, as its members last
// said; nil if they never named the topic.
func (c *Clients) Subscription(group, topic string) *Subscription {
	if g := c.subs.get(group); g != nil {
		return g.byTopic[topic]
	}
	return nil
}

// Subscribed tells whether the group ever told its subscriptions, and how its
// members share messages.
func (c *Clients) Subscribed(group string) (MessageModel, bool) {
	if g := c.subs.get(group); g != nil {
		return g.model, true
	}
	return Clustering, false
}

// Heartbeat takes in what a client tells. When it returns, the client is in the
// lists of its groups. Members of groups that changed are told.
func (c *Clients) Heartbeat(client Client, h *Heartbeat) error {
	var told notices
	var alarms []string
	err := c.heartbeat(client, h, &told, &alarms)
	told.send()
	for _, news := range alarms {
		if c.warn != nil {
			c.warn(news, "client", h.ClientID)
		}
	}
	return err
}

func (c *Clients) heartbeat(client Client, h *Heartbeat, told *notices, alarms *[]string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var refused []error
	now := c.now()
	for _, group := range h.Producers {
		members := c.producers[group]
		if members == nil {
			members = map[Client]*ClientInfo{}
			c.producers[group] = members
		}
		members[client] = &ClientInfo{Client: client, ID: h.ClientID, Language: h.Language, Version: h.Version, LastHeartbeat: now}
		c.joinLocked(client, group, isProducer)
	}
	for i := range h.Consumers {
		if err := c.consumerLocked(client, h, &h.Consumers[i], now, told, alarms); err != nil {
			refused = append(refused, err)
		}
	}
	return errors.Join(refused...)
}

// consumerLocked takes in one consumer group of a heartbeat.
func (c *Clients) consumerLocked(client Client, h *Heartbeat, ch *ConsumerHeartbeat, now time.Time, told *notices, alarms *[]string) error {
	g := c.consumers[ch.Group]
	if g == nil {
		g = &consumerGroup{name: ch.Group, members: map[Client]*ClientInfo{}}
		c.consumers[ch.Group] = g
	}
	sign := signature(ch.Subscriptions)
	if !h.Partial && c.rejectsLocked(ch.Group) {
		if odd := g.oddLocked(client, h.ClientID, sign); odd != "" {
			c.leaveLocked(client, ch.Group, isConsumer, told)
			return refuse(KindIllegalOperation, "%s (%s=%s refuses it)", odd, AttributeGuard, GuardReject)
		}
	}
	g.kind, g.model, g.from = ch.Type, ch.Model, ch.From
	info := &ClientInfo{Client: client, ID: h.ClientID, Language: h.Language, Version: h.Version, LastHeartbeat: now, Subscriptions: ch.Subscriptions}
	old := g.members[client]
	if old != nil && h.Partial {
		info.Subscriptions, sign = old.Subscriptions, old.signature
	}
	info.signature, info.joined = sign, now
	if old != nil && old.signature == sign {
		info.joined = old.joined
	}
	g.members[client] = info
	if old == nil || old.signature != sign {
		if news := g.guardLocked(); news != "" {
			*alarms = append(*alarms, news)
		}
	}
	c.joinLocked(client, ch.Group, isConsumer)
	changed := old == nil || old.ID != info.ID
	if !h.Partial {
		topics, err := c.subscribeLocked(g, ch.Subscriptions)
		if err != nil {
			return err
		}
		changed = changed || topics
	}
	if changed {
		c.noticeLocked(g, told)
	}
	return nil
}

// subscribeLocked makes the group's subscriptions those of this heartbeat. A
// subscription that is there is replaced by a newer one only. It reports
// whether topics came or went.
func (c *Clients) subscribeLocked(g *consumerGroup, subs []*Subscription) (topicsChanged bool, err error) {
	old := c.subs.get(g.name)
	if old == nil {
		old = &groupSubscriptions{}
	}
	next := &groupSubscriptions{kind: g.kind, model: g.model, from: g.from, byTopic: make(map[string]*Subscription, len(subs))}
	replaced := old.byTopic == nil || old.kind != g.kind || old.model != g.model || old.from != g.from
	for _, sub := range subs {
		known := old.byTopic[sub.Topic]
		switch {
		case known == nil:
			topicsChanged = true
		case sub.Version > known.Version:
			replaced = true
		default:
			sub = known
		}
		next.byTopic[sub.Topic] = sub
	}
	for topic := range old.byTopic {
		if next.byTopic[topic] == nil {
			topicsChanged = true
		}
	}
	if !topicsChanged && !replaced {
		return false, nil
	}
	stored := storedSubscriptions{Type: g.kind, Model: g.model, From: g.from, Subscriptions: sortedSubscriptions(next)}
	if err := c.stored.Put([]byte(g.name), stored, kv.Buffered); err != nil {
		return topicsChanged, fail(KindSystem, err, "storing the subscriptions of the group %s", g.name)
	}
	c.subs.set(g.name, next)
	return topicsChanged, nil
}

func sortedSubscriptions(g *groupSubscriptions) []*Subscription {
	if g == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(g.byTopic), func(a, b *Subscription) int { return strings.Compare(a.Topic, b.Topic) })
}

func (c *Clients) joinLocked(client Client, group string, as uint8) {
	if c.of[client] == nil {
		c.of[client] = map[string]uint8{}
	}
	c.of[client][group] |= as
}

// leaveLocked takes the client out of the group, as which it is told.
func (c *Clients) leaveLocked(client Client, group string, as uint8, told *notices) {
	if as&isProducer != 0 {
		delete(c.producers[group], client)
		if len(c.producers[group]) == 0 {
			delete(c.producers, group)
			delete(c.turn, group)
		}
	}
	if g := c.consumers[group]; as&isConsumer != 0 && g != nil && g.members[client] != nil {
		delete(g.members, client)
		g.guardLocked()
		if len(g.members) == 0 {
			delete(c.consumers, group)
		} else {
			c.noticeLocked(g, told)
		}
	}
	groups := c.of[client]
	if groups == nil {
		return
	}
	if groups[group] &^= as; groups[group] == 0 {
		delete(groups, group)
	}
	if len(groups) == 0 {
		delete(c.of, client)
	}
}

// Unregister takes a client out of one producer group, one consumer group, or
// both; empty names are skipped.
func (c *Clients) Unregister(client Client, producerGroup, consumerGroup string) {
	var told notices
	c.mu.Lock()
	if producerGroup != "" {
		c.leaveLocked(client, producerGroup, isProducer, &told)
	}
	if consumerGroup != "" {
		c.leaveLocked(client, consumerGroup, isConsumer, &told)
	}
	c.mu.Unlock()
	told.send()
}

// Closed takes a connection that is gone out of all its groups.
func (c *Clients) Closed(client Client) {
	var told notices
	c.mu.Lock()
	for group, as := range maps.Clone(c.of[client]) {
		c.leaveLocked(client, group, as, &told)
	}
	c.mu.Unlock()
	told.send()
}

// Expire takes out the clients that sent no heartbeat for 120 s and returns
// how many memberships ended.
func (c *Clients) Expire() int {
	var told notices
	c.mu.Lock()
	before := c.now().Add(-clientLife)
	gone := 0
	for client, groups := range c.of {
		for group, as := range maps.Clone(groups) {
			if old := c.staleLocked(client, group, as, before); old != 0 {
				c.leaveLocked(client, group, old, &told)
				gone++
			}
		}
	}
	c.mu.Unlock()
	told.send()
	return gone
}

// staleLocked returns as what the client's last heartbeat is older than before.
func (c *Clients) staleLocked(client Client, group string, as uint8, before time.Time) (stale uint8) {
	if info := c.producers[group][client]; as&isProducer != 0 && (info == nil || info.LastHeartbeat.Before(before)) {
		stale |= isProducer
	}
	if g := c.consumers[group]; as&isConsumer != 0 && (g == nil || g.members[client] == nil || g.members[client].LastHeartbeat.Before(before)) {
		stale |= isConsumer
	}
	return stale
}

// notices are told after the lock is given back.
type notices []struct {
	client Client
	group  string
}

func (n notices) send() {
	for _, notice := range n {
		notice.client.NotifyConsumersChanged(notice.group)
	}
}

// noticeLocked notes that all members must be told of a change.
func (c *Clients) noticeLocked(g *consumerGroup, told *notices) {
	if config := c.groups.Lookup(g.name); g.model == Broadcasting || config != nil && !config.NotifyMembers {
		return
	}
	for client := range g.members {
		*told = append(*told, struct {
			client Client
			group  string
		}{client, g.name})
	}
}

// ConsumerIDs returns the ids of the group's members, each once, sorted.
func (c *Clients) ConsumerIDs(group string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.consumers[group]
	if g == nil {
		return nil
	}
	ids := make([]string, 0, len(g.members))
	for _, m := range g.members {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Consumers returns what is known of a group that has members now.
func (c *Clients) Consumers(group string) (ConsumerGroup, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.consumers[group]
	if g == nil {
		return ConsumerGroup{}, false
	}
	return ConsumerGroup{
		Name: g.name, Type: g.kind, Model: g.model, From: g.from,
		Members: sortedMembers(g.members), Subscriptions: sortedSubscriptions(c.subs.get(group)),
	}, true
}

func sortedMembers(members map[Client]*ClientInfo) []ClientInfo {
	list := make([]ClientInfo, 0, len(members))
	for _, m := range members {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b ClientInfo) int {
		if n := strings.Compare(a.ID, b.ID); n != 0 {
			return n
		}
		return a.Client.RemoteAddr().Compare(b.Client.RemoteAddr())
	})
	return list
}

// Consumer returns the member of the group with that id; of several
// connections, the one whose heartbeat is the latest.
func (c *Clients) Consumer(group, id string) (ClientInfo, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.consumers[group]
	if g == nil {
		return ClientInfo{}, false
	}
	return latest(g.members, id)
}

func latest(members map[Client]*ClientInfo, id string) (found ClientInfo, ok bool) {
	for _, m := range members {
		if m.ID == id && (!ok || m.LastHeartbeat.After(found.LastHeartbeat)) {
			found, ok = *m, true
		}
	}
	return found, ok
}

// GroupsOf returns the groups that have members now and subscribe to the topic, sorted.
func (c *Clients) GroupsOf(topic string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var groups []string
	for name := range c.consumers {
		if s := c.subs.get(name); s != nil && s.byTopic[topic] != nil {
			groups = append(groups, name)
		}
	}
	slices.Sort(groups)
	return groups
}

// OnlineGroups returns the groups that have members now, sorted.
func (c *Clients) OnlineGroups() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.consumers))
}

// Subscriptions returns what the group subscribes to, sorted by topic, whether
// or not it has members now.
func (c *Clients) Subscriptions(group string) []*Subscription {
	return sortedSubscriptions(c.subs.get(group))
}

// Producers returns the producers of a group, sorted by id.
func (c *Clients) Producers(group string) []ClientInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sortedMembers(c.producers[group])
}

// ProducerGroups returns the groups that have producers now, sorted.
func (c *Clients) ProducerGroups() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.producers))
}

// PickProducer returns one live producer of the group, another one each time.
func (c *Clients) PickProducer(group string) (ClientInfo, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := sortedMembers(c.producers[group])
	if len(members) == 0 {
		return ClientInfo{}, false
	}
	c.turn[group]++
	return members[c.turn[group]%len(members)], true
}

// Producer returns the producer with that id, of whatever group.
func (c *Clients) Producer(id string) (ClientInfo, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found ClientInfo
	ok := false
	for _, members := range c.producers {
		if m, has := latest(members, id); has && (!ok || m.LastHeartbeat.After(found.LastHeartbeat)) {
			found, ok = m, true
		}
	}
	return found, ok
}

// Forget removes what was kept of a deleted group's subscriptions.
func (c *Clients) Forget(group string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs.set(group, nil)
	if err := c.stored.Delete([]byte(group), kv.Buffered); err != nil {
		return fail(KindSystem, err, "removing the subscriptions of the group %s", group)
	}
	return nil
}

// eachSubscription calls fn for every subscription of every group.
func (c *Clients) eachSubscription(fn func(group string, s *Subscription)) {
	c.subs.each(func(group string, g *groupSubscriptions) bool {
		for _, s := range g.byTopic {
			fn(group, s)
		}
		return true
	})
}
