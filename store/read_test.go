package store

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

func TestGetStatuses(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, s)
	for i := range 200 {
		mustPut(t, s, text("t", 0, fmt.Sprintf("%0200d", i), "TAGS", fmt.Sprint("T", i%2)))
	}
	mustPut(t, s, text("big", 0, string(make([]byte, 9000))))
	mustSee(t, s)
	if n, err := s.DropBefore(20000); n != 1 || err != nil {
		t.Fatalf("DropBefore: %d %v", n, err)
	}
	first, end := s.QueueMin("t", 0), s.QueueMax("t", 0)
	if first == 0 || end != 200 {
		t.Fatalf("the queue goes from %d to %d", first, end)
	}
	odd := func(code int64) bool { return code == message.TagCode("T1") }
	none := func(int64) bool { return false }
	for _, row := range []struct {
		name   string
		q      GetQuery
		status GetStatus
		next   message.Offset
		count  int
	}{
		{"no queue", GetQuery{Topic: "x", Offset: 5, MaxCount: 32}, GetNoQueue, 0, 0},
		{"too small", GetQuery{Topic: "t", Offset: first - 1, MaxCount: 32}, GetOffsetTooSmall, first, 0},
		{"negative", GetQuery{Topic: "t", Offset: -1, MaxCount: 32}, GetOffsetTooSmall, first, 0},
		{"at the end", GetQuery{Topic: "t", Offset: end, MaxCount: 32}, GetOffsetAtEnd, end, 0},
		{"beyond", GetQuery{Topic: "t", Offset: end + 1, MaxCount: 32}, GetOffsetBeyondEnd, end, 0},
		{"far beyond", GetQuery{Topic: "t", Offset: math.MaxInt64, MaxCount: 32}, GetOffsetBeyondEnd, end, 0},
		{"some", GetQuery{Topic: "t", Offset: 100, MaxCount: 5}, GetFound, 105, 5},
		{"more than is given", GetQuery{Topic: "t", Offset: 100, MaxCount: 1000}, GetFound, 132, 32},
		{"by size", GetQuery{Topic: "t", Offset: 100, MaxCount: 32, MaxBytes: 1000}, GetFound, 103, 3},
		{"at least one", GetQuery{Topic: "t", Offset: 100, MaxCount: 32, MaxBytes: 10}, GetFound, 101, 1},
		{"at least one large", GetQuery{Topic: "big", MaxCount: 32, MaxBytes: 100}, GetFound, 1, 1},
		{"no count", GetQuery{Topic: "t", Offset: 100}, GetFound, 101, 1},
		{"by tag", GetQuery{Topic: "t", Offset: 100, MaxCount: 10, MatchTag: odd}, GetFound, 120, 10},
		{"no match", GetQuery{Topic: "t", Offset: 100, MaxCount: 10, MatchTag: none}, GetNoMatch, end, 0},
		{"by record", GetQuery{Topic: "t", Offset: 100, MaxCount: 10, MatchRecord: func(v message.View) bool { return v.Body()[199] == '7' }}, GetFound, 198, 10},
		{"no record", GetQuery{Topic: "t", Offset: 100, MaxCount: 10, MatchRecord: func(message.View) bool { return false }}, GetNoMatch, end, 0},
	} {
		r, err := s.Get(&row.q, []byte("head"))
		if err != nil || string(r.Body[:4]) != "head" {
			t.Fatalf("%s: %v", row.name, err)
		}
		got := bodies(t, r.Body[4:])
		if r.Status != row.status || r.Next != row.next || r.Count != row.count || len(got) != row.count {
			t.Errorf("%s: %v next %d count %d (%d), want %v %d %d", row.name, r.Status, r.Next, r.Count, len(got), row.status, row.next, row.count)
		}
	}
	if got := GetFound.String() + GetNoQueue.String() + GetStatus(99).String(); got != "FOUNDNO_MATCHED_LOGIC_QUEUEGetStatus(99)" {
		t.Error(got)
	}
}

func TestGetGivesLessOfWhatIsCold(t *testing.T) {
	o := small(vfs.NewMem())
	o.HotBytes = 20 << 10
	s := mustOpen(t, o)
	defer mustClose(t, s)
	for range 300 {
		mustPut(t, s, text("t", 0, fmt.Sprintf("%0200d", 0)))
	}
	mustSee(t, s)
	for off, want := range map[message.Offset]int{0: 8, 265: 32} {
		r, err := s.Get(&GetQuery{Topic: "t", Offset: off, MaxCount: 32}, nil)
		if err != nil || r.Count != want || r.Cold != (want == 8) || r.Behind <= 0 {
			t.Errorf("at %d: %d messages, cold %v, %d behind, %v; want %d", off, r.Count, r.Cold, r.Behind, err, want)
		}
	}
}

