package nameserver

import (
	"context"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

var (
	loopback1 = netip.MustParseAddr("127.0.0.1")
	loopback2 = netip.MustParseAddr("127.0.0.2")
	elsewhere = netip.MustParseAddr("10.1.2.3")
	listen    = netip.MustParseAddr("10.0.0.9")
)

func newServer(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(code, version int, data []byte, kv ...string) *remoting.Request {
	r := &remoting.Request{Code: code, Version: version, Body: data}
	for i := 0; i+1 < len(kv); i += 2 {
		r.Fields = append(r.Fields, remoting.Field{Key: []byte(kv[i]), Value: []byte(kv[i+1])})
	}
	return r
}

func registration(version int64, topics ...string) *body.RegisterBrokerBody {
	b := &body.RegisterBrokerBody{}
	b.Topics.DataVersion = body.DataVersion{Counter: version, Timestamp: 5}
	b.Topics.TopicConfigTable = map[string]body.TopicConfig{}
	for _, n := range topics {
		c := body.NewTopicConfig(n)
		c.ReadQueueNums, c.WriteQueueNums = 4, 4
		b.Topics.TopicConfigTable[n] = c
	}
	return b
}

func registerRequest(broker string, id int64, addr string, b *body.RegisterBrokerBody, kv ...string) *remoting.Request {
	data := body.Encode(b)
	kv = append(kv, "brokerName", broker, "brokerId", strconv.FormatInt(id, 10), "brokerAddr", addr, "clusterName", "c1", "haServerAddr", addr+"2",
		"bodyCrc32", strconv.Itoa(int(crc32.ChecksumIEEE(data)&0x7fffffff)))
	return request(remoting.ReqRegisterBroker, remoting.Version5_5_0, data, kv...)
}

// must answers a request that has to succeed.
func must(t *testing.T, s *Server, r *remoting.Request, p Peer) remoting.Response {
	t.Helper()
	resp := s.answer(r, p)
	if resp.Code != remoting.RespSuccess {
		t.Fatalf("%s: code %d: %s", remoting.CodeName(r.Code), resp.Code, resp.Remark)
	}
	return resp
}

func peer(remote, local netip.Addr) Peer { return Peer{Local: local, Remote: remote, Link: remote} }

func routeText(t *testing.T, s *Server, topic string, version int, p Peer) string {
	t.Helper()
	return string(must(t, s, request(remoting.ReqGetRouteInfoByTopic, version, nil, "topic", topic), p).Body)
}

func TestRouteIsApaches(t *testing.T) {
	s := newServer(t, Options{})
	far := peer(elsewhere, listen)
	must(t, s, registerRequest("b", 0, "10.1.2.3:10911", registration(1, "T", "U")), far)
	const loose = `{"brokerDatas":[{"brokerAddrs":{0:"10.1.2.3:10911"},"brokerName":"b","cluster":"c1","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"b","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}`
	standard := strings.Replace(loose, "{0:", `{"0":`, 1)
	for _, c := range []struct {
		version int
		fields  []string
		want    string
	}{
		{317, nil, loose}, {399, nil, loose}, {401, nil, standard}, {513, nil, standard}, {0, []string{"acceptStandardJsonOnly", "true"}, standard},
	} {
		r := request(remoting.ReqGetRouteInfoByTopic, c.version, nil, append(c.fields, "topic", "T")...)
		for range 2 { // built, then from the cache
			if got := string(must(t, s, r, far).Body); got != c.want {
				t.Errorf("version %d:\n got %s\nwant %s", c.version, got, c.want)
			}
		}
	}
	want := `{"brokerAddrTable":{"b":{"brokerAddrs":{0:"10.1.2.3:10911"},"brokerName":"b","cluster":"c1","enableActingMaster":false}},"clusterAddrTable":{"c1":["b"]}}`
	if got := string(must(t, s, request(remoting.ReqGetBrokerClusterInfo, 513, nil), far).Body); got != want {
		t.Errorf("cluster info:\n got %s\nwant %s", got, want)
	}
	want = `{"brokerMemberGroup":{"brokerAddrs":{0:"10.1.2.3:10911"},"brokerName":"b","cluster":"c1"}}`
	if got := string(must(t, s, request(remoting.ReqGetBrokerMemberGroup, 513, nil, "clusterName", "c1", "brokerName", "b"), far).Body); got != want {
		t.Errorf("member group:\n got %s\nwant %s", got, want)
	}
}

func TestClientsAreToldAnAddressTheyCanReach(t *testing.T) {
	for _, c := range []struct {
		name     string
		addr     string
		auto     bool
		broker   Peer
		dialled  netip.Addr
		expected string
	}{
		{"same host, dialled loopback", "10.0.0.9:10911", true, peer(loopback1, loopback1), loopback1, "127.0.0.1:10911"},
		{"same host, dialled another loopback", "10.0.0.9:10911", true, peer(loopback1, loopback1), loopback2, "127.0.0.2:10911"},
		{"same host over its own address", "127.0.0.1:10911", true, peer(listen, listen), elsewhere, "10.1.2.3:10911"},
		{"same host, dialled IPv6", "10.0.0.9:10911", true, peer(loopback1, loopback1), netip.MustParseAddr("::1"), "[::1]:10911"},
		{"mapped IPv4", "10.0.0.9:10911", true, peer(netip.MustParseAddr("::ffff:127.0.0.1"), loopback1), netip.MustParseAddr("::ffff:10.0.0.9"), "10.0.0.9:10911"},
		{"another host without an address", "10.1.2.3:10911", true, peer(elsewhere, listen), loopback1, "10.1.2.3:10911"},
		{"another host with a wildcard", "0.0.0.0:10911", true, peer(elsewhere, listen), loopback1, "10.1.2.3:10911"},
		{"Apache's broker on the same host", "10.0.0.9:10911", false, peer(loopback1, loopback1), loopback1, "10.0.0.9:10911"},
		{"configured as a wildcard on the same host", "0.0.0.0:10911", false, peer(loopback1, loopback1), loopback2, "127.0.0.2:10911"},
		{"configured as a name", "broker:10911", false, peer(loopback1, loopback1), loopback1, "broker:10911"},
	} {
		s := newServer(t, Options{})
		var extra []string
		if c.auto {
			extra = []string{FieldAutoAddr, "true"}
		}
		must(t, s, registerRequest("b", 0, c.addr, registration(1, "T", "U"), extra...), c.broker)
		client := peer(elsewhere, c.dialled)
		var route body.RouteData
		if err := body.Decode([]byte(routeText(t, s, "T", 317, client)), &route); err != nil {
			t.Fatal(err)
		}
		if got := route.BrokerDatas[0].BrokerAddrs[0]; got != c.expected {
			t.Errorf("%s: told %s, want %s", c.name, got, c.expected)
		}
		var info body.ClusterInfo
		if err := body.Decode(must(t, s, request(remoting.ReqGetBrokerClusterInfo, 513, nil), client).Body, &info); err != nil {
			t.Fatal(err)
		}
		if got := info.BrokerAddrTable["b"].BrokerAddrs[0]; got != c.expected {
			t.Errorf("%s: cluster info says %s, want %s", c.name, got, c.expected)
		}
	}
}

func TestRegistrationMerges(t *testing.T) {
	s := newServer(t, Options{})
	p := peer(elsewhere, listen)
	if resp := s.answer(registerRequest("b", 0, "x:1", registration(1, "only")), p); resp.Code != remoting.RespSystemError || !strings.Contains(resp.Remark, "register broker failed") {
		t.Errorf("a first registration with one topic: %+v", resp)
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "A", "B")), p)
	must(t, s, registerRequest("b", 0, "x:1", registration(2, "C")), p) // an increment
	if got := strings.Join(s.Topics(), ","); got != "A,B,C" {
		t.Errorf("after an increment: %s", got)
	}
	// The slave's table is not taken, and it is told where its master is.
	resp := must(t, s, registerRequest("b", 1, "y:1", registration(1, "S", "R")), p)
	if len(resp.Fields) != 2 || resp.Fields[0].Value != "x:12" || resp.Fields[1].Value != "x:1" {
		t.Errorf("a slave is told %v", resp.Fields)
	}
	if got := strings.Join(s.Topics(), ","); got != "A,B,C" {
		t.Errorf("after a slave: %s", got)
	}
	// The same address under another id takes the old id's place.
	must(t, s, registerRequest("b", 2, "y:1", registration(1, "S", "R")), p)
	r, _ := s.Route("A", listen)
	if got := len(r.BrokerDatas[0].BrokerAddrs); got != 2 || r.BrokerDatas[0].BrokerAddrs[2] != "y:1" {
		t.Errorf("addresses are %v", r.BrokerDatas[0].BrokerAddrs)
	}
	// A registration without a change keeps what wipe did; one with a change brings the permission back.
	wiped := must(t, s, request(remoting.ReqWipeWritePermOfBroker, 513, nil, "brokerName", "b"), p)
	if wiped.Fields[0] != (remoting.Pair{Key: "wipeTopicCount", Value: "3"}) || !strings.Contains(routeText(t, s, "A", 317, p), `"perm":4`) {
		t.Errorf("wiping: %v, %s", wiped.Fields, routeText(t, s, "A", 317, p))
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(2, "A", "B")), p)
	if !strings.Contains(routeText(t, s, "A", 317, p), `"perm":4`) {
		t.Error("an unchanged registration undid the wipe")
	}
	added := must(t, s, request(remoting.ReqAddWritePermOfBroker, 513, nil, "brokerName", "b"), p)
	if added.Fields[0] != (remoting.Pair{Key: "addTopicCount", Value: "3"}) || !strings.Contains(routeText(t, s, "A", 317, p), `"perm":6`) {
		t.Errorf("adding: %v", added.Fields)
	}
	must(t, s, request(remoting.ReqDeleteTopicInNameServer, 513, nil, "topic", "A"), p)
	must(t, s, request(remoting.ReqDeleteTopicInNameServer, 513, nil, "topic", "B", "clusterName", "other"), p)
	if got := strings.Join(s.Topics(), ","); got != "B,C" {
		t.Errorf("after deleting: %s", got)
	}
	// A bad checksum is refused.
	bad := registerRequest("b", 0, "x:1", registration(3, "A", "B"))
	bad.Body = append(bad.Body, ' ')
	if resp := s.answer(bad, p); resp.Code != remoting.RespSystemError || !strings.Contains(resp.Remark, "crc32 not match") {
		t.Errorf("a bad checksum: %+v", resp)
	}
	// The compressed form, with the header saying it is not.
	packed, err := registration(9, "P", "Q").Compressed(513)
	if err != nil {
		t.Fatal(err)
	}
	must(t, s, request(remoting.ReqRegisterBroker, 513, packed, "brokerName", "z", "brokerId", "0", "brokerAddr", "z:1", "clusterName", "c2", "haServerAddr", "h", "compressed", "false"), p)
	if got := string(must(t, s, request(remoting.ReqGetTopicsByCluster, 513, nil, "cluster", "c2"), p).Body); got != `{"topicList":["P","Q"]}` {
		t.Errorf("topics of the second cluster: %s", got)
	}
	if got := string(must(t, s, request(remoting.ReqGetSystemTopicListFromNS, 513, nil), p).Body); got != `{"brokerAddr":"x:1","topicList":["c1","c2","b","z"]}` {
		t.Errorf("system topics: %s", got)
	}
}

