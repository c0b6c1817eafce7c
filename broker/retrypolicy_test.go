package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// The waits of the policies are Apache's.
func TestRetryPolicyWaits(t *testing.T) {
	for _, c := range []struct {
		policy RetryPolicy
		want   []int64 // s before retry 1, 2, …; nil: the levels
	}{
		{RetryPolicy{}, nil},
		{RetryPolicy{Type: RetryCustomized}, nil},
		{RetryPolicy{Type: RetryCustomized, Next: []int64{1000, 2000, 3000, 4000}}, []int64{3, 4, 4, 4}},
		{RetryPolicy{Type: RetryCustomized, Next: []int64{9000}}, []int64{9, 9}},
		{RetryPolicy{Type: RetryExponential}, []int64{5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 7200, 7200}},
		{RetryPolicy{Type: RetryExponential, InitialMs: 1000, MaxMs: 100_000, Multiplier: 10}, []int64{1, 10, 100, 100}},
	} {
		for i, want := range c.want {
			if ms, own := c.policy.wait(int32(i)); !own || ms != want*1000 {
				t.Errorf("%+v: retry %d after %d ms (%t), want %d s", c.policy, i+1, ms, own, want)
			}
		}
		if _, own := c.policy.wait(0); own != (c.want != nil) {
			t.Errorf("%+v: own %t", c.policy, own)
		}
	}
	if ms, _ := (&RetryPolicy{Type: RetryExponential, MaxMs: 1 << 60}).wait(1000); ms != 5000<<32 {
		t.Errorf("far on: %d", ms)
	}
}

func TestRetryPolicyRefusals(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	for _, p := range []RetryPolicy{
		{Type: "OTHER"}, {Type: RetryCustomized, Next: []int64{1, -1}}, {Type: RetryCustomized, Next: make([]int64, 300)},
		{Type: RetryExponential, InitialMs: -1}, {Type: RetryExponential, InitialMs: 10, MaxMs: 5}, {Type: RetryExponential, Multiplier: -2},
	} {
		c := DefaultGroupConfig("g")
		c.RetryPolicy = p
		wantKind(t, fmt.Sprintf("%+v", p), b.groups.Update(c), KindInvalidParameter)
	}
}

// A group's policy counts for what is given back, and for retries that clients
// send themselves, unless they ask for a level of their own.
func TestRetryPolicyApplies(t *testing.T) {
	for _, timer := range []bool{true, false} {
		w := newWhyWorld(t, func(s *Settings) { s.Timer = timer })
		first := w.put("t", "UNIQ_KEY\x01ID\x02")
		_, pos, err := message.ParseOffsetID(string(first.AppendMessageID(nil)))
		if err != nil {
			t.Fatal(err)
		}
		set := func(p RetryPolicy) {
			c := DefaultGroupConfig("g")
			c.RetryPolicy = p
			if err := w.groups.Update(c); err != nil {
				t.Fatal(err)
			}
		}
		// due is how long the newest retry waits.
		due := func(what string, want time.Duration) {
			t.Helper()
			if err := w.store.WaitVisible(); err != nil {
				t.Fatal(err)
			}
			g := w.one(WhyQuery{ID: "ID", Topic: "t", Group: "g"}).group("g")
			if left := g.Due.Sub(w.now()); g.State != GotRetry || left > want || left < want-20*time.Second {
				t.Errorf("timer %t, %s: waits %v, want %v: %+v", timer, what, left, want, g)
			}
		}
		back := func(level int32) {
			t.Helper()
			if err := w.SendBack(&SendBackRequest{Group: "g", Position: pos, DelayLevel: level, MaxReconsumeTimes: -1, StoreHost: testAddr}); err != nil {
				t.Fatal(err)
			}
		}
		direct := func(times int32, level int) {
			t.Helper()
			r := request("%RETRY%g", "x", props(message.PropUniqueKey, "ID", message.PropRetryTopic, "t", message.PropDelay, fmt.Sprint(level)))
			r.ReconsumeTimes = times
			mustSend(t, w.Broker, r)
		}
		minutes := func(n int) time.Duration { return time.Duration(n) * time.Minute }
		set(RetryPolicy{Type: RetryCustomized, Next: []int64{0, 0, minutes(20).Milliseconds(), minutes(60).Milliseconds()}})
		back(0)
		due("given back", minutes(20))
		back(9) // the consumer's own wish: level 9 is 5 min
		due("given back with a level", minutes(5))
		direct(1, 3)
		due("sent, first retry", minutes(20))
		direct(2, 4)
		due("sent, second retry", minutes(60))
		direct(2, 9)
		due("sent with a level of its own", minutes(5))
		set(RetryPolicy{Type: RetryExponential, InitialMs: minutes(2).Milliseconds(), MaxMs: minutes(7).Milliseconds(), Multiplier: 3})
		back(0)
		due("exponential", minutes(2))
		direct(2, 4)
		due("exponential, second", minutes(6))
		direct(3, 5)
		due("exponential, third", minutes(7))
		set(RetryPolicy{})
		direct(5, 7)
		due("the levels", minutes(3))
	}
}

// A retry that waited by a policy can be given back again, and waits again.
func TestRetryPolicyAgain(t *testing.T) {
	w := newWhyWorld(t, nil)
	c := DefaultGroupConfig("g")
	c.RetryPolicy = RetryPolicy{Type: RetryCustomized, Next: []int64{1}}
	if err := w.groups.Update(c); err != nil {
		t.Fatal(err)
	}
	w.put("t", "UNIQ_KEY\x01ID\x02")
	pos := message.Position(0)
	for n := range message.Offset(2) {
		if err := w.SendBack(&SendBackRequest{Group: "g", Position: pos, MaxReconsumeTimes: -1, StoreHost: testAddr}); err != nil {
			t.Fatal(err)
		}
		w.eventually("the retry", func() bool { return w.store.QueueMax("%RETRY%g", 0) == n+1 })
		v, err := w.store.RecordAt("%RETRY%g", 0, n)
		if err != nil || v.ReconsumeTimes() != int32(n+1) {
			t.Fatalf("retry %d: %v %v", n+1, v.ReconsumeTimes(), err)
		}
		pos = v.Position()
	}
	c.RetryPolicy.Next = []int64{time.Hour.Milliseconds()}
	if err := w.groups.Update(c); err != nil {
		t.Fatal(err)
	}
	if err := w.SendBack(&SendBackRequest{Group: "g", Position: pos, MaxReconsumeTimes: -1, StoreHost: testAddr}); err != nil {
		t.Fatal(err)
	}
	if err := w.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if g := w.one(WhyQuery{ID: "ID"}).group("g"); g.State != GotRetry || g.Due.Sub(w.now()) < 59*time.Minute {
		t.Errorf("%+v", g)
	}
}
