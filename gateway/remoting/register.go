package gateway

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// REGISTER_BROKER 103, UNREGISTER_BROKER 104, sent to the name servers
//
//   - One goroutine per name server keeps one connection: a name server forgets
//     a broker whose connection breaks.
//   - The whole topic table is sent at the start and every period; a changed
//     topic is sent by itself at once.
//   - After the whole table it asks for the list of brokers (106): only a broker
//     that is alone may say how a topic's queues are divided. Beside others it
//     asks which of them have the topics that groups pop (105).
//   - A broker whose address nobody set says so with the field merlinAutoAddr,
//     so that Merlin's name server tells each client an address that it reaches;
//     other name servers are told the address from which the broker reaches them.

// RegistrarOptions are the settings of NewRegistrar.
type RegistrarOptions struct {
	Broker      *broker.Broker
	NameServers []string       // host:port
	Address     netip.AddrPort // under which clients reach the broker; invalid: not set
	Port        uint16         // of the broker
	HAPort      uint16
	Period      time.Duration // default 30 s
	Timeout     time.Duration // of one registration, default 10 s
	// Failed is told when a name server cannot be reached, once until it can
	// again; Registered when it was. Both may be nil.
	Failed     func(nameServer string, err error)
	Registered func(nameServer string)
}

// Registrar keeps a broker registered at its name servers.
type Registrar struct {
	o     RegistrarOptions
	stop  context.CancelFunc
	tasks sync.WaitGroup
	links []*link
}

// link is the registration at one name server.
type link struct {
	r     *Registrar
	addr  string
	wake  chan struct{}
	done  chan struct{} // closed after the first success
	alone atomic.Bool   // this name server knows no other broker

	mu      sync.Mutex // guards what follows
	whole   bool       // the whole table is due
	changed map[string]*broker.Topic
	failed  bool
	first   bool
	told    chan struct{} // closed when what is due has been registered; nil while nobody waits
}

// NewRegistrar returns a registrar that does nothing before Start, so that who
// tells it of changes can know it by then.
func NewRegistrar(o RegistrarOptions) *Registrar {
	if o.Period <= 0 {
		o.Period = 30 * time.Second
	}
	o.Period = min(max(o.Period, 10*time.Second), 60*time.Second)
	if o.Timeout <= 0 {
		o.Timeout = registerTimeout
	}
	r := &Registrar{o: o, stop: func() {}}
	for _, addr := range o.NameServers {
		l := &link{r: r, addr: addr, wake: make(chan struct{}, 1), done: make(chan struct{}), whole: true, changed: map[string]*broker.Topic{}}
		r.links = append(r.links, l)
	}
	return r
}

// Start begins to register the broker; call it once. Close unregisters it.
func (r *Registrar) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	for _, l := range r.links {
		r.tasks.Go(func() { l.run(ctx) })
	}
}

// WaitFirstOf waits until the broker is registered at the name server, or for ctx.
func (r *Registrar) WaitFirstOf(ctx context.Context, nameServer string) error {
	for _, l := range r.links {
		if l.addr != nameServer {
			continue
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return fmt.Errorf("not registered at the name server %s yet: %w", l.addr, ctx.Err())
		}
	}
	return nil
}

// TopicsChanged registers changed topics and waits a moment until the name
// servers that can be reached know them: who creates a topic looks for its
// route at once.
func (r *Registrar) TopicsChanged(c broker.TopicChange) {
	told := make([]<-chan struct{}, 0, len(r.links))
	for _, l := range r.links {
		told = append(told, l.due(c))
		l.signal()
	}
	timeout := time.NewTimer(changeTimeout)
	defer timeout.Stop()
	for _, ch := range told {
		select {
		case <-ch:
		case <-timeout.C:
			return
		}
	}
}

// changeTimeout bounds how long a change of topics waits for name servers.
const changeTimeout = time.Second

// due notes what is to be registered and returns a channel that is closed when
// it was, at once if the name server cannot be reached.
func (l *link) due(c broker.TopicChange) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range c.Changed {
		l.changed[t.Name] = t
	}
	if len(c.Deleted) > 0 {
		l.whole = true
	}
	if l.failed {
		done := make(chan struct{})
		close(done)
		return done
	}
	if l.told == nil {
		l.told = make(chan struct{})
	}
	return l.told
}

