package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/test/harness"
)

// whyMessage asks merlin why what became of the message with a key in a group;
// the group is nil if nothing is told of it.
func (w *world) whyMessage(key, topic, group string) (client.MessageWhy, *client.GroupWhy) {
	w.t.Helper()
	var told struct{ Messages []client.MessageWhy }
	if err := w.merlinJSON(&told, "why", "message", key, "--topic", topic, "--group", group); err != nil {
		w.t.Fatal(err)
	}
	if len(told.Messages) != 1 {
		w.t.Fatalf("%d messages with the key %s", len(told.Messages), key)
	}
	m := told.Messages[0]
	if len(m.Groups) == 0 {
		return m, nil
	}
	return m, &m.Groups[0]
}

// whyQueue asks merlin why of queue 0 of a topic.
func (w *world) whyQueue(topic, group string) client.QueueWhy {
	w.t.Helper()
	var told struct{ Queues []client.QueueWhy }
	if err := w.merlinJSON(&told, "why", "queue", topic+"/0", "--group", group); err != nil {
		w.t.Fatal(err)
	}
	if len(told.Queues) != 1 {
		w.t.Fatalf("%d queues", len(told.Queues))
	}
	return told.Queues[0]
}

// eventuallyState waits for what became of a message in a group.
func (w *world) eventuallyState(key, topic, group, state string) *client.GroupWhy {
	w.t.Helper()
	var last *client.GroupWhy
	for end := time.Now().Add(25 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if _, last = w.whyMessage(key, topic, group); last != nil && last.State == state {
			return last
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s in %s is %+v after 25 s, want %s", key, group, last, state)
		}
	}
}

