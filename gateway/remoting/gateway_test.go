package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
)

// server is a gateway before an empty broker.
type server struct {
	addr    string
	broker  *broker.Broker
	gateway *Gateway
	port    *remoting.Server
}

func start(t *testing.T, config Configuration) *server {
	t.Helper()
	return startWith(t, config, func(*broker.Options) {})
}

// startWith is start with options of the broker that change makes.
func startWith(t *testing.T, config Configuration, change func(*broker.Options)) *server {
	t.Helper()
	cfg := broker.DefaultSettings()
	cfg.SegmentSize, cfg.IndexSlots, cfg.IndexItems = 4<<20, 1000, 4000
	o := broker.Options{Settings: cfg, StoreHost: netip.MustParseAddrPort("127.0.0.1:10911")}
	change(&o)
	b, err := broker.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := New(Options{Broker: b, Config: config, Port: netip.MustParseAddrPort(ln.Addr().String()).Port()})
	srv, err := remoting.Serve(ln, g, remoting.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		g.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &server{addr: srv.Addr().String(), broker: b, gateway: g, port: srv}
}

// peer is a client of a server, ours or Apache's.
type peer struct {
	t *testing.T
	c *remoting.Client
}

func dial(t *testing.T, addr string, handler func(*remoting.Client, *remoting.Request)) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := remoting.Dial(ctx, addr, remoting.ClientOptions{Handler: handler})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &peer{t, c}
}

// call sends a request; fields are name and value in turn.
func (p *peer) call(code int, body string, fields ...string) *remoting.Answer {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var f remoting.Fields
	for i := 0; i+1 < len(fields); i += 2 {
		f.Str(fields[i], fields[i+1])
	}
	a, err := p.c.Call(ctx, code, f, []byte(body))
	if err != nil {
		p.t.Fatalf("%s: %v", remoting.CodeName(code), err)
	}
	return a
}

func (p *peer) ok(code int, body string, fields ...string) *remoting.Answer {
	p.t.Helper()
	a := p.call(code, body, fields...)
	if a.Code != remoting.RespSuccess {
		p.t.Fatalf("%s %v: %d %s", remoting.CodeName(code), fields, a.Code, a.Remark)
	}
	return a
}

func (p *peer) send(topic, body string, extra ...string) {
	p.t.Helper()
	p.ok(remoting.ReqSendMessage, body, append([]string{
		"producerGroup", "p", "topic", topic, "defaultTopic", "TBW102", "defaultTopicQueueNums", "4", "queueId", "0", "sysFlag", "0",
		"bornTimestamp", fmt.Sprint(time.Now().UnixMilli()), "flag", "0", "properties", "", "reconsumeTimes", "0", "unitMode", "false", "batch", "false",
	}, extra...)...)
}

// field returns a header field of an answer.
func field(a *remoting.Answer, name string) string {
	v, _ := a.Get(name)
	return v
}

// probe is one request whose answer's code Merlin and Apache must agree on.
type probe struct {
	name   string
	code   int
	body   string
	fields []string
	want   int
	merlin int // where Merlin differs on purpose; 0: it does not
}

func f(pairs ...string) []string { return pairs }

