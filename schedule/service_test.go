package schedule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/message"
)

func ms(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f(w)
		w.close()
	})
}

// after lets time pass and everything that is due happen.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestLevelsAreDeliveredToTheMillisecond(t *testing.T) {
	bubble(t, func(w *world) {
		began := w.now().UnixMilli()
		w.send("orders", "two-hours", message.PropDelay, "18")
		w.send("orders", "one-second", message.PropDelay, "1")
		w.send("orders", "five-seconds", message.PropDelay, "2")
		w.send("orders", "far-level", message.PropDelay, "99")
		w.send("orders", "plain", message.PropDelay, "0")
		w.send("orders", "negative", message.PropDelay, "-3")
		after(999 * time.Millisecond)
		w.want("plain negative")
		after(time.Millisecond)
		w.want("plain negative one-second")
		after(3 * time.Hour)
		w.want("plain negative one-second five-seconds two-hours far-level")
		for i, delay := range []int64{1000, 5000, 7_200_000, 7_200_000} {
			if a := w.delivered()[i+2]; a.at != began+delay {
				t.Errorf("%s came %d ms after its time", a.body, a.at-began-delay)
			}
		}
		v := w.log.views()[3]
		if p := v.Properties(); string(v.Topic()) != "orders" || p.Value(message.PropDelay) != "2" || p.Value(message.PropRealTopic) != "orders" {
			t.Errorf("five-seconds went to %s with %q", v.Topic(), p)
		}
	})
}