// Again registers the whole table at once: a permission of the broker changed.
func (r *Registrar) Again() {
	for _, l := range r.links {
		l.mu.Lock()
		l.whole = true
		l.mu.Unlock()
		l.signal()
	}
}

// Close unregisters the broker and waits for the goroutines. It must not run at
// the same time as Start.
func (r *Registrar) Close() {
	r.stop()
	r.tasks.Wait()
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) run(ctx context.Context) {
	var client *remoting.Client
	retry := time.Second
	for {
		var err error
		if client, err = l.register(ctx, client); err != nil {
			l.report(ctx, err)
		} else {
			l.succeeded()
			retry = time.Second
		}
		wait := l.r.o.Period
		if err != nil {
			wait, retry = retry, min(2*retry, l.r.o.Period)
		}
		var broken <-chan struct{}
		if client != nil {
			broken = client.Done()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			l.unregister(client)
			return
		case <-l.wake:
		case <-broken:
			_ = client.Close()
			client = nil
			l.mu.Lock()
			l.whole = true
			l.mu.Unlock()
		case <-timer.C:
			l.mu.Lock()
			l.whole = true
			l.mu.Unlock()
		}
		timer.Stop()
	}
}

const registerTimeout = 10 * time.Second

// register sends what is due. It returns the connection to use next, nil after
// a failure.
func (l *link) register(ctx context.Context, client *remoting.Client) (*remoting.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, l.r.o.Timeout)
	defer cancel()
	if client == nil {
		var err error
		if client, err = remoting.Dial(ctx, l.addr, remoting.ClientOptions{}); err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.whole = true
		l.mu.Unlock()
	}
	l.mu.Lock()
	whole, changed, told := l.whole, l.changed, l.told
	l.whole, l.changed, l.told = false, map[string]*broker.Topic{}, nil
	l.mu.Unlock()
	if told != nil {
		defer close(told)
	}
	if !whole && len(changed) == 0 {
		return client, nil
	}
	text := l.r.table(whole, changed)
	fields := l.r.identity(client)
	fields.Str("haServerAddr", net.JoinHostPort(l.r.address(client).Addr().String(), strconv.Itoa(int(l.r.o.HAPort))))
	fields.Bool("compressed", false)
	fields.Int("bodyCrc32", int64(crc32.ChecksumIEEE(text)&0x7FFFFFFF))
	fields.Bool("enableActingMaster", false)
	if !l.r.o.Address.IsValid() {
		fields.Bool("merlinAutoAddr", true)
	}
	if _, err := client.Do(ctx, remoting.ReqRegisterBroker, fields, text); err != nil {
		_ = client.Close()
		l.mu.Lock()
		l.whole = true
		l.mu.Unlock()
		return nil, err
	}
	if whole {
		l.lookAround(ctx, client)
	}
	return client, nil
}

// lookAround asks the name server whether there are other brokers. Without an
// answer there may be.
func (l *link) lookAround(ctx context.Context, client *remoting.Client) {
	var cluster body.ClusterInfo
	a, err := client.Do(ctx, remoting.ReqGetBrokerClusterInfo, nil, nil)
	if err == nil {
		err = body.Decode(a.Body, &cluster)
	}
	_, known := cluster.BrokerAddrTable[l.r.o.Broker.Settings().Name]
	l.alone.Store(err == nil && known && len(cluster.BrokerAddrTable) == 1)
	alone := true
	for _, other := range l.r.links {
		alone = alone && other.alone.Load()
	}
	if !alone {
		l.lookForPops(ctx, client)
	}
	l.r.o.Broker.SetAlone(alone)
}

