package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

func redriveTopics(t *testing.T, b *Broker) {
	t.Helper()
	if err := b.topics.Update(
		TopicConfig{Name: "orders", ReadQueues: 2, WriteQueues: 2, Perm: PermRead | PermWrite},
		TopicConfig{Name: "other", ReadQueues: 1, WriteQueues: 1, Perm: PermRead | PermWrite},
		TopicConfig{Name: "readonly", ReadQueues: 1, WriteQueues: 1, Perm: PermRead},
	); err != nil {
		t.Fatal(err)
	}
}

func TestRedriveToEachTarget(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	redriveTopics(t, b)
	die(t, b, "g", "orders", 10, func(i int) []string {
		return []string{message.PropDelay, "0", message.PropOriginMessageID, "X", PropAttempts, "1,c", message.PropTags, "T", "color", "red", message.PropReconsumeTime, "3"}
	})
	for _, row := range []struct {
		spec RedriveSpec
		want map[string]int // messages by topic/queue
	}{
		{RedriveSpec{ID: "o", Group: "g"}, map[string]int{"orders/0": 5, "orders/1": 5}},
		{RedriveSpec{ID: "r", Group: "g", To: RedriveRetry, Filter: DeadFilter{Key: "U3"}}, map[string]int{"%RETRY%g/0": 1}},
		{RedriveSpec{ID: "t", Group: "g", To: RedriveTopic, Topic: "other", Filter: DeadFilter{Key: "U4"}}, map[string]int{"other/0": 1}},
	} {
		if _, err := b.Redrive(row.spec); err != nil {
			t.Fatal(err)
		}
		s := waitRedrive(t, b, row.spec.ID, RedriveDone)
		if err := b.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
		sent := 0
		for place, n := range row.want {
			topic, queue, _ := strings.Cut(place, "/")
			q := int32(queue[0] - '0')
			sent += n
			list := pullAll(t, b, topic, q, n)
			if len(list) != n {
				t.Errorf("%s: %d messages in %s, want %d", row.spec.ID, len(list), place, n)
			}
			for _, m := range list {
				p := m.Properties
				retry := row.spec.To == RedriveRetry
				if p.Value(PropRedrive) != row.spec.ID || p.Value(PropRedriveOffset) != string(m.Body) || p.Value(message.PropUniqueKey) != "U"+string(m.Body) ||
					p.Value("color") != "red" || p.Value(message.PropTags) != "T" || m.ReconsumeTimes != 0 || p.Value(PropAttempts)+p.Value(PropDeadReason)+p.Value(message.PropDelay)+p.Value(message.PropReconsumeTime) != "" ||
					(p.Value(message.PropRetryTopic) == "orders") != retry || (p.Value(message.PropOriginMessageID) == "X") != retry {
					t.Errorf("%s: %s has %q", row.spec.ID, m.Body, p)
				}
			}
		}
		if s.Sent != int64(sent) || s.Skipped != int64(10-sent) || s.Failed+s.Gone != 0 {
			t.Errorf("%+v, want %d sent", s, sent)
		}
	}
	if got := must(b.DeadGroups("g"))[0].Messages; got != 10 {
		t.Errorf("%d dead letters are left", got)
	}
	if n := b.DeadStats()["g"]; n.Redriven != 12 {
		t.Errorf("%+v", n)
	}
}

