package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

func wantNotPending(t *testing.T, what string, err error) {
	t.Helper()
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Kind != NotPending {
		t.Errorf("%s: %v, want NotPending", what, err)
	}
}

func noError(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestRecallAnswersTruly(t *testing.T) {
	bubble(t, func(w *world) {
		_, d := w.send("t", "recalled", message.PropTimerDelayMs, "5000")
		_, kept := w.send("t", "kept", message.PropTimerDelayMs, "5000")
		handle := func(d Deferred, body string) Handle {
			h, err := ParseHandle(Handle{"t", "b", d.Handle, "U-" + body}.String())
			noError(t, "ParseHandle", err)
			return h
		}
		after(4 * time.Second)
		noError(t, "Recall", w.s.Recall(handle(d, "recalled")))
		wantNotPending(t, "a second recall", w.s.Recall(handle(d, "recalled")))
		wantNotPending(t, "a forged one", w.s.Recall(Handle{"t", "b", d.Handle + 3_600_000, "U-kept"}))
		wantNotPending(t, "of nothing", w.s.Recall(Handle{"t", "b", d.Handle, "U-nobody"}))
		after(2 * time.Second)
		w.want("kept")
		wantNotPending(t, "what was delivered", w.s.Recall(handle(kept, "kept")))
	})
}

func TestParseHandleRefuses(t *testing.T) {
	for _, text := range []string{"", "bm8gaGFuZGxl", "!!", "djEgdCBiIHggdQ==", "djIgdCBiIDEgdQ=="} {
		if h, err := ParseHandle(text); err == nil {
			t.Errorf("ParseHandle(%q) = %v", text, h)
		}
	}
}

func TestCancelAndReschedule(t *testing.T) {
	bubble(t, func(w *world) {
		began := w.now()
		var pos [8]message.Position
		for i := range pos {
			props := []string{message.PropTimerDelayMs, "5000"}
			if i >= 4 {
				props = []string{message.PropDelay, "2"}
			}
			pos[i], _ = w.send("t", fmt.Sprint(i), props...)
		}
		for _, i := range []int{0, 4} {
			noError(t, "Cancel", w.s.Cancel(pos[i]))
			wantNotPending(t, "Cancel again", w.s.Cancel(pos[i]))
			wantNotPending(t, "Reschedule", w.s.Reschedule(pos[i], began.Add(time.Hour).UnixMilli()))
		}
		noError(t, "Reschedule earlier", w.s.Reschedule(pos[1], began.Add(1500*time.Millisecond).UnixMilli()))
		noError(t, "Reschedule within the slot", w.s.Reschedule(pos[2], began.Add(5001*time.Millisecond).UnixMilli()))
		noError(t, "Reschedule a level", w.s.Reschedule(pos[5], began.Add(2500*time.Millisecond).UnixMilli()))
		noError(t, "Reschedule to the past", w.s.Reschedule(pos[6], 1))
		if err := w.s.Reschedule(pos[3], began.Add(11*365*24*time.Hour).UnixMilli()); err == nil {
			t.Error("a message may be moved beyond the limit")
		}
		wantNotPending(t, "no record", w.s.Cancel(1_000_000))
		after(10 * time.Second)
		w.want("6 1 5 3 7 2")
		for i := range pos {
			wantNotPending(t, "Cancel after all", w.s.Cancel(pos[i]))
		}
		list, err := w.s.List(Filter{})
		if err != nil || len(list.Messages) != 0 {
			t.Errorf("List: %v, %v", list, err)
		}
	})
}

func TestChangesOutliveTheIndex(t *testing.T) {
	bubble(t, func(w *world) {
		a, _ := w.send("t", "cancelled", message.PropTimerDelayMs, "60000")
		b, _ := w.send("t", "moved", message.PropTimerDelayMs, "60000")
		c, _ := w.send("t", "level", message.PropDelay, "5")
		w.send("t", "stays", message.PropTimerDelayMs, "60000")
		noError(t, "Cancel", w.s.Cancel(a))
		noError(t, "Reschedule", w.s.Reschedule(b, w.now().Add(30*time.Second).UnixMilli()))
		noError(t, "Cancel", w.s.Cancel(c))
		w.crash()
		db := w.db
		w.newDB() // the kv store is lost
		w.open()
		after(2 * time.Minute)
		w.want("moved stays")
		noError(t, "Close", db.Close())
	})
}

func TestCarryForward(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "timed", message.PropTimerDelayMs, "600000")
		w.send("t", "level", message.PropDelay, "18")
		pos, _ := w.send("t", "cancelled", message.PropDelay, "18")
		w.send("t", "tick", PropCron, "CRON_TZ=UTC 0 0 * * *", PropCronName, "daily")
		w.send("t", "soon", message.PropTimerDelayMs, "100")
		noError(t, "Cancel", w.s.Cancel(pos))
		for i := range 5 {
			w.send("t", fmt.Sprint("plain", i))
		}
		upto := w.log.tail()
		after(time.Second)
		noError(t, "CarryForward", w.s.CarryForward(upto))
		w.log.dropBefore(upto)
		noError(t, "CarryForward", w.s.CarryForward(upto)) // nothing left to do
		w.log.forget()
		w.crash()
		w.open()
		list, err := w.s.List(Filter{})
		noError(t, "List", err)
		if len(list.Messages) != 2 {
			t.Errorf("waiting: %+v", list.Messages)
		}
		if n := w.s.Stats().Timed["t"]; n != 2 {
			t.Errorf("%d rows are counted", n)
		}
		after(25 * time.Hour)
		w.want("timed level tick")
		v := w.log.views()[1]
		if p := v.Properties(); p.Value(message.PropDelay) != "" || p.Value(PropReplaces) != "" || string(v.Topic()) != "t" {
			t.Errorf("the level's message came as %q", p)
		}
	})
}

