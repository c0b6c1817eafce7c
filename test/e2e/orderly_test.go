package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/test/harness"
	"github.com/merlinmq/merlin/test/ordered"
)

// TestOrderlyMembersThatDie: members of an orderly group run in processes of
// their own. One stands still until its locks are over and comes back, the broker
// is killed meanwhile, and another member is killed. No two of them ever handle
// messages of one queue at a time, none takes a queue while its lock lasts, and
// none skips or swaps any message.
//
// A client rebalances when another member comes or goes, else every 20 s, and
// client-go never gives a lock back: the steps come when somebody will look.
func TestOrderlyMembersThatDie(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server and takes 45 s")
	}
	if harness.External() != "" {
		t.Skip("the server is not ours to end")
	}
	t.Parallel()
	const life = 7 * time.Second
	s := harness.Start(t, "--set", fmt.Sprint("rebalanceLockMaxLiveTime=", life.Milliseconds()))
	w := newWorld(t, s.Namesrv)
	topic, group := w.topic("orderlydie", 6), w.name("orderlydie")
	log := &ordered.Log{}
	start := func(name string) *ordered.Member {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), memberVariable+"="+strings.Join([]string{name, s.Namesrv, topic, group}, " "))
		return log.Start(t, name, cmd)
	}
	began := time.Now()
	reached := func(what string, cond func() bool) {
		t.Helper()
		w.eventually(what, cond)
		t.Logf("after %.1f s: %s", time.Since(began).Seconds(), what)
	}
	b := start("B")
	sent := ordered.Send(t, s.Namesrv, topic)
	reached("the first member consumes all queues", func() bool { return log.QueuesOf("B", began) == 6 })
	time.Sleep(time.Second)

	stopped := b.Freeze(t)
	if err := errors.Join(s.Kill(), s.Restart()); err != nil {
		t.Fatal(err)
	}
	restarted := time.Now()
	defer func() {
		// A member refreshes its locks every second.
		report := log.Check(ordered.Rules{Repeats: 20 * time.Second, Locked: life - 2500*time.Millisecond, Restarted: restarted})
		t.Log(report)
		for _, wrong := range report.Wrong {
			t.Error(wrong)
		}
		if report.Seized < 8 { // 6 queues of B and 3 of C
			t.Errorf("%d queues were taken from members that stood still or were killed: the test tested something else", report.Seized)
		}
	}()
	start("A")
	time.Sleep(life + time.Second)
	c := start("C")
	lately := func() time.Time { return time.Now().Add(-2 * time.Second) } // every queue gets 8 messages a second
	reached("two others share its queues", func() bool { return log.QueuesOf("A", lately()) == 3 && log.QueuesOf("C", lately()) == 3 })
	time.Sleep(time.Second)
	c.Kill(t)
	time.Sleep(life / 2) // nobody may be quicker
	reached("the second member has taken over all queues", func() bool { return log.QueuesOf("A", lately()) == 6 })
	// Past the 30 s for which a client believes in its lock, however short the broker's is.
	time.Sleep(time.Until(stopped.Add(31 * time.Second)))
	resumed := b.Thaw(t)
	reached("the one that stood still consumes again", func() bool { return log.QueuesOf("B", resumed.Add(time.Second)) == 3 })
	total := sent()
	reached(fmt.Sprintf("all %d messages are handled", total), func() bool { return log.Handled() >= total })
}

const memberVariable = "MERLIN_E2E_MEMBER"

// member is the process of one member: it prints what it handles.
func member(words []string) error {
	c, err := rmq.NewPushConsumer(consumer.WithNameServer(primitive.NamesrvAddr{words[1]}), consumer.WithGroupName(words[3]),
		consumer.WithInstance(words[0]), consumer.WithConsumerOrder(true), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithRebalanceLockInterval(time.Second), consumer.WithConsumeMessageBatchMaxSize(1))
	if err != nil {
		return err
	}
	say := func(what string, m *primitive.MessageExt) {
		fmt.Fprintln(os.Stdout, what, m.Queue.QueueId, m.QueueOffset, time.Now().UnixNano())
	}
	err = c.Subscribe(words[2], consumer.MessageSelector{}, func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			say("B", m)
			time.Sleep(15 * time.Millisecond)
			say("E", m)
		}
		return consumer.ConsumeSuccess, nil
	})
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	select {} // until it is killed
}
