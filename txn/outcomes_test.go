package txn

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// The verdict that stands is known after more ends than are remembered, after a
// restart, and from the marks alone.
func TestVerdictStandsHoweverLate(t *testing.T) {
	for _, how := range []string{"many later ends", "a restart", "a restart without the database"} {
		w := newWorld(t)
		verdicts := map[Verdict]End{Commit: w.half("g", "K1", ""), Rollback: w.half("g", "K2", "")}
		old := w.half("g", "K3", "")
		for v, e := range verdicts {
			if err := w.end(e, v); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(2 * time.Second)
		if err := w.c.Carry(w.log.End()); err != nil {
			t.Fatal(err)
		}
		w.pass(2 * time.Second)
		if err := w.end(old, Commit); err != nil {
			t.Fatal(err)
		}
		w.log.flush()
		w.pass(2 * time.Second)
		switch how {
		case "many later ends":
			w.c.mu.Lock()
			for i := range message.Offset(recentEndsMax) {
				w.c.recent.add(1_000_000+i, Commit)
			}
			w.c.mu.Unlock()
			fallthrough
		case "a restart":
			verdicts[Commit+100] = old
		default:
			w.newDB()
		}
		if how != "many later ends" {
			w.open()
		}
		finals := len(w.log.queues["orders"])
		for stands, e := range verdicts {
			if stands > 100 {
				stands -= 100
			}
			for _, v := range []Verdict{Commit, Rollback} {
				if err := w.end(e, v); (err == nil) != (v == stands) {
					t.Errorf("after %s: %v of the half %d, which has %v: %v", how, v, e.Offset, stands, err)
				}
			}
		}
		if n := len(w.log.queues["orders"]); n != finals || !slices.Equal(w.refused, slices.Repeat([]string{"g contradicted"}, len(verdicts))) {
			t.Errorf("after %s: %d more final messages, refused %v", how, n-finals, w.refused)
		}
	}
}

// A mark of another broker does not say how it ended a half.
func TestForgottenVerdictIsNoSuccess(t *testing.T) {
	w := newWorld(t)
	e := w.half("g", "K", "")
	m := mark([]byte("0,"), "", "", w.clock)
	b := w.log.NewBatch()
	if err := errors.Join(b.Add(&m), b.Append()); err != nil {
		t.Fatal(err)
	}
	w.log.told = len(w.log.records)
	w.newDB()
	w.open()
	for _, v := range []Verdict{Commit, Rollback} {
		if err := w.end(e, v); err == nil {
			t.Errorf("%v is answered with success", v)
		}
	}
	if !slices.Equal(w.refused, []string{"g forgotten", "g forgotten"}) || len(w.log.queues["orders"]) != 0 {
		t.Errorf("refused %v, %d final messages", w.refused, len(w.log.queues["orders"]))
	}
	if tl, err := w.c.Show("0"); err != nil || tl.State != StateForgotten {
		t.Errorf("shown as %+v, %v", tl, err)
	}
}

// Old verdicts go with the log, and those of a lost end of it do not come back.
func TestVerdictsGoWithTheLog(t *testing.T) {
	w := newWorld(t)
	b := w.log.NewBatch()
	const n = 3*outcomesPerPage + 10
	for i := range n {
		e := w.half("g", "K", "")
		e.Verdict = Rollback
		w.c.End(b, []End{e})
		if i == 2*outcomesPerPage {
			w.log.minimum = e.Position
		}
	}
	w.log.flush()
	w.pass(2 * time.Minute)
	pages := func() (list []int64) {
		err := w.c.outcomes.bucket.Range(nil, nil, func(key, _ []byte) bool { list = append(list, int64(offOf(key))); return true })
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := pages(); !slices.Equal(got, []int64{2, 3}) {
		t.Errorf("pages %v are kept, want 2 and 3", got)
	}
	if err := w.c.loadPending(0, 2*outcomesPerPage+5); err != nil {
		t.Fatal(err)
	}
	p, err := w.c.outcomes.stored(2)
	if got := pages(); err != nil || !slices.Equal(got, []int64{2}) || p.get(4) != Rollback || p.get(5) != Unknown {
		t.Errorf("pages %v are kept, %v and %v, %v", got, p.get(4), p.get(5), err)
	}
}