// probes run in order against a broker that nobody has used.
var probes = []probe{
	{name: "create a topic", code: 17, fields: f("topic", "pt", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "order", "false", "attributes", "+message.type=NORMAL")},
	{name: "create it again", code: 17, fields: f("topic", "pt", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "order", "false", "attributes", "")},
	{name: "bad topic name", code: 17, fields: f("topic", "p t", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0"), want: 29},
	{name: "system topic", code: 17, fields: f("topic", "TBW102", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0"), want: 29},
	{name: "topic without queues", code: 17, fields: f("topic", "px", "defaultTopic", "TBW102", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0"), want: 1},
	{name: "unknown attribute", code: 17, fields: f("topic", "px", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "attributes", "+color=red"), want: 1},
	{name: "bad attribute value", code: 17, fields: f("topic", "px", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "attributes", "+message.type=LOUD"), want: 1},
	{name: "attribute removed at creation", code: 17, fields: f("topic", "px", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "attributes", "-message.type"), want: 1},
	{name: "broken attributes", code: 17, fields: f("topic", "px", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "attributes", "abc"), want: 1},
	{name: "topic list", code: 18, body: `{"topicConfigList":[{"topicName":"pl1","readQueueNums":1,"writeQueueNums":1,"perm":6},{"topicName":"pl2"}]}`},
	{name: "topic list with a bad one", code: 18, body: `{"topicConfigList":[{"topicName":"pl3"},{"topicName":"p l"}]}`, want: 29},
	{name: "all topics", code: 21},
	{name: "topic", code: 351, fields: f("topic", "pt")},
	{name: "unknown topic", code: 351, fields: f("topic", "nope"), want: 17},
	{name: "topic stats", code: 202, fields: f("topic", "pt")},
	{name: "stats of an unknown topic", code: 202, fields: f("topic", "nope"), want: 17},
	{name: "system topics", code: 305},

	{name: "create a group", code: 200, body: `{"groupName":"pg","retryMaxTimes":3}`},
	{name: "bad group name", code: 200, body: `{"groupName":"p g"}`, want: 29},
	{name: "group without a name", code: 200, body: `{}`, want: 29},
	{name: "group list", code: 225, body: `{"groupConfigList":[{"groupName":"pg2"}]}`},
	{name: "group list with a bad one", code: 225, body: `{"groupConfigList":[{"groupName":"pg3"},{"groupName":"p g"}]}`, want: 29},
	{name: "all groups", code: 201},
	{name: "group", code: 352, fields: f("group", "pg")},
	{name: "group with a bad name", code: 352, fields: f("group", "p g"), want: 26},
	{name: "forbidden", code: 353, fields: f("group", "pg", "topic", "pt", "readable", "false")},
	{name: "allowed again", code: 353, fields: f("group", "pg", "topic", "pt", "readable", "true")},

	{name: "max offset", code: 30, fields: f("topic", "pt", "queueId", "0", "committed", "true")},
	{name: "max offset of an unknown topic", code: 30, fields: f("topic", "nope", "queueId", "0")},
	{name: "max offset without a topic", code: 30, fields: f("queueId", "0"), want: 1},
	{name: "max offset without a queue", code: 30, fields: f("topic", "pt"), want: 1},
	{name: "min offset", code: 31, fields: f("topic", "pt", "queueId", "0")},
	{name: "offset by time", code: 29, fields: f("topic", "pt", "queueId", "0", "timestamp", "0")},
	{name: "offset by time without one", code: 29, fields: f("topic", "pt", "queueId", "0"), want: 1},
	{name: "earliest time", code: 32, fields: f("topic", "pt", "queueId", "0")},
	{name: "earliest time of a queue that there is not", code: 32, fields: f("topic", "nope", "queueId", "7")},

	{name: "commit", code: 15, fields: f("consumerGroup", "pg", "topic", "pt", "queueId", "0", "commitOffset", "5")},
	{name: "commit of an unknown group", code: 15, fields: f("consumerGroup", "nobody", "topic", "pt", "queueId", "0", "commitOffset", "5"), want: 26},
	{name: "commit to an unknown topic", code: 15, fields: f("consumerGroup", "pg", "topic", "nope", "queueId", "0", "commitOffset", "5"), want: 17},
	{name: "commit without a queue", code: 15, fields: f("consumerGroup", "pg", "topic", "pt", "commitOffset", "5"), want: 29},
	{name: "commit without an offset", code: 15, fields: f("consumerGroup", "pg", "topic", "pt", "queueId", "0"), want: 29},
	{name: "offset", code: 14, fields: f("consumerGroup", "pg", "topic", "pt", "queueId", "0")},
	{name: "offset of a new group", code: 14, fields: f("consumerGroup", "new", "topic", "pt", "queueId", "0"), want: 22},
	{name: "clone", code: 314, fields: f("srcGroup", "pg", "destGroup", "pgclone", "topic", "pt", "offline", "true")},
	{name: "offset of the clone", code: 14, fields: f("consumerGroup", "pgclone", "topic", "pt", "queueId", "0")},
	{name: "all offsets", code: 43},

	{name: "message by a position outside", code: 33, fields: f("topic", "pt", "offset", "999999999"), want: 1},
	{name: "message without a position", code: 33, fields: f("topic", "pt"), want: 1},
	{name: "query", code: 12, fields: f("topic", "pt", "key", "k", "maxNum", "32", "beginTimestamp", "0", "endTimestamp", "9223372036854775807"), want: 22},

	{name: "consumers of nobody", code: 38, fields: f("consumerGroup", "nobody"), want: 1},
	{name: "lock", code: 41, body: `{"consumerGroup":"pg","clientId":"c","mqSet":[{"topic":"pt","brokerName":"broker-a","queueId":0}]}`},
	{name: "lock nothing", code: 41, body: `{"consumerGroup":"pg","clientId":"c","mqSet":[]}`},
	{name: "unlock", code: 42, body: `{"consumerGroup":"pg","clientId":"c","mqSet":[{"topic":"pt","brokerName":"broker-a","queueId":0}]}`},
	{name: "check a tag expression", code: 46, body: `{"clientId":"c","group":"pg","subscriptionData":{"topic":"pt","subString":"*","expressionType":"TAG"}}`},
	{name: "check without one", code: 46, body: `{"clientId":"c","group":"pg"}`},

	{name: "connections of nobody", code: 203, fields: f("consumerGroup", "nobody"), want: 206},
	{name: "producers of nobody", code: 204, fields: f("producerGroup", "nobody"), want: 1},
	{name: "all producers", code: 328},
	{name: "consume stats", code: 208, fields: f("consumerGroup", "pg")},
	{name: "consume stats of a topic", code: 208, fields: f("consumerGroup", "pg", "topic", "pt")},
	{name: "consume stats of nobody", code: 208, fields: f("consumerGroup", "nobody", "topic", "nope")},
	{name: "broker consume stats", code: 317, fields: f("isOrder", "false")},
	{name: "time span", code: 303, fields: f("topic", "pt", "group", "pg")},
	{name: "time span of an unknown topic", code: 303, fields: f("topic", "nope", "group", "pg"), want: 17},
	{name: "consumed by whom", code: 300, fields: f("topic", "pt")},
	{name: "topics by consumer", code: 343, fields: f("group", "pg")},
	{name: "subscription by consumer", code: 345, fields: f("group", "pg", "topic", "pt")},

	{name: "reset without members", code: 222, fields: f("topic", "pt", "group", "pg", "timestamp", "-1", "isForce", "true")},
	{name: "reset of an unknown topic", code: 222, fields: f("topic", "nope", "group", "pg", "timestamp", "-1", "isForce", "true"), want: 17},
	{name: "reset of an unknown group", code: 222, fields: f("topic", "pt", "group", "nobody", "timestamp", "-1", "isForce", "true"), want: 26},
	{name: "reset to an offset outside", code: 222, fields: f("topic", "pt", "group", "pg", "timestamp", "0", "isForce", "true", "queueId", "0", "offset", "99"), want: 1},
	{name: "status of nobody", code: 223, fields: f("topic", "pt", "group", "nobody"), want: 1, merlin: 206},
	{name: "running info of nobody", code: 307, fields: f("consumerGroup", "nobody", "clientId", "c", "jstackEnable", "false"), want: 1},
	{name: "consume directly by nobody", code: 309, fields: f("consumerGroup", "nobody", "clientId", "c", "msgId", "7F00000100002A9F0000000000000000", "brokerName", "broker-a"), want: 1},

	{name: "runtime", code: 28},
	{name: "config", code: 26},
	{name: "config without a setting", code: 25},
	{name: "commit with a queue that is no number", code: 15, fields: f("consumerGroup", "pg", "topic", "pt", "queueId", "x", "commitOffset", "5"), want: 29},
	{name: "max offset with a queue that is no number", code: 30, fields: f("topic", "pt", "queueId", "x"), want: 1},
	{name: "heartbeat", code: 34, body: `{"clientID":"c","producerDataSet":[{"groupName":"pp"}],"consumerDataSet":[]}`},
	{name: "heartbeat that is no JSON", code: 34, body: `{"clientID":`, want: 1},
	{name: "heartbeat without a body", code: 34, want: 1},
	{name: "lock that is no JSON", code: 41, body: `[`, want: 1},
	{name: "lock without a body", code: 41, want: 1},
	{name: "unlock without a body", code: 42, want: 1},
	{name: "check that is no JSON", code: 46, body: `[`, want: 1},
	{name: "check without a body", code: 46},
	{name: "check a broken SQL expression", code: 46, body: `{"clientId":"c","group":"pg","subscriptionData":{"topic":"pt","subString":"a >","expressionType":"SQL92"}}`, want: 23},
	{name: "group that is no JSON", code: 200, body: `{`, want: 1},
	{name: "group without a body", code: 200, merlin: 1},
	{name: "topic list without a body", code: 18, want: 1},
	{name: "group list without a body", code: 225, want: 1},
	{name: "consumers without a group", code: 38, want: 1},
	{name: "offset without a group", code: 14, fields: f("topic", "pt", "queueId", "0"), want: 22},
	{name: "query without a topic", code: 12, fields: f("key", "k", "maxNum", "32", "beginTimestamp", "0", "endTimestamp", "1"), want: 22},
	{name: "query without a limit", code: 12, fields: f("topic", "pt", "key", "k", "beginTimestamp", "0", "endTimestamp", "1"), want: 1},
	{name: "unregister nobody", code: 35, fields: f("clientID", "c")},
	{name: "unregister without an id", code: 35},
	{name: "delete a group without a name", code: 207, want: 1},
	{name: "delete a topic without a name", code: 215, want: 29},
	{name: "consume stats without a group", code: 208, want: 1},
	{name: "connections without a group", code: 203, want: 1},
	{name: "producers without a group", code: 204, want: 1},
	{name: "clone without a group", code: 314, fields: f("topic", "pt"), want: 1},
	{name: "reset without a time", code: 222, fields: f("topic", "pt", "group", "pg", "isForce", "true"), merlin: 1},
	{name: "topic without a name", code: 351, want: 1},
	{name: "topic created without a name", code: 17, fields: f("defaultTopic", "TBW102", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6"), want: 1},
	{name: "group's settings without a name", code: 352, want: 1},
	{name: "forbidden without a topic", code: 353, fields: f("group", "pg"), merlin: 1},
	{name: "assignment", code: 400, body: `{"topic":"pt","consumerGroup":"pg","clientId":"c","strategyName":"AVG","messageModel":"CLUSTERING"}`, merlin: 3},
	{name: "clean", code: 306},
	{name: "clean topics", code: 316},
	{name: "delay offsets", code: 45},
	{name: "correction offsets", code: 308, fields: f("topic", "pt", "compareGroup", "pg", "filterGroups", "")},
	{name: "correction offsets without a topic", code: 308, fields: f("compareGroup", "pg"), want: 1},
	{name: "correction offsets without a group", code: 308, fields: f("topic", "pt")},
	{name: "entries of a queue that there is not", code: 321, fields: f("topic", "nope", "queueId", "0", "index", "0", "count", "1"), want: 1},
	{name: "unregister", code: 35, fields: f("clientID", "c", "consumerGroup", "pg")},
	{name: "unknown code", code: 9999, want: 3},

	{name: "delete a group", code: 207, fields: f("groupName", "pg2", "cleanOffset", "true")},
	{name: "delete it again", code: 207, fields: f("groupName", "pg2", "cleanOffset", "true")},
	{name: "delete a topic", code: 215, fields: f("topic", "pl1")},
	{name: "delete it again", code: 215, fields: f("topic", "pl1")},
	{name: "delete a system topic", code: 215, fields: f("topic", "TBW102"), want: 29},
	{name: "delete a blank topic", code: 215, fields: f("topic", " "), want: 29},
}

func TestCodes(t *testing.T) { checkCodes(t, probes) }

// checkCodes probes a new broker of ours.
func checkCodes(t *testing.T, list []probe) {
	p := dial(t, start(t, &fakeConfig{}).addr, nil)
	for _, c := range list {
		want := c.want
		if c.merlin != 0 {
			want = c.merlin
		}
		a := p.call(c.code, c.body, c.fields...)
		if a.Code != want {
			t.Errorf("%s: %d %q, want %d", c.name, a.Code, a.Remark, want)
		}
		if a.Code != remoting.RespSuccess && a.Code != remoting.RespPollingTimeout && (len(a.Remark) < 10 || strings.Contains(a.Remark, "Exception")) {
			t.Errorf("%s: the remark %q says nothing to its reader", c.name, a.Remark)
		}
	}
}

// TestCodesAreApaches asks Apache's own broker the same, where one is named:
// MERLIN_APACHE=127.0.0.1:10911. It must be fresh.
func TestCodesAreApaches(t *testing.T) {
	compareWithApache(t, probes, func(c *probe, a, b *remoting.Answer) {})
}

// compareWithApache probes both brokers; also looks at a pair of answers.
func compareWithApache(t *testing.T, list []probe, also func(c *probe, apache, ours *remoting.Answer)) {
	addr := os.Getenv("MERLIN_APACHE")
	if addr == "" {
		t.Skip("MERLIN_APACHE names no broker")
	}
	p := dial(t, addr, nil)
	ours := dial(t, start(t, &fakeConfig{}).addr, nil)
	for i := range list {
		c := &list[i]
		a, b := p.call(c.code, c.body, c.fields...), ours.call(c.code, c.body, c.fields...)
		if a.Code != c.want {
			t.Errorf("%s: Apache answers %d %q, the table says %d", c.name, a.Code, a.Remark, c.want)
		}
		if got, want := shape(a), shape(b); a.Code == 0 && b.Code == 0 && got != want && c.code != remoting.ReqHeartBeat {
			t.Errorf("%s: Apache's fields and members are %s, ours %s", c.name, got, want)
		}
		also(c, a, b)
	}
}

// shape lists the header fields of an answer and the members of its body.
func shape(a *remoting.Answer) string {
	var list []string
	for _, f := range a.Fields {
		list = append(list, f.Key)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(a.Body, &members) == nil {
		for name := range members {
			list = append(list, "."+name)
		}
	} else if len(a.Body) > 0 {
		list = append(list, "(no JSON)")
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}

// fakeConfig remembers what was set.
type fakeConfig struct {
	mu  sync.Mutex // guards set
	set map[string]string
}

func (f *fakeConfig) String() string { return "brokerName=broker-a\n" }

func (f *fakeConfig) Update(key, value string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.set == nil {
		f.set = map[string]string{}
	}
	f.set[key] = value
	return nil
}

func (f *fakeConfig) get(key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set[key]
}
