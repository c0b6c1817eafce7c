package txn

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

func TestWhenChecksCome(t *testing.T) {
	for _, row := range []struct {
		name, props string
		want        []time.Duration // from birth
		pass        time.Duration
	}{
		{"settings", "", []time.Duration{6 * time.Second, 36 * time.Second, 66 * time.Second}, 90 * time.Second},
		{"own immunity", "CHECK_IMMUNITY_TIME_IN_SECONDS\x0120\x02", []time.Duration{20 * time.Second, 50 * time.Second}, 60 * time.Second},
		{"immunity below the time-out", "CHECK_IMMUNITY_TIME_IN_SECONDS\x013\x02", []time.Duration{3 * time.Second, 33 * time.Second}, 40 * time.Second},
		{"no number", "CHECK_IMMUNITY_TIME_IN_SECONDS\x01soon\x02", []time.Duration{6 * time.Second}, 20 * time.Second},
		{"minus one", "CHECK_IMMUNITY_TIME_IN_SECONDS\x01-1\x02", []time.Duration{6 * time.Second}, 20 * time.Second},
		{"checks of an earlier life", "TRANSACTION_CHECK_TIMES\x012\x02", []time.Duration{30 * time.Second}, 45 * time.Second},
	} {
		w := newWorld(t)
		w.online["g"] = true
		born := w.clock
		var got []time.Duration
		w.onCheck = func(*Check) { got = append(got, w.clock.Sub(born)) }
		w.half("g", "K", row.props)
		w.pass(row.pass)
		if len(got) != len(row.want) {
			t.Errorf("%s: checks at %v, want %v", row.name, got, row.want)
			continue
		}
		for i := range got {
			if d := got[i] - row.want[i]; d < 0 || d > time.Second {
				t.Errorf("%s: checks at %v, want %v", row.name, got, row.want)
			}
		}
	}
}

func TestCounterRisesOnlyWithChecksThatWereSent(t *testing.T) {
	w := newWorld(t)
	e := w.half("g", "K", "")
	w.pass(10 * time.Minute) // nobody is there
	if h := w.c.pending[e.Offset]; h.checks != 0 || len(w.gone) < 5 || len(w.gone) > 12 {
		t.Fatalf("%d checks counted, told %d times that nobody is there", h.checks, len(w.gone))
	}
	if got := w.c.Stats().Waiting["g"]; got != 1 {
		t.Errorf("%d halves are waiting for a producer, want 1", got)
	}
	w.online["g"], w.deaf = true, true
	w.pass(time.Minute) // nobody hears
	if h := w.c.pending[e.Offset]; h.checks != 0 {
		t.Fatalf("%d checks counted that could not be sent", h.checks)
	}
	w.deaf = false
	w.pass(5 * time.Second)
	if h := w.c.pending[e.Offset]; h.checks != 1 || len(w.checks) != 1 {
		t.Fatalf("%d checks counted, %d sent", h.checks, len(w.checks))
	}
	if got := w.c.Stats().Waiting; len(got) != 0 {
		t.Errorf("still waiting for a producer: %v", got)
	}
	v, err := message.Parse(w.checks[0].Record)
	if err != nil {
		t.Fatal(err)
	}
	if string(v.Topic()) != "orders" || v.QueueID() != 3 || v.Properties().Value(message.PropCheckTimes) != "1" || v.VerifyBody() != nil {
		t.Errorf("asked with %s queue %d, %v", v.Topic(), v.QueueID(), v.Properties().Map())
	}
}

