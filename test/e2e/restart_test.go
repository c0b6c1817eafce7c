package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"

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
