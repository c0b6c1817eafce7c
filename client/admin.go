package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// Options are the settings of an Admin and of what is made from it. The zero
// value of a member means its default.
type Options struct {
	NameServers []string         // HOST:PORT, default DefaultNameServer
	Timeout     time.Duration    // of one call, default 5 s
	Now         func() time.Time // default time.Now
}

// Admin asks and changes a cluster. Its connections are made when they are
// first needed and kept until Close. Safe for concurrent use.
type Admin struct {
	nameServers []string
	timeout     time.Duration
	now         func() time.Time
	dial        func(ctx context.Context, addr string) (caller, error)

	mu     sync.Mutex // guards conns and closed
	conns  map[string]caller
	closed bool
}

// Open returns an Admin. It connects to nobody yet.
func Open(o Options) (*Admin, error) {
	if len(o.NameServers) == 0 {
		o.NameServers = []string{DefaultNameServer}
	}
	addrs, err := ParseNameServers(strings.Join(o.NameServers, ";"))
	if err != nil {
		return nil, err
	}
	a := &Admin{nameServers: addrs, timeout: cmp.Or(o.Timeout, 5*time.Second), now: o.Now, conns: map[string]caller{}, dial: dial}
	if a.now == nil {
		a.now = time.Now
	}
	return a, nil
}

// NameServers returns the addresses that the Admin asks.
func (a *Admin) NameServers() []string { return slices.Clone(a.nameServers) }

// callInto makes a call and decodes the answer's body into v. An answer
// without a body leaves v as it is.
func (a *Admin) callInto(ctx context.Context, role, addr, op string, code int, fields remoting.Fields, in []byte, v any) error {
	ans, err := a.call(ctx, role, addr, op, code, fields, in)
	if err != nil {
		return err
	}
	if len(ans.body) == 0 {
		return nil
	}
	if err := body.Decode(ans.body, v); err != nil {
		return fmt.Errorf("%s: the answer of %s cannot be read: %w", op, addr, err)
	}
	return nil
}

// callInt makes a call whose answer is one number in a header field.
func (a *Admin) callInt(ctx context.Context, addr, op string, code int, fields remoting.Fields, name string) (int64, error) {
	ans, err := a.call(ctx, roleBroker, addr, op, code, fields, nil)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(ans.field(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: the answer of %s has no %s: %w", op, addr, name, err)
	}
	return n, nil
}

// askNameServer asks one name server after the other until one answers. A
// refusal is an answer: name servers know the same, and asking the next would
// hide it.
func (a *Admin) askNameServer(ctx context.Context, op string, code int, fields remoting.Fields, v any) error {
	var errs []error
	for _, ns := range a.nameServers {
		err := a.callInto(ctx, roleNameServer, ns, op, code, fields, nil, v)
		var down *UnreachableError
		if err == nil || !errors.As(err, &down) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Cluster returns the brokers that the name server knows.
func (a *Admin) Cluster(ctx context.Context) (*body.ClusterInfo, error) {
	var info body.ClusterInfo
	return &info, a.askNameServer(ctx, "list brokers", remoting.ReqGetBrokerClusterInfo, nil, &info)
}

// Route returns where a topic is. The *ServerError of an unknown topic has the
// code RespTopicNotExist, and the name server's words for the cause.
func (a *Admin) Route(ctx context.Context, topic string) (*body.RouteData, error) {
	var route body.RouteData
	var fields remoting.Fields
	fields.Str("topic", topic)
	return &route, a.askNameServer(ctx, "find topic "+topic, remoting.ReqGetRouteInfoByTopic, fields, &route)
}

// Broker is one broker that takes calls: the master of its name, or whoever
// stands in for it.
type Broker struct {
	Name    string `json:"name"`
	Cluster string `json:"cluster"`
	Addr    string `json:"addr"`
}

func brokerOf(d body.BrokerData) (Broker, bool) {
	best, found := int64(0), false
	for id := range d.BrokerAddrs {
		if !found || id < best {
			best, found = id, true
		}
	}
	return Broker{Name: d.BrokerName, Cluster: d.Cluster, Addr: d.BrokerAddrs[best]}, found
}

// routeBrokers returns the brokers of a route by name.
func routeBrokers(route *body.RouteData) []Broker {
	var brokers []Broker
	for _, d := range route.BrokerDatas {
		if b, found := brokerOf(d); found {
			brokers = append(brokers, b)
		}
	}
	slices.SortFunc(brokers, func(x, y Broker) int { return strings.Compare(x.Name, y.Name) })
	return brokers
}

// Brokers returns the brokers that take calls, by cluster and name.
func (a *Admin) Brokers(ctx context.Context) ([]Broker, error) { return a.masters(ctx, "", "") }

// masters returns the brokers of a cluster, or the one named. It is an error
// if there is none.
func (a *Admin) masters(ctx context.Context, cluster, name string) ([]Broker, error) {
	info, err := a.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	var brokers []Broker
	for key, d := range info.BrokerAddrTable {
		d.BrokerName = cmp.Or(d.BrokerName, key)
		b, found := brokerOf(d)
		if found && (cluster == "" || b.Cluster == cluster) && (name == "" || b.Name == name) {
			brokers = append(brokers, b)
		}
	}
	if len(brokers) == 0 {
		switch {
		case len(info.BrokerAddrTable) == 0:
			return nil, fmt.Errorf("no broker is registered at %s; start one and point it there", strings.Join(a.nameServers, ";"))
		case name != "":
			return nil, fmt.Errorf("no broker is called %q; there are %s", name, strings.Join(sortedKeys(info.BrokerAddrTable), ", "))
		default:
			return nil, fmt.Errorf("no cluster is called %q; there are %s", cluster, strings.Join(sortedKeys(info.ClusterAddrTable), ", "))
		}
	}
	slices.SortFunc(brokers, func(x, y Broker) int {
		return cmp.Or(strings.Compare(x.Cluster, y.Cluster), strings.Compare(x.Name, y.Name))
	})
	return brokers, nil
}

// queueRef is one queue and the broker that has it.
type queueRef struct {
	broker Broker
	topic  string
	queue  int32
}

// readQueues returns the queues of a topic that can be read.
func (a *Admin) readQueues(ctx context.Context, topic string) ([]queueRef, error) {
	route, err := a.Route(ctx, topic)
	if err != nil {
		return nil, err
	}
	brokers := map[string]Broker{}
	for _, b := range routeBrokers(route) {
		brokers[b.Name] = b
	}
	var queues []queueRef
	for _, q := range route.QueueDatas {
		b, found := brokers[q.BrokerName]
		if !found || q.Perm&PermRead == 0 {
			continue
		}
		for i := range q.ReadQueueNums {
			queues = append(queues, queueRef{b, topic, i})
		}
	}
	if len(queues) == 0 {
		return nil, fmt.Errorf("topic %s has no queue that can be read: its brokers are gone or its permission forbids it", topic)
	}
	slices.SortFunc(queues, func(x, y queueRef) int {
		return cmp.Or(strings.Compare(x.broker.Name, y.broker.Name), cmp.Compare(x.queue, y.queue))
	})
	return queues, nil
}