func TestRedriveRefusals(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	redriveTopics(t, b)
	die(t, b, "g", "orders", 3, nil)
	die(t, b, "lost", "deleted", 3, nil)
	die(t, b, "stuck", "readonly", 3, nil)
	die(t, b, "straight", "", 3, nil)
	must(b.groups.AutoCreate("healthy"))
	for _, row := range []struct {
		spec RedriveSpec
		want Kind
		text string
	}{
		{RedriveSpec{ID: "x", Group: "nobody"}, KindGroupNotExist, "merlin dlq list"},
		{RedriveSpec{ID: "x", Group: "healthy"}, KindNotFound, "no dead letters"},
		{RedriveSpec{ID: "", Group: "g"}, KindInvalidParameter, "id"},
		{RedriveSpec{ID: "a b", Group: "g"}, KindInvalidParameter, "letters"},
		{RedriveSpec{ID: "x", Group: "g", Rate: -1}, KindInvalidParameter, "negative"},
		{RedriveSpec{ID: "x", Group: "g", To: "moon"}, KindInvalidParameter, "original, retry or topic"},
		{RedriveSpec{ID: "x", Group: "g", To: RedriveTopic}, KindInvalidParameter, "no topic"},
		{RedriveSpec{ID: "x", Group: "g", To: RedriveTopic, Topic: "unknown"}, KindTopicNotExist, "merlin topic create unknown"},
		{RedriveSpec{ID: "x", Group: "g", To: RedriveTopic, Topic: "readonly"}, KindNoPermission, "not writable"},
		{RedriveSpec{ID: "x", Group: "g", To: RedriveTopic, Topic: "%DLQ%g"}, KindNoPermission, "--topic"},
		{RedriveSpec{ID: "x", Group: "g", To: RedriveTopic, Topic: message.TopicHalf}, KindNoPermission, "--topic"},
		{RedriveSpec{ID: "x", Group: "lost"}, KindTopicNotExist, "deleted"},
		{RedriveSpec{ID: "x", Group: "stuck"}, KindNoPermission, "readonly"},
		{RedriveSpec{ID: "x", Group: "straight"}, KindIllegalMessage, "--topic"},
	} {
		_, err := b.Redrive(row.spec)
		wantKind(t, fmt.Sprintf("%+v", row.spec), err, row.want)
		if err != nil && !strings.Contains(err.Error(), row.text) {
			t.Errorf("%+v: %q does not say %q", row.spec, err, row.text)
		}
	}
	b.retain.full.Store(refuse(KindDiskFull, "the disk is full"))
	_, err := b.Redrive(RedriveSpec{ID: "x", Group: "g"})
	wantKind(t, "a full disk", err, KindDiskFull)
	b.retain.full.Store(nil)
	if list := must(b.Redrives("")); len(list) != 0 {
		t.Errorf("refused re-drives are listed: %+v", list)
	}
	_, err = b.Redrives("x")
	wantKind(t, "an id that is not there", err, KindNotFound)
	_, err = b.CancelRedrive("x")
	wantKind(t, "cancelling what is not there", err, KindNotFound)
	_, err = b.ResumeRedrive("x", -1)
	wantKind(t, "resuming what is not there", err, KindNotFound)

	if _, err := b.Redrive(RedriveSpec{ID: "x", Group: "g"}); err != nil {
		t.Fatal(err)
	}
	waitRedrive(t, b, "x", RedriveDone)
	if s, err := b.Redrive(RedriveSpec{ID: "x", Group: "g"}); err != nil || s.State != RedriveDone || s.Sent != 3 {
		t.Errorf("asked again: %+v, %v", s, err)
	}
	_, err = b.Redrive(RedriveSpec{ID: "x", Group: "g", Filter: DeadFilter{Tag: "T"}})
	wantKind(t, "an id that is taken", err, KindInvalidParameter)
	if plan := must(b.PlanRedrive(RedriveSpec{ID: "p", Group: "stuck"}, 0)); plan.Matched != 3 || len(plan.Problems) != 1 || plan.More {
		t.Errorf("%+v", plan)
	}
	if plan := must(b.PlanRedrive(RedriveSpec{ID: "p", Group: "g", Filter: DeadFilter{Key: "U1"}}, 0)); plan.Matched != 1 || plan.Topics["orders"] != 1 {
		t.Errorf("%+v", plan)
	}
}

