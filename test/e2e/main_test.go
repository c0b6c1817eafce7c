package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"github.com/merlinmq/merlin/test/harness"
)

// TestMainJob is the main job, scenario by scenario, on one server.
func TestMainJob(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	s := harness.Start(t)
	for _, c := range []struct {
		name string
		run  func(*world)
	}{
		{"sync", sync1}, {"async", async}, {"one-way", oneWay}, {"batch", batch}, {"push", push}, {"compressed", compressed}, {"tags", tags}, {"orderly", orderly},
		{"broadcasting", broadcasting}, {"rebalancing", rebalancing}, {"resuming", resuming}, {"from-where", fromWhere}, {"pull", pull}, {"poll", poll}, {"trace", traced},
		{"admin", admins}, {"refused", refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newWorld(t, s.Namesrv))
		})
	}
}

func sync1(w *world) {
	p := w.producer("sync")
	topic := w.name("auto")
	next := map[int]int64{}
	for i := range 20 {
		r, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("hello")).WithTag("T").WithKeys([]string{"k" + strconv.Itoa(i)}))
		if err != nil {
			w.t.Fatal(err)
		}
		if r.Status != primitive.SendOK || r.QueueOffset != next[r.MessageQueue.QueueId] || len(r.MsgID) != 32 || len(r.OffsetMsgID) != 32 {
			w.t.Errorf("send %d: %+v, want offset %d", i, r, next[r.MessageQueue.QueueId])
		}
		next[r.MessageQueue.QueueId] = r.QueueOffset + 1
	}
	if len(next) != 4 {
		w.t.Errorf("an auto-created topic has %d queues, want 4", len(next))
	}
}

func async(w *world) {
	topic := w.topic("async", 4)
	p := w.producer("async")
	const n = 100
	var good atomic.Int32
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		err := p.SendAsync(context.Background(), func(_ context.Context, r *primitive.SendResult, err error) {
			defer wg.Done()
			if err == nil && r.Status == primitive.SendOK {
				good.Add(1)
			}
		}, primitive.NewMessage(topic, fmt.Appendf(nil, "async %03d", i)))
		if err != nil {
			w.t.Fatal(err)
		}
	}
	wg.Wait()
	if good.Load() != n {
		w.t.Errorf("%d of %d sends succeeded", good.Load(), n)
	}
	var in inbox
	w.consume("asyncread", topic, "*", in.take)
	w.eventually("all async messages", func() bool { return len(in.bodies()) == n })
}

func oneWay(w *world) {
	topic := w.topic("oneway", 2)
	p := w.producer("oneway")
	for _, b := range numbered("ow", 0, 20) {
		if err := p.SendOneWay(context.Background(), primitive.NewMessage(topic, []byte(b))); err != nil {
			w.t.Fatal(err)
		}
	}
	var in inbox
	w.consume("onewayread", topic, "*", in.take)
	w.eventually("all one-way messages", func() bool { return len(in.bodies()) == 20 })
}

func batch(w *world) {
	topic := w.topic("batch", 1)
	p := w.producer("batch")
	var items []*primitive.Message
	for i := range 7 {
		m := primitive.NewMessage(topic, fmt.Appendf(nil, "item %d", i)).WithTag("Tag" + strconv.Itoa(i%2))
		m.WithProperty("item", strconv.Itoa(i))
		items = append(items, m)
	}
	r, err := p.SendSync(context.Background(), items...)
	if err != nil {
		w.t.Fatal(err)
	}
	if n := len(strings.Split(r.OffsetMsgID, ",")); n != 7 {
		w.t.Errorf("%d offset ids for 7 items: %s", n, r.OffsetMsgID)
	}
	var in inbox
	w.consume("batchread", topic, "Tag0", in.take)
	w.eventually("the four items with Tag0", func() bool { return len(in.all()) == 4 })
	msgs := in.all()
	slices.SortFunc(msgs, func(a, b *primitive.MessageExt) int { return int(a.QueueOffset - b.QueueOffset) })
	for i, m := range msgs {
		if m.GetProperty("item") != strconv.Itoa(2*i) || m.QueueOffset != int64(2*i) {
			w.t.Errorf("item %d: property %q offset %d", i, m.GetProperty("item"), m.QueueOffset)
		}
	}
}