func TestGivenUp(t *testing.T) {
	for _, row := range []struct {
		name   string
		online bool
		after  time.Duration
		checks string
	}{
		{"after the last check", true, 97 * time.Second, "3"},
		{"at the greatest age", false, time.Hour + 10*time.Second, "0"},
	} {
		w := newWorld(t)
		w.online["g"] = row.online
		e := w.half("g", "K", "")
		w.pass(row.after - 15*time.Second)
		if len(w.c.pending) != 1 {
			t.Fatalf("%s: given up too early", row.name)
		}
		w.pass(20 * time.Second)
		q := w.log.queues[message.TopicCheckMax]
		if len(q) != 1 || len(w.c.pending) != 0 {
			t.Fatalf("%s: %d in the topic of discarded halves, %d pending", row.name, len(q), len(w.c.pending))
		}
		v := w.log.records[q[0]]
		if p := v.Properties(); string(v.Body()) != "body of K" || p.Value(message.PropCheckTimes) != row.checks || p.Value(message.PropRealTopic) != "orders" {
			t.Errorf("%s: discarded as %v", row.name, p.Map())
		}
		if err := w.end(e, Commit); err == nil || w.finals()[e.Position] != 0 {
			t.Errorf("%s: committed after it was given up: %v", row.name, err)
		}
		if err := w.c.Resume(w.log.NewBatch(), v.Position()); err != nil {
			t.Fatal(err)
		}
		w.online["g"] = true
		w.checks = nil
		w.pass(10 * time.Second)
		if len(w.checks) != 1 || w.checks[0].Number != 1 {
			t.Errorf("%s: after the resume %d checks", row.name, len(w.checks))
		}
		tl, err := w.c.Show("K")
		if err != nil || tl.State != "pending" {
			t.Errorf("%s: shown as %+v, %v", row.name, tl, err)
		}
	}
}

func TestCarriedHalfIsEndedByEitherPlace(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, byOld := range []bool{false, true} {
			name := fmt.Sprintf("restart %v, by the old place %v", restart, byOld)
			w := newWorld(t)
			w.online["g"] = true
			old := w.half("g", "K", "")
			w.half("h", "K2", "")
			w.pass(8 * time.Second)
			w.checks = nil
			w.log.flush()
			for range 2 { // twice, so that it moves on from where it moved to
				upto := w.log.End()
				if err := w.c.Carry(upto); err != nil {
					t.Fatal(err)
				}
				w.log.minimum = upto
				w.log.dispatch(w.c, 1<<30)
				w.log.flush()
				w.pass(2 * time.Second)
			}
			if restart {
				w.log.flush()
				if err := w.c.Close(); err != nil {
					t.Fatal(err)
				}
				w.open()
			}
			w.pass(31 * time.Second)
			var check *Check
			for _, c := range w.checks {
				if c.Group == "g" {
					check = c
				}
			}
			if check == nil || check.Number != 2 || len(w.c.pending) != 2 {
				t.Fatalf("%s: the check is %+v, %d pending", name, check, len(w.c.pending))
			}
			e := old
			if !byOld {
				e.Offset, e.Position = check.Offset, check.Position
			}
			if err := w.end(e, Commit); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if n := len(w.log.queues["orders"]); n != 1 || len(w.c.pending) != 1 {
				t.Errorf("%s: %d final messages, %d pending", name, n, len(w.c.pending))
			}
			if err := w.end(End{Group: "g", Offset: check.Offset, Position: check.Position}, Commit); err != nil || len(w.log.queues["orders"]) != 1 {
				t.Errorf("%s: the repeated end: %v, %d final messages", name, err, len(w.log.queues["orders"]))
			}
		}
	}
}

// In a folder of Apache's broker each check stored the half again, and the
// progress of its scan may be anywhere before that.
func TestFolderOfApache(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.half("g", fmt.Sprint("K", i), "")
	}
	w.half("g", "K3", "TRANSACTION_CHECK_TIMES\x011\x02")
	w.half("g", "K3", "TRANSACTION_CHECK_TIMES\x012\x02")
	b := w.log.NewBatch()
	for _, body := range []string{"0,2,", "1"} {
		m := mark([]byte(body), "", "", w.clock)
		if err := b.Add(&m); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Append(); err != nil {
		t.Fatal(err)
	}
	w.log.flush()
	w.log.told = len(w.log.records)
	w.newDB()
	w.open()
	if len(w.c.pending) != 2 || w.c.pending[4].pos == 0 || w.c.pending[6].checks != 2 {
		t.Errorf("pending: %+v, want 4 and 6", w.c.pending)
	}
}

// Apache's broker may have run on a folder in between: it stored again what it
// asked about, and the database does not know.
func TestFolderThatApacheHadInBetween(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.half("g", fmt.Sprint("K", i), "")
	}
	w.pass(3 * time.Second)
	w.log.flush()
	w.c.Stop()
	if err := w.c.Close(); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 2; n++ {
		for i := range 2 {
			w.half("g", fmt.Sprint("K", i), fmt.Sprint("TRANSACTION_CHECK_TIMES\x01", n, "\x02"))
		}
	}
	w.log.told = len(w.log.records)
	w.log.flush()
	w.open()
	if _, ok := w.c.pending[2]; !ok || len(w.c.pending) != 3 || w.c.pending[5].checks != 2 || w.c.pending[6].checks != 2 {
		t.Errorf("pending: %+v, want 2, 5 and 6", w.c.pending)
	}
}