// TestRedriveWaitsAndGoesOn: a disk that is full for a while, a target that
// takes nothing any more, a cancel, and a broker that is closed.
func TestRedriveWaitsAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	o := Options{Settings: DefaultSettings(), StoreHost: testAddr}
	quickLevels(o.Settings)
	o.Settings.SegmentSize, o.Settings.QueueFileEntries, o.Settings.IndexSlots, o.Settings.IndexItems = 1<<20, 1000, 1000, 4000
	entered, leave := make(chan string, 100), make(chan struct{})
	hold := true
	o.Settings.redriveBatch = 4
	o.Settings.redriveHook = func(done string) {
		if hold && done == "store" {
			entered <- done
			<-leave
		}
	}
	b := must(Open(dir, o))
	redriveTopics(t, b)
	die(t, b, "g", "orders", 40, nil)
	if _, err := b.Redrive(RedriveSpec{ID: "x", Group: "g", To: RedriveTopic, Topic: "other"}); err != nil {
		t.Fatal(err)
	}
	<-entered
	_, err := b.PurgeDead(&PurgeRequest{Group: "g"})
	wantKind(t, "a purge of what a re-drive needs", err, KindIllegalOperation)
	b.retain.full.Store(refuse(KindDiskFull, "the disk is full"))
	leave <- struct{}{}
	for deadline := time.Now().Add(10 * time.Second); must(b.Redrives("x"))[0].Waiting == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a full disk is not told")
		}
	}
	if s := must(b.Redrives("x"))[0]; s.Waiting != "the disk is full" || s.State != RedriveRunning || s.Sent != 4 || s.From != message.NoPosition {
		t.Errorf("%+v", s)
	}
	b.retain.full.Store(nil)
	<-entered // it went on
	if err := b.topics.Update(TopicConfig{Name: "other", ReadQueues: 1, WriteQueues: 1, Perm: PermRead}); err != nil {
		t.Fatal(err)
	}
	leave <- struct{}{}
	if s := waitRedrive(t, b, "x", RedriveStopped); !strings.Contains(s.Error, "not writable") || s.Sent != 8 {
		t.Errorf("%+v", s)
	}
	_, err = b.ResumeRedrive("x", -1)
	wantKind(t, "going on though nothing changed", err, KindNoPermission)
	if err := b.topics.Update(TopicConfig{Name: "other", ReadQueues: 1, WriteQueues: 1, Perm: PermRead | PermWrite}); err != nil {
		t.Fatal(err)
	}
	must(b.ResumeRedrive("x", -1))
	<-entered
	cancelled := make(chan Redrive)
	go func() { cancelled <- must(b.CancelRedrive("x")) }()
	time.Sleep(10 * time.Millisecond) // so that the cancel is there when the step ends
	leave <- struct{}{}
	if s := <-cancelled; s.State != RedriveCancelled || s.Sent != 12 || s.Error != "" {
		t.Errorf("%+v", s)
	}
	must(b.ResumeRedrive("x", 0))
	<-entered
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	time.Sleep(10 * time.Millisecond)
	leave <- struct{}{}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	hold = false
	b = must(Open(dir, o))
	s := waitRedrive(t, b, "x", RedriveDone)
	if s.Sent != 40 || s.Next != 40 {
		t.Errorf("%+v", s)
	}
	wantOnce(t, b, "other", 40)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantOnce checks that so many different messages are in queue 0, and no other.
func wantOnce(t *testing.T, b *Broker, topic string, n int) {
	t.Helper()
	seen := map[string]int{}
	for _, m := range pullAll(t, b, topic, 0, n) {
		seen[string(m.Body)]++
	}
	if max := b.store.QueueMax(topic, 0); len(seen) != n || max != message.Offset(n) {
		t.Errorf("%d of %d came, %d messages in all", len(seen), n, max)
	}
}

