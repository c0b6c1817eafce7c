package broker

import (
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// giveBack gives the first message of a topic back so many times.
func giveBack(t *testing.T, b *Broker, topic string, times int) {
	t.Helper()
	v, err := b.store.RecordAt(topic, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range times {
		if err := b.SendBack(&SendBackRequest{Group: "g", Position: v.Position(), DelayLevel: 3, MaxReconsumeTimes: -1, StoreHost: testAddr}); err != nil {
			t.Fatal(err)
		}
	}
}

// retriesOf counts what the retry topic of g holds by queue, once it holds want.
func retriesOf(t *testing.T, b *Broker, want message.Offset) []message.Offset {
	t.Helper()
	topic := message.RetryTopic("g")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		list, sum := make([]message.Offset, 8), message.Offset(0)
		for q := range list {
			list[q] = b.store.QueueMax(topic, int32(q))
			sum += list[q]
		}
		if sum == want {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatalf("the retry topic holds %v, want %d in all", list, want)
		}
	}
}

// TestRetriesGoWhereMembersRead: a group that asks for more retry queues than
// its first heartbeat made gets them, and no retry goes where nobody reads.
func TestRetriesGoWhereMembersRead(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	if err := b.Heartbeat(&fakeClient{port: 1}, consume("c", "g", subscription("src", 1))); err != nil {
		t.Fatal(err)
	}
	mustSend(t, b, request("src", "x", ""))
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	retry := func() *Topic { return b.topics.LookupString(message.RetryTopic("g")) }
	c := DefaultGroupConfig("g")
	c.RetryQueues = 4
	if err := b.UpdateGroups(c); err != nil {
		t.Fatal(err)
	}
	if got := retry(); got.ReadQueues != 4 || got.WriteQueues != 4 {
		t.Fatalf("after retryQueueNums=4: %+v", got)
	}
	c.RetryQueues = 6
	if err := b.groups.Update(c); err != nil { // as a folder that was taken over may have it
		t.Fatal(err)
	}
	giveBack(t, b, "src", 100)
	list := retriesOf(t, b, 100)
	if got := retry().ReadQueues; got != 6 {
		t.Errorf("%d read queues, want 6", got)
	}
	for q, n := range list {
		if (n > 0) != (q < 6) { // 100 miss one of 6 queues once in ten million runs
			t.Errorf("queue %d holds %d: %v", q, n, list)
		} else if n > 0 {
			pullAll(t, b, message.RetryTopic("g"), int32(q), int(n))
		}
	}
	// Fewer queues take none away, so that what they hold is read.
	c.RetryQueues = 2
	if err := b.UpdateGroups(c); err != nil || retry().ReadQueues != 6 {
		t.Errorf("after retryQueueNums=2: %+v, %v", retry(), err)
	}
	// Queues that are being emptied get nothing.
	one := retry().TopicConfig
	one.WriteQueues, one.Attributes = 1, nil
	if err := b.topics.Update(one); err != nil {
		t.Fatal(err)
	}
	giveBack(t, b, "src", 20)
	if got := retriesOf(t, b, 120); got[0] != list[0]+20 {
		t.Errorf("with one write queue: %v after %v", got, list)
	}
}

// TestDeadNeedsNoRetryTopic: a group without retries, or whose retry topic
// takes nothing, keeps its dead letters all the same.
func TestDeadNeedsNoRetryTopic(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	c := DefaultGroupConfig("g")
	c.RetryQueues = 0
	if err := b.UpdateGroups(c); err != nil {
		t.Fatal(err)
	}
	mustSend(t, b, request("src", "x", ""))
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	v, err := b.store.RecordAt("src", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	back := func(level, limit int32) error {
		return b.SendBack(&SendBackRequest{Group: "g", Position: v.Position(), DelayLevel: level, MaxReconsumeTimes: limit, StoreHost: testAddr})
	}
	died := func() int { return len(must(b.DeadLetters(&DeadQuery{Group: "g"})).Letters) }
	wantKind(t, "a retry of a group that wants none", back(0, 3), noRefusal)
	wantKind(t, "the consumer's wish", back(-1, 3), noRefusal)
	wantKind(t, "the last attempt", back(0, 0), noRefusal)
	pullAll(t, b, message.DLQTopic("g"), 0, 2)
	if n := died(); n != 2 || b.topics.LookupString(message.RetryTopic("g")) != nil {
		t.Errorf("%d dead letters", n)
	}
	c.RetryQueues = 1
	if err := b.UpdateGroups(c); err != nil {
		t.Fatal(err)
	}
	closed := TopicConfig{Name: message.RetryTopic("g"), ReadQueues: 1, WriteQueues: 1, Perm: PermRead}
	if err := b.topics.Update(closed); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "a retry to a topic that takes nothing", back(0, 3), KindNoPermission)
	wantKind(t, "the last attempt, with the retry topic closed", back(0, 0), noRefusal)
	pullAll(t, b, message.DLQTopic("g"), 0, 3)
}

// TestPopsBuryWithoutRetries: a popped message of a group without retries is a
// dead letter after its last attempt, and not gone.
func TestPopsBuryWithoutRetries(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	cfg := DefaultGroupConfig("g")
	cfg.RetryMaxTimes, cfg.RetryQueues = 0, 0
	if err := b.UpdateGroups(cfg); err != nil {
		t.Fatal(err)
	}
	mustSend(t, b, request("orders", "bad", ""))
	r := popRequest("g")
	r.Invisible = time.Millisecond
	if list := popOnce(t, b, r); len(list) != 1 {
		t.Fatalf("%v", list)
	}
	for deadline := time.Now().Add(20 * time.Second); b.PopQueues("g")[0].InFlight > 0; b.sweepPops() {
		if time.Now().After(deadline) {
			t.Fatal("it is still handed out")
		}
	}
	if got := pullAll(t, b, message.DLQTopic("g"), 0, 1); string(got[0].Body) != "bad" {
		t.Errorf("the dead letter is %q", got[0].Body)
	}
}

// TestRetryTopicsBeginAtTheirBeginning: a group's wish where to begin is none
// about what it was given already.
func TestRetryTopicsBeginAtTheirBeginning(t *testing.T) {
	for _, initial := range []string{"latest", "4102444800000", "earliest", ""} {
		b := openBroker(t, t.TempDir(), quickLevels)
		c := DefaultGroupConfig("g")
		if initial != "" {
			c.Attributes = map[string]string{"+" + AttributeInitial: initial}
		}
		if err := b.UpdateGroups(c); err != nil {
			t.Fatal(err)
		}
		mustSend(t, b, request("src", "x", ""))
		if err := b.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
		giveBack(t, b, "src", 3)
		retriesOf(t, b, 3)
		retry := message.RetryTopic("g")
		begin := func(what string, want message.Offset) {
			t.Helper()
			if at, err := b.QueryOffset("g", retry, 0, false); err != nil || at != want {
				t.Errorf("%q, %s: retries begin at %d, %v, want %d", initial, what, at, err, want)
			}
			r := popRequest("g")
			r.Topic, r.FromEnd = retry, true
			if at, err := b.popBegin(r, b.groups.Lookup("g"), 0); err != nil || at != want {
				t.Errorf("%q, %s: pops of retries begin at %d, %v, want %d", initial, what, at, err, want)
			}
		}
		begin("all there", 0)
		_, err := b.QueryOffset("g", retry, 0, true)
		wantKind(t, "strict", err, KindNotFound)
		if _, err := b.store.ForgetTo(retry, 0, 2); err != nil {
			t.Fatal(err)
		}
		begin("two forgotten", 2)
	}
}