// TestTransferLimits: the limits of a Get can be changed while the store is
// used, beyond what one round reads, and hold with and without a filter.
func TestTransferLimits(t *testing.T) {
	o := small(vfs.NewMem())
	o.HotBytes, o.Transfer = 40<<10, new(TransferLimits)
	s := mustOpen(t, o)
	defer mustClose(t, s)
	for range 300 {
		mustPut(t, s, text("t", 0, fmt.Sprintf("%0200d", 0)))
	}
	mustSee(t, s)
	first, err := s.RecordAt("t", 0, 0)
	check(t, err)
	size := len(first)
	for _, row := range []struct {
		name                                     string
		hotCount, hotBytes, coldCount, coldBytes int
		offset                                   message.Offset
		max, want                                int
	}{
		{"defaults, hot", 0, 0, 0, 0, 200, 100, 32},
		{"defaults, cold", 0, 0, 0, 0, 0, 100, 8},
		{"more, hot", 90, 0, 0, 0, 200, 100, 90},
		{"more than is asked for", 10000, 1 << 20, 0, 0, 200, 70, 70},
		{"all that is there", 10000, 1 << 20, 0, 0, 200, 1000, 100},
		{"bytes, hot", 90, 50*size + 1, 0, 0, 200, 100, 50},
		{"one is given always", 90, 1, 0, 0, 200, 100, 1},
		{"fewer, hot", 5, 0, 0, 0, 200, 100, 5},
		{"more, cold", 1, 1, 70, 1 << 20, 0, 100, 70},
		{"bytes, cold", 1, 1, 70, 3 * size, 0, 100, 3},
	} {
		o.Transfer.HotCount.Store(int64(row.hotCount))
		o.Transfer.HotBytes.Store(int64(row.hotBytes))
		o.Transfer.ColdCount.Store(int64(row.coldCount))
		o.Transfer.ColdBytes.Store(int64(row.coldBytes))
		for _, match := range []func(message.View) bool{nil, func(message.View) bool { return true }} {
			r, err := s.Get(&GetQuery{Topic: "t", Offset: row.offset, MaxCount: row.max, MatchRecord: match}, nil)
			if err != nil || r.Count != row.want || r.Next != row.offset+message.Offset(row.want) || len(r.Body) != row.want*size {
				t.Errorf("%s, filter %v: %d messages, %d bytes, next %d, %v; want %d", row.name, match != nil, r.Count, len(r.Body), r.Next, err, row.want)
			}
		}
	}
}

// TestFilterScanIsBounded: a filter that matches nothing must not make one Get
// go through a whole queue.
func TestFilterScanIsBounded(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, s)
	b := s.NewBatch()
	for range 100 {
		b.Reset()
		for range 20 {
			check(t, b.Add(text("t", 0, "")))
		}
		check(t, s.Append(b))
	}
	mustSee(t, s)
	r, err := s.Get(&GetQuery{Topic: "t", MaxCount: 32, MatchTag: func(int64) bool { return false }}, nil)
	if err != nil || r.Status != GetNoMatch || r.Next != 800 {
		t.Errorf("%v %v next %d", err, r.Status, r.Next)
	}
}

func TestTimes(t *testing.T) {
	var now atomic.Int64
	now.Store(1_000_000)
	o := small(vfs.NewMem())
	o.Now = func() time.Time { return time.UnixMilli(now.Load()) }
	s := mustOpen(t, o)
	defer mustClose(t, s)
	for i := range 100 { // two messages each at 1000010, 1000020 …
		if i%2 == 0 {
			now.Add(10)
		}
		mustPut(t, s, text("t", 0, fmt.Sprintf("%0300d", i)))
	}
	mustSee(t, s)
	for _, row := range []struct {
		ms           int64
		lower, upper message.Offset
	}{
		{0, 0, 0}, {1_000_009, 0, 0}, {1_000_010, 0, 1}, {1_000_011, 2, 1}, {1_000_019, 2, 1}, {1_000_020, 2, 3},
		{1_000_250, 48, 49}, {1_000_499, 98, 97}, {1_000_500, 98, 99}, {1_000_501, 100, 99}, {math.MaxInt64 - 1, 100, 99},
	} {
		lower, err := s.OffsetByTime("t", 0, row.ms, Lower)
		upper, err2 := s.OffsetByTime("t", 0, row.ms, Upper)
		if err != nil || err2 != nil || lower != row.lower || upper != row.upper {
			t.Errorf("at %d: %d %d, %v %v; want %d %d", row.ms, lower, upper, err, err2, row.lower, row.upper)
		}
	}
	if at, err := s.StoreTimeAt("t", 0, 50); err != nil || at != 1_000_260 {
		t.Errorf("StoreTimeAt: %d %v", at, err)
	}
	if _, err := s.StoreTimeAt("t", 0, 100); !errors.Is(err, ErrNotFound) {
		t.Errorf("StoreTimeAt of the end: %v", err)
	}
	if at, err := s.EarliestTime("t", 0); err != nil || at != 1_000_010 {
		t.Errorf("EarliestTime: %d %v", at, err)
	}
	if _, err := s.EarliestTime("x", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("EarliestTime of no queue: %v", err)
	}
	if off, err := s.OffsetByTime("x", 0, 5, Upper); err != nil || off != 0 {
		t.Errorf("OffsetByTime of no queue: %d %v", off, err)
	}
}