func TestAnyInstantIsDeliveredToTheMillisecond(t *testing.T) {
	bubble(t, func(w *world) {
		began := w.now()
		at := map[string]time.Duration{"a": 4301 * time.Millisecond, "b": 4300 * time.Millisecond, "c": 3 * time.Second, "d": 400 * 24 * time.Hour, "e": 70 * time.Second}
		w.send("t", "a", message.PropTimerDeliverMs, ms(began.Add(at["a"])))
		w.send("t", "b", message.PropTimerDelayMs, "4300")
		w.send("t", "c", message.PropTimerDelaySec, "3")
		w.send("t", "d", message.PropStartDeliverTime, ms(began.Add(at["d"])))
		w.send("t", "e", message.PropTimerDelayMs, "70000", message.PropTimerDeliverMs, "17")
		w.send("t", "past", message.PropTimerDeliverMs, ms(began.Add(-time.Hour)))
		w.send("t", "none", message.PropTimerDelayMs, "-5")
		after(2 * time.Minute)
		if err := w.s.Close(); err != nil { // a second at a time takes too long
			t.Fatal(err)
		}
		time.Sleep(400*24*time.Hour - 3*time.Minute)
		w.open()
		after(2 * time.Minute)
		w.want("past none c b a e d")
		for _, a := range w.delivered()[2:] {
			if want := began.Add(at[a.body]).UnixMilli(); a.at != want {
				t.Errorf("%s came %d ms after its time", a.body, a.at-want)
			}
		}
		if n := w.s.pending.Load(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(w *world) {
		for _, c := range [][]string{
			{message.PropDelay, "soon"}, {message.PropTimerDelayMs, "1.5"}, {message.PropTimerDelaySec, "1e3"}, {message.PropTimerDeliverMs, "tomorrow"},
			{message.PropTimerDelaySec, "400000000"}, {message.PropTimerDelayMs, "9223372036854775807"}, {message.PropTimerDeliverMs, "9223372036854775807"},
			{message.PropTimerDelaySec, "99999999999999999999"}, {PropCron, "often"}, {PropCron, "CRON_TZ=UTC"}, {PropCron, "0 0 31 2 *"},
			{PropCron, "* * * * *", PropCronCount, "0"}, {PropCron, "* * * * *", PropCronMissed, "maybe"}, {PropCron, "* * * * *", PropCronUntil, "never"},
			{PropCron, "* * * * *", message.PropDelay, "2"}, {PropCron, "CRON_TZ=Nowhere/Else * * * * *"},
		} {
			_, _, err := w.trySend("t", "x", c...)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Kind != Illegal {
				t.Errorf("%q: %v, want a refusal", c, err)
			}
		}
		w.change(func(r *Rules) { r.Longest = 90 * time.Minute })
		for text, c := range map[string][2]string{"1h30m0s ahead": {message.PropTimerDelaySec, "7200"}, "1 to 18": {message.PropDelay, "soon"}} {
			if _, _, err := w.trySend("t", "x", c[0], c[1]); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: %v, want %q in it", c, err, text)
			}
		}
		w.change(func(r *Rules) { r.Timer = false })
		if _, _, err := w.trySend("t", "x", message.PropTimerDelayMs, "5"); err == nil {
			t.Error("a timed message is taken although the timer is off")
		}
		w.want("")
	})
}

func TestRestartGoesOnWhereItWas(t *testing.T) {
	bubble(t, func(w *world) {
		for i := range 20 {
			w.send("t", fmt.Sprint("l", i), message.PropDelay, "1")
			w.send("t", fmt.Sprint("t", i), message.PropTimerDelayMs, "1000")
			after(100 * time.Millisecond)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		before := len(w.delivered())
		time.Sleep(72 * time.Hour)
		w.open()
		after(time.Second)
		if got := len(w.delivered()); got != 40 || before == 0 || before == 40 {
			t.Fatalf("%d messages were delivered, %d before the restart", got, before)
		}
	})
}

func TestOverdueComesInOrderInBoundedBatches(t *testing.T) {
	bubble(t, func(w *world) {
		w.s.Close()
		w.o.MaxBatch, w.o.MaxDue = 16, 64
		for i := range 500 {
			w.send("t", fmt.Sprint(i), message.PropTimerDelayMs, fmt.Sprint(1000+(i*7919)%5000))
			w.send("t", fmt.Sprint("L", i), message.PropDelay, fmt.Sprint(i%3+1))
		}
		time.Sleep(48 * time.Hour)
		before := w.log.count()
		w.open()
		after(10 * time.Second)
		list := w.log.views()
		if len(list) != 1000 {
			t.Fatalf("%d of 1000 came", len(list))
		}
		if w.log.count()-before < 1000/16 {
			t.Errorf("they came in %d batches", w.log.count()-before)
		}
		last := int64(0)
		for _, v := range list {
			due, timed := dueOf(v.Properties())
			if !timed {
				continue
			}
			if due < last {
				t.Fatalf("%s is delivered behind what is due %d ms later", v.Body(), last-due)
			}
			last = due
		}
	})
}

func TestClockSteps(t *testing.T) {
	t.Run("forwards", func(t *testing.T) {
		bubble(t, func(w *world) {
			w.send("t", "hour", message.PropDelay, "17")
			w.send("t", "day", message.PropTimerDelaySec, "86400")
			after(time.Second)
			w.step.Store(int64(25 * time.Hour))
			after(1100 * time.Millisecond)
			w.want("hour day")
		})
	})
	t.Run("backwards", func(t *testing.T) {
		bubble(t, func(w *world) {
			w.send("t", "level", message.PropDelay, "1")
			w.send("t", "timed", message.PropTimerDelayMs, "1500")
			after(10 * time.Millisecond)
			w.step.Store(int64(-time.Hour))
			// A store's times never run back: the mem log keeps them, too.
			w.send("t", "new", message.PropTimerDelayMs, "2000")
			after(59 * time.Minute)
			w.want("new")
			after(2 * time.Minute)
			w.want("new level timed")
		})
	})
	t.Run("backwards, levels sent behind what waits", func(t *testing.T) {
		bubble(t, func(w *world) {
			w.send("t", "second", message.PropDelay, "1")
			w.send("t", "first-hours", message.PropDelay, "18")
			after(100 * time.Minute)
			w.send("t", "last-hours", message.PropDelay, "18") // due in three hours of the clock that was set back
			w.step.Store(int64(-time.Hour))
			began := time.Now()
			w.send("t", "new-second", message.PropDelay, "1")
			w.send("t", "new-hours", message.PropDelay, "18")
			after(4 * time.Hour)
			w.want("second new-second first-hours new-hours last-hours")
			for i, delay := range map[int]time.Duration{1: time.Second, 2: 80 * time.Minute, 3: 2 * time.Hour, 4: 3 * time.Hour} {
				if a := w.arrived(i); a.Sub(began) != delay {
					t.Errorf("message %d came %v after the step, want %v", i, a.Sub(began), delay)
				}
			}
		})
	})
}

func TestShorterLevelTableDeliversNothingEarly(t *testing.T) {
	bubble(t, func(w *world) {
		began := w.now().UnixMilli()
		w.send("t", "old", message.PropDelay, "5") // a minute
		w.send("t", "gone", message.PropDelay, "18")
		w.s.Close()
		w.change(func(r *Rules) { r.Levels, _ = ParseLevels("1s 2s 3s 4s 5s") })
		w.open()
		after(time.Second)
		w.send("t", "new", message.PropDelay, "5")
		after(10 * time.Second)
		w.want("new")
		after(3 * time.Hour)
		w.want("new old gone")
		if at := w.delivered()[1].at - began; at != 60_000 {
			t.Errorf("the old one came after %d ms", at)
		}
	})
}

// TestChangedLevelsMisplaceNothing makes the entries anew from the log, as after
// a crash or by a repair, when the table has changed.
func TestChangedLevelsMisplaceNothing(t *testing.T) {
	for _, table := range []string{"1s 2s 3s", "1s 5s 10s 30s 10m 5h", "3h 3h 3h 3h 3h"} {
		t.Run(table, func(t *testing.T) {
			bubble(t, func(w *world) {
				began := w.now()
				w.send("t", "minute", message.PropDelay, "5")
				w.send("t", "five", message.PropDelay, "9")
				noError(t, "Close", w.s.Close())
				w.change(func(r *Rules) { r.Levels, _ = ParseLevels(table) })
				w.log.rebuild(w.rules.Load().Levels)
				w.open()
				after(10 * time.Hour)
				w.want("minute five")
				for i, delay := range []time.Duration{time.Minute, 5 * time.Minute} {
					if took := w.arrived(i).Sub(began); took != delay {
						t.Errorf("message %d came after %v, want %v", i, took, delay)
					}
				}
				if p := w.log.views()[0].Properties(); p.Value(PropDue) != "" {
					t.Errorf("%s reaches consumers: %q", PropDue, p)
				}
			})
		})
	}
}

func TestStraysAreSetAsideInChunks(t *testing.T) {
	bubble(t, func(w *world) {
		const total = 2*strayChunk + 10
		noError(t, "Close", w.s.Close())
		w.o.Idle = true
		w.open()
		for i := range total {
			w.send("t", fmt.Sprint("stray", i), message.PropDelay, "18")
		}
		w.step.Store(int64(-3 * time.Hour))
		w.send("t", "due", message.PropTimerDelayMs, "1")
		time.Sleep(time.Millisecond)
		noError(t, "keep", w.s.keep(t.Context()))
		d := &delivery{s: w.s}
		syncs := w.log.syncs
		for i, left := range []int{strayChunk + 10, 10, 0} {
			full, err := d.run()
			if waits := w.s.Stats().Levels[18]; err != nil || waits != int64(left) || full != (left > 0) || w.log.syncs != syncs+i+1 {
				t.Errorf("after %d batches %d are left, want %d; full is %v; %d syncs; %v", i+1, waits, left, full, w.log.syncs-syncs, err)
			}
			w.want("due")
		}
		noError(t, "Close", w.s.Close())
		w.o.Idle = false
		w.open()
		after(6 * time.Hour)
		if n := len(w.delivered()); n != total+1 {
			t.Errorf("%d messages came, want %d", n, total+1)
		}
	})
}

func TestShorterLevelsHoldNothingNewUp(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "old-1", message.PropDelay, "18")
		after(30 * time.Minute)
		w.send("t", "old-2", message.PropDelay, "18")
		after(40 * time.Minute)
		noError(t, "Close", w.s.Close())
		w.change(func(r *Rules) {
			r.Levels, _ = ParseLevels("1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 1h")
		})
		w.open()
		began := w.now()
		w.send("t", "new", message.PropDelay, "18")
		after(2 * time.Hour)
		w.want("old-1 new old-2")
		if took := w.arrived(1).Sub(began); took != time.Hour {
			t.Errorf("the new one came after %v", took)
		}
	})
}

