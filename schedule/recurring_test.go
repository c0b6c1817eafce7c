package schedule

import (
	"strconv"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// planned returns the planned times of all firings, relative to a time.
func (w *world) planned(since time.Time) (list []time.Duration) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, v := range w.log.delivered {
		ms, _ := strconv.ParseInt(v.Properties().Value(PropPlanned), 10, 64)
		list = append(list, time.UnixMilli(ms).Sub(since))
	}
	return list
}

func TestScheduleFiresAtItsTimes(t *testing.T) {
	bubble(t, func(w *world) {
		began := w.now()
		w.send("t", "tick", PropCron, "*/10 * * * * *", PropCronName, "ticks", PropCronCount, "3", message.PropTags, "T")
		w.send("t", "tock", PropCron, "@every 15s", PropCronUntil, began.Add(40*time.Second).UTC().Format(time.RFC3339))
		after(5 * time.Minute)
		w.want("tick tock tick tick tock")
		for i, a := range w.delivered() {
			if want := w.planned(began)[i]; a.at-began.UnixMilli() != want.Milliseconds() {
				t.Errorf("%s came at %d, planned was %v", a.body, a.at, want)
			}
		}
		p := w.log.views()[0].Properties()
		if p.Value(PropSchedule) != "ticks" || p.Value(message.PropTags) != "T" || p.Value(PropCron) != "" || p.Value(message.PropUniqueKey) == "U-tick" {
			t.Errorf("a firing has the properties %q", p)
		}
		if list := w.s.Schedules(); len(list) != 2 || list[1].Fired != 3 || list[1].Next != 0 || list[0].Name != "U-tock" {
			t.Errorf("Schedules: %+v", list)
		}
	})
}

func TestMissedFirings(t *testing.T) {
	for missed, want := range map[string]string{MissedSkip: "x x", MissedOnce: "x x x", MissedAll: "x x x x x"} {
		t.Run(missed, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.send("t", "x", PropCron, "CRON_TZ=UTC 0 * * * *", PropCronName, "hourly", PropCronMissed, missed)
				after(61 * time.Minute)
				w.want("x")
				noError(t, "Close", w.s.Close())
				time.Sleep(3*time.Hour + 10*time.Minute)
				w.open()
				after(50 * time.Minute)
				w.want(want)
			})
		})
	}
}

func TestScheduleIsPausedResumedReplacedAndRemoved(t *testing.T) {
	bubble(t, func(w *world) {
		minutes := func(n int) {
			w.log.forget()
			after(time.Duration(n) * time.Minute)
		}
		w.send("t", "a", PropCron, "* * * * *", PropCronName, "n", PropCronMissed, MissedAll)
		minutes(3)
		w.want("a a a")
		noError(t, "Pause", w.s.Pause("n"))
		minutes(10)
		w.want("")
		w.crash()
		w.open()
		minutes(1)
		w.want("")
		noError(t, "Resume", w.s.Resume("n"))
		minutes(2)
		w.want("a a")
		w.send("t", "b", PropCron, "* * * * *", PropCronName, "n")
		minutes(2)
		w.want("b b")
		_, next, err := w.s.NextFirings("n", 3)
		if err != nil || len(next) != 3 || next[1]-next[0] != 60_000 {
			t.Errorf("NextFirings: %v, %v", next, err)
		}
		noError(t, "Remove", w.s.Remove("n"))
		minutes(5)
		w.want("")
		if err := w.s.Remove("n"); err == nil {
			t.Error("it can be removed twice")
		}
	})
}

func TestFiringsAreCountedOverACrash(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "x", PropCron, "*/20 * * * * *", PropCronName, "n", PropCronCount, "4")
		after(50 * time.Second)
		w.crash() // more than a second after the last firing: it was saved
		w.open()
		after(5 * time.Minute)
		w.want("x x x x")
	})
}

func TestScheduleAfterTheClockWasWrong(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "x", PropCron, "* * * * *", PropCronName, "n")
		w.step.Store(int64(1000 * time.Hour))
		after(2 * time.Minute)
		w.step.Store(int64(0))
		n := len(w.delivered())
		after(3 * time.Minute)
		if got := len(w.delivered()) - n; got < 2 || got > 3 {
			t.Errorf("it fired %d times in 3 minutes", got)
		}
	})
}

func TestParseCron(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for spec, want := range map[string]string{
		"0 9 * * MON-FRI":                    "2026-03-02T09:00:00Z",
		"30 0 9 * * *":                       "2026-03-02T09:00:30Z",
		"CRON_TZ=America/New_York 0 9 8 3 *": "2026-03-08T13:00:00Z", // summer time began that day
		"@daily":                             "2026-03-02T00:00:00Z",
		"CRON_TZ=Asia/Kolkata 15 18 * * *":   "2026-03-01T12:45:00Z",
	} {
		plan, err := ParseCron(spec, now)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if got := plan.Next(now).UTC().Format(time.RFC3339); got != want {
			t.Errorf("%s fires at %s, want %s", spec, got, want)
		}
	}
}