// TestCostsWhatIsPending: of many resolved halves nothing is left, neither in
// memory nor in the database, and a restart reads none of them.
func TestCostsWhatIsPending(t *testing.T) {
	w := newWorld(t)
	b := w.log.NewBatch()
	for i := range 20_000 {
		e := w.half("g", fmt.Sprint("K", i), "")
		e.Verdict = Rollback
		if i%2000 != 0 {
			w.c.End(b, []End{e})
		}
		if i%100 == 0 {
			w.pass(time.Second)
			w.log.flush()
		}
	}
	w.pass(time.Minute)
	w.log.flush()
	w.pass(time.Second)
	if len(w.c.pending) != 10 || w.c.due.Len() > 100 || len(w.c.opMarks) > maxOpMarks {
		t.Errorf("%d pending, %d due, %d op marks", len(w.c.pending), w.c.due.Len(), len(w.c.opMarks))
	}
	n := 0
	if err := w.c.state.halves.Range(nil, nil, func([]byte, storedHalf) bool { n++; return true }); err != nil || n != 10 {
		t.Errorf("%d halves in the database, want 10, %v", n, err)
	}
	counted := &countingLog{memLog: w.log}
	o := w.c.o
	o.Log = counted
	c, err := load(o)
	if err != nil || len(c.pending) != 10 {
		t.Fatalf("%d pending after the restart, %v", len(c.pending), err)
	}
	if counted.reads > 50 {
		t.Errorf("the restart read %d times from the log", counted.reads)
	}
}

type countingLog struct {
	*memLog
	reads int
}

func (l *countingLog) Record(pos message.Position) (message.View, error) {
	l.reads++
	return l.memLog.Record(pos)
}

func (l *countingLog) Place(topic string, off message.Offset) (message.Position, error) {
	l.reads++
	return l.memLog.Place(topic, off)
}

func (l *countingLog) Read(topic string, from message.Offset, fn func(message.View)) (message.Offset, error) {
	return l.memLog.Read(topic, from, func(v message.View) { l.reads++; fn(v) })
}

// TestManyPendingAreAskedSoon: 100,000 halves within a minute, by one producer
// that answers.
func TestManyPendingAreAskedSoon(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	w := newWorld(t)
	ends := map[message.Offset]End{}
	for i := range n {
		e := w.half("g", fmt.Sprint("K", i), "")
		e.FromCheck, e.Verdict = true, Rollback
		ends[e.Offset] = e
	}
	w.log.dispatch(w.c, 1<<30)
	w.online["g"] = true
	b := w.log.NewBatch()
	took := time.Duration(0)
	for ; len(w.c.pending) > 0 && took < 10*time.Minute; took += tickEvery {
		w.clock = w.clock.Add(tickEvery)
		w.log.dispatch(w.c, 1<<30)
		w.c.tick(w.clock)
		w.log.flush()
		for _, c := range w.checks {
			w.c.End(b, []End{ends[c.Offset]})
		}
		w.checks = nil
	}
	if took > time.Minute {
		t.Errorf("%d halves were asked about in %s", n, took)
	}
}

func TestProducerThatNeverAnswersIsNotFlooded(t *testing.T) {
	w := newWorld(t)
	w.online["g"] = true
	for i := range 5000 {
		w.half("g", fmt.Sprint("K", i), "")
	}
	w.pass(7 * time.Second)
	if n := len(w.checks); n == 0 || n > windowMax {
		t.Errorf("%d checks were sent without an answer, want %d at most", n, windowMax)
	}
	w.pass(30 * time.Second)
	if n := len(w.checks); n < 5000 {
		t.Errorf("%d of 5000 halves were asked about after 37 s", n)
	}
}

func TestFailedAppendLeavesTheHalfPending(t *testing.T) {
	w := newWorld(t)
	e := w.half("g", "K", "")
	w.log.fail = errors.New("disk on fire")
	if err := w.end(e, Commit); !errors.Is(err, w.log.fail) {
		t.Fatalf("got %v", err)
	}
	w.log.fail = nil
	if err := w.end(e, Commit); err != nil || w.finals()[e.Position] != 1 {
		t.Errorf("%v, %d final messages", err, w.finals()[e.Position])
	}
}

