package broker

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
	"github.com/merlinmq/merlin/store"
)

func quickLevels(s *Settings) {
	s.Name = "b"
	s.DelayLevels = schedule.Levels{50 * time.Millisecond, 300 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond}
	s.DefaultTopicQueues = 1
}

func props(pairs ...string) string {
	var p message.Properties
	for i := 0; i < len(pairs); i += 2 {
		p = p.Append(pairs[i], pairs[i+1])
	}
	return string(p)
}

func mustSend(t *testing.T, b *Broker, r *SendRequest) SendResult {
	t.Helper()
	res := send(b, r)
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	return res
}

func TestDelayedSendsArriveNotBeforeTheirTime(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	began := time.Now().UnixMilli()
	after := map[string]int64{"level1": 50, "level2": 300, "timed": 120, "plain": 0}
	mustSend(t, b, request("d", "level2", props(message.PropDelay, "2")))
	mustSend(t, b, request("d", "level1", props(message.PropDelay, "1")))
	timed := mustSend(t, b, request("d", "timed", props(message.PropTimerDelayMs, "120")))
	plain := mustSend(t, b, request("d", "plain", ""))
	if timed.RecallHandle() == "" || plain.RecallHandle() != "" {
		t.Errorf("handles: timed %q, plain %q", timed.RecallHandle(), plain.RecallHandle())
	}
	for _, m := range pullAll(t, b, "d", 0, 4) {
		if took := m.StoreTimestamp - began; took < after[string(m.Body)] {
			t.Errorf("%s came after %d ms, want %d", m.Body, took, after[string(m.Body)])
		}
	}
	res := send(b, request("d", "x", props(message.PropTimerDelaySec, "soon")))
	wantKind(t, "a malformed delay", res.Err, KindIllegalMessage)
}

func TestRecallOfSends(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	res := mustSend(t, b, request("r", "recalled", props(message.PropTimerDelayMs, "60000", message.PropUniqueKey, "U1")))
	handle := res.RecallHandle()
	_, err := b.Recall("other", handle)
	wantKind(t, "the handle of another topic", err, KindIllegalOperation)
	_, err = b.Recall("r", schedule.Handle{Topic: "r", Broker: "elsewhere", Time: 1, Unique: "U1"}.String())
	wantKind(t, "the handle of another broker", err, KindIllegalOperation)
	_, err = b.Recall("r", "bm8gaGFuZGxl")
	wantKind(t, "a forged handle", err, KindIllegalOperation)
	if unique, err := b.Recall("r", handle); err != nil || unique != "U1" {
		t.Fatalf("Recall: %q, %v", unique, err)
	}
	_, err = b.Recall("r", handle)
	wantKind(t, "a second recall", err, KindIllegalOperation)
	b.cfg.Recall.Store(false)
	_, err = b.Recall("r", handle)
	wantKind(t, "recall switched off", err, KindNoPermission)
}

// TestSendersCannotForgeWhatTheBrokerNotes sends properties that take waiting
// messages away when the broker writes them.
func TestSendersCannotForgeWhatTheBrokerNotes(t *testing.T) {
	b := openBroker(t, t.TempDir(), func(s *Settings) {
		quickLevels(s)
		s.DelayLevels = schedule.Levels{time.Hour}
	})
	mustSend(t, b, request("f", "level", props(message.PropDelay, "1")))
	mustSend(t, b, request("f", "timed", props(message.PropTimerDelayMs, "3600000", message.PropUniqueKey, "U1")))
	mustSend(t, b, request("f", "tick", props(schedule.PropCron, "0 0 1 1 *", schedule.PropCronName, "yearly")))
	before, err := b.ListDelayed(DelayFilter{})
	if err != nil || len(before.Messages) != 2 {
		t.Fatalf("waiting: %+v, %v", before.Messages, err)
	}
	for i, p := range before.Messages {
		forged := fmt.Sprintf("%d:%d:%d", p.Level, p.Due, p.Position)
		mustSend(t, b, request("f", "forged", props(message.PropTimerDelayMs, "7200000", schedule.PropReplaces, forged, message.PropUniqueKey, fmt.Sprint("F", i))))
	}
	mustSend(t, b, request("f", "rolled", props(message.PropTimerDeliverMs, fmt.Sprint(before.Messages[1].Due), message.PropUniqueKey, "U1", message.PropTimerRollTimes, "1")))
	mustSend(t, b, request("f", "early", props(message.PropDelay, "1", schedule.PropDue, "1:0:0")))
	mustSend(t, b, request("f", "tock", props(schedule.PropCron, "0 0 1 1 *", schedule.PropCronName, "yearly", schedule.PropOperation, "remove")))
	if list, err := b.ListDelayed(DelayFilter{}); err != nil || len(list.Messages) != 6 {
		t.Errorf("%d messages wait, want 6: %+v, %v", len(list.Messages), list.Messages, err)
	}
	if n := len(b.Schedules()); n != 1 {
		t.Errorf("%d schedules, want 1", n)
	}
	for _, topic := range []string{message.TopicTimer, schedule.TopicRecurring} {
		wantKind(t, "a send to "+topic, send(b, request(topic, "x", "")).Err, KindNoPermission)
	}
}