func TestRetention(t *testing.T) {
	fsys := vfs.NewMem()
	o := small(fsys)
	var asked []message.Position
	keep := errors.New("halves are pending")
	veto := true
	o.BeforeDrop = func(upto message.Position) error {
		asked = append(asked, upto)
		if veto {
			return keep
		}
		return nil
	}
	s := mustOpen(t, o)
	for i := range 500 {
		mustPut(t, s, text("t", int32(i%2), fmt.Sprintf("%0300d", i), "KEYS", fmt.Sprint("k", i)))
	}
	mustPut(t, s, text("idle", 0, "x"))
	mustSee(t, s)
	u, err := s.Usage()
	if err != nil || len(u.Segments) < 10 || u.LogBytes != int64(len(u.Segments))*(16<<10) || u.Min != 0 || u.Max != s.Max() || u.DiskFree == 0 {
		t.Fatalf("Usage: %+v %v", u, err)
	}
	if n, err := s.DropBefore(40_000); n != 0 || !errors.Is(err, keep) || s.Min() != 0 {
		t.Errorf("DropBefore against a veto: %d %v, log from %d", n, err, s.Min())
	}
	veto = false
	if n, err := s.DropBefore(40_000); n != 2 || err != nil || s.Min() != 32<<10 {
		t.Errorf("DropBefore: %d %v, log from %d", n, err, s.Min())
	}
	equal(t, "asked", fmt.Sprint(asked), "[32768 32768]")
	first := s.QueueMin("t", 0)
	if r, err := s.Query(&KeyQuery{Topic: "t", Key: "k1"}, nil); err != nil || r.Count != 0 {
		t.Errorf("a dropped message is found: %d %v", r.Count, err)
	}
	// Everything but the last segment goes; offsets go on.
	if _, err := s.DropBefore(math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	for _, reopen := range []string{"", "close", "kill"} {
		switch reopen {
		case "close":
			mustClose(t, s)
			s = mustOpen(t, small(fsys))
		case "kill":
			left := killed(fsys)
			mustClose(t, s)
			fsys = left
			s = mustOpen(t, small(fsys))
		}
		if got := s.QueueMin("t", 0); got <= first || s.QueueMax("t", 0) != 250 {
			t.Errorf("%s: the queue goes from %d to %d", reopen, got, s.QueueMax("t", 0))
		}
		r, err := s.Get(&GetQuery{Topic: "t", Offset: s.QueueMin("t", 0), MaxCount: 1}, nil)
		if err != nil || r.Status != GetFound {
			t.Errorf("%s: the first message: %v %v", reopen, r.Status, err)
		}
	}
	equal(t, "next offset", mustPut(t, s, text("t", 0, "")).Offset, 250)
	mustClose(t, s)
}

// TestManyAtOnce lets senders, readers, a deleter and checkpoints run together;
// the race detector looks on.
func TestManyAtOnce(t *testing.T) {
	for _, sync := range []bool{false, true} {
		o := small(vfs.OS)
		o.SegmentSize, o.SyncFlush, o.DispatchLimit, o.CheckpointEvery = 256<<10, sync, 64, 2*time.Millisecond
		s, err := Open(t.TempDir(), o)
		if err != nil {
			t.Fatal(err)
		}
		manyAtOnce(t, s)
		mustClose(t, s)
	}
}

func manyAtOnce(t *testing.T, s *Store) {
	const senders, batches, size = 4, 60, 5
	var wg, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range senders {
		wg.Go(func() {
			b := s.NewBatch()
			for i := range batches {
				b.Reset()
				for j := range size {
					if err := b.Add(text("t", int32(j%2), fmt.Sprintf("%d %d %d", w, i, j), "KEYS", fmt.Sprint("k", i), "TAGS", "T")); err != nil {
						t.Error(err)
						return
					}
				}
				if err := b.Add(text("deleted", 0, "x")); err != nil {
					t.Error(err)
					return
				}
				if err := s.Append(b); err != nil {
					t.Error(err)
					return
				}
				safe := make(chan error, 1)
				s.WhenSafe(b.End(), func(err error) { safe <- err })
				if err := <-safe; err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			q := GetQuery{Topic: "t", MaxCount: 32}
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := s.Get(&q, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if r.Status == GetFound && r.Next != q.Offset+message.Offset(r.Count) {
					t.Errorf("%d messages from %d to %d", r.Count, q.Offset, r.Next)
				}
				q.Offset = r.Next
				s.Stats()
				if _, err := s.Query(&KeyQuery{Topic: "t", Key: "k5"}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if err := s.DeleteTopic("deleted"); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	close(stop)
	readers.Wait()
	mustSee(t, s)
	equal(t, "messages", len(readAll(t, s, "t", 0))+len(readAll(t, s, "t", 1)), senders*batches*size)
	if st := s.Stats(); st.PutMessages != senders*batches*(size+1) || st.DispatchWaiting != 0 || st.DispatchBehind != 0 {
		t.Errorf("%+v", st)
	}
}

// TestCheckpointsHappen: what is dispatched becomes durable by itself, and an
// idle store writes nothing.
func TestCheckpointsHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		o := small(fsys)
		o.CheckpointEvery = 3 * time.Second
		seen := 0
		o.Events.Checkpointed = func(message.Position, time.Duration) { seen++ }
		s := mustOpen(t, o)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		equal(t, "checkpoints after the first start", seen, 1)
		seen = 0
		mustPut(t, s, text("t", 0, "x"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		equal(t, "checkpoints", seen, 1)
		if st := s.Stats(); st.CheckpointBehind != 0 || st.FlushBehind != 0 {
			t.Errorf("%+v", st)
		}
		var found Recovery
		c := small(fsys.CrashClone(nil))
		c.Events.Recovered = func(r Recovery) { found = r }
		after := mustOpen(t, c)
		if !found.Exact || found.Clean || found.Dispatched != 0 || after.QueueMax("t", 0) != 1 {
			t.Errorf("%+v", found)
		}
		mustClose(t, after)
		mustClose(t, s)
	})
}

// A scan behind a record filter gives what a plain read and the filter give,
// however the answers are cut, hot or cold.
func TestScanAgreesWithReads(t *testing.T) {
	for _, hot := range []int64{0, 1} { // the default, and next to nothing
		o := small(vfs.NewMem())
		o.HotBytes = hot
		s := mustOpen(t, o)
		const n = 3000
		for i := range n {
			mustPut(t, s, text("t", 0, fmt.Sprintf("%0*d", i%50, i), "a", fmt.Sprint(i)))
		}
		mustSee(t, s)
		for _, every := range []int64{1, 7, 900, n + 1} {
			match := func(v message.View) bool { return int64(v.QueueOffset())%every == every-1 }
			var got []message.Offset
			var body []byte
			gets := 0
			for at := message.Offset(0); at < n; gets++ {
				r, err := s.Get(&GetQuery{Topic: "t", Offset: at, MaxCount: 5, MatchRecord: match, MaxScan: 1000}, body[:0])
				if err != nil || r.Next <= at || (r.Count > 0) != (r.Status == GetFound) || r.Count > 5 {
					t.Fatalf("at %d: %+v %v", at, r, err)
				}
				for rest := r.Body; len(rest) > 0; {
					v, err := message.Parse(rest)
					if err != nil {
						t.Fatal(err)
					}
					if v.QueueOffset() < at || v.QueueOffset() >= r.Next {
						t.Fatalf("record %d between %d and %d", v.QueueOffset(), at, r.Next)
					}
					got, rest = append(got, v.QueueOffset()), rest[v.Size():]
				}
				at, body = r.Next, r.Body
			}
			if len(got) != int(n/every) {
				t.Errorf("every %d: %d records", every, len(got))
			}
			for i, off := range got {
				if off != message.Offset(int64(i)*every+every-1) {
					t.Fatalf("every %d: record %d is at %d", every, i, off)
				}
			}
			if every > n && gets != 3 {
				t.Errorf("%d gets to scan %d records, 1000 at a time", gets, n)
			}
		}
		mustClose(t, s)
	}
}
