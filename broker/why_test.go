package broker

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
)

// whyWorld is a broker whose time the test sets.
type whyWorld struct {
	*Broker
	t     *testing.T
	ahead atomic.Int64 // ns
}

func newWhyWorld(t *testing.T, change func(*Settings)) *whyWorld {
	t.Helper()
	s := DefaultSettings()
	s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = 1<<20, 1000, 1000, 4000
	if change != nil {
		change(s)
	}
	w := &whyWorld{t: t}
	b, err := Open(t.TempDir(), Options{Settings: s, StoreHost: testAddr, Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Broker = b
	return w
}

func (w *whyWorld) pass(d time.Duration) { w.ahead.Add(int64(d)) }

// put stores a message in queue 0 and waits until it can be read.
func (w *whyWorld) put(topic, props string) SendResult {
	w.t.Helper()
	res := mustSend(w.t, w.Broker, request(topic, "x", props))
	if err := w.store.WaitVisible(); err != nil {
		w.t.Fatal(err)
	}
	return res
}

// member joins the group g, or tells anew what it wants.
func (w *whyWorld) member(id string, port uint16, subs ...*Subscription) *fakeClient {
	w.t.Helper()
	c := &fakeClient{port: port}
	if err := w.Heartbeat(c, consume(id, "g", subs...)); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// pull pulls as a member of the group g and returns what came of it.
func (w *whyWorld) pull(client, topic string, offset message.Offset, change func(*PullRequest)) PullResult {
	w.t.Helper()
	r := &PullRequest{Group: "g", Topic: topic, Offset: offset, MaxCount: 1, ClientID: client}
	if change != nil {
		change(r)
	}
	res, _, err := w.Pull(r, nil, parkedFunc(func(*PullRequest) {}))
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// pop pops one message of t as a member of the group g.
func (w *whyWorld) pop(client string, invisible time.Duration) given {
	w.t.Helper()
	list := popOnce(w.t, w.Broker, &PopRequest{Group: "g", Topic: "t", QueueID: -1, MaxCount: 1, Invisible: invisible, ClientID: client})
	if len(list) != 1 {
		w.t.Fatalf("popped %d messages", len(list))
	}
	return list[0]
}

func (w *whyWorld) acknowledge(g given) {
	w.t.Helper()
	if err := w.AckPop(&g.handle, g.offset); err != nil {
		w.t.Fatal(err)
	}
}

// waitForPop lets a pop of the group g wait until the test ends.
func (w *whyWorld) waitForPop(client string) {
	w.t.Helper()
	r := &PopRequest{Group: "g", Topic: "t", QueueID: -1, MaxCount: 1, Invisible: time.Minute, ClientID: client}
	if err := w.ParkPop(r, time.Minute, &idlePop{}); err != nil {
		w.t.Fatal(err)
	}
}

// idlePop is a pop that takes nothing.
type idlePop struct{ holder pop.Holder }

func (p *idlePop) Try() bool           { return false }
func (p *idlePop) TimeUp()             {}
func (p *idlePop) Gone() bool          { return false }
func (p *idlePop) Holder() *pop.Holder { return &p.holder }

func (w *whyWorld) queue(topic string) *QueueWhy {
	w.t.Helper()
	q, err := w.WhyQueue(topic, 0, "g")
	if err != nil {
		w.t.Fatal(err)
	}
	return q
}

func tagged(topic, expression string, version int64) *Subscription {
	return must(ParseSubscription(topic, expression, ExpressionTag, version))
}

// Each cause is brought about, and the first one that is told.
func TestWhyQueue(t *testing.T) {
	for _, c := range []struct {
		cause string // "" for nothing
		text  string // part of the sentence
		set   func(w *whyWorld)
	}{
		{HeldNoGroup, "does not know the group g", func(w *whyWorld) {}},
		{HeldNoMember, "none was here", func(w *whyWorld) { must(w.groups.AutoCreate("g")) }},
		{HeldNoMember, "the last pull was that of a, 2m0s ago", func(w *whyWorld) {
			c := w.member("a", 1, tagged("t", "*", 1))
			w.pull("a", "t", 0, nil)
			w.ClientClosed(c)
			w.pass(2 * time.Minute)
		}},
		{HeldSubscription, "they subscribe to other", func(w *whyWorld) { w.member("a", 1, tagged("other", "*", 1)) }},
		{HeldNotPulled, "since the broker began", func(w *whyWorld) { w.member("a", 1, tagged("t", "*", 1)) }},
		{HeldConflict, "a subscribes to [t: x], b subscribes to [t: y]", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "x", 1))
			w.member("b", 2, tagged("t", "y", 2))
		}},
		{HeldFilter, "cannot be used", func(w *whyWorld) {
			w.member("a", 1, must(ParseSubscription("t", "a >", ExpressionSQL, 1)))
		}},
		{HeldFiltered, `its tag is "x", and the group wants "y || z"`, func(w *whyWorld) { w.member("a", 1, tagged("t", "y || z", 1)) }},
		{HeldFiltered, `SQL92 expression "n > 5"`, func(w *whyWorld) {
			w.member("a", 1, must(ParseSubscription("t", "n > 5", ExpressionSQL, 1)))
		}},
		{HeldPermission, "brokerPermission lacks read", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			w.cfg.Permission.Store(PermWrite)
		}},
		{HeldPermission, "the topic t cannot be read", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			config := w.topics.LookupString("t").TopicConfig
			config.Perm = PermWrite
			if err := w.topics.Update(config); err != nil {
				w.t.Fatal(err)
			}
		}},
		{HeldPermission, "consumeEnable is off", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			config := DefaultGroupConfig("g")
			config.ConsumeEnable = false
			if err := w.groups.Update(config); err != nil {
				w.t.Fatal(err)
			}
		}},
		{HeldPermission, "forbidden to read t", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			must(w.groups.SetForbidden("g", "t", false))
		}},
		{HeldLock, "locked by b, which is not connected", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			must(w.locks.Lock("g", "b", []QueueRef{{"t", "broker-a", 0}}))
		}},
		{HeldLock, "has not refreshed its lock for 50s", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			must(w.locks.Lock("g", "a", []QueueRef{{"t", "broker-a", 0}}))
			w.pass(50 * time.Second)
		}},
		{HeldStalled, "a has not pulled the queue for 1m10s", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			w.pull("a", "t", 0, nil)
			if err := w.CommitOffset("g", "t", 0, 1); err != nil {
				w.t.Fatal(err)
			}
			w.pass(70 * time.Second)
		}},
		{HeldNotPulled, "a, is gone since its pull 40s ago", func(w *whyWorld) {
			gone := w.member("a", 1, tagged("t", "*", 1))
			w.member("b", 2, tagged("t", "*", 1))
			w.pull("a", "t", 0, nil)
			w.ClientClosed(gone)
			w.pass(40 * time.Second)
		}},
		{HeldUncommitted, "a has been given the offsets up to 0, but the commits stand at -1 for 40s", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			w.pull("a", "t", 0, nil)
			w.pass(40 * time.Second)
		}},
		{HeldOrderly, "in order and has been given the offsets up to 0", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			w.pull("a", "t", 0, nil)
			w.pass(40 * time.Second)
			must(w.locks.Lock("g", "a", []QueueRef{{"t", "broker-a", 0}}))
		}},
		{HeldUncommitted, "nothing behind it counts as done before", func(w *whyWorld) { // its pull waits, its handler hangs
			w.member("a", 1, tagged("t", "*", 1))
			w.pull("a", "t", 0, nil)
			w.pull("a", "t", 1, func(r *PullRequest) { r.MaySuspend, r.Suspend = true, time.Minute })
			w.pass(40 * time.Second)
		}},
		{"", "", func(w *whyWorld) { // a broadcasting member keeps its progress itself
			c := consume("a", "g", tagged("t", "*", 1))
			c.Consumers[0].Model = Broadcasting
			if err := w.Heartbeat(&fakeClient{port: 1}, c); err != nil {
				w.t.Fatal(err)
			}
			w.pull("a", "t", 0, nil)
			w.pull("a", "t", 1, func(r *PullRequest) { r.MaySuspend, r.Suspend = true, time.Minute })
			w.pass(40 * time.Second)
		}},
		{HeldUnacknowledged, "1 messages are handed out and not acknowledged, the first of them for 40s", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			w.pop("a", time.Minute)
			w.pass(40 * time.Second)
		}},
		{HeldStalled, "No pop waits, and the last that got something of the queue came 1m10s ago, by a", func(w *whyWorld) {
			w.member("a", 1, tagged("t", "*", 1))
			w.pop("a", time.Hour)
			w.put("t", "TAGS\x01x\x02")
			w.pass(70 * time.Second)
		}},
		{"", "", func(w *whyWorld) { // all that it popped is acknowledged, and it waits
			w.member("a", 1, tagged("t", "*", 1))
			w.acknowledge(w.pop("a", time.Minute))
			w.waitForPop("a")
			w.pass(70 * time.Second)
		}},
		{"", "", func(w *whyWorld) { // it has all, and waits
			w.member("a", 1, tagged("t", "*", 1))
			w.pull("a", "t", 0, nil)
			w.pull("a", "t", 1, func(r *PullRequest) { r.MaySuspend, r.Suspend, r.HasCommit, r.Commit = true, time.Minute, true, 1 })
			w.pass(50 * time.Second)
		}},
	} {
		t.Run(c.cause+" "+c.text, func(t *testing.T) {
			w := newWhyWorld(t, nil)
			w.put("t", "TAGS\x01x\x02n\x011\x02")
			c.set(w)
			q := w.queue("t")
			i := slices.IndexFunc(q.Holds, func(h Held) bool { return h.Cause == c.cause })
			switch {
			case c.cause == "" && len(q.Holds) > 0:
				t.Errorf("held back by %+v", q.Holds)
			case c.cause != "" && i < 0:
				t.Errorf("held back by %+v", q.Holds)
			case c.cause != "" && !strings.Contains(strings.ToLower(q.Holds[i].Text), strings.ToLower(c.text)):
				t.Errorf("says %q, want %q", q.Holds[i].Text, c.text)
			}
		})
	}
}

