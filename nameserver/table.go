package nameserver

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting/body"
)

// The permission bits of a queue.
const (
	permRead  = 4
	permWrite = 2
)

// Peer is the connection that a request came over, as far as the table cares: who is at its ends, and an identity that
// tells when it breaks.
type Peer struct {
	Local, Remote netip.Addr
	Link          any // comparable; nil for none
}

// sameHost says whether the peer runs on the name server's machine: it came over loopback or from the address it dialled.
func (p Peer) sameHost() bool {
	r, l := p.Remote.Unmap(), p.Local.Unmap()
	return r.IsLoopback() || r.IsValid() && r == l
}

// Registration is what a broker says of itself.
type Registration struct {
	Cluster, Broker string
	ID              int64
	Addr            string // host:port where clients reach it
	HAAddr          string
	Zone            string
	Auto            bool          // nobody configured the address: clients are told one that they can reach
	Timeout         time.Duration // without a heartbeat after which it counts as gone; 0: Options.Expiry
	ActingMaster    bool
	KnowsActing     bool // the field was there: a broker that knows of acting masters
	Body            *body.RegisterBrokerBody
}

// registered is what a broker is told.
type registered struct {
	masterAddr, haServerAddr string // for slaves of a master that is there
	joined                   bool   // it was not there before
}

// group is a broker name with its members by id.
type group struct {
	name, cluster, zone string
	actingMaster        bool
	members             map[int64]*member
}

type member struct {
	id       int64
	addr     string // as registered, with the wildcard replaced
	port     string
	auto     bool // address not configured
	sameHost bool
	haAddr   string
	version  body.DataVersion
	lastBeat time.Time
	timeout  time.Duration
	link     any
	filters  []string
}

func (g *group) minID() (int64, bool) {
	least, found := int64(0), false
	for id := range g.members {
		if !found || id < least {
			least, found = id, true
		}
	}
	return least, found
}

func (g *group) byAddr(addr string) *member {
	for _, m := range g.members {
		if m.addr == addr {
			return m
		}
	}
	return nil
}

// told is the address that a client which dialled host is given.
func (m *member) told(host netip.Addr) string {
	if m.auto && m.sameHost && host.IsValid() && !host.IsUnspecified() {
		return net.JoinHostPort(host.Unmap().String(), m.port)
	}
	return m.addr
}

// table is everything a name server knows of brokers and topics.
type table struct {
	opt Options

	mu       sync.RWMutex                         // guards what follows
	groups   map[string]*group                    // by broker name
	topics   map[string]map[string]body.QueueData // by topic, then broker name
	mappings map[string]map[string]body.Raw       // static topics: by topic, then broker name
	gone     []Departure                          // the latest last, at most maxGone
	goneOf   []map[string]struct{}                // beside gone: the topics it had
	epoch    uint64                               // counts changes; answers built before are stale after

	cache routeCache
}

func newTable(o Options) *table {
	return &table{opt: o, groups: map[string]*group{}, topics: map[string]map[string]body.QueueData{}, mappings: map[string]map[string]body.Raw{}}
}

// place splits a registered address and replaces a wildcard host, which no client can reach, by the one the broker
// came from.
func place(addr string, p Peer) (at, port string, wildcard bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, "", false
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		if p.Remote.IsValid() {
			host = p.Remote.Unmap().String()
		}
		return net.JoinHostPort(host, port), port, true
	}
	return addr, port, false
}

