package client

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

func TestParseNameServers(t *testing.T) {
	tests := []struct {
		in   string
		want string // joined by blanks; "" is an error
	}{
		{"127.0.0.1:9876", "127.0.0.1:9876"},
		{"a:1;b:2", "a:1 b:2"},
		{"a:1,b:2; c", "a:1 b:2 c:9876"},
		{"http://ns:9876/", "ns:9876"},
		{"[::1]:9876", "[::1]:9876"},
		{"::1", "[::1]:9876"},
		{"", ""},
		{";", ""},
		{"a:b", ""},
		{"a:0", ""},
		{"a:70000", ""},
		{":9876", ""},
		{"a:1:2", ""},
	}
	for _, tt := range tests {
		got, err := ParseNameServers(tt.in)
		if strings.Join(got, " ") != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %q %v, want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestResolveKeepsAddresses(t *testing.T) {
	got, err := resolve(context.Background(), []string{"10.0.0.1:9876", "[::1]:9876", "localhost:1"})
	if err != nil {
		t.Fatal(err)
	}
	if got[0] != "10.0.0.1:9876" || got[1] != "[::1]:9876" || (got[2] != "127.0.0.1:1" && got[2] != "[::1]:1") {
		t.Fatalf("%q", got)
	}
}

func TestParseWhere(t *testing.T) {
	now := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	for in, want := range map[string]Where{
		"earliest": Earliest, "Latest": Latest, "2026-11-20T00:00:00Z": At(now.Add(-37 * time.Hour)), "15m": At(now.Add(-15 * time.Minute)),
	} {
		if got, err := ParseWhere(in, now); err != nil || got.kind != want.kind || !got.at.Equal(want.at) {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "yesterday", "-5m", "2026-11-20"} {
		if _, err := ParseWhere(bad, now); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestPerm(t *testing.T) {
	for in, want := range map[string]int{"RW": 6, "rw": 6, "6": 6, "R": 4, "R-": 4, "4": 4, "-W": 2, "2": 2} {
		if got, err := ParsePerm(in); err != nil || got != want {
			t.Errorf("%s: %d %v", in, got, err)
		}
	}
	if _, err := ParsePerm("x"); err == nil {
		t.Error("x was read")
	}
	for in, want := range map[int]string{6: "RW", 4: "R-", 2: "-W", 0: "--", 7: "RWX"} {
		if got := PermText(in); got != want {
			t.Errorf("%d: %s", in, got)
		}
	}
}

func TestAttributeText(t *testing.T) {
	if got := attributeText(map[string]string{"b": "1", "a": "", "c": "x=y"}); got != "+b=1,+c=x=y,-a" {
		t.Errorf("%q", got)
	}
}

func TestTagMatches(t *testing.T) {
	for _, tt := range []struct {
		expression, tag string
		want            bool
	}{{"", "x", true}, {"*", "", true}, {"A || B", "B", true}, {"A||B", "A", true}, {"A || B", "C", false}, {"A", "", false}} {
		if tagMatches(tt.expression, tt.tag) != tt.want {
			t.Errorf("%+v", tt)
		}
	}
}

func TestInflate(t *testing.T) {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write([]byte("hello"))
	w.Close()
	for name, tt := range map[string]struct {
		flag        message.SysFlag
		in          []byte
		want, label string
	}{
		"plain":    {0, []byte("x"), "x", ""},
		"old zlib": {1, z.Bytes(), "hello", ""},
		"zlib":     {0x301, z.Bytes(), "hello", ""},
		"broken":   {1, []byte("no zlib"), "no zlib", ""},
		"lz4":      {0x101, []byte("l"), "l", "lz4"},
		"zstd":     {0x201, []byte("z"), "z", "zstd"},
	} {
		if got, label := inflate(tt.flag, tt.in); string(got) != tt.want || label != tt.label {
			t.Errorf("%s: %q %s", name, got, label)
		}
	}
}

func TestMessageJSON(t *testing.T) {
	m := fromView(testRecord(t, "orders", 3, 17, 1000, "hé", "TAGS", "A", "KEYS", "k1 k2", "UNIQ_KEY", "U"), "b")
	var got map[string]any
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"topic": "orders", "broker": "b", "queue": 3.0, "offset": 17.0, "tags": "A", "keys": "k1 k2", "id": "U", "body": "hé"} {
		if got[k] != want {
			t.Errorf("%s is %v, want %v", k, got[k], want)
		}
	}
	m.Body = []byte{0xFF, 0}
	if b, _ = json.Marshal(m); !bytes.Contains(b, []byte(`"body_base64":"/wA="`)) || bytes.Contains(b, []byte(`"body":`)) {
		t.Errorf("%s", b)
	}
}

func testRecord(t *testing.T, topic string, queue int32, offset message.Offset, stored int64, body string, props ...string) message.View {
	t.Helper()
	m := message.Message{Topic: topic, QueueID: queue, QueueOffset: offset, Position: message.Position(offset * 1000), BornTimestamp: stored, StoreTimestamp: stored,
		BornHost: netip.MustParseAddrPort("127.0.0.1:1"), StoreHost: netip.MustParseAddrPort("10.0.0.1:10911"), Body: []byte(body)}
	for i := 0; i < len(props); i += 2 {
		m.Properties = m.Properties.Append(props[i], props[i+1])
	}
	b, err := message.AppendRecord(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	return message.View(b)
}

func TestErrorsSayWhatAndWhere(t *testing.T) {
	refused := fmt.Errorf("x: %w", &ServerError{Addr: "h:1", Op: "create topic t", Code: remoting.RespNoPermission, Remark: "the broker is read-only "})
	if code, is := CodeOf(refused); !is || code != 16 {
		t.Errorf("code %d %v", code, is)
	}
	if got := refused.Error(); got != "x: create topic t: h:1 answered NO_PERMISSION (code 16): the broker is read-only" {
		t.Error(got)
	}
	a, _ := Open(Options{NameServers: []string{"127.0.0.1:1"}})
	_, err := a.Route(context.Background(), "t")
	var down *UnreachableError
	if !errors.As(err, &down) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("%v", err)
	}
	if got := err.Error(); got != "find topic t: name server 127.0.0.1:1 cannot be reached: connection refused (is it running, and is --namesrv right?)" {
		t.Error(got)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := a.Route(context.Background(), "t"); err == nil {
		t.Error("a closed Admin answered")
	}
}

// fakeServers answer calls by address.
type fakeServers struct {
	mu    sync.Mutex
	serve func(addr string, code int, get func(string) string) (*remoting.Answer, error)
	down  map[string]bool
	calls []string
}

type fakeConn struct {
	s    *fakeServers
	addr string
}

func (c fakeConn) Call(_ context.Context, code int, fields remoting.Fields, _ []byte) (*remoting.Answer, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.calls = append(c.s.calls, fmt.Sprintf("%s %d", c.addr, code))
	return c.s.serve(c.addr, code, func(name string) string {
		a := answer{fields: fields}
		return a.field(name)
	})
}

func (c fakeConn) Close() error { return nil }

func (s *fakeServers) admin(t *testing.T, nameServers ...string) *Admin {
	t.Helper()
	a, err := Open(Options{NameServers: nameServers, Now: func() time.Time { return time.UnixMilli(100_000) }})
	if err != nil {
		t.Fatal(err)
	}
	a.dial = func(_ context.Context, addr string) (caller, error) {
		if s.down[addr] {
			return nil, io.ErrClosedPipe
		}
		return fakeConn{s, addr}, nil
	}
	return a
}

const (
	clusterBody = `{"brokerAddrTable":{"b":{"brokerAddrs":{0:"10.0.0.1:10911"},"brokerName":"b","cluster":"c"}},"clusterAddrTable":{"c":["b"]}}`
	routeBody   = `{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911"},"brokerName":"b","cluster":"c"}],"queueDatas":[{"brokerName":"b","perm":6,"readQueueNums":2,"writeQueueNums":2}]}`
)

func TestNextNameServerIsAsked(t *testing.T) {
	s := &fakeServers{down: map[string]bool{"ns1:1": true}}
	s.serve = func(string, int, func(string) string) (*remoting.Answer, error) {
		return &remoting.Answer{Body: []byte(clusterBody)}, nil
	}
	a := s.admin(t, "ns1:1", "ns2:1")
	info, err := a.Cluster(context.Background())
	if err != nil || len(info.BrokerAddrTable) != 1 {
		t.Fatal(info, err)
	}
	s.down["ns2:1"], a.conns = true, map[string]caller{}
	if _, err = a.Cluster(context.Background()); err == nil || !strings.Contains(err.Error(), "ns1:1") || !strings.Contains(err.Error(), "ns2:1") {
		t.Fatalf("both down: %v", err)
	}
}

func TestRefusalOfANameServerIsFinal(t *testing.T) {
	s := &fakeServers{}
	s.serve = func(string, int, func(string) string) (*remoting.Answer, error) {
		return &remoting.Answer{Code: remoting.RespTopicNotExist, Remark: "no broker has registered it"}, nil
	}
	_, err := s.admin(t, "ns1:1", "ns2:1").Route(context.Background(), "t")
	if !isCode(err, remoting.RespTopicNotExist) || !strings.Contains(err.Error(), "no broker has registered it") || len(s.calls) != 1 {
		t.Fatalf("%v after %v", err, s.calls)
	}
}

func TestDeadConnectionIsMadeAnew(t *testing.T) {
	s, fails := &fakeServers{}, 0
	s.serve = func(string, int, func(string) string) (*remoting.Answer, error) {
		if fails > 0 {
			fails--
			return nil, remoting.ErrClosed
		}
		return &remoting.Answer{Body: []byte(clusterBody)}, nil
	}
	a := s.admin(t, "ns:1")
	if _, err := a.Cluster(context.Background()); err != nil {
		t.Fatal(err)
	}
	fails = 1
	if _, err := a.Cluster(context.Background()); err != nil {
		t.Fatalf("a connection that died between calls: %v", err)
	}
	fails = 2
	var down *UnreachableError
	if _, err := a.Cluster(context.Background()); !errors.As(err, &down) {
		t.Fatalf("a server that closes every connection: %v", err)
	}
}

func TestGroupIsLookedUpWithoutCreatingIt(t *testing.T) {
	s := &fakeServers{}
	s.serve = func(_ string, code int, get func(string) string) (*remoting.Answer, error) {
		switch code {
		case remoting.ReqGetBrokerClusterInfo:
			return &remoting.Answer{Body: []byte(clusterBody)}, nil
		case remoting.ReqGetAllSubscriptionGroupConfig:
			return &remoting.Answer{Body: []byte(`{"subscriptionGroupTable":{"g":{"groupName":"g","retryMaxTimes":7}}}`)}, nil
		case remoting.ReqGetConsumerConnectionList:
			return &remoting.Answer{Code: remoting.RespConsumerNotOnline}, nil
		case remoting.ReqGetConsumeStats:
			return &remoting.Answer{Body: []byte(`{"consumeTps":0.5,"offsetTable":{{"brokerName":"b","queueId":1,"topic":"t"}:{"brokerOffset":20,"consumerOffset":17,"lastTimestamp":5}}}`)}, nil
		case remoting.ReqPullMessage:
			if get("queueOffset") != "17" || get("sysFlag") != "4" {
				return nil, fmt.Errorf("pull at %s with flags %s", get("queueOffset"), get("sysFlag"))
			}
			return &remoting.Answer{Body: testRecord(t, "t", 1, 17, 90_000, "x")}, nil
		}
		return nil, fmt.Errorf("unexpected request %d", code)
	}
	a := s.admin(t, "ns:1")
	if _, err := a.Group(context.Background(), "nobody"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("an unknown group: %v", err)
	}
	v, err := a.Group(context.Background(), "g")
	if err != nil {
		t.Fatal(err)
	}
	if v.Lag != 3 || v.LagSeconds != 10 || v.Configs[0].RetryMax != 7 || len(v.Members) != 0 || v.Queues[0].Committed != 17 {
		t.Fatalf("%+v", v)
	}
}

// queueServer serves pulls of two queues.
func queueServer(t *testing.T, queues [2][]message.View) *fakeServers {
	s := &fakeServers{}
	s.serve = func(_ string, code int, get func(string) string) (*remoting.Answer, error) {
		var f remoting.Fields
		var q, from int
		fmt.Sscan(get("queueId"), &q)
		switch code {
		case remoting.ReqGetRouteInfoByTopic:
			return &remoting.Answer{Body: []byte(routeBody)}, nil
		case remoting.ReqGetMinOffset:
			f.Int("offset", 0)
		case remoting.ReqGetMaxOffset:
			f.Int("offset", int64(len(queues[q])))
		case remoting.ReqPullMessage:
			fmt.Sscan(get("queueOffset"), &from)
			next := min(from+2, len(queues[q]))
			f.Int("nextBeginOffset", int64(next))
			if from >= next {
				return &remoting.Answer{Code: remoting.RespPullNotFound, Fields: f}, nil
			}
			return &remoting.Answer{Fields: f, Body: slices.Concat([]byte(queues[q][from]), tail(queues[q], from+1, next))}, nil
		default:
			return nil, fmt.Errorf("unexpected request %d", code)
		}
		return &remoting.Answer{Fields: f}, nil
	}
	return s
}

func tail(q []message.View, from, to int) (b []byte) {
	for _, v := range q[from:to] {
		b = append(b, v...)
	}
	return b
}

func TestReadMergesByStoreTime(t *testing.T) {
	var queues [2][]message.View
	for i := range 7 {
		q := i % 2
		if i > 4 {
			q = 0
		}
		queues[q] = append(queues[q], testRecord(t, "t", int32(q), message.Offset(len(queues[q])), int64(1000+i), fmt.Sprint(i), "TAGS", string(rune('A'+i%3))))
	}
	s := queueServer(t, queues)
	read := func(o ReadOptions, limit int) (bodies string) {
		t.Helper()
		o.Topic = "t"
		n := 0
		err := s.admin(t, "ns:1").Read(context.Background(), o, func(m *Message) error {
			bodies += string(m.Body)
			if n++; n == limit {
				return Stop()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return bodies
	}
	for _, tt := range []struct {
		o     ReadOptions
		limit int
		want  string
	}{
		{ReadOptions{Queue: -1}, 0, "0123456"},
		{ReadOptions{Queue: -1}, 3, "012"},
		{ReadOptions{Queue: 1}, 0, "13"},
		{ReadOptions{Queue: -1, Tags: "A || C"}, 0, "02356"},
		{ReadOptions{Queue: -1, From: Latest}, 0, ""},
	} {
		if got := read(tt.o, tt.limit); got != tt.want {
			t.Errorf("%+v up to %d: %q, want %q", tt.o, tt.limit, got, tt.want)
		}
	}
	boom := errors.New("boom")
	if err := s.admin(t, "ns:1").Read(context.Background(), ReadOptions{Topic: "t", Queue: -1}, func(*Message) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("the callback's error: %v", err)
	}
	if err := s.admin(t, "ns:1").Read(context.Background(), ReadOptions{Topic: "t", Queue: 5}, nil); err == nil {
		t.Error("a queue that is not there was read")
	}
}

func TestFollowEnds(t *testing.T) {
	s := queueServer(t, [2][]message.View{{testRecord(t, "t", 0, 0, 1, "a")}, nil})
	ctx, cancel := context.WithCancel(context.Background())
	seen := 0
	err := s.admin(t, "ns:1").Read(ctx, ReadOptions{Topic: "t", Queue: -1, Follow: true}, func(*Message) error {
		seen++
		time.AfterFunc(20*time.Millisecond, cancel)
		return nil
	})
	if err != nil || seen != 1 {
		t.Fatalf("%d messages, %v", seen, err)
	}
}

func TestKeysThatShareAHashAreLeftOut(t *testing.T) {
	s := &fakeServers{}
	s.serve = func(_ string, code int, get func(string) string) (*remoting.Answer, error) {
		if code == remoting.ReqGetRouteInfoByTopic {
			return &remoting.Answer{Body: []byte(routeBody)}, nil
		}
		if get("_UNIQUE_KEY_QUERY") == "true" {
			return &remoting.Answer{Body: testRecord(t, "t", 0, 9, 1, "u", "UNIQ_KEY", "ABC")}, nil
		}
		return &remoting.Answer{Body: slices.Concat([]byte(testRecord(t, "t", 0, 0, 9, "late", "KEYS", "x k1")), []byte(testRecord(t, "t", 0, 1, 2, "early", "KEYS", "k1")),
			[]byte(testRecord(t, "t", 0, 2, 3, "other", "KEYS", "k12")))}, nil
	}
	a := s.admin(t, "ns:1")
	found, err := a.MessagesByKey(context.Background(), KeyQuery{Topic: "t", Key: "k1"})
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for _, m := range found {
		bodies = append(bodies, string(m.Body))
	}
	if !reflect.DeepEqual(bodies, []string{"early", "late"}) {
		t.Fatalf("%q", bodies)
	}
	if found, err = a.MessagesByKey(context.Background(), KeyQuery{Topic: "t", Key: "abc", Unique: true}); err != nil || len(found) != 1 {
		t.Fatalf("unique id in lower case: %v %v", found, err)
	}
	if _, err := a.MessageByID(context.Background(), "xyz", "", nil); err == nil || !strings.Contains(err.Error(), "no message id") {
		t.Fatalf("%v", err)
	}
}

func TestResetsOffsetsOfAGroupThatIsOffline(t *testing.T) {
	committed := map[string]string{}
	s := queueServer(t, [2][]message.View{{testRecord(t, "t", 0, 0, 1, "a")}, nil})
	inner := s.serve
	s.serve = func(addr string, code int, get func(string) string) (*remoting.Answer, error) {
		switch code {
		case remoting.ReqQueryConsumerOffset:
			return &remoting.Answer{Code: remoting.RespQueryNotFound}, nil
		case remoting.ReqInvokeBrokerToResetOffset:
			return &remoting.Answer{Code: remoting.RespConsumerNotOnline}, nil
		case remoting.ReqUpdateConsumerOffset:
			committed[get("queueId")] = get("commitOffset")
			return &remoting.Answer{}, nil
		}
		return inner(addr, code, get)
	}
	done, err := s.admin(t, "ns:1").ResetOffsets(context.Background(), "g", "t", Latest)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(committed, map[string]string{"0": "1", "1": "0"}) || len(done) != 2 || done[0].From != message.NoOffset || done[0].Online {
		t.Fatalf("%v %+v", committed, done)
	}
	clear(committed)
	a := s.admin(t, "ns:1")
	if done, err = a.ResetOffsets(context.Background(), "g", "t", AtOffset(0, 1)); err != nil || len(done) != 1 || !reflect.DeepEqual(committed, map[string]string{"0": "1"}) {
		t.Fatalf("one queue to an offset: %v %+v %v", committed, done, err)
	}
	if _, err = a.ResetOffsets(context.Background(), "g", "t", AtOffset(0, 2)); err == nil || !strings.Contains(err.Error(), "outside of queue 0") {
		t.Fatalf("beyond the end: %v", err)
	}
	if _, err = a.PlanReset(context.Background(), "g", "t", Earliest.InQueue(9)); !errors.Is(err, ErrNotFound) {
		t.Fatalf("a queue that is not there: %v", err)
	}
}
