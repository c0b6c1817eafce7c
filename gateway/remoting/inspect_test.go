package gateway

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
	"github.com/merlinmq/merlin/schedule"
)

func decoded[T any](t *testing.T, a *remoting.Answer) T {
	t.Helper()
	var v T
	if err := body.Decode(a.Body, &v); err != nil {
		t.Fatalf("%s: %v", a.Body, err)
	}
	return v
}

// TestQueryConsumeQueue: the entries of a queue come as they are stored, with
// what the group subscribes to.
func TestQueryConsumeQueue(t *testing.T) {
	s := start(t, nil)
	p := dial(t, s.addr, nil)
	for range 5 {
		p.send("qt", "x", "properties", "TAGS\x01a")
	}
	if err := s.broker.Store().WaitVisible(); err != nil {
		t.Fatal(err)
	}
	p.ok(remoting.ReqHeartBeat, `{"clientID":"c","producerDataSet":[],"consumerDataSet":[
		{"groupName":"tags","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","subscriptionDataSet":[{"topic":"qt","subString":"a","tagsSet":["a"],"codeSet":[97],"subVersion":1}]},
		{"groupName":"sql","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","subscriptionDataSet":[{"topic":"qt","subString":"n > 1","expressionType":"SQL92","subVersion":1}]}]}`)
	for _, c := range []struct {
		name    string
		fields  []string
		entries int
		filter  string
		remark  string
	}{
		{"all", f("index", "0", "count", "10"), 5, "", ""},
		{"some", f("index", "1", "count", "2"), 2, "", ""},
		{"none is asked for", f("index", "1"), 0, "", ""},
		{"tags", f("index", "4", "count", "10", "consumerGroup", "tags"), 1, "null", ""},
		{"SQL92", f("index", "0", "count", "1", "consumerGroup", "sql"), 1, `"n \u003e 1"`, ""},
		{"a group that is away", f("index", "0", "count", "1", "consumerGroup", "nobody"), 1, "nobody@qt is not online!", ""},
		{"behind the end", f("index", "5", "count", "1"), 0, "", "Index 5 of 0@qt is not exist!"},
		{"before the start", f("index", "-1", "count", "1"), 0, "", "Index -1 of 0@qt is not exist!"},
		{"more than there can be", f("index", "0", "count", "2147483647"), 5, "", ""},
	} {
		a := p.ok(remoting.ReqQueryConsumeQueue, "", append(c.fields, "topic", "qt", "queueId", "0")...)
		got := decoded[body.QueryConsumeQueueResponse](t, a)
		if len(got.QueueData) != c.entries || got.MinQueueIndex != 0 || got.MaxQueueIndex != 5 || !strings.Contains(got.FilterData, c.filter) || !strings.HasPrefix(a.Remark, c.remark) {
			t.Errorf("%s: %+v, remark %q", c.name, got, a.Remark)
		}
		if has := got.SubscriptionData != nil; has != (c.name == "tags" || c.name == "SQL92") {
			t.Errorf("%s: the subscription is %+v", c.name, got.SubscriptionData)
		}
		for _, e := range got.QueueData {
			v, err := s.broker.Store().Record(message.Position(e.PhysicOffset))
			if err != nil || int32(len(v)) != e.PhysicSize || e.TagsCode != message.TagCode([]byte("a")) {
				t.Errorf("%s: %+v leads to %d bytes, %v", c.name, e, len(v), err)
			}
		}
	}
	for _, fields := range [][]string{f("topic", "qt", "queueId", "3", "count", "1"), f("topic", "nope", "count", "1"), f("count", "1")} {
		if a := p.call(remoting.ReqQueryConsumeQueue, "", fields...); a.Code != remoting.RespSystemError || !strings.Contains(a.Remark, "is not exist") {
			t.Errorf("%v: %d %q", fields, a.Code, a.Remark)
		}
	}
}

// TestCorrectionOffsets: the lowest offset of all groups by queue, and the
// highest number where it lies above that of the group to compare with.
func TestCorrectionOffsets(t *testing.T) {
	s := start(t, nil)
	p := dial(t, s.addr, nil)
	p.ok(remoting.ReqUpdateAndCreateTopic, "", f("topic", "ct", "defaultTopic", "TBW102", "readQueueNums", "3", "writeQueueNums", "3", "perm", "6", "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "order", "false")...)
	offsets := s.broker.Offsets()
	offsets.Commit("a", "ct", 0, 10)
	offsets.Commit("a", "ct", 1, 20)
	offsets.Commit("b", "ct", 0, 7)
	offsets.Commit("b", "ct", 2, 5)
	offsets.Commit("c", "ct", 0, 1)
	offsets.Commit("a", "other", 0, 1)
	for _, c := range []struct {
		compare, filter string
		want            map[int32]int64
	}{
		{"a", "", map[int32]int64{0: 1, 1: 20, 2: 5}},
		{"a", "c", map[int32]int64{0: 7, 1: 20, 2: 5}},
		{"c", "c", map[int32]int64{0: math.MaxInt64, 1: 20, 2: 5}},
		{"c", "a,b,c", map[int32]int64{}},
		{"nobody", "b", map[int32]int64{0: 1, 1: 20}},
	} {
		got := decoded[body.QueryCorrectionOffset](t, p.ok(remoting.ReqQueryCorrectionOffset, "", "topic", "ct", "compareGroup", c.compare, "filterGroups", c.filter)).CorrectionOffsets
		if len(got) != len(c.want) {
			t.Errorf("compare %s, without %q: %v, want %v", c.compare, c.filter, got, c.want)
		}
		for queue, want := range c.want {
			if got[queue] != want {
				t.Errorf("compare %s, without %q: queue %d is at %d, want %d", c.compare, c.filter, queue, got[queue], want)
			}
		}
	}
	if offset, ok := offsets.Query("c", "ct", 0); !ok || offset != 1 {
		t.Errorf("the offset of a group that was to be left out is %d, %v", offset, ok)
	}
}

// TestAllDelayOffsets: a level that has delivered shows how far it is.
func TestAllDelayOffsets(t *testing.T) {
	levels, err := schedule.ParseLevels("1s 1h")
	if err != nil {
		t.Fatal(err)
	}
	s := startWith(t, nil, func(o *broker.Options) { o.Settings.DelayLevels = levels })
	p := dial(t, s.addr, nil)
	if got := decoded[body.DelayOffsets](t, p.ok(remoting.ReqGetAllDelayOffset, "")); got.OffsetTable == nil || len(got.OffsetTable) != 0 || got.DataVersion == nil {
		t.Errorf("before any: %+v", got)
	}
	p.send("dt", "soon", "properties", "DELAY\x011")
	p.send("dt", "late", "properties", "DELAY\x012")
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := decoded[body.DelayOffsets](t, p.ok(remoting.ReqGetAllDelayOffset, "")).OffsetTable
		if len(got) == 1 && got[1] == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the offsets are %v, want level 1 at 1", got)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