// TestWhy: what merlin why tells of messages and queues of which rocketmq-client-go
// consumers have each got something else.
func TestWhy(t *testing.T) {
	if testing.Short() || harness.External() != "" {
		t.Skip("starts a server of our own")
	}
	t.Parallel()
	// A retry waits for level 3, the next one for level 4.
	s := harness.Start(t, "--set", "messageDelayLevel=1s 1s 1s 1h")
	w := newWorld(t, s.Namesrv)
	topic := w.topic("why", 1)
	release := make(chan struct{})
	fails := func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		return consumer.ConsumeRetryLater, nil
	}
	holds := func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		if msgs[0].GetKeys() == "held" {
			<-release
		}
		return consumer.ConsumeSuccess, nil
	}
	var in inbox
	w.consume("reads", topic, "*", holds, consumer.WithConsumeMessageBatchMaxSize(1))
	reader := "@" + fmt.Sprintf("%s-%d", w.suffix, w.n)
	w.consume("tag", topic, "B || C", in.take)
	sql := w.subscribed("sql", topic, consumer.MessageSelector{Type: consumer.SQL92, Expression: "n > 5"}, in.take)
	if err := sql.Start(); err != nil {
		t.Fatal(err)
	}
	for group, limit := range map[string]int32{"retries": 7, "dies": 1} {
		// A client looks for a retry topic that comes later every 20 s only.
		if text, err := w.merlin("topic", "create", "%RETRY%"+w.name(group), "--queues", "1"); err != nil {
			t.Fatal(text, err)
		}
		w.consume(group, topic, "*", fails, consumer.WithMaxReconsumeTimes(limit))
	}
	w.eventually("the broker knows the group", func() bool {
		_, err := w.merlin("group", "set", w.name("retries"), "retryMaxTimes=7")
		return err == nil
	})
	var left inbox
	leaving := w.consume("left", topic, "*", left.take)

	p := w.producer("why")
	send := func(key string, prepare func(*primitive.Message)) {
		t.Helper()
		m := primitive.NewMessage(topic, []byte(key)).WithKeys([]string{key}).WithTag("A")
		m.WithProperty("n", "3")
		if prepare != nil {
			prepare(m)
		}
		if _, err := p.SendSync(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
	send("first", nil)
	send("held", nil)
	due := time.Now().Add(time.Hour)
	send("later", func(m *primitive.Message) { m.WithProperty("TIMER_DELIVER_MS", fmt.Sprint(due.UnixMilli())) })
	w.eventually("the group that leaves has both", func() bool { return len(left.all()) == 2 })
	if err := leaving.Shutdown(); err != nil {
		t.Fatal(err)
	}
	send("missed", nil)

	t.Run("delivered", func(t *testing.T) {
		g := w.eventuallyState("held", topic, w.name("reads"), "delivered")
		if !strings.HasSuffix(g.Client, reader) || !strings.Contains(g.Text, "It was delivered to "+g.Client) || g.First.IsZero() || g.Last.Before(g.First) || time.Since(g.First) > time.Minute {
			t.Errorf("%+v, want the client %s", g, reader)
		}
	})
	t.Run("filtered", func(t *testing.T) {
		for group, want := range map[string]string{"tag": `its tag is "A", and the group wants "B || C"`, "sql": `it does not match the group's SQL92 expression "n > 5"`} {
			if g := w.eventuallyState("first", topic, w.name(group), "filtered"); !strings.Contains(g.Text, want) {
				t.Errorf("%+v, want %s", g, want)
			}
		}
	})
	t.Run("waiting", func(t *testing.T) {
		m, _ := w.whyMessage("later", topic, "")
		if m.State != "waiting for its time" || !strings.Contains(m.Text, "It waits until "+due.UTC().Format("2006-01-02T15:04")) || m.Topic != topic ||
			len(m.Copies) != 1 || m.Copies[0].Due.Sub(due).Abs() > time.Second {
			t.Errorf("%+v", m)
		}
	})
	t.Run("no member", func(t *testing.T) {
		g := w.eventuallyState("missed", topic, w.name("left"), "not delivered")
		if !strings.Contains(g.Text, "No member of the group "+w.name("left")+" is connected") {
			t.Errorf("%+v", g)
		}
		q := w.whyQueue(topic, w.name("left"))
		if len(q.Holds) == 0 || q.Holds[0].Cause != "no member" || q.Lag < 1 || q.LagSeconds <= 0 || len(q.Members) != 0 || q.Max != 3 {
			t.Errorf("%+v", q)
		}
	})
	t.Run("in retry", func(t *testing.T) {
		var g *client.GroupWhy
		w.eventually("the second retry waits", func() bool {
			_, g = w.whyMessage("first", topic, w.name("retries"))
			return g != nil && g.Retry == 2
		})
		if g.State != "in retry" || g.Retries != 7 || !strings.Contains(g.Text, "retry 2 of 7 comes at ") || len(g.Attempts) != 2 || time.Until(g.Due) < 50*time.Minute {
			t.Errorf("%+v", g)
		}
	})
	t.Run("dead", func(t *testing.T) {
		g := w.eventuallyState("first", topic, w.name("dies"), "dead")
		if !strings.Contains(g.Text, "It is a dead letter since") || !strings.Contains(g.Text, "it failed as often as it may") || len(g.Attempts) != 2 {
			t.Errorf("%+v", g)
		}
	})
	t.Run("lag and owner", func(t *testing.T) {
		q := w.whyQueue(topic, w.name("reads"))
		if !strings.HasSuffix(q.Owner, reader) || q.OwnerSince.IsZero() || len(q.Members) != 1 || q.Members[0] != q.Owner || q.Lag < 2 || q.LagSeconds <= 0 || q.Model != "CLUSTERING" {
			t.Errorf("%+v, want the owner %s", q, reader)
		}
		text, err := w.merlin("why", "queue", topic+"/0", "-g", w.name("reads"))
		if err != nil || !strings.Contains(text, "owner      "+q.Owner+", since ") || !strings.Contains(text, fmt.Sprintf("lag %d messages", q.Lag)) {
			t.Errorf("%s, %v", text, err)
		}
	})
	close(release)
	t.Run("consumed", func(t *testing.T) {
		if g := w.eventuallyState("held", topic, w.name("reads"), "consumed"); !strings.HasSuffix(g.Client, reader) || !strings.Contains(g.Text, "has committed behind it") {
			t.Errorf("%+v", g)
		}
		w.eventually("the lag is gone", func() bool { return w.whyQueue(topic, w.name("reads")).Lag == 0 })
		if q := w.whyQueue(topic, w.name("reads")); len(q.Holds) != 0 || !strings.HasSuffix(q.Owner, reader) {
			t.Errorf("%+v", q)
		}
		text, err := w.merlin("why", "message", "held", "--topic", topic)
		for _, want := range []string{"stored: It is stored in queue 0 at offset 1", "group " + w.name("reads") + ", consumed: It was delivered to ", "group " + w.name("sql") + ", filtered: "} {
			if err != nil || !strings.Contains(text, want) {
				t.Errorf("%s\n%v; want %s", text, err, want)
			}
		}
	})
}
