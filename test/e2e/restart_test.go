package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/harness"
)

// TestRestart sends, ends the server gently or not, starts it again on the same folder and ports, and wants everything
// that was acknowledged, committed offsets and the clients' connections back.
func TestRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	if harness.External() != "" {
		t.Skip("the server is not ours to end")
	}
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := harness.Start(t)
			w := newWorld(t, s.Namesrv)
			p := w.producer("restart")
			for round := range 2 {
				restart(w, s, p, w.topic(fmt.Sprintf("restart%d", round), 4), how == "killed")
			}
		})
	}
}

func restart(w *world, s *harness.Server, p rmq.Producer, topic string, kill bool) {
	w.send(p, topic, numbered("before", 0, 100)...)
	var in inbox
	c := w.consume(topic+"_reader", topic, "*", in.take)
	w.eventually("all messages before the end", func() bool { return len(in.bodies()) == 100 })
	if err := c.Shutdown(); err != nil { // commits its offsets
		w.t.Fatal(err)
	}
	end := s.Stop
	if kill {
		end = s.Kill
	}
	if err := errors.Join(end(), s.Restart()); err != nil {
		w.t.Fatal(err)
	}
	var again inbox
	w.consume(topic+"_new", topic, "*", again.take)
	w.eventually("all messages after the restart", func() bool { return len(again.bodies()) == 100 })
	w.eventually("the old producer sends again", func() bool {
		_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("after")))
		return err == nil
	})
	w.eventually("the running consumer gets it", func() bool { return slices.Contains(again.bodies(), "after") })
	var rest inbox
	w.consume(topic+"_reader", topic, "*", rest.take)
	w.eventually("the first group gets what is new", func() bool { return slices.Contains(rest.bodies(), "after") })
	// A kill may cost 5 s of commits, a clean stop none.
	if n := len(rest.bodies()); !kill && n != 1 {
		w.t.Errorf("a group that had consumed everything got %d messages after a clean restart, want the new one alone", n)
	}
}

// promised is how old a commit may be that a kill still costs.
const promised = 5 * time.Second

// TestCommitsOutliveAKill: of what was committed longer ago than promised a kill costs nothing.
func TestCommitsOutliveAKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	if harness.External() != "" {
		t.Skip("the server is not ours to end")
	}
	t.Parallel()
	s := harness.Start(t)
	w := newWorld(t, s.Namesrv)
	topic, group := w.topic("commitkill", 2), w.name("commitkill")
	p := w.producer("commitkill")
	w.send(p, topic, numbered("m", 0, 20)...)
	ctx := context.Background()
	a, err := client.Open(client.Options{NameServers: []string{s.Namesrv}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if _, err := a.CreateGroup(ctx, group); err != nil {
		t.Fatal(err)
	}
	want := []message.Offset{3, 7}
	for queue, offset := range want {
		if err := a.CommitOffset(ctx, s.Broker, group, topic, int32(queue), offset); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(promised + 5*time.Second) // the rest is for a machine that stands still
	// What is committed within the promised time may be lost or not, and takes nothing of the rest with it.
	if err := a.CommitOffset(ctx, s.Broker, group, topic, 1, 8); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Kill(), s.Restart()); err != nil {
		t.Fatal(err)
	}
	for queue, offset := range want {
		got, err := a.CommittedOffset(ctx, s.Broker, group, topic, int32(queue))
		if err != nil || got != offset && !(queue == 1 && got == 8) {
			t.Errorf("queue %d of the group is at %d (%v), want %d", queue, got, err, offset)
		}
	}
}