// TestRedriveFollowsWhatIsCarriedForward: the log is deleted under a re-drive.
func TestRedriveFollowsWhatIsCarriedForward(t *testing.T) {
	entered, leave := make(chan string, 100), make(chan struct{})
	b, _, ahead := openAhead(t, func(s *Settings) {
		s.DeadHours.Store(1000)
		s.redriveBatch = 4
		s.redriveHook = func(done string) {
			if done == "store" {
				entered <- done
				<-leave
			}
		}
	})
	redriveTopics(t, b)
	die(t, b, "g", "orders", 40, nil)
	for range 30 {
		mustSend(t, b, request("filler", strings.Repeat("x", 8<<10), ""))
	}
	if _, err := b.Redrive(RedriveSpec{ID: "x", Group: "g", To: RedriveTopic, Topic: "other"}); err != nil {
		t.Fatal(err)
	}
	<-entered
	goOn := sync.OnceFunc(func() { close(leave) })
	defer goOn()
	ahead.Store(100)
	if err := b.Retain(true); err != nil {
		t.Fatal(err)
	}
	if lo := b.store.QueueMin("%DLQ%g", 0); lo != 40 {
		t.Fatalf("the queue begins at %d: nothing was carried", lo)
	}
	die(t, b, "g", "orders", 5, nil) // died later
	goOn()
	if r := waitRedrive(t, b, "x", RedriveDone); r.Sent != 40 || r.Gone != 0 {
		t.Errorf("%+v", r)
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	wantOnce(t, b, "other", 40)
}

// TestRedriveKeepsItsRate: whatever a step takes, no faster and not slower.
func TestRedriveKeepsItsRate(t *testing.T) {
	for _, rate := range []int{1, 7, 100, 5000, 20_000} {
		synctest.Test(t, func(t *testing.T) {
			b := &Broker{cfg: DefaultSettings(), now: time.Now}
			w := &redriveWork{r: &redrives{b: b}}
			w.state.Rate = rate
			began, sent := time.Now(), 0
			for time.Since(began) < 20*time.Second {
				n := w.size()
				w.results = w.results[:0]
				for range n {
					w.note(redriveResult{}, resultSent, "")
					w.note(redriveResult{}, resultSkipped, "") // costs nothing
				}
				time.Sleep(3 * time.Millisecond) // the work
				w.pace(func(d time.Duration) bool {
					time.Sleep(d)
					return true
				})
				sent += n
			}
			if got := float64(sent) / time.Since(began).Seconds(); got > float64(rate)*1.02 || got < float64(rate)*0.98 {
				t.Errorf("%.1f messages a second, want %d", got, rate)
			}
		})
	}
}

// TestOldRedrivesAreForgotten: of those that are done, and of those that were
// stopped or cancelled, the newest are kept; none that is at work goes.
func TestOldRedrivesAreForgotten(t *testing.T) {
	b := openBroker(t, t.TempDir(), quickLevels)
	redriveTopics(t, b)
	die(t, b, "g", "orders", 3, nil)
	r := b.redrives
	add := func(state RedriveState, n int) {
		for i := range n {
			s := Redrive{RedriveSpec: RedriveSpec{ID: fmt.Sprint(state, i), Group: "g", To: RedriveTopic, Topic: "other"}, State: state, Updated: int64(i + 1), From: message.NoPosition}
			r.mu.Lock()
			r.jobs[s.ID] = &redriveJob{state: s}
			r.mu.Unlock()
			if err := r.stored.Put([]byte(s.ID), s, kv.Buffered); err != nil {
				t.Fatal(err)
			}
			if err := r.results.Put(resultKey(s.ID, 0), []byte{resultGone}, kv.Buffered); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(RedriveDone, keptResults+30)
	add(RedriveStopped, 70)
	add(RedriveCancelled, 70)
	must(b.Redrive(RedriveSpec{ID: "new", Group: "g", To: RedriveTopic, Topic: "other"}))
	waitRedrive(t, b, "new", RedriveDone)
	count, results := map[RedriveState]int{}, map[RedriveState]int{}
	for _, s := range must(b.Redrives("")) {
		if stored, found, err := r.stored.Get([]byte(s.ID)); err != nil || !found || stored.State != s.State {
			t.Errorf("%s is stored as %+v, %t, %v", s.ID, stored, found, err)
		}
		if s.State != RedriveDone && s.Updated <= 20 {
			t.Errorf("%s is kept, and newer ones are not", s.ID)
		}
		count[s.State]++
		if _, found, err := r.results.Get(resultKey(s.ID, 0)); err != nil {
			t.Fatal(err)
		} else if found {
			results[s.State]++
		}
	}
	if n := count[RedriveStopped] + count[RedriveCancelled]; n != keptHalted || results[RedriveStopped]+results[RedriveCancelled] != n {
		t.Errorf("stopped or cancelled: %v, with results %v, want %d", count, results, keptHalted)
	}
	if count[RedriveDone] != keptResults+31 || results[RedriveDone] != keptResults {
		t.Errorf("done: %d, %d with results", count[RedriveDone], results[RedriveDone])
	}
	rows := 0
	if err := r.stored.Range(nil, nil, func([]byte, Redrive) bool { rows++; return true }); err != nil {
		t.Fatal(err)
	}
	if want := keptHalted + keptResults + 31; rows != want {
		t.Errorf("%d are stored, want %d", rows, want)
	}
	_, err := b.ResumeRedrive("stopped0", -1)
	wantKind(t, "resuming a forgotten one", err, KindNotFound)
}
