package nameserver

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting/body"
)

const (
	maxGone         = 64    // departures remembered
	maxGoneTopics   = 20000 // topics remembered of one departure
	maxCachedRoutes = 8192
	maxCachedBytes  = 32 << 20
)

// routeKey is what the text of a route answer depends on besides the table.
type routeKey struct {
	topic    string
	order    string
	host     netip.Addr // what the client dialled
	standard bool
}

// routeCache keeps encoded route answers until the table changes.
type routeCache struct {
	mu    sync.RWMutex // guards what follows
	epoch uint64
	texts map[routeKey][]byte
	bytes int
}

func (c *routeCache) get(epoch uint64, k routeKey) []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.epoch != epoch {
		return nil
	}
	return c.texts[k]
}

func (c *routeCache) put(epoch uint64, k routeKey, text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch < c.epoch {
		return
	}
	if epoch > c.epoch || c.texts == nil || len(c.texts) >= maxCachedRoutes || c.bytes+len(text) > maxCachedBytes {
		c.epoch, c.texts, c.bytes = epoch, map[routeKey][]byte{}, 0
	}
	c.texts[k] = text
	c.bytes += len(text)
}

// route returns the encoded route of a topic for a client that dialled host; nil for a topic without one. The bytes
// are shared: they may be sent and not changed.
func (t *table) route(topic, order string, host netip.Addr, standard bool) []byte {
	k := routeKey{topic, order, host, standard}
	t.mu.RLock()
	epoch := t.epoch
	text := t.cache.get(epoch, k)
	if text != nil {
		t.mu.RUnlock()
		return text
	}
	data, ok := t.routeLocked(topic, host)
	t.mu.RUnlock()
	if !ok {
		return nil
	}
	data.OrderTopicConf = order
	if standard {
		text = body.EncodeStandard(data)
	} else {
		text = body.Encode(data)
	}
	t.cache.put(epoch, k, text)
	return text
}

func (t *table) routeLocked(topic string, host netip.Addr) (*body.RouteData, bool) {
	of := t.topics[topic]
	r := &body.RouteData{}
	for name, q := range of {
		g := t.groups[name]
		if g == nil {
			continue
		}
		r.QueueDatas = append(r.QueueDatas, q)
		r.BrokerDatas = append(r.BrokerDatas, g.data(host))
		for _, m := range g.members {
			if len(m.filters) > 0 {
				if r.FilterServerTable == nil {
					r.FilterServerTable = map[string][]string{}
				}
				r.FilterServerTable[m.told(host)] = m.filters
			}
		}
	}
	if len(r.BrokerDatas) == 0 {
		return nil, false
	}
	sort.Slice(r.QueueDatas, func(i, j int) bool { return r.QueueDatas[i].BrokerName < r.QueueDatas[j].BrokerName })
	sort.Slice(r.BrokerDatas, func(i, j int) bool { return r.BrokerDatas[i].BrokerName < r.BrokerDatas[j].BrokerName })
	for broker, raw := range t.mappings[topic] {
		if r.TopicQueueMappingByBroker == nil {
			r.TopicQueueMappingByBroker = map[string]body.Raw{}
		}
		r.TopicQueueMappingByBroker[broker] = raw
	}
	if t.opt.SupportActingMaster && !strings.HasPrefix(topic, message.TopicSyncMember) {
		actAsMasters(r)
	}
	return r, true
}

// actAsMasters presents the lowest slave of a group without a master under the master's id, for reading.
func actAsMasters(r *body.RouteData) {
	for i := range r.BrokerDatas {
		b, q := &r.BrokerDatas[i], r.QueueDatas[i] // both sorted by broker
		if !b.EnableActingMaster || len(b.BrokerAddrs) == 0 || b.BrokerAddrs[body.MasterID] != "" || q.Perm&permWrite != 0 {
			continue
		}
		least := int64(-1)
		for id := range b.BrokerAddrs {
			if least < 0 || id < least {
				least = id
			}
		}
		b.BrokerAddrs[body.MasterID] = b.BrokerAddrs[least]
		delete(b.BrokerAddrs, least)
	}
}

