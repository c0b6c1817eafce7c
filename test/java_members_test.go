package test

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/test/harness"
	"github.com/merlinmq/merlin/test/ordered"
)

// membersThatDie: three members of an orderly group, a JVM each; one is killed
// after the other. Those that are left take the queues over when the locks are
// over, no two ever have one queue, and no message is skipped or swapped.
func membersThatDie(t *testing.T, classpath string) {
	if harness.External() != "" {
		t.Skip("the server's locks last for a minute")
	}
	const queues, life = 6, 6 * time.Second
	s := harness.Start(t, "--set", fmt.Sprint("rebalanceLockMaxLiveTime=", life.Milliseconds()))
	topic, group := "java_members", "g_members"
	run(t, harness.Build(t), "topic", "create", topic, "--queues", fmt.Sprint(queues), "--namesrv", s.Namesrv)
	admin, err := client.Open(client.Options{NameServers: []string{s.Namesrv}})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()

	log := &ordered.Log{}
	members := map[string]*ordered.Member{}
	for _, name := range []string{"A", "B", "C"} {
		home := t.TempDir()
		// The client believes in a lock for a second less than the broker.
		members[name] = log.Start(t, name, exec.Command("java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.home="+home,
			"-Drocketmq.client.logRoot="+home, fmt.Sprint("-Drocketmq.client.rebalance.lockMaxLiveTime=", (life-time.Second).Milliseconds()),
			"-Drocketmq.client.rebalance.lockInterval=1000", "-Drocketmq.client.rebalance.waitInterval=1000",
			"-cp", classpath, "compat.Member", s.Namesrv, topic, group, name))
	}
	began := time.Now()
	reached := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !cond(); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not within a minute: %s", what)
			}
		}
		t.Logf("after %.1f s: %s", time.Since(began).Seconds(), what)
	}
	// A Java client that loses a queue of which it holds messages keeps the lock
	// for 20 s more, so that nothing is sent before the queues are divided.
	reached("each member has locked two queues", func() bool {
		held := map[string]int{}
		for queue := range queues {
			why, err := admin.WhyQueue(context.Background(), topic, queue, group, "")
			if err == nil && why[0].Lock != nil {
				held[why[0].Lock.Client]++
			}
		}
		for _, n := range held {
			if n != 2 {
				return false
			}
		}
		return len(held) == 3
	})
	sent := ordered.Send(t, s.Namesrv, topic)
	defer func() {
		// A member refreshes its locks every second.
		report := log.Check(ordered.Rules{Repeats: 10 * time.Second, Locked: life - 2500*time.Millisecond})
		t.Log(report)
		for _, wrong := range report.Wrong {
			t.Error(wrong)
		}
		if report.Seized < 4 { // 2 queues of C and 3 of B
			t.Errorf("%d queues were taken from members that were killed: the test tested something else", report.Seized)
		}
	}()
	consume := func(queuesOf map[string]int) {
		t.Helper()
		reached(fmt.Sprintf("the members handle %v queues", queuesOf), func() bool {
			since := time.Now().Add(-2 * time.Second) // every queue gets 8 messages a second
			for name, want := range queuesOf {
				if log.QueuesOf(name, since) != want {
					return false
				}
			}
			return true
		})
	}
	consume(map[string]int{"A": 2, "B": 2, "C": 2})
	time.Sleep(time.Second)
	members["C"].Kill(t)
	time.Sleep(life / 2) // nobody may be quicker
	consume(map[string]int{"A": 3, "B": 3})
	members["B"].Kill(t)
	time.Sleep(life / 2)
	consume(map[string]int{"A": queues})
	total := sent()
	reached(fmt.Sprintf("all %d messages are handled", total), func() bool { return log.Handled() >= total })
}
