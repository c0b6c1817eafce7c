package broker

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// testAddr is where the producers and the broker of these tests are.
var testAddr = netip.MustParseAddrPort("127.0.0.1:10911")

func openBroker(t *testing.T, dir string, change func(*Settings)) *Broker {
	t.Helper()
	s := DefaultSettings()
	s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = 1<<20, 1000, 1000, 4000
	if change != nil {
		change(s)
	}
	b, err := Open(dir, Options{Settings: s, StoreHost: testAddr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

func request(topic, body, props string) *SendRequest {
	return &SendRequest{
		Group: []byte("g"), Topic: []byte(topic), DefaultTopic: []byte(message.TopicAutoCreate), DefaultQueues: 4,
		MaxReconsumeTimes: -1, Body: []byte(body), Properties: message.Properties(props), BornHost: testAddr, StoreHost: testAddr,
		BornTimestamp: time.Now().UnixMilli(),
	}
}

// send stores one message and returns its result.
func send(b *Broker, r *SendRequest) SendResult {
	s := b.NewSender()
	s.Add(r)
	return s.Commit()[0]
}

// pullAll reads a queue to its end, waiting until want messages are there.
func pullAll(t *testing.T, b *Broker, topic string, queue int32, want int) []message.Message {
	t.Helper()
	var out []message.Message
	deadline := time.Now().Add(10 * time.Second)
	for offset := message.Offset(0); len(out) < want; {
		r := &PullRequest{Group: "reader", Topic: topic, QueueID: queue, Offset: offset, MaxCount: 32, OwnExpression: true, Expression: "*"}
		res, body, err := b.Pull(r, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for len(body) > 0 {
			v, err := message.Parse(body)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, v.Message())
			body = body[v.Size():]
		}
		offset = res.Next
		if time.Now().After(deadline) {
			t.Fatalf("%s queue %d: %d of %d messages after 10 s", topic, queue, len(out), want)
		}
	}
	return out
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return -1
}

func TestSendRefusals(t *testing.T) {
	b := openBroker(t, t.TempDir(), func(s *Settings) { s.MaxMessageSize.Store(1000) })
	if err := b.Topics().Update(
		TopicConfig{Name: "readonly", ReadQueues: 2, WriteQueues: 2, Perm: PermRead},
		TopicConfig{Name: "two", ReadQueues: 2, WriteQueues: 2, Perm: PermRead | PermWrite},
	); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		edit func(*SendRequest)
		want Kind
		text string
	}{
		{"no topic", func(r *SendRequest) { r.Topic = nil }, KindInvalidParameter, "names no topic"},
		{"forbidden character", func(r *SendRequest) { r.Topic = []byte("a b") }, KindInvalidParameter, "not allowed"},
		{"long name", func(r *SendRequest) { r.Topic = bytes.Repeat([]byte("t"), 128) }, KindInvalidParameter, "127"},
		{"system topic", func(r *SendRequest) { r.Topic = []byte(message.TopicHalf) }, KindNoPermission, "forbidden"},
		{"schedule topic", func(r *SendRequest) { r.Topic = []byte(message.TopicSchedule) }, KindNoPermission, "forbidden"},
		{"no template", func(r *SendRequest) { r.Topic = []byte("new"); r.DefaultTopic = nil }, KindTopicNotExist, "new"},
		{"template without inherit", func(r *SendRequest) { r.Topic = []byte("new"); r.DefaultTopic = []byte("two") }, KindTopicNotExist, "new"},
		{"not writable", func(r *SendRequest) { r.Topic = []byte("readonly") }, KindNoPermission, "not writable"},
		{"queue beyond", func(r *SendRequest) { r.QueueID = 2 }, KindInvalidParameter, "queueId[2]"},
		{"body too large", func(r *SendRequest) { r.Body = make([]byte, 1001) }, KindIllegalMessage, "maxMessageSize"},
		{"properties too large", func(r *SendRequest) { r.Properties = bytes.Repeat([]byte("x"), 40000) }, KindIllegalMessage, "32767"},
		{"properties too large with the broker's", func(r *SendRequest) { r.Properties = bytes.Repeat([]byte("x"), 32760) }, KindIllegalMessage, "32767"},
		{"empty batch", func(r *SendRequest) { r.Batch = true; r.Body = nil }, KindIllegalMessage, "no message"},
		{"broken batch", func(r *SendRequest) { r.Batch = true; r.Body = []byte("broken") }, KindIllegalMessage, "batch"},
		{"delayed batch", func(r *SendRequest) { r.Batch = true; r.Properties = []byte("DELAY\x013\x02") }, KindIllegalMessage, "delayed"},
		{"batch to retry", func(r *SendRequest) {
			r.Batch = true
			r.Topic = []byte("%RETRY%g")
		}, KindIllegalMessage, "retry"},
	} {
		r := request("two", "x", "")
		row.edit(r)
		res := send(b, r)
		if kindOf(res.Err) != row.want || !strings.Contains(fmt.Sprint(res.Err), row.text) {
			t.Errorf("%s: got %v (kind %d), want kind %d and %q", row.name, res.Err, kindOf(res.Err), row.want, row.text)
		}
	}
	if got := b.Store().Stats().PutMessages; got != 0 {
		t.Errorf("%d messages were stored by refused sends", got)
	}
}

func TestSendStoresWhatCame(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	for i := range 5 {
		r := request("orders", fmt.Sprint("body ", i), "TAGS\x01a\x02KEYS\x01k\x02UNIQ_KEY\x01U1\x02MSG_REGION\x01elsewhere\x02POP_CK\x01x")
		r.QueueID, r.Flag, r.SysFlag, r.ReconsumeTimes = 1, 9, message.FlagCompressed, 3
		res := send(b, r)
		if res.Err != nil || res.Offset != message.Offset(i) || res.QueueID != 1 || string(res.UniqueKey) != "U1" {
			t.Fatalf("send %d: %+v", i, res)
		}
		if id := string(res.AppendMessageID(nil)); len(id) != 32 || !strings.HasPrefix(id, "7F00000100002A9F") {
			t.Errorf("message id %q", id)
		}
	}
	topic := b.Topics().LookupString("orders")
	if topic == nil || topic.WriteQueues != 4 || topic.Perm != PermRead|PermWrite {
		t.Fatalf("the auto-created topic is %+v", topic)
	}
	for i, m := range pullAll(t, b, "orders", 1, 5) {
		if string(m.Body) != fmt.Sprint("body ", i) || m.Flag != 9 || m.SysFlag != message.FlagCompressed || m.ReconsumeTimes != 3 {
			t.Errorf("message %d: %+v", i, m)
		}
		p := m.Properties.Map()
		if p["MSG_REGION"] != "DefaultRegion" || p["TRACE_ON"] != "true" || p["CLUSTER"] != "DefaultCluster" || p["POP_CK"] != "" || p["TAGS"] != "a" {
			t.Errorf("message %d has the properties %v", i, p)
		}
	}
}

func TestSendGivesAUniqueKey(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	res := send(b, request("orders", "x", "TAGS\x01a"))
	if res.Err != nil || len(res.UniqueKey) != 32 {
		t.Fatalf("%+v", res)
	}
	m := pullAll(t, b, "orders", 0, 1)[0]
	if m.Properties.Value(message.PropUniqueKey) != string(res.UniqueKey) || m.Properties.Value("TAGS") != "a" {
		t.Errorf("properties %v", m.Properties.Map())
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	var body []byte
	for i := range 3 {
		body = message.AppendBatchItem(body, message.BatchItem{Flag: int32(i), Body: []byte(fmt.Sprint("m", i)), Properties: []byte("TAGS\x01T\x02")})
	}
	s := b.NewSender()
	broken := request("orders", "", "")
	broken.Batch, broken.Body = true, append(bytes.Clone(body), 1, 2, 3)
	s.Add(broken)
	good := request("orders", "", "")
	good.Batch, good.Body = true, body
	s.Add(good)
	s.Add(request("orders", "after", ""))
	res := s.Commit()
	if kindOf(res[0].Err) != KindIllegalMessage || res[1].Err != nil || res[2].Err != nil {
		t.Fatalf("results %v %v %v", res[0].Err, res[1].Err, res[2].Err)
	}
	if ids := strings.Split(string(res[1].AppendMessageID(nil)), ","); len(ids) != 3 {
		t.Errorf("the batch has the ids %v", ids)
	}
	if res[1].Offset != 0 || res[2].Offset != 3 {
		t.Errorf("offsets %d and %d, want 0 and 3", res[1].Offset, res[2].Offset)
	}
	got := pullAll(t, b, "orders", 0, 4)
	for i := range 3 {
		if string(got[i].Body) != fmt.Sprint("m", i) || string(got[i].Properties) != "TAGS\x01T\x02" || got[i].Flag != int32(i) {
			t.Errorf("message %d of the batch: %+v", i, got[i])
		}
	}
	if string(got[3].Body) != "after" {
		t.Errorf("behind the batch stands %q", got[3].Body)
	}
}

func TestRetriesBeyondTheLimitAreDead(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	r := request("%RETRY%g", "still", "")
	r.ReconsumeTimes, r.MaxReconsumeTimes = 3, 3
	if res := send(b, r); res.Err != nil {
		t.Fatal(res.Err)
	}
	r.Body, r.ReconsumeTimes = []byte("dead"), 4
	if res := send(b, r); res.Err != nil {
		t.Fatal(res.Err)
	}
	if got := pullAll(t, b, "%RETRY%g", 0, 1); string(got[0].Body) != "still" {
		t.Errorf("the retry topic holds %q", got[0].Body)
	}
	if got := pullAll(t, b, "%DLQ%g", 0, 1); string(got[0].Body) != "dead" {
		t.Errorf("the dead letters hold %q", got[0].Body)
	}
	b.Locks().Lock("g", "c", []QueueRef{{"orders", "b", 0}})
	r.Body, r.ReconsumeTimes = []byte("orderly"), 1
	if res := send(b, r); res.Err != nil {
		t.Fatal(res.Err)
	}
	if got := pullAll(t, b, "%DLQ%g", 0, 2); string(got[1].Body) != "orderly" {
		t.Errorf("what an orderly group gave back went elsewhere: %q", got[1].Body)
	}
}

func TestMessagesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := DefaultSettings()
	s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = 1<<20, 1000, 1000, 4000
	b, err := Open(dir, Options{Settings: s, StoreHost: testAddr})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if res := send(b, request("orders", fmt.Sprint(i), "")); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	b.Offsets().Commit("g", "orders", 0, 7)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := openBroker(t, dir, nil)
	if got := pullAll(t, again, "orders", 0, 10); string(got[9].Body) != "9" {
		t.Errorf("the last message is %q", got[9].Body)
	}
	if off, ok := again.Offsets().Query("g", "orders", 0); !ok || off != 7 {
		t.Errorf("the committed offset is %d, %v", off, ok)
	}
}

// A parked pull gets what arrives between its look and its being parked.
func TestPullParksAndWakes(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	if res := send(b, request("orders", "first", "")); res.Err != nil {
		t.Fatal(res.Err)
	}
	pullAll(t, b, "orders", 0, 1)
	for i := range 50 {
		answered := make(chan PullResult, 1)
		p := parkedFunc(func(r *PullRequest) {
			res, _, err := b.Repull(r, nil)
			if err != nil {
				t.Error(err)
			}
			answered <- res
		})
		go send(b, request("orders", "next", ""))
		r := &PullRequest{Group: "g", Topic: "orders", Offset: message.Offset(i + 1), MaxCount: 32, MaySuspend: true, Suspend: 20 * time.Second, OwnExpression: true}
		res, _, err := b.Pull(r, nil, p)
		if err != nil {
			t.Fatal(err)
		}
		if res.Status == PullParked {
			select {
			case res = <-answered:
			case <-time.After(10 * time.Second):
				t.Fatal("a parked pull was not woken")
			}
		}
		if res.Status != PullFound || res.Count != 1 {
			t.Fatalf("round %d: %+v", i, res)
		}
	}
}

type parkedFunc func(*PullRequest)

func (f parkedFunc) Answer(r *PullRequest) { f(r) }
func (f parkedFunc) Gone() bool            { return false }
func (f parkedFunc) Holder() *Holder       { return &Holder{} }

func TestCleanUnusedTopics(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	for _, topic := range []string{"kept", "unused"} {
		if res := send(b, request(topic, "x", "")); res.Err != nil {
			t.Fatal(res.Err)
		}
		pullAll(t, b, topic, 0, 1)
	}
	if _, err := b.Topics().Delete("unused"); err != nil {
		t.Fatal(err)
	}
	if err := b.CleanUnusedTopics(); err != nil {
		t.Fatal(err)
	}
	if got := b.Store().Topics(); len(got) != 1 || got[0] != "kept" {
		t.Errorf("queues are left of %v, want kept alone", got)
	}
}