// TestChangedLevelsKeepRebuiltQueues makes the queue of a level anew from the
// log with another table of levels than the one its messages were sent with.
func TestChangedLevelsKeepRebuiltQueues(t *testing.T) {
	dir := t.TempDir()
	o := Options{Settings: DefaultSettings(), StoreHost: testAddr}
	o.Settings.DelayLevels = schedule.Levels{time.Second, time.Hour}
	b, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, b, request("h", "hour", props(message.PropDelay, "2")))
	before, err := b.ListDelayed(DelayFilter{})
	if err != nil || len(before.Messages) != 1 {
		t.Fatalf("waiting: %+v, %v", before.Messages, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "consumequeue", message.TopicSchedule)); err != nil {
		t.Fatal(err)
	}
	o.Settings.DelayLevels = schedule.Levels{time.Millisecond}
	if b, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	if _, ok := readBack(b, message.TopicSchedule, 1); !ok {
		t.Error("the queue was not made anew")
	}
	after, err := b.ListDelayed(DelayFilter{})
	if err != nil || len(after.Messages) != 1 || after.Messages[0].Due != before.Messages[0].Due {
		t.Errorf("waiting: %+v, %v, before %+v", after.Messages, err, before.Messages)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAllMessagesWithAKeyAreChanged: more than fit into a page.
func TestAllMessagesWithAKeyAreChanged(t *testing.T) {
	const total = 2*delayPageSize + 10
	b := openBroker(t, t.TempDir(), quickLevels)
	for i := range total {
		mustSend(t, b, request("k", "x", props(message.PropTimerDelayMs, fmt.Sprint(3_600_000+i), message.PropKeys, "all")))
	}
	changeAll(t, b, DelayChange{Key: "all", Due: time.Now().Add(2 * time.Hour).UnixMilli()}, total, "moved")
	changeAll(t, b, DelayChange{Key: "all"}, total, "cancelled")
	_, _, err := b.FindDelayed(DelayChange{Key: "all"})
	wantKind(t, "what is left", err, KindIllegalOperation)
}

func changeAll(t *testing.T, b *Broker, c DelayChange, total int, name string) {
	t.Helper()
	n := 0
	for {
		changed, next, err := b.ChangeDelayed(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range changed {
			if n++; m.Error != "" {
				t.Errorf("%s was not %s: %s", m.Unique, name, m.Error)
			}
		}
		if next == (DelayPage{}) {
			break
		}
		c.Page = next
	}
	if n != total {
		t.Errorf("%d messages were %s, want %d", n, name, total)
	}
}

// TestBrokerWithoutAnIndexDelivers has recall marks that must find a message.
func TestBrokerWithoutAnIndexDelivers(t *testing.T) {
	b := openBroker(t, t.TempDir(), func(s *Settings) {
		quickLevels(s)
		s.NoIndex = true
	})
	due := fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())
	mustSend(t, b, request("n", "gone", props(message.PropTimerDeliverMs, due, message.PropUniqueKey, "U1")))
	mustSend(t, b, request("n", "0", props(message.PropTimerDeliverMs, due, message.PropTimerDelUniqueKey, "U1")))
	mustSend(t, b, request("n", "timed", props(message.PropTimerDelayMs, "20")))
	mustSend(t, b, request("n", "level", props(message.PropDelay, "1")))
	pullAll(t, b, "n", 0, 2)
	if list, err := b.ListDelayed(DelayFilter{}); err != nil || len(list.Messages) != 0 {
		t.Errorf("waiting: %+v, %v", list.Messages, err)
	}
	_, err := b.ListDelayed(DelayFilter{Key: "U1"})
	wantKind(t, "a list by key", err, KindSystem)
}

// readBack returns the first entry of a queue.
func readBack(b *Broker, topic string, queue int32) (store.Entry, bool) {
	var e [1]store.Entry
	n, err := b.store.Entries(topic, queue, 0, e[:])
	return e[0], err == nil && n == 1
}

func TestMessagesGivenBackComeAgainAndThenAreDead(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	mustSend(t, b, request("src", "hard", props(message.PropKeys, "k", message.PropUniqueKey, "U")))
	m := pullAll(t, b, "src", 0, 1)[0]
	for n := range 2 {
		if err := b.SendBack(&SendBackRequest{Group: "g", Position: m.Position, MaxReconsumeTimes: 2, StoreHost: testAddr}); err != nil {
			t.Fatal(err)
		}
		m = pullAll(t, b, message.RetryTopic("g"), 0, n+1)[n]
		p := m.Properties
		if m.ReconsumeTimes != int32(n+1) || p.Value(message.PropRetryTopic) != "src" || p.Value(message.PropDelay) != fmt.Sprint(3+n) || p.Value(message.PropUniqueKey) != "U" {
			t.Errorf("retry %d: %d times, %q", n+1, m.ReconsumeTimes, p)
		}
	}
	if err := b.SendBack(&SendBackRequest{Group: "g", Position: m.Position, MaxReconsumeTimes: 2, StoreHost: testAddr}); err != nil {
		t.Fatal(err)
	}
	dead := pullAll(t, b, message.DLQTopic("g"), 0, 1)[0]
	if p := dead.Properties; string(dead.Body) != "hard" || dead.ReconsumeTimes != 3 || p.Value(message.PropOriginMessageID) == "" {
		t.Errorf("the dead letter: %d times, %q", dead.ReconsumeTimes, p)
	}
	err := b.SendBack(&SendBackRequest{Group: "g", Position: 1 << 40, MaxReconsumeTimes: -1, StoreHost: testAddr})
	wantKind(t, "a position without a record", err, KindSystem)
}

func TestDelayedMessagesOutliveRetention(t *testing.T) {
	b := openBroker(t, t.TempDir(), func(s *Settings) {
		quickLevels(s)
		s.DelayLevels = schedule.Levels{4 * time.Second}
		s.SegmentSize = 64 << 10
	})
	mustSend(t, b, request("keep", "timed", props(message.PropTimerDelayMs, "4000")))
	mustSend(t, b, request("keep", "level", props(message.PropDelay, "1")))
	filler := string(make([]byte, 8<<10))
	for range 30 {
		mustSend(t, b, request("filler", filler, ""))
	}
	if n, err := b.store.DropBefore(b.store.Max()); err != nil || n == 0 {
		t.Fatalf("DropBefore: %d segments, %v", n, err)
	}
	for _, m := range pullAll(t, b, "keep", 0, 2) {
		if m.Position < b.store.Min() {
			t.Errorf("%s lies before the log's start", m.Body)
		}
	}
}

// TestDelayedMessagesSurviveAPowerCut takes the machine away at random moments
// of a delivery. The kv store is copied after the disk of the log, so that a
// progress that ran ahead of the log would lose messages.
func TestDelayedMessagesSurviveAPowerCut(t *testing.T) {
	const total = 60
	for round := range 4 {
		dir, mem := t.TempDir(), vfs.NewMem()
		settings := func(s *Settings) {
			quickLevels(s)
			s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = 1<<20, 1000, 1000, 4000
			s.FlushEvery = 20 * time.Millisecond
			s.NoIndex = true // written through a mapping, which CrashClone must not meet
		}
		b := openBrokerOn(t, dir, mem, settings)
		for i := range total {
			p := props(message.PropDelay, fmt.Sprint(i%4+1))
			if i%2 == 0 {
				p = props(message.PropTimerDelayMs, fmt.Sprint(100+i*20))
			}
			mustSend(t, b, request("cut", fmt.Sprint(i), p))
		}
		if err := b.store.Sync(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Intn(1500)) * time.Millisecond)
		disk := mem.CrashClone(rand.New(rand.NewSource(int64(round))))
		after := t.TempDir()
		if err := os.CopyFS(filepath.Join(after, "kv"), os.DirFS(filepath.Join(dir, "kv"))); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		// The store's folder keeps its name on the cloned disk, the kv store is on the real one.
		if err := os.RemoveAll(filepath.Join(dir, "kv")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(dir, "kv"), os.DirFS(filepath.Join(after, "kv"))); err != nil {
			t.Fatal(err)
		}
		b = openBrokerOn(t, dir, disk, settings)
		seen := map[string]bool{}
		deadline := time.Now().Add(20 * time.Second)
		for n := 0; len(seen) < total && time.Now().Before(deadline); n++ {
			for _, m := range pullAll(t, b, "cut", 0, n+1)[n:] {
				seen[string(m.Body)] = true
			}
		}
		if len(seen) < total {
			t.Errorf("round %d: %d of %d messages came", round, len(seen), total)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExportHandsDelayedMessagesOver(t *testing.T) {
	dir := t.TempDir()
	o := Options{Settings: DefaultSettings(), StoreHost: testAddr}
	quickLevels(o.Settings)
	o.Settings.DelayLevels = schedule.Levels{time.Hour}
	b, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, b, request("h", "timed", props(message.PropTimerDelayMs, "3600000")))
	mustSend(t, b, request("h", "level", props(message.PropDelay, "1")))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	config, err := Export(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := readTimerProgress(vfs.OS, filepath.Join(config, "timercheck"))
	if err != nil || taken.Offset != 1 {
		t.Errorf("timercheck: %+v, %v", taken, err)
	}
	// The next broker knows the log and Apache's files alone.
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "kv")), os.Remove(filepath.Join(dir, stateFile))); err != nil {
		t.Fatal(err)
	}
	if b, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	list, err := b.ListDelayed(DelayFilter{})
	if err != nil || len(list.Messages) != 2 {
		t.Errorf("waiting: %+v, %v", list.Messages, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
