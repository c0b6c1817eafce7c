package broker

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

func TestAttemptsAreBounded(t *testing.T) {
	var p message.Properties
	for i := range 30 {
		p = withAttempt(p, Attempt{int64(i), fmt.Sprint("c", i)})
	}
	list := Attempts(p)
	if len(list) != maxAttempts || list[0] != (Attempt{10, "c10"}) || list[maxAttempts-1] != (Attempt{29, "c29"}) {
		t.Errorf("%d attempts: %v", len(list), list)
	}
	for i := range 30 {
		p = withAttempt(p, Attempt{int64(i), strings.Repeat("x", 500)})
	}
	if n := len(p.Value(PropAttempts)); n > maxAttemptBytes || n < maxAttemptBytes/2 {
		t.Errorf("long ids take %d bytes", n)
	}
	odd := withAttempt(nil, Attempt{7, "a b,c\x02d\x01"})
	if got := Attempts(odd); len(got) != 1 || got[0].Client != "a_b_c_d_" {
		t.Errorf("an odd id: %v in %q", got, odd)
	}
	if got := Attempts(withAttempt(nil, Attempt{7, ""})); len(got) != 1 || got[0].Client != "?" {
		t.Errorf("no id: %v", got)
	}
	// What fits without the attempt is not made too large by it.
	full := message.Properties(nil).Append("x", strings.Repeat("v", message.MaxPropertiesSize-attemptRoom))
	if got := withAttempt(full, Attempt{7, "c"}); len(got) != len(full) {
		t.Errorf("full properties grew from %d to %d bytes", len(full), len(got))
	}
}

