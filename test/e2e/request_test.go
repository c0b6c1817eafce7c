package e2e

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/test/harness"
)

// TestRequestReply: the very first request of a producer gets its reply,
// whether or not the broker had a heartbeat of it; an empty reply is a reply.
func TestRequestReply(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	w := newWorld(t, harness.Start(t).Namesrv)
	topic := w.topic("request", 1)
	replier := w.producer("replier")
	var refused atomic.Pointer[string]
	var taken atomic.Bool
	w.consume("requestread", topic, "*", func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			if string(m.Body) == "are you there" {
				taken.Store(true)
				continue
			}
			reply, err := consumer.CreateReplyMessage(m, nil)
			if err == nil && string(m.Body) != "say nothing" {
				reply.Body = append([]byte("re: "), m.Body...)
			}
			if err == nil {
				_, err = replier.SendSync(ctx, reply)
			}
			if err != nil {
				text := err.Error()
				refused.Store(&text)
			}
		}
		return consumer.ConsumeSuccess, nil
	})
	w.send(replier, topic, "are you there")
	w.eventually("the replier reads", taken.Load)
	for i := range 3 { // each producer is new to the broker
		asker := w.producer(fmt.Sprint("asker", i))
		for _, c := range []struct{ ask, want string }{{"first", "re: first"}, {"second", "re: second"}, {"say nothing", ""}} {
			got, err := asker.Request(context.Background(), 10*time.Second, primitive.NewMessage(topic, []byte(c.ask)))
			if err != nil {
				t.Fatalf("producer %d, request %q: %v", i, c.ask, err)
			}
			if string(got.Body) != c.want {
				t.Errorf("producer %d, request %q: reply %q, want %q", i, c.ask, got.Body, c.want)
			}
		}
	}
	if text := refused.Load(); text != nil {
		t.Errorf("a reply was refused: %s", *text)
	}
}
