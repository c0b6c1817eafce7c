package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/test/harness"
)

// TestResetUnderLoad: a push consumer of client-go is told to go back while messages come, to the beginning and to a time,
// and gets what lies behind that place again and nothing that lies before it. What comes meanwhile is not missed.
func TestResetUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	t.Parallel()
	s := harness.Start(t)
	a, err := client.Open(client.Options{NameServers: []string{s.Namesrv}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	for _, name := range []string{"earliest", "time"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, s.Namesrv)
			topic, group := w.topic("reset", 4), "reset"
			p := w.producer("reset")
			before := numbered("a-before", 0, 40)
			w.send(p, topic, before...)
			time.Sleep(50 * time.Millisecond) // so that an instant lies between the two
			between := time.Now()
			after := numbered("b-after", 0, 40)
			w.send(p, topic, after...)

			var got deliveries
			w.consume(group, topic, "*", got.take)
			w.eventually("everything once", func() bool { return got.times(before) == 1 && got.times(after) == 1 })
			flow := w.flow(topic)
			w.eventually("the flow", func() bool { return len(got.beginning("flow")) > 20 })

			to, again, place := client.Earliest, slices.Concat(before, after), 0
			if name == "time" {
				to, again, place = client.At(between), after, len(before)/4
			}
			moved, err := a.ResetOffsets(context.Background(), w.name(group), topic, to)
			if err != nil {
				t.Fatal(err)
			}
			if len(moved) != 4 || slices.ContainsFunc(moved, func(r client.QueueReset) bool { return !r.Online || int(r.To) != place }) {
				t.Errorf("the broker moved %+v", moved)
			}
			// The client stops for 10 s before it goes on there.
			w.eventuallyWithin(90*time.Second, "what lies behind the place again", func() bool { return got.times(again) >= 2 })
			sent := flow()
			w.eventuallyWithin(90*time.Second, "all that came meanwhile", func() bool { return len(got.beginning("flow")) == sent })
			if n := got.most(before); name == "time" && n != 1 {
				t.Errorf("after a reset to a time, a message from before it had come %d times", n)
			}
			w.eventuallyWithin(90*time.Second, "all is committed", func() bool {
				v, err := a.Group(context.Background(), w.name(group))
				return err == nil && v.Lag == 0
			})
		})
	}
}

// flow sends messages without a pause until the function that it returns is called, which tells how many were sent.
func (w *world) flow(topic string) (end func() int) {
	p := w.producer("flow")
	var stop atomic.Bool
	var sent int
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if _, err := p.SendSync(context.Background(), primitive.NewMessage(topic, fmt.Appendf(nil, "flow %06d", sent))); err != nil {
				w.t.Errorf("send while messages flow: %v", err)
				return
			}
			sent++
			time.Sleep(2 * time.Millisecond)
		}
	})
	end = func() int {
		stop.Store(true)
		wg.Wait()
		return sent
	}
	w.t.Cleanup(func() { end() })
	return end
}

// deliveries counts how often each body came.
type deliveries struct {
	mu   sync.Mutex
	came map[string]int // guarded by mu
}

func (d *deliveries) take(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.came == nil {
		d.came = map[string]int{}
	}
	for _, m := range msgs {
		d.came[string(m.Body)]++
	}
	return consumer.ConsumeSuccess, nil
}

// times is how often all of the bodies came: the smallest number of any.
func (d *deliveries) times(bodies []string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.came[bodies[0]]
	for _, b := range bodies {
		n = min(n, d.came[b])
	}
	return n
}

// most is how often the one came that came most.
func (d *deliveries) most(bodies []string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, b := range bodies {
		n = max(n, d.came[b])
	}
	return n
}

// beginning returns the different bodies that begin with a word.
func (d *deliveries) beginning(word string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []string
	for b := range d.came {
		if strings.HasPrefix(b, word) {
			list = append(list, b)
		}
	}
	return list
}