// failUntilDead gives a message back until it is a dead letter, and returns that.
func failUntilDead(t *testing.T, b *Broker, r SendBackRequest, topic string, offset message.Offset, times int) message.Message {
	t.Helper()
	v, err := b.store.RecordAt(topic, 0, offset)
	if err != nil {
		t.Fatal(err)
	}
	retries := int(b.store.QueueMax(message.RetryTopic(r.Group), 0))
	for n := range times {
		r.Position = v.Position()
		if err := b.SendBack(&r); err != nil {
			t.Fatal(err)
		}
		if n == times-1 {
			break
		}
		retries++
		m := pullAll(t, b, message.RetryTopic(r.Group), 0, retries)[retries-1]
		if v, err = b.store.Record(m.Position); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	dlq := message.DLQTopic(r.Group)
	v, err = b.store.RecordAt(dlq, 0, b.store.QueueMax(dlq, 0)-1)
	if err != nil {
		t.Fatal(err)
	}
	return v.Message()
}

func TestDeadLettersTellReasonAttemptsAndClients(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	one, two := &fakeClient{port: 1}, &fakeClient{port: 2}
	if err := b.Heartbeat(one, consume("client-1", "g", subscription("src", 1))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		mustSend(t, b, request("src", "x", props(message.PropUniqueKey, "U", message.PropKeys, "k1 k2", message.PropTags, "T", "color", "red")))
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	began := time.Now().UnixMilli()
	failUntilDead(t, b, SendBackRequest{Group: "g", MaxReconsumeTimes: 2, StoreHost: testAddr, Client: one}, "src", 0, 3)
	failUntilDead(t, b, SendBackRequest{Group: "g", DelayLevel: -1, MaxReconsumeTimes: 2, StoreHost: testAddr, Client: two}, "src", 1, 1)
	page, err := b.DeadLetters(&DeadQuery{Group: "g", Full: true})
	if err != nil || len(page.Letters) != 2 || page.More {
		t.Fatalf("%+v, %v", page, err)
	}
	first, second := page.Letters[0], page.Letters[1]
	if first.Reason != DeadMaxAttempts || first.Limit != 2 || len(first.Attempts) != 3 || first.Topic != "src" || first.Queue != 0 || first.Retries != 3 ||
		first.UniqueKey != "U" || first.Keys != "k1 k2" || first.Tags != "T" || string(first.Body) != "x" || first.Properties["color"] != "red" {
		t.Errorf("%+v", first)
	}
	for i, a := range first.Attempts {
		if a.Client != "client-1" || a.Time < began || i > 0 && a.Time < first.Attempts[i-1].Time {
			t.Errorf("attempt %d: %+v", i, a)
		}
	}
	if second.Reason != DeadConsumer || len(second.Attempts) != 1 || second.Attempts[0].Client != "127.0.0.1:2" {
		t.Errorf("%+v", second)
	}
}

// TestDirectSendsToRetryAndDeadLetters: what clients send themselves when they
// cannot give a message back.
func TestDirectSendsToRetryAndDeadLetters(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	c := &fakeClient{port: 1}
	if err := b.Heartbeat(c, consume("client-1", "g", subscription("src", 1))); err != nil {
		t.Fatal(err)
	}
	r := request("%RETRY%g", "often", props(message.PropRetryTopic, "src", message.PropDelay, "3"))
	r.ReconsumeTimes, r.MaxReconsumeTimes, r.Client = 3, 2, c
	mustSend(t, b, r)
	r.ReconsumeTimes = 1
	mustSend(t, b, r)
	if m := pullAll(t, b, "%RETRY%g", 0, 1)[0]; len(Attempts(m.Properties)) != 1 || m.Properties.Value(PropDeadReason) != "" {
		t.Errorf("the retry: %q", m.Properties)
	}
	d := request("%DLQ%g", "straight", props(message.PropRetryTopic, "src"))
	d.Client = c
	mustSend(t, b, d)
	list := pullAll(t, b, "%DLQ%g", 0, 2)
	for i, want := range []string{DeadMaxAttempts, DeadSent} {
		p := list[i].Properties
		if got := Attempts(p); p.Value(PropDeadReason) != want || len(got) != 1 || got[0].Client != "client-1" || got[0].Time == 0 {
			t.Errorf("%s: %q", want, p)
		}
	}
}

// die puts dead letters of a group into its queue, as one that came from a topic.
func die(t *testing.T, b *Broker, group, topic string, n int, more func(i int) []string) {
	t.Helper()
	if _, err := b.topics.CreateOwn(message.DLQTopic(group), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := b.groups.AutoCreate(group); err != nil {
		t.Fatal(err)
	}
	s := b.NewSender()
	for i := 0; i < n; {
		s.Reset()
		for range min(64, n-i) {
			pairs := []string{message.PropUniqueKey, fmt.Sprint("U", i), PropDeadReason, DeadMaxAttempts, PropOriginQueue, fmt.Sprint(i % 2)}
			if topic != "" {
				pairs = append(pairs, message.PropRetryTopic, topic)
			}
			if more != nil {
				pairs = append(pairs, more(i)...)
			}
			s.Add(request(message.DLQTopic(group), fmt.Sprint(i), props(pairs...)))
			i++
		}
		for _, r := range s.Commit() {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
}

func TestDeadLettersAreListedAndFiltered(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	die(t, b, "g", "orders", 100, func(i int) []string {
		return []string{message.PropKeys, fmt.Sprint("k", i%10, " other"), message.PropTags, fmt.Sprint("T", i%3), "n", fmt.Sprint(i % 7)}
	})
	die(t, b, "h", "", 3, nil)
	groups, err := b.DeadGroups("")
	if err != nil || len(groups) != 2 {
		t.Fatalf("%+v, %v", groups, err)
	}
	if g := groups[0]; g.Group != "g" || g.Messages != 100 || len(g.Topics) != 1 || g.Topics[0] != (DeadTopic{"orders", 100}) || g.Sampled || g.Oldest == 0 || g.Newest < g.Oldest {
		t.Errorf("%+v", g)
	}
	count := func(f DeadFilter) (n int) {
		for q := (DeadQuery{Group: "g", Filter: f, Max: 7}); ; {
			page, err := b.DeadLetters(&q)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Letters)
			if q.After = page.Next; !page.More {
				return n
			}
		}
	}
	id := must(b.DeadLetters(&DeadQuery{Group: "g", Max: 1})).Letters[0].ID
	for _, row := range []struct {
		name string
		f    DeadFilter
		want int
	}{
		{"all", DeadFilter{}, 100}, {"key", DeadFilter{Key: "k3"}, 10}, {"unique key as key", DeadFilter{Key: "U3"}, 1}, {"tag", DeadFilter{Tag: "T0"}, 34},
		{"property", DeadFilter{Properties: map[string]string{"n": "6"}}, 14}, {"key and tag", DeadFilter{Key: "other", Tag: "T1"}, 33},
		{"id", DeadFilter{ID: "U42"}, 1}, {"offset id", DeadFilter{ID: id}, 1}, {"topic", DeadFilter{Topic: "else"}, 0}, {"reason", DeadFilter{Reason: DeadMaxAttempts}, 100},
		{"before", DeadFilter{To: groups[0].Oldest}, 0}, {"from", DeadFilter{From: groups[0].Oldest}, 100}, {"part of a key", DeadFilter{Key: "oth"}, 0},
	} {
		if got := count(row.f); got != row.want {
			t.Errorf("%s: %d dead letters, want %d", row.name, got, row.want)
		}
	}
	_, err = b.DeadLetters(&DeadQuery{Group: "nobody"})
	wantKind(t, "an unknown group", err, KindGroupNotExist)
	must(b.groups.AutoCreate("healthy"))
	_, err = b.DeadLetters(&DeadQuery{Group: "healthy"})
	wantKind(t, "a group without dead letters", err, KindNotFound)
}

func TestPurgedDeadLettersStayAway(t *testing.T) {
	dir := t.TempDir()
	o := Options{Settings: DefaultSettings(), StoreHost: testAddr}
	o.Settings.SegmentSize, o.Settings.QueueFileEntries, o.Settings.IndexSlots, o.Settings.IndexItems = 1<<20, 1000, 1000, 4000
	b := must(Open(dir, o))
	die(t, b, "g", "orders", 10, nil)
	if n := must(b.PurgeDead(&PurgeRequest{Group: "g", DryRun: true})); n != 10 || must(b.DeadGroups("g"))[0].Messages != 10 {
		t.Errorf("a dry run counts %d", n)
	}
	if n := must(b.PurgeDead(&PurgeRequest{Group: "g", Before: 1})); n != 0 {
		t.Errorf("%d died before 1970", n)
	}
	if n := must(b.PurgeDead(&PurgeRequest{Group: "g"})); n != 10 {
		t.Errorf("%d were purged", n)
	}
	die(t, b, "g", "orders", 2, nil)
	for range 2 {
		if got := must(b.DeadLetters(&DeadQuery{Group: "g"})).Letters; len(got) != 2 || got[0].Offset != 10 {
			t.Errorf("after the purge: %+v", got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = must(Open(dir, o))
	}
	// A queue that is deleted begins anew, and nothing of the new one is hidden.
	if err := b.DeleteTopic("%DLQ%g"); err != nil {
		t.Fatal(err)
	}
	die(t, b, "g", "orders", 3, nil)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = must(Open(dir, o))
	if got := must(b.DeadLetters(&DeadQuery{Group: "g"})).Letters; len(got) != 3 {
		t.Errorf("after it was deleted: %+v", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// openAhead opens a broker with small files and quick delays, whose clock is
// ahead by so many hours as the test sets. It is closed when the test ends.
func openAhead(t *testing.T, change func(*Settings)) (b *Broker, s *Settings, ahead *atomic.Int64) {
	t.Helper()
	s, ahead = DefaultSettings(), new(atomic.Int64)
	quickLevels(s)
	s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = 1<<16, 1000, 1000, 4000
	if change != nil {
		change(s)
	}
	b = must(Open(t.TempDir(), Options{Settings: s, StoreHost: testAddr, Now: func() time.Time { return time.Now().Add(hours(ahead.Load())) }}))
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, s, ahead
}

// TestDeadLettersHaveARetentionOfTheirOwn: shorter and longer than the log's.
func TestDeadLettersHaveARetentionOfTheirOwn(t *testing.T) {
	b, s, ahead := openAhead(t, nil)
	die(t, b, "g", "orders", 5, nil)
	fill := func() {
		for range 30 {
			mustSend(t, b, request("filler", strings.Repeat("x", 8<<10), ""))
		}
		if err := b.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
	}
	names := func() []string {
		var list []string
		for _, l := range must(b.DeadLetters(&DeadQuery{Group: "g"})).Letters {
			list = append(list, fmt.Sprint(l.UniqueKey, "@", l.Offset))
		}
		return list
	}
	fill()
	s.DeadHours.Store(1000)
	want := []string{"U0@0", "U1@1", "U2@2", "U3@3", "U4@4"}
	for round := range 3 { // carried again and again, and known by their first offset
		ahead.Add(100)
		if err := b.Retain(true); err != nil {
			t.Fatal(err)
		}
		if err := b.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
		if got := names(); !slices.Equal(got, want) {
			t.Fatalf("round %d: %v", round, got)
		}
		if lo := b.store.QueueMin("%DLQ%g", 0); lo != message.Offset(5*(round+1)) {
			t.Fatalf("round %d: the queue begins at %d: nothing was carried", round, lo)
		}
		fill()
	}
	if n := b.DeadStats()["g"]; n.Messages != 5 || n.Died != 5 || n.Oldest == 0 {
		t.Errorf("%+v", n)
	}
	s.DeadHours.Store(24)
	if err := b.Retain(false); err != nil {
		t.Fatal(err)
	}
	if got := names(); len(got) != 0 {
		t.Errorf("after 300 hours with dlqReservedTime=24: %v", got)
	}
}

// TestCarryingGoesOnAfterACrash: a crash in the middle of it leaves some
// letters twice in the log, and no reader sees one of them twice in the end.
func TestCarryingGoesOnAfterACrash(t *testing.T) {
	b, s, ahead := openAhead(t, nil)
	die(t, b, "g", "orders", 5, nil)
	for range 30 {
		mustSend(t, b, request("filler", strings.Repeat("x", 8<<10), ""))
	}
	s.DeadHours.Store(1000)
	ahead.Store(100)
	// As a crash leaves it: the mark, and the first three appended anew.
	if err := b.dead.marks.Put([]byte("%DLQ%g"), deadMark{Upto: 5, From: b.store.Max(), Carried: 1}, kv.Synced); err != nil {
		t.Fatal(err)
	}
	batch := b.store.NewBatch()
	for off := range message.Offset(3) {
		m := must(b.store.RecordAt("%DLQ%g", 0, off)).Message()
		m.Properties = m.Properties.Append(PropDeadOffset, fmt.Sprint(off)).Append(PropDeadSince, fmt.Sprint(m.StoreTimestamp))
		if err := batch.Add(&m); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.Append(batch); err != nil {
		t.Fatal(err)
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if err := b.Retain(true); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, l := range must(b.DeadLetters(&DeadQuery{Group: "g"})).Letters {
		list = append(list, fmt.Sprint(l.UniqueKey, "@", l.Offset))
	}
	if want := []string{"U0@0", "U1@1", "U2@2", "U3@3", "U4@4"}; !slices.Equal(list, want) {
		t.Errorf("%v, want %v", list, want)
	}
	if m, _, err := b.dead.marks.Get([]byte("%DLQ%g")); err != nil || m.Upto != 0 || m.Begin != 5 {
		t.Errorf("the mark is %+v, %v", m, err)
	}
}

// TestPurgeGoesByTheTimeOfDeath: letters that were carried forward stand behind
// some that died after them.
func TestPurgeGoesByTheTimeOfDeath(t *testing.T) {
	b, s, ahead := openAhead(t, nil)
	die(t, b, "g", "orders", 3, nil)
	for range 30 {
		mustSend(t, b, request("filler", strings.Repeat("x", 8<<10), ""))
	}
	ahead.Store(100)
	die(t, b, "g", "orders", 2, func(i int) []string { return []string{message.PropKeys, fmt.Sprint("young", i)} })
	s.DeadHours.Store(1000)
	if err := b.Retain(true); err != nil {
		t.Fatal(err)
	}
	list := func() (names []string) {
		if err := b.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
		for _, l := range must(b.DeadLetters(&DeadQuery{Group: "g"})).Letters {
			names = append(names, fmt.Sprint(l.Offset, l.Keys))
		}
		return names
	}
	if got, want := list(), []string{"3young0", "4young1", "0", "1", "2"}; !slices.Equal(got, want) {
		t.Fatalf("carried forward they are %v, want %v", got, want)
	}
	before := b.now().Add(-hours(50)).UnixMilli()
	if n := must(b.PurgeDead(&PurgeRequest{Group: "g", Before: before, DryRun: true})); n != 3 || len(list()) != 5 {
		t.Errorf("a dry run counts %d", n)
	}
	if n := must(b.PurgeDead(&PurgeRequest{Group: "g", Before: before})); n != 3 {
		t.Errorf("%d were purged", n)
	}
	if got, want := list(), []string{"3young0", "4young1"}; !slices.Equal(got, want) {
		t.Errorf("after the purge: %v, want %v", got, want)
	}
	if n := must(b.PurgeDead(&PurgeRequest{Group: "g", Before: before})); n != 0 || len(list()) != 2 {
		t.Errorf("once more: %d", n)
	}
	if n := must(b.PurgeDead(&PurgeRequest{Group: "g", Before: b.now().Add(hours(1)).UnixMilli()})); n != 2 || len(list()) != 0 {
		t.Errorf("all: %d", n)
	}
}

// TestCarryingIsFinishedWhenOpened: what a crash left twice is there once, also
// when more is carried later than the crash was at.
func TestCarryingIsFinishedWhenOpened(t *testing.T) {
	dir := t.TempDir()
	open := func() *Broker {
		s := DefaultSettings()
		quickLevels(s)
		return must(Open(dir, Options{Settings: s, StoreHost: testAddr}))
	}
	leave := func(b *Broker) { // as a crash leaves it: the mark, and two of three copies
		t.Helper()
		lo, hi := b.store.QueueMin("%DLQ%g", 0), b.store.QueueMax("%DLQ%g", 0)
		m, _, err := b.dead.marks.Get([]byte("%DLQ%g"))
		if err != nil {
			t.Fatal(err)
		}
		m.Upto, m.From, m.Carried = lo+3, b.store.Max(), m.Carried+1
		if err := b.dead.marks.Put([]byte("%DLQ%g"), m, kv.Synced); err != nil {
			t.Fatal(err)
		}
		batch := b.store.NewBatch()
		if err := b.eachDead("%DLQ%g", lo, min(lo+2, hi), func(d *deadView) bool {
			m := d.Message()
			m.Properties = m.Properties.Append(PropDeadOffset, fmt.Sprint(d.ident)).Append(PropDeadSince, fmt.Sprint(d.since))
			return batch.Add(&m) == nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := b.store.Append(batch); err != nil {
			t.Fatal(err)
		}
		if err := b.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
	}
	names := func(b *Broker) (list []string) {
		for _, l := range must(b.DeadLetters(&DeadQuery{Group: "g"})).Letters {
			list = append(list, l.UniqueKey)
		}
		slices.Sort(list)
		return list
	}
	want := []string{"U0", "U1", "U2", "U3"}
	b := open()
	die(t, b, "g", "orders", 4, nil)
	leave(b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open()
	if got := names(b); !slices.Equal(got, want) {
		t.Errorf("opened after a crash: %v", got)
	}
	leave(b)
	b.dead.mu.Lock()
	err := b.carryQueue("%DLQ%g", b.store.QueueMax("%DLQ%g", 0), 0, true)
	b.dead.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if got := names(b); !slices.Equal(got, want) {
		t.Errorf("more was carried than before the crash: %v", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