// TestDueTimeOfAnEarlierSendingCountsNoMore: a consumer's broker that does not know our property hands it
// on, and the message may be delayed once more.
func TestDueTimeOfAnEarlierSendingCountsNoMore(t *testing.T) {
	levels, _ := ParseLevels(DefaultLevels)
	record := func(stamp string) message.View {
		m := message.Message{Topic: message.TopicSchedule, QueueID: 2, StoreTimestamp: 9_000_000, BornTimestamp: 5_000_000, ReconsumeTimes: 1}
		m.Properties = m.Properties.Append(PropDue, stamp)
		rec, err := message.AppendRecord(nil, &m)
		noError(t, "AppendRecord", err)
		return rec
	}
	for stamp, want := range map[string]int64{
		"5010000:5000000:1": 5_010_000, "5010000:5000000:0": 9_010_000, "5010000:4000000:1": 9_010_000, "5010000": 9_010_000, "soon:5000000:1": 9_010_000,
	} {
		if code, ok := levels.EntryCode(record(stamp)); !ok || code != want {
			t.Errorf("%s: %d, %v, want %d", stamp, code, ok, want)
		}
	}
}

func TestAppendsThatFailAreTriedAgain(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "a", message.PropTimerDelayMs, "1000")
		w.send("t", "b", message.PropDelay, "1")
		w.log.mu.Lock()
		w.log.fail = errors.New("the disk is full")
		w.log.mu.Unlock()
		after(5 * time.Second)
		w.want("")
		w.log.mu.Lock()
		w.log.fail = nil
		w.log.mu.Unlock()
		after(2 * time.Second)
		w.want("a b")
		if len(w.warns) == 0 {
			t.Error("nobody was told")
		}
		w.warns = nil
	})
}
