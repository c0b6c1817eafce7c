package pop

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

var testHost = netip.MustParseAddrPort("10.0.0.1:10911")

var testKey = Key{Topic: "t", Group: "g", Queue: 0}

func openTable(t *testing.T, log *fakeLog, change func(*Options)) *Table {
	t.Helper()
	db, err := kv.Open("memory", kv.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{DB: db, Log: log}
	if change != nil {
		change(&o)
	}
	table, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(table.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return table
}

func take(t *testing.T, table *Table, now int64, change func(*Query)) Taken {
	t.Helper()
	q := &Query{Key: testKey, Max: MaxTake, MaxBytes: 1 << 20, Now: now, Invisible: time.Second, Limit: 16,
		Begin: func() (message.Offset, error) { return 0, nil }}
	if change != nil {
		change(q)
	}
	got, err := table.Take(q, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func offsetsOf(got Taken) (list []message.Offset) {
	for _, m := range got.Messages {
		list = append(list, m.Offset)
	}
	return list
}

func wantOffsets(t *testing.T, what string, got Taken, want ...message.Offset) {
	t.Helper()
	if list := offsetsOf(got); !slices.Equal(list, want) {
		t.Errorf("%s: offsets %v, want %v", what, list, want)
	}
}

func TestOrderedPopsWaitForTheirAcknowledgements(t *testing.T) {
	log := newFakeLog()
	table := openTable(t, log, nil)
	for range 5 {
		log.put(t, "t", 0, "x")
	}
	ordered := func(attempt string, most int) func(*Query) {
		return func(q *Query) { q.Order, q.Attempt, q.Max = true, attempt, most }
	}
	wantOffsets(t, "the first pop", take(t, table, 1000, ordered("a", 2)), 0, 1)
	wantOffsets(t, "another one", take(t, table, 1001, ordered("b", 2)))
	again := take(t, table, 1002, ordered("a", 2))
	wantOffsets(t, "the first one again", again, 0, 1)
	if again.Messages[0].Times != 0 {
		t.Errorf("a repeated pop counts as an attempt: %v", again.Messages)
	}
	_ = table.Ack(testKey, 1002, []message.Offset{0}, nil)
	wantOffsets(t, "while one is out", take(t, table, 1500, ordered("c", 2)))
	late := take(t, table, 2100, ordered("c", 2))
	wantOffsets(t, "when its time is over", late, 1)
	if late.Messages[0].Times != 1 {
		t.Errorf("it was handed out %d times before", late.Messages[0].Times)
	}
	_ = table.Ack(testKey, 2100, []message.Offset{1}, nil)
	wantOffsets(t, "when all is acknowledged", take(t, table, 2101, ordered("d", 32)), 2, 3, 4)
	if ready, at := table.Ready(testKey, 2102, true); ready || at != 3101 {
		t.Errorf("ready %t at %d, want at 3101", ready, at)
	}
}

func TestBoundOfWhatIsHandedOut(t *testing.T) {
	log := newFakeLog()
	table := openTable(t, log, func(o *Options) { o.MaxQueue = 40 })
	for range 100 {
		log.put(t, "t", 0, "x")
	}
	if got := take(t, table, 1000, nil); len(got.Messages) != 32 || got.Rest != 68 {
		t.Fatalf("%d messages, %d left", len(got.Messages), got.Rest)
	}
	if got := take(t, table, 1001, nil); len(got.Messages) != 0 || !got.Full {
		t.Errorf("past the bound: %v, full %t", got.Messages, got.Full)
	}
	if got := take(t, table, 2001, nil); len(got.Messages) != 32 || got.Messages[0].Times != 1 {
		t.Errorf("what was handed out does not come again: %v", got.Messages)
	}
	if st := table.Stats(); st.InFlight != 32 || st.Again != 32 || st.Handed != 64 {
		t.Errorf("%+v", st)
	}
}

func TestRetentionTakesWhatIsHandedOut(t *testing.T) {
	log := newFakeLog()
	table := openTable(t, log, nil)
	for range 10 {
		log.put(t, "t", 0, "x")
	}
	take(t, table, 1000, func(q *Query) { q.Max = 6 })
	log.drop(0, 4)
	wantOffsets(t, "after retention", take(t, table, 3000, func(q *Query) { q.Max = 6 }), 4, 5, 6, 7, 8, 9)
	log.drop(0, 8)
	table.Trim()
	if st := table.Queues("g")[0]; st.Floor != 8 || st.InFlight != 2 {
		t.Errorf("%+v", st)
	}
}

// TestLogLostItsEnd: where a power cut took messages that were popped, other
// messages get their offsets, and they are handed out.
func TestLogLostItsEnd(t *testing.T) {
	log := newFakeLog()
	dir := filepath.Join(t.TempDir(), "kv")
	for _, acked := range []bool{false, true} {
		db, err := kv.Open(dir, kv.Options{})
		if err != nil {
			t.Fatal(err)
		}
		table, err := Open(Options{DB: db, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			log.put(t, "t", 0, "x")
		}
		got := take(t, table, 1000, nil)
		if acked {
			_ = table.Ack(testKey, 1000, offsetsOf(got), nil)
		}
		if err := errors.Join(table.Close(), db.Close()); err != nil {
			t.Fatal(err)
		}
		log.cut(0, 6)
		if db, err = kv.Open(dir, kv.Options{}); err != nil {
			t.Fatal(err)
		}
		if table, err = Open(Options{DB: db, Log: log}); err != nil {
			t.Fatal(err)
		}
		log.put(t, "t", 0, "new")
		new := take(t, table, 1500, nil)
		wantOffsets(t, "the new message", new, 6)
		if !bytes.Contains(new.Body, []byte("new")) {
			t.Error("the body is another one's")
		}
		if err := errors.Join(table.Close(), db.Close(), os.RemoveAll(dir)); err != nil {
			t.Fatal(err)
		}
		log = newFakeLog()
	}
}

func TestResetAndDelete(t *testing.T) {
	log := newFakeLog()
	table := openTable(t, log, nil)
	for range 10 {
		log.put(t, "t", 0, "x")
	}
	take(t, table, 1000, nil)
	if err := table.Reset(testKey, 3); err != nil {
		t.Fatal(err)
	}
	wantOffsets(t, "after a reset", take(t, table, 1001, nil), 3, 4, 5, 6, 7, 8, 9)
	_ = table.Ack(testKey, 1000, []message.Offset{4}, func(_ message.Offset, o Outcome) {
		if o != Stale {
			t.Errorf("a handle of before: %v", o)
		}
	})
	table.Advance(testKey, 20)
	if st := table.Queues("")[0]; st.Next != 20 || st.Floor != 3 {
		t.Errorf("%+v", st)
	}
	if err := table.DeleteGroup("g"); err != nil {
		t.Fatal(err)
	}
	if n, left := len(table.Queues("")), table.Stats().InFlight; n != 0 || left != 0 {
		t.Errorf("%d queues, %d in flight", n, left)
	}
	if empty, err := table.stored.Empty(); !empty || err != nil {
		t.Errorf("rows are left: %v", err)
	}
	wantOffsets(t, "after the group was deleted", take(t, table, 1002, func(q *Query) { q.Max = 2 }), 0, 1)
	if err := table.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	if empty, err := table.stored.Empty(); !empty || err != nil {
		t.Errorf("rows are left: %v", err)
	}
}

// TestFailedWrites: acknowledgements are not called safe while the disk
// refuses, and are written once it takes again.
func TestFailedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog()
		db, err := kv.Open("memory", kv.Options{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		table, err := Open(Options{DB: db, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		log.put(t, "t", 0, "x")
		take(t, table, 1000, nil)
		if err := table.Safe(); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		_ = table.Ack(testKey, 1000, []message.Offset{0}, nil)
		if err := table.Safe(); !errors.Is(err, ErrStuck) || !errors.Is(err, kv.ErrClosed) {
			t.Errorf("Safe on a closed database: %v", err)
		}
		time.Sleep(3 * retryEvery)
		if err := table.Close(); !errors.Is(err, ErrStuck) {
			t.Errorf("Close: %v", err)
		}
		if err := table.Safe(); err == nil {
			t.Error("Safe after all is nil")
		}
	})
}

func FuzzRows(f *testing.F) {
	q := newQueue(&Table{}, testKey)
	h := &handout{id: 7, popTime: 1000, visible: 2000, offsets: []message.Offset{3, 5, 90}, times: []int32{0, 2, 1}, left: 5, uncounts: true}
	f.Add(q.handoutRow(h), h.encode())
	f.Add(q.cursorRow(), []byte{0, 0, 0, 0, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, row, value []byte) {
		if k, kind, id, ok := parseRow(row); ok {
			q := newQueue(&Table{}, k)
			again := q.cursorRow()
			if kind == rowHandout {
				again = q.handoutRow(&handout{id: id})
			}
			if !bytes.Equal(row, again) {
				t.Errorf("row %q becomes %q", row, again)
			}
		}
		h, err := decodeHandout(1, value)
		if err != nil {
			return
		}
		again, err := decodeHandout(1, h.encode())
		if err != nil || !slices.Equal(h.offsets, again.offsets) || !slices.Equal(h.times, again.times) || h.visible != again.visible || h.uncounts != again.uncounts {
			t.Errorf("%+v becomes %+v, %v", h, again, err)
		}
	})
}
