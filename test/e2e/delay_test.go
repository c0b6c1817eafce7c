package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/test/harness"
)

// allowed is how late a message may come on a machine that does other things too.
const allowed = 1500 * time.Millisecond

func TestDelays(t *testing.T) {
	s := harness.Start(t)
	w := newWorld(t, s.Namesrv)
	topic := w.topic("delays", 4)
	type due struct{ at, got time.Time }
	var mu sync.Mutex
	came := map[string][]due{}
	c := func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			ms, _ := strconv.ParseInt(m.GetProperty("due"), 10, 64)
			came[string(m.Body)] = append(came[string(m.Body)], due{time.UnixMilli(ms), time.UnixMilli(m.StoreTimestamp)})
		}
		return consumer.ConsumeSuccess, nil
	}
	w.consume("delayread", topic, "*", c)
	p := w.producer("delaysend")
	send := func(body string, delay time.Duration, prepare func(m *primitive.Message, at time.Time)) {
		m := primitive.NewMessage(topic, []byte(body))
		at := time.Now().Add(delay)
		m.WithProperty("due", fmt.Sprint(at.UnixMilli()))
		prepare(m, at)
		if _, err := p.SendSync(context.Background(), m); err != nil {
			t.Fatalf("send %s: %v", body, err)
		}
	}
	want := 0
	for i := range 20 {
		delay := time.Duration(300+i*97) * time.Millisecond
		send(fmt.Sprint("at", i), delay, func(m *primitive.Message, at time.Time) {
			m.WithProperty("TIMER_DELIVER_MS", fmt.Sprint(at.UnixMilli()))
		})
		send(fmt.Sprint("in", i), delay, func(m *primitive.Message, _ time.Time) {
			m.WithProperty("TIMER_DELAY_MS", fmt.Sprint(delay.Milliseconds()))
		})
		send(fmt.Sprint("level", i), time.Second, func(m *primitive.Message, _ time.Time) { m.WithDelayTimeLevel(1) })
		want += 3
	}
	w.eventually("all delayed messages", func() bool { mu.Lock(); defer mu.Unlock(); return len(came) == want })
	mu.Lock()
	defer mu.Unlock()
	for body, list := range came {
		late := list[0].got.Sub(list[0].at)
		if len(list) != 1 || late < 0 || late > allowed {
			t.Errorf("%s came %d times, the first %v after its time", body, len(list), late)
		}
	}
}

func TestDelayedMessagesSurviveAKill(t *testing.T) {
	if harness.External() != "" {
		t.Skip("kills the server")
	}
	s := harness.Start(t)
	w := newWorld(t, s.Namesrv)
	topic := w.topic("delaykill", 1)
	p := w.producer("delaykill")
	for i := range 50 {
		m := primitive.NewMessage(topic, []byte(fmt.Sprint(i)))
		if i%2 == 0 {
			m.WithDelayTimeLevel(2)
		} else {
			m.WithProperty("TIMER_DELAY_MS", "5000")
		}
		if _, err := p.SendSync(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	c := func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			seen[string(m.Body)]++
		}
		return consumer.ConsumeSuccess, nil
	}
	w.consume("delaykillread", topic, "*", c)
	w.eventually("the messages from before the kill", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 50 })
	mu.Lock()
	defer mu.Unlock()
	for body, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", body, n)
		}
	}
}

func TestTooLongADelayIsRefused(t *testing.T) {
	s := harness.Start(t)
	w := newWorld(t, s.Namesrv)
	topic := w.topic("delayfar", 1)
	p := w.producer("delayfar")
	for _, text := range []string{"400000000", "soon"} {
		m := primitive.NewMessage(topic, []byte("x"))
		m.WithProperty("TIMER_DELAY_SEC", text)
		if _, err := p.SendSync(context.Background(), m); err == nil || !strings.Contains(err.Error(), "13") {
			t.Errorf("TIMER_DELAY_SEC=%s: %v, want MESSAGE_ILLEGAL", text, err)
		}
	}
}