func TestTimeline(t *testing.T) {
	w := newWorld(t)
	w.online["g"] = true
	e := w.half("g", "K", "KEYS\x01order-1\x02")
	w.pass(7 * time.Second)
	e.FromCheck = true
	if err := w.end(e, Unknown); err != nil {
		t.Fatal(err)
	}
	w.pass(30 * time.Second)
	if err := w.end(e, Commit); err != nil {
		t.Fatal(err)
	}
	w.log.flush()
	w.pass(2 * time.Second)
	for range 2 { // from memory, and after a restart
		tl, err := w.c.Show("K")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range tl.Steps {
			got = append(got, s.What)
		}
		if fmt.Sprint(got) != "[half stored check check commit delivered]" || tl.State != "commit" {
			t.Errorf("%s: %v\n%+v", tl.State, got, tl.Steps)
		}
		w.log.flush()
		if err := w.c.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
	if _, err := w.c.Show("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// A half can be found a moment before the coordinator is told of it.
func TestHalfThatIsNotToldOfYet(t *testing.T) {
	w := newWorld(t)
	e := w.half("g", "K", "")
	state := func(want string) {
		t.Helper()
		if tl, err := w.c.Show("K"); err != nil || tl.State != want {
			t.Errorf("%+v, %v, want %s", tl, err, want)
		}
	}
	state("pending")
	if _, err := w.c.CheckNow("K"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "just been stored") {
		t.Errorf("checked: %v", err)
	}
	if err := w.end(e, Rollback); err != nil {
		t.Fatal(err)
	}
	state("rollback")
	w.pass(time.Second)
	state("rollback")
}

func TestOperatorsWord(t *testing.T) {
	w := newWorld(t)
	e := w.half("g", "K", "")
	w.half("h", "K2", "")
	w.pass(2 * time.Second)
	if list, n, err := w.c.List(Filter{Group: "g"}); err != nil || n != 2 || len(list) != 1 || list[0].Key != "K" {
		t.Errorf("listed %+v of %d, %v", list, n, err)
	}
	if list, _, err := w.c.List(Filter{Age: time.Hour}); err != nil || len(list) != 0 {
		t.Errorf("listed %+v, %v", list, err)
	}
	tl, err := w.c.Resolve(w.log.NewBatch(), "K", Commit, End{Client: testHost})
	if err != nil || tl.State != "commit" || w.finals()[e.Position] != 1 {
		t.Fatalf("%+v, %v", tl, err)
	}
	if _, err := w.c.Resolve(w.log.NewBatch(), "K", Rollback, End{Client: testHost}); err == nil {
		t.Error("a rollback after the commit was taken")
	}
	w.online["h"] = true
	if _, err := w.c.CheckNow("K2"); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	if len(w.checks) != 1 {
		t.Errorf("%d checks after an operator asked for one", len(w.checks))
	}
	if _, err := w.c.CheckNow("K"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestRunAndClose lets the goroutine do it, in a bubble of time.
func TestRunAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newMemLog(func() int64 { return time.Now().UnixMilli() })
		db, err := kv.Open("mem", kv.Options{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			db.Close()
			time.Sleep(time.Minute) // goleveldb ends its goroutines a while after
		}()
		w := &world{t: t, log: log, online: map[string]bool{"g": true}}
		c, err := Open(Options{
			Log: log, DB: db, Pick: func(g string) (Producer, bool) { return &modelProducer{w, g}, true },
			Rules: func() Rules { return Rules{6 * time.Second, 30 * time.Second, 15, time.Hour} },
		})
		if err != nil {
			t.Fatal(err)
		}
		w.c, w.clock = c, time.Now()
		w.half("g", "K", "")
		log.dispatch(c, 10)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if len(w.checks) != 2 {
			t.Errorf("%d checks in 40 s, want 2", len(w.checks))
		}
		log.flush()
		c.Stop()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if h, found, err := c.state.halves.Get(offKey(0)); err != nil || !found || h.checks != 2 {
			t.Errorf("saved as %+v, %v, %v", h, found, err)
		}
	})
}

func FuzzMarks(f *testing.F) {
	f.Add([]byte("1,2,"))
	f.Add([]byte("7"))
	f.Add([]byte(",,-1,9999999999999999999999,x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		eachMarked(b, func(off message.Offset) {
			if off < 0 {
				t.Fatalf("%d", off)
			}
		})
		_, _ = decodeStoredHalf(b)
	})
}