func TestWhyQueueTellsOwnerAndLag(t *testing.T) {
	w := newWhyWorld(t, nil)
	for range 3 {
		w.put("t", "")
	}
	w.member("a", 1, tagged("t", "*", 1))
	w.member("b", 2, tagged("t", "*", 1))
	w.pull("a", "t", 0, nil)
	w.pass(10 * time.Second)
	took := w.now()
	w.pull("b", "t", 1, nil)
	w.pass(10 * time.Second)
	w.pull("b", "t", 3, func(r *PullRequest) { r.MaySuspend, r.Suspend, r.HasCommit, r.Commit = true, time.Minute, true, 2 })
	q := w.queue("t")
	if q.Owner != "b" || q.OwnerSince.Sub(took).Abs() > 5*time.Second || q.Committed != 2 || q.Lag != 1 || q.LagSeconds < 19 || q.LagSeconds > 30 || q.Max != 3 {
		t.Errorf("%+v", q)
	}
	if len(q.Parked) != 1 || q.Parked[0].Client != "b" || q.Parked[0].Offset != 3 || q.Pull.Given != 2 || q.Pull.Commit != 2 || len(q.Members) != 2 {
		t.Errorf("%+v, pull %+v", q.Parked, q.Pull)
	}
	must(w.locks.Lock("g", "a", []QueueRef{{"t", "broker-a", 0}}))
	if q = w.queue("t"); q.Owner != "a" || q.Lock == nil || q.Lock.Until.Sub(q.Now) > lockLife {
		t.Errorf("with a lock: %+v", q)
	}
	_, err := w.WhyQueue("none", 0, "g")
	wantKind(t, "a topic that is not there", err, KindTopicNotExist)
	_, err = w.WhyQueue("t", 4, "g")
	wantKind(t, "a queue that is not there", err, KindInvalidParameter)
	_, err = w.WhyQueue("t", 0, "")
	wantKind(t, "no group", err, KindInvalidParameter)
}