// TestCarryForwardOnAFullDisk: nothing can be stored anew then, but the log may
// go as far as nothing waits there.
func TestCarryForwardOnAFullDisk(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "plain")
		below := w.log.tail()
		w.send("t", "timed", message.PropTimerDelayMs, "600000")
		w.send("t", "level", message.PropDelay, "18")
		upto := w.log.tail()
		after(time.Second)
		noError(t, "Settle", w.s.Settle())
		w.log.setFail(fmt.Errorf("%w: test", ErrNoSpace))
		noError(t, "CarryForward to where nothing waits", w.s.CarryForward(below))
		if err := w.s.CarryForward(upto); !errors.Is(err, ErrNoSpace) {
			t.Errorf("CarryForward: %v", err)
		}
		w.log.setFail(nil)
		noError(t, "CarryForward with room", w.s.CarryForward(upto))
		w.log.dropBefore(upto)
		after(3 * time.Hour)
		w.want("plain timed level")
	})
}

// TestCarryForwardKeepsWhatCannotBeDelivered: a message that is taken for
// delivery is passed over; when the delivery fails it waits again.
func TestCarryForwardKeepsWhatCannotBeDelivered(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "due", message.PropTimerDelayMs, "1000")
		upto := w.log.tail()
		noError(t, "Settle", w.s.Settle())
		reached, goOn := make(chan struct{}), make(chan struct{})
		w.log.mu.Lock()
		w.log.block = func() error {
			close(reached)
			<-goOn
			return fmt.Errorf("%w: test", ErrNoSpace)
		}
		w.log.mu.Unlock()
		<-reached // it is due, and under way
		syncs := 0
		w.log.mu.Lock()
		w.log.onSync = func() {
			if syncs++; syncs == 2 { // everything was gone through once
				close(goOn)
			}
		}
		w.log.mu.Unlock()
		noError(t, "CarryForward", w.s.CarryForward(upto))
		w.log.dropBefore(upto)
		after(time.Minute)
		w.want("due")
		w.warnMu.Lock()
		w.warns = slices.DeleteFunc(w.warns, func(warn string) bool { return strings.Contains(warn, "it is tried again") })
		w.warnMu.Unlock()
	})
}

func TestApachesMarksAndRolls(t *testing.T) {
	t.Run("with an index of keys", func(t *testing.T) { marksAndRolls(t, false) })
	t.Run("without", func(t *testing.T) { marksAndRolls(t, true) })
}

func marksAndRolls(t *testing.T, noIndex bool) {
	bubble(t, func(w *world) {
		w.log.noIndex = noIndex
		due := w.now().Add(90 * time.Second).UnixMilli()
		put := func(body, unique, del, rolls string, off time.Duration) {
			m := message.Message{Topic: message.TopicTimer, Body: []byte(body)}
			out := fmt.Sprint(slotOf(due) + off.Milliseconds())
			m.Properties = m.Properties.Append(message.PropTimerOutMs, out).Append(message.PropRealTopic, "t").Append(message.PropRealQueueID, "1")
			for name, value := range map[string]string{message.PropUniqueKey: unique, message.PropTimerDelUniqueKey: del, message.PropTimerRollTimes: rolls} {
				if value != "" {
					m.Properties = m.Properties.Append(name, value)
				}
			}
			noError(t, "append", w.log.Append([]message.Message{m}))
		}
		put("one", "U1", "", "", 0)
		put("two", "U2", "", "", 0)
		put("two", "U2", "", "1", 0) // rolled
		put("0", "U9", "t+U1", "", 0)
		put("three", "U3", "", "", 0)
		put("0", "U9", "U3", "", 5*time.Second) // of another slot
		w.send("t", "recalled", message.PropTimerDeliverMs, fmt.Sprint(due))
		noError(t, "Recall", w.s.Recall(Handle{Topic: "t", Time: slotOf(due) + 1, Unique: "U-recalled"}))
		wantNotPending(t, "Recall again", w.s.Recall(Handle{Topic: "t", Time: slotOf(due) + 1, Unique: "U-recalled"}))
		after(2 * time.Minute)
		w.want("two three")
		if at := w.delivered()[0].at; at < due || at > due+1000 {
			t.Errorf("it came at %d, due was %d", at, due)
		}
	})
}