func TestDataVersionQuery(t *testing.T) {
	s := newServer(t, Options{})
	p := peer(elsewhere, listen)
	ask := func(v body.DataVersion) (string, string) {
		resp := must(t, s, request(remoting.ReqQueryDataVersion, 513, body.Encode(v), "brokerName", "b", "brokerAddr", "x:1", "clusterName", "c1", "brokerId", "0"), p)
		return resp.Fields[0].Value, string(resp.Body)
	}
	if changed, have := ask(body.DataVersion{Counter: 1, Timestamp: 5}); changed != "true" || have != "" {
		t.Errorf("of an unknown broker: %s %s", changed, have)
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "A", "B")), p)
	for _, c := range []struct {
		v    body.DataVersion
		want string
	}{{body.DataVersion{Counter: 1, Timestamp: 5}, "false"}, {body.DataVersion{Counter: 2, Timestamp: 5}, "true"}, {body.DataVersion{Counter: 1, Timestamp: 6}, "true"}, {body.DataVersion{Counter: 1, Timestamp: 5, StateVersion: 1}, "true"}} {
		if changed, have := ask(c.v); changed != c.want || have != `{"counter":1,"stateVersion":0,"timestamp":5}` {
			t.Errorf("%+v: changed %s, %s", c.v, changed, have)
		}
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone []Departure
		s := newServer(t, Options{Events: Events{Gone: func(d Departure) { gone = append(gone, d) }}})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		p := peer(elsewhere, listen)
		must(t, s, registerRequest("b", 0, "x:1", registration(1, "A", "B")), p)
		must(t, s, registerRequest("short", 0, "y:1", registration(1, "A", "B"), "heartbeatTimeoutMillis", "10000"), p)
		time.Sleep(21 * time.Second)
		if got := len(s.Brokers()); got != 1 {
			t.Errorf("%d brokers after 21 s, want the one with the long timeout", got)
		}
		time.Sleep(90 * time.Second)
		must(t, s, request(remoting.ReqBrokerHeartbeat, 513, nil, "brokerName", "b", "brokerAddr", "x:1", "clusterName", "c1"), p)
		time.Sleep(119 * time.Second)
		if got := len(s.Brokers()); got != 1 {
			t.Errorf("%d brokers 119 s after a heartbeat, want 1", got)
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if got := len(s.Brokers()); got != 0 || len(s.Topics()) != 0 {
			t.Errorf("%d brokers and topics %v 126 s after the last heartbeat, want none", got, s.Topics())
		}
		if len(gone) != 2 || gone[1].Broker != "b" || gone[1].Why != "no heartbeat for 2m0s" || s.Stats().Departures != 2 {
			t.Errorf("departures: %v", gone)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNoRouteComesWithItsCause(t *testing.T) {
	now := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	s := newServer(t, Options{Now: func() time.Time { return now }})
	p := peer(elsewhere, listen)
	remark := func(topic string) string {
		t.Helper()
		resp := s.answer(request(remoting.ReqGetRouteInfoByTopic, 513, nil, "topic", topic), p)
		if resp.Code != remoting.RespTopicNotExist || resp.Body != nil {
			t.Fatalf("code %d with %d bytes", resp.Code, len(resp.Body))
		}
		rest, ok := strings.CutPrefix(resp.Remark, "No topic route info in name server for the topic: "+topic+". ")
		if !ok {
			t.Fatalf("the remark begins differently: %s", resp.Remark)
		}
		return rest
	}
	if got := remark("T"); !strings.HasPrefix(got, "No broker is registered here: start one") {
		t.Errorf("nobody there: %s", got)
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "T", "U")), p)
	if got := remark("V"); !strings.Contains(got, "autoCreateTopicEnable=false") || !strings.Contains(got, "merlin topic create V") {
		t.Errorf("auto-creation off: %s", got)
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(2, "T", "U", "TBW102")), p)
	if got := remark("V"); got != "It does not exist; the first message to it creates it, or: merlin topic create V" {
		t.Errorf("auto-creation on: %s", got)
	}
	if got := remark("%RETRY%g"); !strings.HasPrefix(got, "The consumer group has no retry topic yet: ") {
		t.Errorf("a group that never connected: %s", got)
	}
	now = now.Add(5 * time.Second)
	s.table.disconnected(elsewhere)
	if got := remark("T"); got != "Broker b at x:1 is gone since 2026-11-21 13:00:05: its connection closed (last heartbeat 2026-11-21 13:00:00)." {
		t.Errorf("its broker is gone: %s", got)
	}
	if got := remark("V"); !strings.HasPrefix(got, "No broker is registered here. Broker b at x:1 is gone since") {
		t.Errorf("all are gone: %s", got)
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(3, "T", "U")), p)
	if w := s.Why("T"); w.Cause() != "" || len(w.Brokers) != 1 || len(w.AllGone) != 0 {
		t.Errorf("back again: %+v", w)
	}
}

