package e2e

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/test/harness"
)

// TestConsumeBeginsWhereItIsTold: a group that is new begins where it is told to, and one that has begun goes on.
func TestConsumeBeginsWhereItIsTold(t *testing.T) {
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
	old, newer := numbered("a-old", 0, 8), numbered("b-new", 0, 8)
	for _, c := range []struct {
		name string
		from func(between time.Time) client.Where
		then client.Where // what it is told when it has begun
		want []string
	}{
		{"earliest", func(time.Time) client.Where { return client.Earliest }, client.Latest, slices.Concat(old, newer)},
		{"time", client.At, client.Earliest, newer},
		{"latest", func(time.Time) client.Where { return client.Latest }, client.Earliest, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, s.Namesrv)
			topic, group, p := w.topic("begin", 4), w.name("begin"), w.producer("begin")
			w.send(p, topic, old...)
			time.Sleep(50 * time.Millisecond) // so that an instant lies between what is old and what is newer
			between := time.Now()
			w.send(p, topic, newer...)
			last := numbered("c-last", 0, 4)
			w.member(a, group, topic, c.from(between), slices.Concat(c.want, last), func() { w.send(p, topic, last...) })
			more := numbered("d-more", 0, 4)
			w.member(a, group, topic, c.then, more, func() { w.send(p, topic, more...) })
		})
	}
}

// member runs a member of the group until it has got and committed what is wanted. send runs when the member is connected,
// and sends to every queue one message with which what is wanted ends: so what came before it in a queue has come.
func (w *world) member(a *client.Admin, group, topic string, from client.Where, want []string, send func()) {
	w.t.Helper()
	var mu sync.Mutex
	var got []string
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- a.Consume(ctx, client.ConsumeOptions{Group: group, Topic: topic, From: from}, func(m *client.Message) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, string(m.Body))
			return nil
		})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Consume: %v", err)
		}
	}()
	w.eventually("the member is connected", func() bool {
		v, err := a.Group(ctx, group)
		return err == nil && len(v.Members) == 1
	})
	send()
	w.eventually("all is committed", func() bool {
		v, err := a.Group(ctx, group)
		return err == nil && len(v.Queues) >= 4 && !slices.ContainsFunc(v.Queues, func(q client.GroupQueue) bool { return q.Topic == topic && (q.Lag > 0 || q.Committed < 1) })
	})
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Errorf("from %s came\n%s, want\n%s", from, strings.Join(got, ", "), strings.Join(want, ", "))
	}
}
