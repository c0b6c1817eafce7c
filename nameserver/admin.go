package nameserver

import (
	"net/netip"
	"sort"

	"github.com/merlinmq/merlin/remoting/body"
)

// The bits of a topic's sys flag.
const (
	flagUnit    = 1
	flagUnitSub = 2
)

func (t *table) clusterInfo(host netip.Addr) *body.ClusterInfo {
	t.mu.RLock()
	defer t.mu.RUnlock()
	c := &body.ClusterInfo{BrokerAddrTable: map[string]body.BrokerData{}, ClusterAddrTable: map[string][]string{}}
	for name, g := range t.groups {
		c.BrokerAddrTable[name] = g.data(host)
		c.ClusterAddrTable[g.cluster] = append(c.ClusterAddrTable[g.cluster], name)
	}
	for _, names := range c.ClusterAddrTable {
		sort.Strings(names)
	}
	return c
}

func (t *table) memberGroup(cluster, broker string, host netip.Addr) *body.BrokerMemberGroup {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m := &body.BrokerMemberGroup{Cluster: cluster, BrokerName: broker, BrokerAddrs: map[int64]string{}}
	if g := t.groups[broker]; g != nil {
		m.BrokerAddrs = g.data(host).BrokerAddrs
	}
	return m
}

// topicList returns the topics that some broker's queue data satisfies keep for, sorted.
func (t *table) topicList(keep func(g *group, q body.QueueData) bool) *body.TopicList {
	t.mu.RLock()
	defer t.mu.RUnlock()
	l := &body.TopicList{}
	for topic, of := range t.topics {
		for broker, q := range of {
			if g := t.groups[broker]; g != nil && keep(g, q) {
				l.TopicList = append(l.TopicList, topic)
				break
			}
		}
	}
	sort.Strings(l.TopicList)
	return l
}

func inCluster(cluster string) func(*group, body.QueueData) bool {
	return func(g *group, _ body.QueueData) bool { return g.cluster == cluster }
}

func everything(*group, body.QueueData) bool { return true }

func unit(_ *group, q body.QueueData) bool { return q.TopicSysFlag&flagUnit != 0 }

func unitSub(_ *group, q body.QueueData) bool { return q.TopicSysFlag&flagUnitSub != 0 }

func unitSubNotUnit(g *group, q body.QueueData) bool { return unitSub(g, q) && !unit(g, q) }

// systemTopics is what tools take for system topics: the names of clusters and brokers, and any broker's address to
// ask for the rest.
func (t *table) systemTopics(host netip.Addr) *body.TopicList {
	t.mu.RLock()
	defer t.mu.RUnlock()
	l := &body.TopicList{}
	clusters := map[string]bool{}
	var names []string
	for name, g := range t.groups {
		if !clusters[g.cluster] {
			clusters[g.cluster] = true
			l.TopicList = append(l.TopicList, g.cluster)
		}
		names = append(names, name)
	}
	sort.Strings(l.TopicList)
	sort.Strings(names)
	l.TopicList = append(l.TopicList, names...)
	if len(names) > 0 {
		g := t.groups[names[0]]
		least, _ := g.minID()
		l.BrokerAddr = g.members[least].told(host)
	}
	return l
}

// changePerm applies change to the permission of every topic of a broker and counts them.
func (t *table) changePerm(broker string, change func(perm int32) int32) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, of := range t.topics {
		if q, ok := of[broker]; ok {
			q.Perm = change(q.Perm)
			of[broker] = q
			n++
		}
	}
	if n > 0 {
		t.epoch++
	}
	return n
}

// deleteTopic takes the routes of a topic out, of one cluster or, with "", of all.
func (t *table) deleteTopic(topic, cluster string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for broker := range t.topics[topic] {
		if g := t.groups[broker]; cluster == "" || g != nil && g.cluster == cluster {
			t.dropLocked(topic, broker)
			t.epoch++
		}
	}
	for _, had := range t.goneOf {
		delete(had, topic)
	}
}

// registerTopic adds queues of known brokers to a topic and returns the names of those that are unknown.
func (t *table) registerTopic(topic string, queues []body.QueueData) (unknown []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range queues {
		if t.groups[q.BrokerName] == nil {
			unknown = append(unknown, q.BrokerName)
			continue
		}
		if t.putLocked(topic, q) {
			t.epoch++
		}
	}
	return unknown
}

// brokers returns who is registered, by cluster, name and id.
func (t *table) brokers() []Broker {
	t.mu.RLock()
	defer t.mu.RUnlock()
	topics := map[string]int{}
	for _, of := range t.topics {
		for broker := range of {
			topics[broker]++
		}
	}
	var list []Broker
	for name, g := range t.groups {
		for id, m := range g.members {
			list = append(list, Broker{Cluster: g.cluster, Name: name, ID: id, Addr: m.addr, ToldByHost: m.auto && m.sameHost,
				HAAddr: m.haAddr, LastHeartbeat: m.lastBeat, DataVersion: m.version, Topics: topics[name]})
		}
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if a.Cluster != b.Cluster {
			return a.Cluster < b.Cluster
		}
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		return a.ID < b.ID
	})
	return list
}