func TestOldConnectionDoesNotTakeTheNewRegistrationDown(t *testing.T) {
	s := newServer(t, Options{})
	first, second := Peer{Remote: elsewhere, Local: listen, Link: 1}, Peer{Remote: elsewhere, Local: listen, Link: 2}
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "T", "U")), first)
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "T", "U")), second)
	s.table.disconnected(1)
	if len(s.Brokers()) != 1 {
		t.Fatal("the broker is gone with its old connection")
	}
	s.table.disconnected(2)
	if len(s.Brokers()) != 0 || len(s.Topics()) != 0 {
		t.Fatal("the broker outlives its connection")
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "T", "U")), first)
	must(t, s, request(remoting.ReqUnregisterBroker, 513, nil, "brokerName", "b", "brokerAddr", "x:1", "clusterName", "c1", "brokerId", "0"), second)
	if len(s.Brokers()) != 0 {
		t.Fatal("the broker is there after it unregistered")
	}
}

func TestActingMaster(t *testing.T) {
	s := newServer(t, Options{SupportActingMaster: true})
	m, sl := Peer{Remote: elsewhere, Local: listen, Link: 1}, Peer{Remote: elsewhere, Local: listen, Link: 2}
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "T", "U"), "enableActingMaster", "true"), m)
	must(t, s, registerRequest("b", 3, "y:1", registration(1, "T", "U"), "enableActingMaster", "true"), sl)
	s.table.disconnected(1)
	r, ok := s.Route("T", listen)
	if !ok || r.BrokerDatas[0].BrokerAddrs[0] != "y:1" || len(r.BrokerDatas[0].BrokerAddrs) != 1 || r.QueueDatas[0].Perm != 4 {
		t.Errorf("the slave does not act as master: %+v", r)
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "T", "U"), "enableActingMaster", "true"), m)
	if r, _ := s.Route("T", listen); r.BrokerDatas[0].BrokerAddrs[0] != "x:1" || r.QueueDatas[0].Perm != 6 {
		t.Errorf("the master is not back: %+v", r)
	}
}

