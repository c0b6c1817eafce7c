// Package nameserver is a route table that brokers register with and clients ask, speaking Apache RocketMQ's remoting
// protocol.
//
// It keeps no state of its own besides the KV configuration: brokers tell it everything again within 30 s, so any
// number of name servers run side by side and know nothing of each other. A broker counts as gone when it unregisters,
// when the connection it registered over breaks, or when it has been silent for Options.Expiry.
//
// A client is told addresses that it can reach. A broker whose address nobody configured registers with the extra field
// merlinAutoAddr=true (a wildcard host says the same); if it runs on the name server's machine, every client is given
// the host that the client itself dialled, with the broker's port. Configured addresses are passed on untouched.
//
// A Server is a remoting.Handler and safe for concurrent use. It starts no goroutine: run Run beside it.
package nameserver

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// FieldAutoAddr is the header field of REGISTER_BROKER by which a broker says that its address was not configured.
const FieldAutoAddr = "merlinAutoAddr"

// Options are the settings of a name server; the zero value is Apache's default.
type Options struct {
	Now       func() time.Time // default time.Now
	Expiry    time.Duration    // of a silent broker that names no other, default 120 s
	ScanEvery time.Duration    // between looks for silent brokers, default 5 s
	KVPath    string           // file of the KV configuration (Apache's kvConfig.json); "" keeps it in memory

	OrderMessages         bool          // orderMessageEnable: give clients the order configuration of topics
	HideOrderConf         bool          // returnOrderTopicConfigToBroker=false
	HideAllTopics         bool          // enableAllTopicList=false
	HideTopicLists        bool          // enableTopicList=false
	DeleteTopicWithBroker bool          // deleteTopicWithBrokerRegistration
	SupportActingMaster   bool          // supportActingMaster
	NotReadyFor           time.Duration // needWaitForService: refuse routes for so long after New, default 0

	ConfigText   func() string                 // settings as properties text for GET_NAMESRV_CONFIG; nil: none
	UpdateConfig func(key, value string) error // for UPDATE_NAMESRV_CONFIG; nil refuses every change

	Events Events
}

// Events are told what is worth a line in a log. Each may be nil; they must not block.
type Events struct {
	Joined func(Broker)    // registered and was not there before
	Gone   func(Departure) // is not there any more
}

// Broker is a registered broker.
type Broker struct {
	Cluster, Name string
	ID            int64
	Addr          string
	ToldByHost    bool // clients are told the host that they dialled instead of Addr's
	HAAddr        string
	LastHeartbeat time.Time
	DataVersion   body.DataVersion
	Topics        int
}

// Stats counts what happened since New, besides what is there now.
type Stats struct {
	Brokers, Topics                                  int
	Routes, Misses, Registrations, Joins, Departures int64
}

// Server is a name server.
type Server struct {
	opt   Options
	table *table
	kv    *kv
	ready time.Time

	routes, misses, registrations, joins, departures atomic.Int64
}

var _ remoting.Handler = (*Server)(nil)

// New returns a name server that is ready to serve. It fails where the file of the KV configuration does not read.
func New(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Expiry < 0 || o.ScanEvery < 0 || o.NotReadyFor < 0 {
		return nil, errors.New("name server: a time in the options is negative")
	}
	if o.Expiry == 0 {
		o.Expiry = 120 * time.Second
	}
	if o.ScanEvery == 0 {
		o.ScanEvery = 5 * time.Second
	}
	store, err := openKV(o.KVPath)
	if err != nil {
		return nil, err
	}
	s := &Server{opt: o, kv: store, ready: o.Now().Add(o.NotReadyFor)}
	inner := o
	inner.Events.Gone = func(d Departure) {
		s.departures.Add(1)
		if o.Events.Gone != nil {
			o.Events.Gone(d)
		}
	}
	s.table = newTable(inner)
	return s, nil
}

// Run takes silent brokers out until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(s.opt.ScanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.table.expire()
		}
	}
}

// Handler returns what a remoting server is given.
func (s *Server) Handler() remoting.Handler { return s }

// Register takes a registration in without a frame, for a broker in the same process. It is false where the broker
// must send its whole topic table first.
func (s *Server) Register(r Registration, p Peer) bool {
	_, ok := s.register(r, p)
	return ok
}

func (s *Server) register(r Registration, p Peer) (registered, bool) {
	if r.Body == nil {
		r.Body = &body.RegisterBrokerBody{}
	}
	answer, ok := s.table.register(r, p)
	s.registrations.Add(1)
	if ok && answer.joined {
		s.joins.Add(1)
		if s.opt.Events.Joined != nil {
			s.opt.Events.Joined(Broker{Cluster: r.Cluster, Name: r.Broker, ID: r.ID, Addr: r.Addr, ToldByHost: r.Auto && p.sameHost(), HAAddr: r.HAAddr,
				LastHeartbeat: s.opt.Now(), DataVersion: r.Body.Topics.DataVersion, Topics: len(r.Body.Topics.TopicConfigTable)})
		}
	}
	return answer, ok
}

// Unregister takes out what Register took in.
func (s *Server) Unregister(broker, addr string, id int64, p Peer) {
	s.table.unregister(broker, addr, id, p)
}

// Brokers returns who is registered now.
func (s *Server) Brokers() []Broker { return s.table.brokers() }

// Topics returns the names of all topics, sorted.
func (s *Server) Topics() []string { return s.table.topicList(everything).TopicList }

// Route returns the route of a topic as a client that dialled host is told it.
func (s *Server) Route(topic string, host netip.Addr) (*body.RouteData, bool) {
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	return s.table.routeLocked(topic, host)
}

// Why explains why a topic has a route or none.
func (s *Server) Why(topic string) Why { return s.table.why(topic) }

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.table.mu.RLock()
	st := Stats{Topics: len(s.table.topics)}
	for _, g := range s.table.groups {
		st.Brokers += len(g.members)
	}
	s.table.mu.RUnlock()
	st.Routes, st.Misses, st.Registrations = s.routes.Load(), s.misses.Load(), s.registrations.Load()
	st.Joins, st.Departures = s.joins.Load(), s.departures.Load()
	return st
}