// lookForPops asks which brokers have the topics that groups pop. What cannot
// be asked now keeps its answer of before.
func (l *link) lookForPops(ctx context.Context, client *remoting.Client) {
	modes, err := l.r.o.Broker.RequestModes()
	if err != nil {
		return
	}
	routes := map[string][]string{}
	for _, m := range modes {
		if !m.Pop || routes[m.Topic] != nil {
			continue
		}
		var route body.RouteData
		a, err := client.Do(ctx, remoting.ReqGetRouteInfoByTopic, remoting.Fields{{Key: "topic", Value: m.Topic}}, nil)
		if err == nil {
			err = body.Decode(a.Body, &route)
		}
		if err != nil {
			if routes[m.Topic], _, err = l.r.o.Broker.PopBrokers(m.Topic, m.Group); err != nil {
				return
			}
			continue
		}
		for _, q := range route.QueueDatas {
			if q.Perm&broker.PermRead != 0 && q.ReadQueueNums > 0 {
				routes[m.Topic] = append(routes[m.Topic], q.BrokerName)
			}
		}
	}
	l.r.o.Broker.SetPopRoutes(routes)
}

func (l *link) unregister(client *remoting.Client) {
	if client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := client.Do(ctx, remoting.ReqUnregisterBroker, l.r.identity(client), nil); err != nil {
		l.report(ctx, err)
	}
	_ = client.Close()
}

func (l *link) report(ctx context.Context, err error) {
	l.mu.Lock()
	tell := !l.failed && !errors.Is(ctx.Err(), context.Canceled)
	l.failed = true
	if l.told != nil {
		close(l.told)
		l.told = nil
	}
	l.mu.Unlock()
	if tell && l.r.o.Failed != nil {
		l.r.o.Failed(l.addr, err)
	}
}

func (l *link) succeeded() {
	l.mu.Lock()
	tell := l.failed || !l.first
	if !l.first {
		close(l.done)
	}
	l.first, l.failed = true, false
	l.mu.Unlock()
	if tell && l.r.o.Registered != nil {
		l.r.o.Registered(l.addr)
	}
}

// address is what a name server is told: the one that was set, or the one from
// which the broker reaches the name server.
func (r *Registrar) address(client *remoting.Client) netip.AddrPort {
	if r.o.Address.IsValid() {
		return r.o.Address
	}
	return netip.AddrPortFrom(client.LocalAddr().Addr().Unmap(), r.o.Port)
}

func (r *Registrar) identity(client *remoting.Client) remoting.Fields {
	cfg := r.o.Broker.Settings()
	var f remoting.Fields
	f.Str("brokerName", cfg.Name)
	f.Str("brokerAddr", r.address(client).String())
	f.Str("clusterName", cfg.Cluster)
	f.Int("brokerId", cfg.ID)
	return f
}

// table returns the body of a registration: all topics, or the changed ones.
func (r *Registrar) table(whole bool, changed map[string]*broker.Topic) []byte {
	b := r.o.Broker
	var out body.RegisterBrokerBody
	v := b.Topics().Version()
	out.Topics.DataVersion = body.DataVersion{Counter: v.Counter, StateVersion: v.StateVersion, Timestamp: v.Timestamp}
	out.Topics.TopicConfigTable = map[string]body.TopicConfig{}
	add := func(t *broker.Topic) {
		c := topicBody(t)
		c.Perm &= brokerMask(b)
		out.Topics.TopicConfigTable[t.Name] = c
	}
	if whole {
		for _, t := range b.Topics().All() {
			add(t)
		}
	}
	for _, t := range changed {
		if !whole {
			add(t)
		}
	}
	return body.Encode(&out)
}

// brokerMask takes from every topic the permissions that the broker as a whole
// does not have: the settings' bits, and write while nothing can be stored.
func brokerMask(b *broker.Broker) int32 {
	mask := int32(b.Settings().Permission.Load()) | broker.PermInherit | broker.PermPriority
	if b.Store().Failed() != nil {
		mask &^= broker.PermWrite
	}
	return mask
}

// topicBody returns a topic in the shape of the wire.
func topicBody(t *broker.Topic) body.TopicConfig {
	return body.TopicConfig{
		TopicName: t.Name, ReadQueueNums: t.ReadQueues, WriteQueueNums: t.WriteQueues, Perm: t.Perm,
		TopicFilterType: body.TopicFilterType(t.FilterType), TopicSysFlag: t.SysFlag, Order: t.Order, Attributes: t.Attributes,
	}
}