// register takes a registration in. ok is false where the broker must send its whole table first.
func (t *table) register(r Registration, p Peer) (answer registered, ok bool) {
	addr, port, wildcard := place(r.Addr, p)
	now := t.opt.Now()
	t.mu.Lock()
	defer t.mu.Unlock()

	g, known := t.groups[r.Broker]
	if !known {
		g = &group{name: r.Broker, cluster: r.Cluster, members: map[int64]*member{}}
	}
	old := g.members[r.ID]
	if old != nil && old.addr != addr && old.version.StateVersion > r.Body.Topics.DataVersion.StateVersion {
		return registered{}, true // a newer process holds this id: the late one is ignored
	}
	if old == nil && len(r.Body.Topics.TopicConfigTable) == 1 {
		return registered{}, false
	}
	t.groups[r.Broker] = g
	before := shape{g.cluster, g.zone, g.actingMaster, len(g.members), memberShape(old)}
	g.cluster, g.zone, g.actingMaster = r.Cluster, r.Zone, r.KnowsActing && r.ActingMaster
	for id, m := range g.members {
		if m.addr == addr && id != r.ID {
			delete(g.members, id)
		}
	}
	m := &member{id: r.ID, addr: addr, port: port, auto: r.Auto && port != "" || wildcard, sameHost: p.sameHost(), haAddr: r.HAAddr,
		version: r.Body.Topics.DataVersion, lastBeat: now, timeout: r.Timeout, link: p.Link, filters: r.Body.FilterServerList}
	if m.timeout <= 0 {
		m.timeout = t.opt.Expiry
	}
	g.members[r.ID] = m
	changed := t.takeTopicsLocked(g, m, old, r)
	if changed || before != (shape{g.cluster, g.zone, g.actingMaster, len(g.members), memberShape(m)}) || len(m.filters) > 0 {
		t.epoch++
	}
	t.forgetGoneLocked(r.Broker, r.ID)
	if master := g.members[body.MasterID]; r.ID != body.MasterID && master != nil {
		answer = registered{masterAddr: master.told(p.Local), haServerAddr: master.haAddr}
	}
	answer.joined = old == nil
	return answer, true
}

// shape is what of a registration shows in answers besides topics.
type shape struct {
	cluster, zone string
	acting        bool
	members       int
	member        string
}

func memberShape(m *member) string {
	if m == nil {
		return ""
	}
	s := m.addr
	if m.auto && m.sameHost {
		s = "*" + s
	}
	return s
}

// takeTopicsLocked merges the topics of a registration. A table may be a part: what is absent stays.
func (t *table) takeTopicsLocked(g *group, m, old *member, r Registration) (changed bool) {
	least, _ := g.minID()
	master := m.id == body.MasterID
	primeSlave := r.KnowsActing && !master && m.id == least
	if !master && !primeSlave {
		return false
	}
	fresh := old == nil || old.addr != m.addr || old.version != m.version
	if t.opt.DeleteTopicWithBroker && master && fresh {
		for topic, of := range t.topics {
			if _, still := r.Body.Topics.TopicConfigTable[topic]; !still && hasBroker(of, g.name) {
				t.dropLocked(topic, g.name)
				changed = true
			}
		}
	}
	for topic, c := range r.Body.Topics.TopicConfigTable {
		if c.TopicName != "" {
			topic = c.TopicName
		}
		if !fresh && hasBroker(t.topics[topic], g.name) {
			continue
		}
		if primeSlave && g.actingMaster {
			c.Perm &^= permWrite
		}
		q := body.QueueData{BrokerName: g.name, Perm: c.Perm, ReadQueueNums: c.ReadQueueNums, WriteQueueNums: c.WriteQueueNums, TopicSysFlag: c.TopicSysFlag}
		changed = t.putLocked(topic, q) || changed
	}
	if fresh {
		for topic, raw := range r.Body.Topics.TopicQueueMappingInfoMap {
			if t.mappings[topic] == nil {
				t.mappings[topic] = map[string]body.Raw{}
			}
			t.mappings[topic][g.name] = raw
			changed = true
		}
	}
	return changed
}

func hasBroker(of map[string]body.QueueData, broker string) bool {
	_, ok := of[broker]
	return ok
}

func (t *table) putLocked(topic string, q body.QueueData) (changed bool) {
	of := t.topics[topic]
	if of == nil {
		of = map[string]body.QueueData{}
		t.topics[topic] = of
	}
	if old, ok := of[q.BrokerName]; ok && old == q {
		return false
	}
	of[q.BrokerName] = q
	return true
}

func (t *table) dropLocked(topic, broker string) {
	delete(t.topics[topic], broker)
	if len(t.topics[topic]) == 0 {
		delete(t.topics, topic)
	}
	delete(t.mappings[topic], broker)
	if len(t.mappings[topic]) == 0 {
		delete(t.mappings, topic)
	}
}