func push(w *world) {
	topic := w.topic("push", 4)
	var in inbox
	w.consume("pushread", topic, "*", in.take)
	p := w.producer("push")
	for i := range 100 {
		m := primitive.NewMessage(topic, fmt.Appendf(nil, "push %03d", i)).WithTag("T").WithKeys([]string{"k" + strconv.Itoa(i)})
		m.WithProperty("n", strconv.Itoa(i))
		if _, err := p.SendSync(context.Background(), m); err != nil {
			w.t.Fatal(err)
		}
	}
	w.eventually("100 messages", func() bool { return len(in.bodies()) == 100 })
	for _, m := range in.all() {
		n, _ := strconv.Atoi(m.GetProperty("n"))
		if string(m.Body) != fmt.Sprintf("push %03d", n) || m.GetKeys() != "k"+strconv.Itoa(n) || m.GetTags() != "T" || m.Topic != topic {
			w.t.Errorf("message %d arrived as %v", n, m)
		}
	}
	if got := len(in.all()); got != 100 {
		w.t.Errorf("%d deliveries of 100 messages", got)
	}
}

func compressed(w *world) {
	topic := w.topic("compressed", 1)
	p := w.producer("compressed")
	body := strings.Repeat("compress me ", 10_000)
	w.send(p, topic, body)
	var in inbox
	w.consume("compressedread", topic, "*", in.take)
	w.eventually("the message", func() bool { return len(in.all()) == 1 })
	m := in.all()[0]
	if string(m.Body) != body || m.StoreSize > 10_000 {
		w.t.Errorf("%d bytes of body from %d stored", len(m.Body), m.StoreSize)
	}
}

func tags(w *world) {
	topic := w.topic("tags", 2)
	p := w.producer("tags")
	for i := range 30 {
		m := primitive.NewMessage(topic, fmt.Appendf(nil, "%d %d", i%3, i)).WithTag([]string{"TagA", "TagB", "TagC"}[i%3])
		if _, err := p.SendSync(context.Background(), m); err != nil {
			w.t.Fatal(err)
		}
	}
	var ab, c, all inbox
	w.consume("ab", topic, "TagA || TagB", ab.take)
	w.consume("c", topic, "TagC", c.take)
	w.consume("all", topic, "*", all.take)
	w.eventually("20, 10 and 30 messages", func() bool { return len(ab.all()) == 20 && len(c.all()) == 10 && len(all.all()) == 30 })
	for _, b := range ab.bodies() {
		if strings.HasPrefix(b, "2") {
			w.t.Errorf("a message with TagC came to the reader of TagA || TagB: %s", b)
		}
	}
}

func orderly(w *world) {
	topic := w.topic("orderly", 4)
	p := w.producer("orderly", producer.WithQueueSelector(producer.NewHashQueueSelector()))
	for i := range 100 {
		m := primitive.NewMessage(topic, fmt.Appendf(nil, "%d", i)).WithShardingKey("key" + strconv.Itoa(i%7))
		if _, err := p.SendSync(context.Background(), m); err != nil {
			w.t.Fatal(err)
		}
	}
	var mu sync.Mutex
	seen := map[int][]int64{}
	var once atomic.Bool
	w.consume("orderlyread", topic, "*", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		if once.CompareAndSwap(false, true) {
			return consumer.SuspendCurrentQueueAMoment, nil
		}
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			seen[m.Queue.QueueId] = append(seen[m.Queue.QueueId], m.QueueOffset)
		}
		return consumer.ConsumeSuccess, nil
	}, consumer.WithConsumerOrder(true))
	w.eventually("100 messages", func() bool {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, s := range seen {
			n += len(s)
		}
		return n >= 100
	})
	mu.Lock()
	defer mu.Unlock()
	for q, s := range seen {
		if !slices.IsSorted(s) {
			w.t.Errorf("queue %d was consumed in the order %v", q, s)
		}
	}
}