// data is the group as a client that dialled host sees it.
func (g *group) data(host netip.Addr) body.BrokerData {
	b := body.BrokerData{BrokerName: g.name, Cluster: g.cluster, ZoneName: g.zone, EnableActingMaster: g.actingMaster, BrokerAddrs: map[int64]string{}}
	for id, m := range g.members {
		b.BrokerAddrs[id] = m.told(host)
	}
	return b
}

// orderConf makes a topic's order configuration safe for rocketmq-client-go, which crashes on a part without a colon
// and on a semicolon at the end.
func orderConf(conf string) string {
	var parts []string
	for _, p := range strings.Split(conf, ";") {
		if broker, n, ok := strings.Cut(p, ":"); ok && broker != "" && n != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ";")
}

// Departure is a broker that was registered and is not any more.
type Departure struct {
	Cluster, Broker string
	ID              int64
	Addr            string
	Since           time.Time // when it was taken out
	LastHeartbeat   time.Time
	Why             string // "its connection closed", …
}

func (d Departure) String() string {
	return fmt.Sprintf("Broker %s at %s is gone since %s: %s (last heartbeat %s)", d.Broker, d.Addr, clock(d.Since), d.Why, clock(d.LastHeartbeat))
}

func clock(t time.Time) string { return t.Format("2006-01-02 15:04:05") }

// Why explains a topic's route.
type Why struct {
	Topic       string
	Brokers     []string    // that have it now
	Gone        []Departure // that had it, and are gone
	AllGone     []Departure // every broker that is gone, the latest last
	Registered  int         // brokers registered now, whatever they have
	AutoCreates bool        // some broker creates topics at the first message
}

// why collects what is known of a topic.
func (t *table) why(topic string) Why {
	t.mu.RLock()
	defer t.mu.RUnlock()
	w := Why{Topic: topic, AutoCreates: t.autoCreatesLocked(), AllGone: append([]Departure(nil), t.gone...)}
	for _, g := range t.groups {
		w.Registered += len(g.members)
	}
	for broker := range t.topics[topic] {
		w.Brokers = append(w.Brokers, broker)
	}
	sort.Strings(w.Brokers)
	for i, had := range t.goneOf {
		if _, ok := had[topic]; ok {
			w.Gone = append(w.Gone, t.gone[i])
		}
	}
	return w
}

// Cause is the reason in a sentence or two: why there is no route and what to do; "" where there is one.
func (w Why) Cause() string {
	switch {
	case len(w.Brokers) > 0:
		return ""
	case len(w.Gone) > 0:
		return w.Gone[len(w.Gone)-1].String() + "."
	case w.Registered == 0 && len(w.AllGone) > 0:
		return "No broker is registered here. " + w.AllGone[len(w.AllGone)-1].String() + "."
	case w.Registered == 0:
		return "No broker is registered here: start one and point it at this name server (--namesrv HOST:PORT)."
	case message.IsRetryTopic(w.Topic):
		return "The consumer group has no retry topic yet: a broker makes it when the first member of the group connects. Start a consumer of the group, and look at its name."
	case w.AutoCreates:
		return "It does not exist; the first message to it creates it, or: merlin topic create " + clip(w.Topic)
	}
	return "It does not exist and the brokers here do not create topics by themselves (autoCreateTopicEnable=false). To create it: merlin topic create " + clip(w.Topic)
}

// remark is what a client is answered. It begins with Apache's words, which people search for.
func (w Why) remark() string {
	return "No topic route info in name server for the topic: " + clip(w.Topic) + ". " + w.Cause()
}

func clip(s string) string {
	if len(s) > 255 {
		return strings.ToValidUTF8(s[:255], "") + "…"
	}
	return s
}