func TestTakenOverTimerDeliversNothingTwice(t *testing.T) {
	bubble(t, func(w *world) {
		noError(t, "Close", w.s.Close())
		w.send("t", "delivered", message.PropTimerDelayMs, "3000")
		w.send("t", "waiting", message.PropTimerDelayMs, "60000")
		w.send("t", "unread", message.PropTimerDelayMs, "3500")
		time.Sleep(10 * time.Second)
		w.o.Taken = Taken{Offset: 2, Time: w.now().UnixMilli()}
		w.open()
		after(2 * time.Minute)
		w.want("unread waiting")
	})
}

func TestListPagesInOrder(t *testing.T) {
	bubble(t, func(w *world) {
		for i := range 60 {
			topic := fmt.Sprint("t", i%3)
			w.send(topic, fmt.Sprint("T", i), message.PropTimerDelayMs, fmt.Sprint(100_000+(i*37%60)*1000), message.PropKeys, fmt.Sprint("k", i%10))
			w.send(topic, fmt.Sprint("L", i), message.PropDelay, fmt.Sprint(5+i%4))
			time.Sleep(10 * time.Millisecond)
		}
		var all []Pending
		for f := (Filter{Limit: 7}); ; {
			list, err := w.s.List(f)
			noError(t, "List", err)
			all = append(all, list.Messages...)
			if !list.More {
				break
			}
			f.After = list.Next
		}
		if len(all) != 120 || !slices.IsSortedFunc(all, func(a, b Pending) int { return a.key().compare(b.key()) }) {
			t.Errorf("%d messages are listed, or not in order", len(all))
		}
		for f, want := range map[Filter]int{
			{Topic: "t1"}: 40, {Topic: "none"}: 0, {Key: "k3"}: 6, {Key: "k3", Topic: "t0"}: 2, {Key: "U-L7"}: 1,
			{From: all[30].Due, To: all[40].Due}: len(between(all, all[30].Due, all[40].Due)), {Limit: 5}: 5,
		} {
			list, err := w.s.List(f)
			if err != nil || len(list.Messages) != want {
				t.Errorf("List(%+v) has %d messages, want %d, %v", f, len(list.Messages), want, err)
			}
		}
		for i := range 100 { // newer ones that wait no more
			pos, _ := w.send("t1", fmt.Sprint("C", i), message.PropTimerDelayMs, "900000", message.PropKeys, "k4")
			noError(t, "Cancel", w.s.Cancel(pos))
		}
		var found []string
		for f := (Filter{Key: "k4", Limit: 4}); ; {
			list, err := w.s.List(f)
			noError(t, "List", err)
			for _, p := range list.Messages {
				found = append(found, p.Unique)
			}
			if !list.More {
				break
			}
			f.After = list.Next
		}
		if want := []string{"U-T44", "U-T54", "U-T4", "U-T14", "U-T24", "U-T34"}; !slices.Equal(found, want) {
			t.Errorf("those with the key, a page at a time: %q, want %q", found, want)
		}
		p, v, err := w.s.Show(all[0].Position)
		if err != nil || p.Due != all[0].Due || !strings.HasSuffix(p.Unique, string(v.Body())) {
			t.Errorf("Show: %+v, %v", p, err)
		}
	})
}

func between(all []Pending, from, to int64) (list []Pending) {
	for _, p := range all {
		if p.Due >= from && p.Due < to {
			list = append(list, p)
		}
	}
	return list
}

func TestHandOver(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "delivered", message.PropTimerDelayMs, "1000")
		w.send("t", "waiting", message.PropTimerDelayMs, "60000")
		w.send("t", "level", message.PropDelay, "5")
		after(5 * time.Second)
		noError(t, "Close", w.s.Close())
		w.o.Idle = true
		w.open()
		taken, levels, err := w.s.HandOver()
		noError(t, "HandOver", err)
		noError(t, "Close", w.s.Close())
		after(time.Hour)
		old := w.db
		w.newDB() // another broker
		w.o.Taken, w.o.Imported, w.o.Idle = taken, levels, false
		w.log.forget()
		w.open()
		after(2 * time.Minute)
		w.want("waiting level")
		noError(t, "Close", old.Close())
	})
}
