package broker

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
)

// Clients knows who is connected: producers and consumers by group and
// connection, and what each group subscribes to. Subscriptions are kept when
// the last member leaves and across restarts, until the group is deleted.
// Safe for concurrent use.
type Clients struct {
	groups *Groups
	now    func() time.Time
	life   time.Duration                   // of a client after its last heartbeat; set likewise
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
		life:   clientLife,
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

// Expire takes out the clients that sent no heartbeat for their life and returns
// how many memberships ended.
func (c *Clients) Expire() int {
	var told notices
	c.mu.Lock()
	before := c.now().Add(-c.life)
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
