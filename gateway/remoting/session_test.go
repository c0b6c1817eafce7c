package gateway

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
)

// What a connection remembers of the names in its requests is bounded in bytes.
func TestNamesAreBounded(t *testing.T) {
	var n names
	kept := func() (bytes int) {
		for s := range n.known {
			bytes += len(s)
		}
		if bytes != n.bytes || bytes > maxNameBytes || len(n.known) > maxNames {
			t.Fatalf("%d names of %d bytes are kept, %d bytes counted", len(n.known), bytes, n.bytes)
		}
		return bytes
	}
	for _, size := range []int{1, 100, maxName, maxKept} {
		for i := range 2 * maxNames {
			text := fmt.Sprintf("%0*d", size, i)
			if got := n.expression([]byte(text)); got != text {
				t.Fatalf("%.300q became %.300q", text, got)
			}
			kept()
		}
	}
	before := kept()
	long := strings.Repeat("n", 1<<20)
	if got := n.expression([]byte(long)); len(got) != broker.MaxExpression+1 || kept() != before {
		t.Errorf("an expression of 1 MiB became %d bytes and %d are kept", len(got), kept()-before)
	}
	if got := n.of([]byte(long)); got != long[:maxName+1] {
		t.Errorf("a name of 1 MiB became %d bytes", len(got))
	}
}

// A flood of names and expressions that are too long leaves nothing behind, and
// each is refused in a sentence.
func TestLongNamesOverTheWire(t *testing.T) {
	s := start(t, nil)
	c := dial(t, s.addr, nil)
	c.send("orders", "x")
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	pull := func(topic, group, expression, kind string) *remoting.Answer {
		return c.call(remoting.ReqPullMessage, "", "consumerGroup", group, "topic", topic, "queueId", "0", "queueOffset", "9", "maxMsgNums", "32",
			"sysFlag", "6", "commitOffset", "0", "suspendTimeoutMillis", "20000", "subVersion", "0", "subscription", expression, "expressionType", kind)
	}
	before := live()
	for i := range 30 {
		long := fmt.Sprintf("%01000000d", i)
		for _, want := range []struct {
			answer *remoting.Answer
			code   int
		}{
			{pull(long, "g", "*", "TAG"), remoting.RespTopicNotExist},
			{pull("orders", long, "*", "TAG"), remoting.RespSubscriptionGroupNotExist},
			{pull("orders", "g", "a = '"+long+"'", "SQL92"), remoting.RespSubscriptionParseFailed},
			{pull("orders", "g", long, "TAG"), remoting.RespSubscriptionParseFailed},
			{pull("orders", "g", "*", long), remoting.RespSubscriptionParseFailed},
			{c.call(remoting.ReqPopMessage, "", "consumerGroup", "g", "topic", "orders", "queueId", "0", "maxMsgNums", "1", "invisibleTime", "1000",
				"pollTime", "20000", "expType", "SQL92", "exp", "a = '"+long+"'"), remoting.RespSubscriptionParseFailed},
			{c.call(remoting.ReqPopMessage, "", "consumerGroup", "g", "topic", "orders", "queueId", "0", "maxMsgNums", "1", "invisibleTime", "1000",
				"pollTime", "20000", "order", "true", "attemptId", long), remoting.RespInvalidParameter},
		} {
			if a := want.answer; a.Code != want.code || len(a.Remark) < 20 || len(a.Remark) > 2000 {
				t.Fatalf("%s with %d bytes: %.300s; want %s", remoting.ResponseName(a.Code), len(a.Remark), a.Remark, remoting.ResponseName(want.code))
			}
		}
	}
	if grown := live() - before; grown > 40<<20 {
		t.Errorf("%d MiB stay behind", grown>>20)
	}
}