func TestKVSurvivesAndOrdersTopics(t *testing.T) {
	path := filepath.Join(t.TempDir(), "namesrv", "kvConfig.json")
	s := newServer(t, Options{KVPath: path, OrderMessages: true})
	p := peer(elsewhere, listen)
	put := func(ns, key, value string) {
		t.Helper()
		must(t, s, request(remoting.ReqPutKVConfig, 513, nil, "namespace", ns, "key", key, "value", value), p)
	}
	must(t, s, registerRequest("b", 0, "x:1", registration(1, "T", "U")), p)
	put(orderNamespace, "T", "b:4;nocolon;c:2;")
	if got := routeText(t, s, "T", 317, p); !strings.Contains(got, `"orderTopicConf":"b:4;c:2"`) {
		t.Errorf("route: %s", got)
	}
	put(orderNamespace, "T", "b:8")
	if got := routeText(t, s, "T", 317, p); !strings.Contains(got, `"orderTopicConf":"b:8"`) {
		t.Errorf("a stale route: %s", got)
	}
	if got := string(must(t, s, registerRequest("b", 0, "x:1", registration(1, "T", "U")), p).Body); got != `{"table":{"T":"b:8"}}` {
		t.Errorf("a broker is told %s", got)
	}
	put("ns", "k", "v")
	text, err := os.ReadFile(path)
	if err != nil || string(text) != `{"configTable":{"ORDER_TOPIC_CONFIG":{"T":"b:8"},"ns":{"k":"v"}}}` {
		t.Errorf("the file has %s, %v", text, err)
	}
	s = newServer(t, Options{KVPath: path})
	if got := must(t, s, request(remoting.ReqGetKVConfig, 513, nil, "namespace", "ns", "key", "k"), p).Fields[0].Value; got != "v" {
		t.Errorf("after a restart: %q", got)
	}
	must(t, s, request(remoting.ReqDeleteKVConfig, 513, nil, "namespace", "ns", "key", "k"), p)
	must(t, s, request(remoting.ReqDeleteKVConfig, 513, nil, "namespace", "ns", "key", "k"), p)
	for _, r := range []*remoting.Request{request(remoting.ReqGetKVConfig, 513, nil, "namespace", "ns", "key", "k"), request(remoting.ReqGetKVListByNamespace, 513, nil, "namespace", "ns")} {
		if resp := s.answer(r, p); resp.Code != remoting.RespQueryNotFound {
			t.Errorf("%s of what is deleted: %+v", remoting.CodeName(r.Code), resp)
		}
	}
	if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{KVPath: path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken file: %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	var took []string
	s := newServer(t, Options{UpdateConfig: func(k, v string) error { took = append(took, k+"="+v); return nil }, ConfigText: func() string { return "a=b\n" }})
	p := peer(elsewhere, listen)
	for _, c := range []struct {
		r    *remoting.Request
		code int
		says string
	}{
		{request(remoting.ReqGetRouteInfoByTopic, 513, nil), remoting.RespSystemError, "topic"},
		{request(remoting.ReqRegisterBroker, 513, nil, "brokerName", "b"), remoting.RespSystemError, "clusterName"},
		{request(remoting.ReqRegisterBroker, 513, nil, "brokerName", "b", "clusterName", "c", "brokerAddr", "x:1", "brokerId", "zero"), remoting.RespSystemError, "brokerId"},
		{request(remoting.ReqRegisterBroker, 513, []byte("{"), "brokerName", "b", "clusterName", "c", "brokerAddr", "x:1", "brokerId", "0"), remoting.RespSystemError, "the registration of broker b does not read"},
		{request(remoting.ReqRegisterBroker, 513, []byte("\x78\x9cgarbage"), "brokerName", "b", "clusterName", "c", "brokerAddr", "x:1", "brokerId", "0"), remoting.RespSystemError, "compressed registration"},
		{request(remoting.ReqQueryDataVersion, 513, []byte("x y"), "brokerName", "b", "brokerAddr", "x:1"), remoting.RespSystemError, "data version"},
		{request(remoting.ReqPutKVConfig, 513, nil, "namespace", "n", "key", "k"), remoting.RespSystemError, "value"},
		{request(remoting.ReqSendMessage, 513, nil), remoting.RespRequestCodeNotSupported, "SEND_MESSAGE"},
		{request(77777, 513, nil), remoting.RespRequestCodeNotSupported, "request type 77777 not supported"},
		{request(remoting.ReqUpdateNameServerConfig, 513, []byte("x=1\nkvConfigPath=/etc/passwd\n")), remoting.RespNoPermission, "black list"},
	} {
		resp := s.answer(c.r, p)
		if resp.Code != c.code || !strings.Contains(resp.Remark, c.says) {
			t.Errorf("%s: code %d, %q; want %d and %q", remoting.CodeName(c.r.Code), resp.Code, resp.Remark, c.code, c.says)
		}
	}
	if len(took) != 0 || len(s.Brokers()) != 0 {
		t.Errorf("bad requests left something behind: %v %v", took, s.Brokers())
	}
	must(t, s, request(remoting.ReqUpdateNameServerConfig, 513, []byte("orderMessageEnable=true\n")), p)
	if len(took) != 1 || took[0] != "orderMessageEnable=true" {
		t.Errorf("took %v", took)
	}
	if got := string(must(t, s, request(remoting.ReqGetNameServerConfig, 513, nil), p).Body); got != "a=b\n" {
		t.Errorf("configuration: %q", got)
	}
	closed := newServer(t, Options{HideAllTopics: true, HideTopicLists: true})
	for _, code := range []int{remoting.ReqGetAllTopicListFromNameServer, remoting.ReqGetTopicsByCluster, remoting.ReqGetUnitTopicList} {
		if resp := closed.answer(request(code, 513, nil, "cluster", "c"), p); resp.Code != remoting.RespSystemError || !strings.HasPrefix(resp.Remark, "disable") {
			t.Errorf("%s when switched off: %+v", remoting.CodeName(code), resp)
		}
	}
}

func TestNotReadyAtFirst(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newServer(t, Options{NotReadyFor: 45 * time.Second, Now: func() time.Time { return now }})
	p := peer(elsewhere, listen)
	r := request(remoting.ReqGetRouteInfoByTopic, 513, nil, "topic", "T")
	if resp := s.answer(r, p); resp.Code != remoting.RespSystemError || !strings.HasPrefix(resp.Remark, "name server not ready") {
		t.Errorf("%+v", resp)
	}
	now = now.Add(45 * time.Second)
	if resp := s.answer(r, p); resp.Code != remoting.RespTopicNotExist {
		t.Errorf("%+v", resp)
	}
}

func TestManyAtOnce(t *testing.T) {
	s := newServer(t, Options{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := "b" + strconv.Itoa(g%4)
			p := Peer{Remote: elsewhere, Local: listen, Link: g}
			for i := range 50 {
				must(t, s, registerRequest(name, int64(g/4), "x:"+strconv.Itoa(g), registration(int64(i), "T", "U"+strconv.Itoa(i))), p)
				s.answer(request(remoting.ReqGetRouteInfoByTopic, 513*(i%2), nil, "topic", "T"), p)
				s.answer(request(remoting.ReqGetBrokerClusterInfo, 513, nil), p)
				s.table.expire()
				if i%10 == 9 {
					s.table.disconnected(g)
				}
			}
			must(t, s, registerRequest(name, int64(g/4), "x:"+strconv.Itoa(g), registration(99, "T", "last")), p)
		}()
	}
	wg.Wait()
	var route body.RouteData
	if err := body.Decode([]byte(routeText(t, s, "last", 513, peer(elsewhere, listen))), &route); err != nil {
		t.Fatal(err)
	}
	if len(route.BrokerDatas) != 4 || len(s.Brokers()) != 8 {
		t.Errorf("%d groups and %d brokers, want 4 and 8", len(route.BrokerDatas), len(s.Brokers()))
	}
}
