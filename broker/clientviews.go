package broker

import (
	"maps"
	"slices"
	"strings"

	"github.com/merlinmq/merlin/internal/kv"
)

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