func broadcasting(w *world) {
	topic := w.topic("broadcast", 4)
	var boxes [2]inbox
	for i := range boxes {
		w.consume("broadcastread", topic, "*", boxes[i].take, consumer.WithConsumerModel(consumer.BroadCasting))
	}
	p := w.producer("broadcast")
	w.send(p, topic, numbered("all", 0, 20)...)
	for i := range boxes {
		w.eventually(fmt.Sprintf("all messages at member %d", i), func() bool { return len(boxes[i].bodies()) == 20 })
	}
}

func rebalancing(w *world) {
	topic := w.topic("rebalance", 8)
	p := w.producer("rebalance")
	queues := func(in *inbox, from int) int {
		held := map[int]bool{}
		for _, m := range in.all() {
			if n, _ := strconv.Atoi(m.GetProperty("round")); n == from {
				held[m.Queue.QueueId] = true
			}
		}
		return len(held)
	}
	round := 0
	// A round sends one message to each queue, so that who gets it holds the queue.
	sendRound := func() {
		round++
		for range 8 {
			m := primitive.NewMessage(topic, fmt.Appendf(nil, "round %d", round))
			m.WithProperty("round", strconv.Itoa(round))
			if _, err := p.SendSync(context.Background(), m); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	settle := func(what string, cond func() bool) {
		w.t.Helper()
		w.eventually(what, func() bool {
			sendRound()
			for range 25 {
				if cond() {
					return true
				}
				time.Sleep(40 * time.Millisecond)
			}
			return false
		})
	}
	var a, b inbox
	w.consume("rebalanceread", topic, "*", a.take)
	settle("the first member has all 8 queues", func() bool { return queues(&a, round) == 8 })
	second := w.consume("rebalanceread", topic, "*", b.take)
	settle("each member has 4 queues", func() bool { return queues(&a, round) == 4 && queues(&b, round) == 4 })
	if err := second.Shutdown(); err != nil {
		w.t.Fatal(err)
	}
	settle("the first member has all queues again", func() bool { return queues(&a, round) == 8 })
	w.eventually("no message is missed", func() bool {
		got := map[string]bool{}
		for _, m := range append(a.all(), b.all()...) {
			got[m.OffsetMsgId] = true
		}
		return len(got) == 8*round
	})
}

func resuming(w *world) {
	topic := w.topic("resume", 2)
	p := w.producer("resume")
	for r := range 2 {
		bodies := numbered(fmt.Sprintf("round %d", r), 0, 20)
		w.send(p, topic, bodies...)
		var in inbox
		c := w.consume("resumeread", topic, "*", in.take)
		w.eventually("the round's messages", func() bool { return len(in.bodies()) >= 20 })
		// Long enough for an old message to show itself, and for the client to
		// commit: what it sends as it shuts down nobody acknowledges.
		time.Sleep(7 * time.Second)
		if err := c.Shutdown(); err != nil {
			w.t.Fatal(err)
		}
		if got := in.bodies(); !slices.Equal(got, bodies) {
			w.t.Errorf("round %d got %v", r, got)
		}
	}
}

// fromWhere: for a group without an offset Apache's broker says 0 while a queue still has its first message, whatever the client wishes.
func fromWhere(w *world) {
	topic := w.topic("where", 1)
	p := w.producer("where")
	w.send(p, topic, numbered("old", 0, 5)...)
	for i, where := range []consumer.ConsumeFromWhere{consumer.ConsumeFromFirstOffset, consumer.ConsumeFromLastOffset, consumer.ConsumeFromTimestamp} {
		var in inbox
		w.consume("where"+strconv.Itoa(i), topic, "*", in.take, consumer.WithConsumeFromWhere(where),
			consumer.WithConsumeTimestamp(time.Now().Add(time.Minute).Format("20060102150405")))
		w.eventually(fmt.Sprintf("the old messages with ConsumeFromWhere %d", where), func() bool { return len(in.bodies()) == 5 })
	}
}

func pull(w *world) {
	topic := w.topic("pull", 1)
	p := w.producer("pull")
	w.send(p, topic, numbered("pull", 0, 50)...)
	c, err := rmq.NewPullConsumer(consumer.WithNameServer(w.ns), consumer.WithGroupName(w.name("pullread")), consumer.WithInstance(w.instance()),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}); err != nil {
		w.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Shutdown() })
	got := map[string]bool{}
	// Pull takes the queues in turns, and waits for 20 s at the empty one of the retry topic, once the client knows it.
	w.eventuallyWithin(3*time.Minute, "50 messages by Pull", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		r, err := c.Pull(ctx, 10)
		if err != nil || r == nil || r.Status != primitive.PullFound {
			return false
		}
		for _, m := range r.GetMessageExts() {
			got[string(m.Body)] = true
			// Pull asks the broker where to go on, so what is kept in memory must go there first.
			if err := errors.Join(c.UpdateOffset(m.Queue, r.NextBeginOffset), c.PersistOffset(ctx, topic)); err != nil {
				w.t.Fatal(err)
			}
		}
		return len(got) == 50
	})
}