// one asks for a message that must be there once.
func (w *whyWorld) one(q WhyQuery) *MessageWhy {
	w.t.Helper()
	found, err := w.WhyMessage(q)
	if err != nil || len(found) != 1 {
		w.t.Fatalf("%+v: %+v, %v", q, found, err)
	}
	return &found[0]
}

func (m *MessageWhy) group(name string) GroupWhy {
	for _, g := range m.Groups {
		if g.Group == name {
			return g
		}
	}
	return GroupWhy{}
}

// Each state in which a group can be towards a message.
func TestWhyMessageOfAGroup(t *testing.T) {
	w := newWhyWorld(t, func(s *Settings) {
		s.DelayLevels = schedule.Levels{time.Second, time.Second, time.Second}
	})
	first := w.put("t", "TAGS\x01x\x02UNIQ_KEY\x01ID1\x02KEYS\x01k1\x02")
	w.put("t", "TAGS\x01y\x02UNIQ_KEY\x01ID2\x02")
	check := func(id, state, text string) GroupWhy {
		t.Helper()
		g := w.one(WhyQuery{ID: id, Topic: "t", Group: "g"}).group("g")
		if g.State != state || !strings.Contains(g.Text, text) {
			t.Errorf("%s: %q %q, want %q %q", id, g.State, g.Text, state, text)
		}
		return g
	}
	check("ID1", GotUnwanted, "does not subscribe")
	c1 := w.member("c1", 1, tagged("t", "x", 1))
	check("ID2", GotFiltered, `its tag is "y"`)
	check("ID1", GotNothing, "No member has pulled the queue")
	w.pull("c1", "t", 0, nil)
	if g := check("ID1", GotDelivered, "It was delivered to c1 at "); g.Client != "c1" || w.now().Sub(g.Last) > 10*time.Second {
		t.Errorf("%+v", g)
	}
	w.clients.Closed(c1)
	check("ID1", GotNothing, "It was delivered to c1 at ")
	check("ID1", GotNothing, "which has left the group without committing it. The group stands at offset 0 of queue 0, 0 before it.")
	w.pull("127.0.0.1:4711", "t", 0, nil) // who pulls without joining cannot leave
	check("ID1", GotDelivered, "It was delivered to 127.0.0.1:4711 at ")
	w.member("c1", 1, tagged("t", "x", 1))
	w.pull("c1", "t", 0, nil)
	check("ID1", GotDelivered, "It was delivered to c1 at ")
	if err := w.CommitOffset("g", "t", 0, 1); err != nil {
		t.Fatal(err)
	}
	check("k1", GotConsumed, "delivered to c1") // by its key

	// It was given back before that, in truth: three attempts are allowed.
	back := func(pos message.Position) {
		t.Helper()
		if err := w.SendBack(&SendBackRequest{Group: "g", Position: pos, MaxReconsumeTimes: 1, StoreHost: testAddr}); err != nil {
			t.Fatal(err)
		}
		if err := w.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
	}
	offsetID := string(first.AppendMessageID(nil))
	_, pos, err := message.ParseOffsetID(offsetID)
	if err != nil {
		t.Fatal(err)
	}
	back(pos)
	if g := check("ID1", GotRetry, "retry 1 of 16 comes at "); g.Retry != 1 || g.Due.IsZero() || len(g.Attempts) != 1 {
		t.Errorf("%+v", g)
	}
	w.eventually("the retry", func() bool { return w.store.QueueMax("%RETRY%g", 0) == 1 })
	check("ID1", GotRetry, "It is in retry 1 of 16. The group stands at offset 0")
	w.member("c2", 2, tagged("t", "x", 2), tagged("%RETRY%g", "*", 2))
	w.pull("c2", "%RETRY%g", 0, nil)
	check("ID1", GotRetry, "It was delivered to c2")
	if err := w.CommitOffset("g", "%RETRY%g", 0, 1); err != nil {
		t.Fatal(err)
	}
	check("ID1", GotConsumed, "It was consumed in retry 1 of 16")
	v, err := w.store.RecordAt("%RETRY%g", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	back(v.Position())
	if g := check("ID1", GotDead, "it failed as often as it may"); g.Retry != 1 || len(g.Attempts) != 2 {
		t.Errorf("%+v", g)
	}
	m := w.one(WhyQuery{ID: "ID1"}) // without a topic, and all groups
	if m.State != AtStored || m.Topic != "t" || len(m.Copies) < 4 || m.group("g").State != GotDead {
		t.Errorf("%+v", m)
	}
	if m := w.one(WhyQuery{ID: strings.ToLower(offsetID)}); m.UniqueKey != "ID1" || m.group("g").State != GotDead {
		t.Errorf("by its offset id: %+v", m)
	}
	_, err = w.WhyMessage(WhyQuery{ID: "ID1", Topic: "other"})
	wantKind(t, "another topic", err, KindNotFound)
	_, err = w.WhyMessage(WhyQuery{})
	wantKind(t, "no id", err, KindInvalidParameter)
}

func (w *whyWorld) eventually(what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// What becomes of a message that a group pops.
func TestWhyMessageThatIsPopped(t *testing.T) {
	w := newWhyWorld(t, nil)
	for _, id := range []string{"ID1", "ID2", "ID3"} {
		w.put("t", "UNIQ_KEY\x01"+id+"\x02")
	}
	w.member("a", 1, tagged("t", "*", 1))
	check := func(id, state, text string) GroupWhy {
		t.Helper()
		g := w.one(WhyQuery{ID: id, Topic: "t", Group: "g"}).group("g")
		if g.State != state || !strings.Contains(g.Text, text) {
			t.Errorf("%s: %q %q, want %q %q", id, g.State, g.Text, state, text)
		}
		return g
	}
	first, second := w.pop("a", time.Minute), w.pop("a", time.Hour)
	if first.offset != 0 || second.offset != 1 {
		t.Fatalf("%+v, %+v", first, second)
	}
	if g := check("ID1", GotDelivered, "and is not acknowledged yet; without that it comes again at "); g.Client != "a" || g.Due.IsZero() {
		t.Errorf("%+v", g)
	}
	w.acknowledge(second)
	check("ID2", GotConsumed, "and is acknowledged") // though the one before it is not
	check("ID3", GotNothing, "The group stands at offset 0")
	w.pass(2 * time.Minute)
	check("ID1", GotDelivered, "was not acknowledged in time; it comes again with the next pop")
	if again := w.pop("a", time.Minute); again.offset != 0 || again.times != 1 {
		t.Fatalf("%+v", again)
	} else if g := check("ID1", GotRetry, "as retry 1 of 16, and is not acknowledged yet"); g.Retry != 1 || g.Retries != 16 {
		t.Errorf("%+v", g)
	} else {
		w.acknowledge(again)
	}
	check("ID1", GotConsumed, "and is acknowledged")
	if q := w.queue("t"); q.Committed != 2 || q.Lag != 1 || q.Pop == nil || q.Pop.Next != 2 || q.Pop.InFlight != 0 {
		t.Errorf("%+v, pop %+v", q, q.Pop)
	}
}

// A dead letter is one until it is sent again, or purged.
func TestWhyMessageThatWasDead(t *testing.T) {
	w := newWhyWorld(t, quickLevels)
	redriveTopics(t, w.Broker)
	die(t, w.Broker, "g", "orders", 2, nil)
	state := func(id string) string {
		t.Helper()
		return w.one(WhyQuery{ID: id, Topic: "orders", Group: "g"}).group("g").State
	}
	if got := state("U0") + ", " + state("U1"); got != GotDead+", "+GotDead {
		t.Fatalf("after they died: %s", got)
	}
	must(w.Redrive(RedriveSpec{ID: "x", Group: "g", Filter: DeadFilter{Key: "U0"}}))
	waitRedrive(t, w.Broker, "x", RedriveDone)
	if err := w.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	w.member("a", 1, tagged("orders", "*", 1))
	if got := state("U0"); got != GotNothing {
		t.Errorf("sent again: %s, want %s", got, GotNothing)
	}
	must(w.PurgeDead(&PurgeRequest{Group: "g"}))
	if got := state("U1"); got != GotExpired {
		t.Errorf("purged: %s, want %s", got, GotExpired)
	}
}

// Each place where a message can be.
func TestWhyMessagePlaces(t *testing.T) {
	w := newWhyWorld(t, nil)
	check := func(id, state, text string) *MessageWhy {
		t.Helper()
		m := w.one(WhyQuery{ID: id, Topic: "t"})
		if m.State != state || !strings.Contains(m.Text, text) || m.Topic != "t" {
			t.Errorf("%s: %q %q of %q, want %q %q", id, m.State, m.Text, m.Topic, state, text)
		}
		return m
	}
	w.put("t", "UNIQ_KEY\x01PLAIN\x02")
	check("PLAIN", AtStored, "queue 0 at offset 0")
	due := w.now().Add(time.Hour)
	for _, id := range []string{"LATER", "GONE"} {
		w.put("t", props(message.PropUniqueKey, id, message.PropTimerDeliverMs, fmt.Sprint(due.UnixMilli())))
		check(id, AtWaiting, "It waits until "+due.UTC().Format("2006-01-02T15"))
	}
	if _, _, err := w.ChangeDelayed(DelayChange{ID: "GONE"}); err != nil {
		t.Fatal(err)
	}
	check("GONE", AtRecalled, "recalled or cancelled")
	w.put("t", props(message.PropUniqueKey, "LEVEL", message.PropDelay, "3"))
	check("LEVEL", AtWaiting, "It waits until")
	for id, verdict := range map[string]int{"HALF": -1, "BACK": 0, "COMMIT": 1} {
		half := sendHalf(t, w.Broker, "t", props(message.PropUniqueKey, id, message.PropProducerGroup, "g", message.PropTransaction, "true"))
		if err := w.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
		check(id, AtHalf, "neither committed it nor rolled it back")
		switch verdict {
		case 0:
			half.Verdict = TransactionRollback
		case 1:
			half.Verdict = TransactionCommit
		default:
			continue
		}
		if err := end(w.Broker, half); err != nil {
			t.Fatal(err)
		}
		if err := w.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
	}
	if m := check("BACK", AtRolledBack, "no consumer gets it"); len(m.Steps) == 0 {
		t.Error("no steps")
	}
	check("COMMIT", AtStored, "")
	if err := w.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	check("PLAIN", AtExpired, "its topic has been deleted")
	check("GONE", AtExpired, "its topic has been deleted")
	_, err := w.WhyMessage(WhyQuery{ID: "NOBODY"})
	wantKind(t, "an unknown key", err, KindNotFound)

	old := w.put("big", "UNIQ_KEY\x01OLD\x02")
	id := string(old.AppendMessageID(nil))
	for range 30 {
		mustSend(t, w.Broker, request("big", strings.Repeat("x", 100_000), ""))
	}
	if err := w.store.Sync(); err != nil {
		t.Fatal(err)
	}
	if n, err := w.store.DropBefore(w.store.Max() - 1<<20); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	if m := w.one(WhyQuery{ID: id}); m.State != AtExpired || !strings.Contains(m.Text, "retention has removed") {
		t.Errorf("%+v", m)
	}
}

func TestPullLog(t *testing.T) {
	var l pullLog
	now := time.Unix(1e9, 0)
	pull := func(client string, from, to message.Offset) {
		l.note(now, &PullRequest{Group: "g", Topic: "t", Offset: from, ClientID: client}, &PullResult{Status: PullFound, Next: to})
	}
	for i := range message.Offset(1000) { // 100 a second
		pull("a", i*32, i*32+32)
		now = now.Add(10 * time.Millisecond)
	}
	last, ranges, known := l.of("g", "t", 0)
	if !known || last.Client != "a" || last.Given != 32000 || len(ranges) > maxPullRanges {
		t.Fatalf("%+v, %d ranges", last, len(ranges))
	}
	if ranges[0].From != 0 || ranges[len(ranges)-1].To != 32000 {
		t.Errorf("from %d to %d", ranges[0].From, ranges[len(ranges)-1].To)
	}
	for i := range message.Offset(500) { // seconds apart: the old ones lose precision, not their client
		now = now.Add(2 * time.Second)
		pull("a", 32000+i, 32001+i)
	}
	_, ranges, _ = l.of("g", "t", 0)
	for i, r := range ranges {
		if i > 0 && (ranges[i-1].To != r.From || r.First.Before(ranges[i-1].Last)) {
			t.Errorf("range %d: %+v behind %+v", i, r, ranges[i-1])
		}
	}
	if len(ranges) > maxPullRanges || ranges[0].From != 0 || ranges[len(ranges)-1].To != 32500 {
		t.Errorf("%d ranges from %d to %d", len(ranges), ranges[0].From, ranges[len(ranges)-1].To)
	}
	for i := range 100 {
		pull(fmt.Sprint("c", i), 5, 6)
	}
	if _, ranges, _ = l.of("g", "t", 0); len(ranges) != maxPullRanges || ranges[maxPullRanges-1].Client != "c99" {
		t.Errorf("%d ranges", len(ranges))
	}
	for i := range int32(maxPullTracks + 10) {
		l.note(now, &PullRequest{Group: "g", Topic: "t", QueueID: i}, &PullResult{})
	}
	if len(l.tracks) != maxPullTracks {
		t.Errorf("%d tracks", len(l.tracks))
	}
	if l.sweep(now.Add(pullTrackLife + time.Second)); len(l.tracks) != 0 {
		t.Errorf("%d tracks are left", len(l.tracks))
	}
}

func BenchmarkPullLog(b *testing.B) {
	var l pullLog
	r, res := &PullRequest{Group: "g", Topic: "t", ClientID: "a"}, &PullResult{Status: PullFound}
	b.ReportAllocs()
	for b.Loop() {
		res.Next = r.Offset + 32
		l.note(time.Now(), r, res)
		r.Offset = res.Next
	}
}