// beat notes a sign of life and says whether the broker is known.
func (t *table) beat(broker, addr string, p Peer) bool {
	addr, _, _ = place(addr, p)
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.groups[broker]
	if g == nil {
		return false
	}
	m := g.byAddr(addr)
	if m == nil {
		return false
	}
	m.lastBeat = t.opt.Now()
	return true
}

// version returns the data version that the broker at addr registered last.
func (t *table) version(broker, addr string, p Peer) (body.DataVersion, bool) {
	addr, _, _ = place(addr, p)
	t.mu.RLock()
	defer t.mu.RUnlock()
	if g := t.groups[broker]; g != nil {
		if m := g.byAddr(addr); m != nil {
			return m.version, true
		}
	}
	return body.DataVersion{}, false
}

// unregister takes a broker out at its own wish.
func (t *table) unregister(broker, addr string, id int64, p Peer) {
	addr, _, _ = place(addr, p)
	t.remove(func(g *group, m *member) string {
		if g.name == broker && m.id == id && m.addr == addr {
			return "it unregistered"
		}
		return ""
	})
}

// disconnected takes out whatever registered over link last.
func (t *table) disconnected(link any) {
	t.remove(func(_ *group, m *member) string {
		if m.link == link {
			return "its connection closed"
		}
		return ""
	})
}

// expire takes out who has been silent for too long.
func (t *table) expire() {
	now := t.opt.Now()
	t.remove(func(_ *group, m *member) string {
		if now.Sub(m.lastBeat) > m.timeout {
			return "no heartbeat for " + m.timeout.String()
		}
		return ""
	})
}

// remove takes out every member for which why gives a reason, and tells Events after the lock is free.
func (t *table) remove(why func(*group, *member) string) {
	var left []Departure
	t.mu.Lock()
	for name, g := range t.groups {
		for id, m := range g.members {
			reason := why(g, m)
			if reason == "" {
				continue
			}
			delete(g.members, id)
			left = append(left, Departure{Cluster: g.cluster, Broker: name, ID: id, Addr: m.addr, Since: t.opt.Now(), LastHeartbeat: m.lastBeat, Why: reason})
			t.afterRemovalLocked(g, left[len(left)-1])
		}
	}
	t.mu.Unlock()
	for _, d := range left {
		if t.opt.Events.Gone != nil {
			t.opt.Events.Gone(d)
		}
	}
}

// afterRemovalLocked drops the topics of a group that has no member left, or its write permission where a slave acts
// as its master, and remembers the departure.
func (t *table) afterRemovalLocked(g *group, d Departure) {
	t.epoch++
	had := map[string]struct{}{}
	_, master := g.members[body.MasterID]
	for topic, of := range t.topics {
		q, ok := of[g.name]
		if !ok {
			continue
		}
		if len(had) < maxGoneTopics {
			had[topic] = struct{}{}
		}
		switch {
		case len(g.members) == 0:
			t.dropLocked(topic, g.name)
		case g.actingMaster && !master:
			q.Perm &^= permWrite
			of[g.name] = q
		}
	}
	if len(g.members) == 0 {
		delete(t.groups, g.name)
	}
	t.forgetGoneLocked(d.Broker, d.ID)
	if len(t.gone) == maxGone {
		t.gone, t.goneOf = t.gone[1:], t.goneOf[1:]
	}
	t.gone, t.goneOf = append(t.gone, d), append(t.goneOf, had)
}

func (t *table) forgetGoneLocked(broker string, id int64) {
	for i, d := range t.gone {
		if d.Broker == broker && d.ID == id {
			t.gone = append(t.gone[:i:i], t.gone[i+1:]...)
			t.goneOf = append(t.goneOf[:i:i], t.goneOf[i+1:]...)
			return
		}
	}
}

// autoCreates says whether some broker creates topics at the first message.
func (t *table) autoCreatesLocked() bool { return len(t.topics[message.TopicAutoCreate]) > 0 }
