package broker

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
)

// goldenWorld is a folder of a real Apache broker, open at a time of the test's choice.
type goldenWorld struct {
	*Broker
	t    *testing.T
	m    golden.Manifest
	time atomic.Int64 // ms
}

func openGolden(t *testing.T, name string, at func(golden.Manifest) int64) *goldenWorld {
	t.Helper()
	dir, m := golden.Unpack(t, name)
	w := &goldenWorld{t: t, m: m}
	w.time.Store(at(m))
	s := DefaultSettings()
	s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = m.SegmentSize, 50, 500, 400
	w.Broker = must(Open(dir, Options{Settings: s, StoreHost: testAddr, Now: func() time.Time { return time.UnixMilli(w.time.Load()) }}))
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// came returns the messages with a unique key that were stored behind what
// Apache's broker wrote, in a queue.
func (w *goldenWorld) came(topic string, queue int32, unique string) (list []message.View) {
	w.t.Helper()
	for at := w.store.QueueMin(topic, queue); at < w.store.QueueMax(topic, queue); at++ {
		v, err := w.store.RecordAt(topic, queue, at)
		if err != nil {
			w.t.Fatalf("%s queue %d offset %d: %v", topic, queue, at, err)
		}
		if int64(v.Position()) >= w.m.End && v.Properties().Value(message.PropUniqueKey) == unique {
			list = append(list, v)
		}
	}
	return list
}

// deliver sets the clock and waits until what is due then came. Nothing else
// may have.
func (w *goldenWorld) deliver(now int64) {
	w.t.Helper()
	w.time.Store(now)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		missing := 0
		for _, p := range w.m.Pending {
			list := w.came(p.Topic, p.Queue, p.UniqueKey)
			if len(list) > 1 || len(list) == 1 && (p.Due > now || list[0].StoreTimestamp() < p.Due) {
				w.t.Fatalf("%s, due at %d, came %d times until %d", p.UniqueKey, p.Due, len(list), now)
			}
			if p.Due <= now && len(list) == 0 {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d of the messages that are due at %d did not come", missing, now)
		}
	}
}

// TestWhatWaitsInApachesFoldersIsDelivered: levels and timer messages, each once
// and not before its time, whatever the broker had delivered before.
func TestWhatWaitsInApachesFoldersIsDelivered(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var dues []int64
			w := openGolden(t, name, func(m golden.Manifest) int64 {
				for _, p := range m.Pending {
					dues = append(dues, p.Due)
				}
				slices.Sort(dues)
				return dues[0] - 1000
			})
			var list DelayList
			for deadline := time.Now().Add(time.Minute); len(list.Messages) < len(dues) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				list = must(w.ListDelayed(DelayFilter{}))
			}
			waits := map[message.Position]int64{}
			for _, p := range list.Messages {
				waits[p.Position] = p.Due
			}
			if len(waits) != len(w.m.Pending) {
				t.Fatalf("%d messages wait, want %d: %v", len(waits), len(w.m.Pending), waits)
			}
			for i := range w.m.Pending {
				p := &w.m.Pending[i]
				due, found := waits[message.Position(p.Position)]
				// Apache rounds a timer's time down, by a second if it is whole.
				if early := due - p.Due; !found || early < 0 || early > 1000 || p.Kind == "level" && early > 0 {
					t.Errorf("the %s message at %d waits: %v, until %d; Apache has %d", p.Kind, p.Position, found, due, p.Due)
				}
				p.Due, dues[i] = due, due
			}
			slices.Sort(dues)
			w.deliver(dues[0] - 1)
			w.deliver(dues[len(dues)/2])
			w.deliver(dues[len(dues)-1] + 1000)
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				if list = must(w.ListDelayed(DelayFilter{})); len(list.Messages) == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("still waiting: %+v", list.Messages)
				}
			}
			w.deliver(dues[len(dues)-1] + 1000) // none of them twice
		})
	}
}

// TestHalvesInApachesFoldersAreEnded: those that were left open are pending, and
// no others, and their commits bring them to their queues.
func TestHalvesInApachesFoldersAreEnded(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			w := openGolden(t, name, func(m golden.Manifest) int64 { return m.Records[len(m.Records)-1].StoreTime + 1 })
			open, _, err := w.Transactions(TransactionFilter{})
			if err != nil {
				t.Fatal(err)
			}
			pending := map[string]TransactionInfo{}
			for _, half := range open {
				pending[half.Key] = half
			}
			unknown := 0
			for _, h := range w.m.Live.Halves {
				half, found := pending[h.UniqueKey]
				if found != (h.State == "unknown") || found && (half.Topic != h.Topic || half.Group != h.Group) {
					t.Errorf("%s, %s, is pending: %v as %+v", h.UniqueKey, h.State, found, half)
				}
				if !found {
					continue
				}
				unknown++
				e := TransactionEnd{Group: h.Group, Offset: half.Offset, Position: half.Position, Verdict: TransactionCommit}
				if err := end(w.Broker, e); err != nil {
					t.Errorf("the commit of %s: %v", h.UniqueKey, err)
				}
			}
			if unknown == 0 || unknown != len(pending) {
				t.Errorf("%d transactions are pending, %d of them are known to be", len(pending), unknown)
			}
			if err := w.store.WaitVisible(); err != nil {
				t.Fatal(err)
			}
			for _, h := range w.m.Live.Halves {
				want := 0
				if h.State == "unknown" {
					want = 1
				}
				if got := len(w.came(h.Topic, h.Queue, h.UniqueKey)); got != want {
					t.Errorf("%s, %s, came %d times, want %d", h.UniqueKey, h.State, got, want)
				}
			}
		})
	}
}