func poll(w *world) {
	topic := w.topic("poll", 2)
	p := w.producer("poll")
	w.send(p, topic, numbered("poll", 0, 50)...)
	c, err := rmq.NewPullConsumer(consumer.WithNameServer(w.ns), consumer.WithGroupName(w.name("pollread")), consumer.WithInstance(w.instance()),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "T"}); err != nil {
		w.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Shutdown() })
	got := map[string]bool{}
	w.eventually("50 messages by Poll", func() bool {
		r, err := c.Poll(context.Background(), time.Second)
		if err != nil {
			return false
		}
		for _, m := range r.GetMsgList() {
			got[string(m.Body)] = true
		}
		c.ACK(context.Background(), r, consumer.ConsumeSuccess)
		return len(got) == 50
	})
}

func traced(w *world) {
	topic := w.topic("trace", 1)
	cfg := &primitive.TraceConfig{Access: primitive.Local, NamesrvAddrs: w.ns, Resolver: primitive.NewPassthroughResolver(w.ns), GroupName: w.name("tracer")}
	var in, traces inbox
	w.consume("tracereader", "RMQ_SYS_TRACE_TOPIC", "*", traces.take)
	w.consume("traceread", topic, "*", in.take, consumer.WithTrace(cfg))
	p := w.producer("trace", producer.WithTrace(cfg))
	r, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("traced")).WithKeys([]string{"key"}))
	if err != nil {
		w.t.Fatal(err)
	}
	w.eventually("the traced message", func() bool { return len(in.all()) == 1 })
	w.eventually("a trace of its sending", func() bool {
		for _, m := range traces.all() {
			if bytes.HasPrefix(m.Body, []byte("Pub")) && bytes.Contains(m.Body, []byte(r.MsgID)) {
				return true
			}
		}
		return false
	})
}

func admins(w *world) {
	topic := w.topic("admin", 3)
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(w.ns)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	list, err := a.FetchAllTopicList(ctx)
	if err != nil || !slices.Contains(list.TopicList, topic) {
		w.t.Errorf("the list of topics lacks %s: %v", topic, err)
	}
	broker := w.broker()
	groups, err := a.GetAllSubscriptionGroup(ctx, broker, 5*time.Second)
	if err != nil || len(groups.SubscriptionGroupTable) == 0 {
		w.t.Errorf("the list of groups: %v", err)
	}
	if err := a.DeleteTopic(ctx, admin.WithTopicDelete(topic), admin.WithBrokerAddrDelete(broker), admin.WithNameSrvAddr(w.ns)); err != nil {
		w.t.Errorf("delete topic: %v", err)
	}
	w.eventually("the deleted topic has no route", func() bool {
		_, err := a.FetchPublishMessageQueues(ctx, topic)
		return err != nil
	})
}

func refused(w *world) {
	topic := w.topic("refused", 1)
	p := w.producer("refused", producer.WithRetry(0))
	if _, err := p.SendSync(context.Background(), primitive.NewMessage("no good", []byte("x"))); err == nil {
		w.t.Error("a topic name with a blank was accepted")
	}
	if _, err := p.SendSync(context.Background(), primitive.NewMessage(topic, incompressible(4<<20+100_000))); err == nil {
		w.t.Error("a body above 4 MiB was accepted")
	}
	w.send(p, topic, "a good one after all that")
}
