package consumequeue

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/merlinmq/merlin/message"
)

func open(t testing.TB, dir string, o Options) *Table {
	t.Helper()
	tab, err := Open(filepath.Join(dir, "consumequeue"), o)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// entryOf is what the tests put: records of 100 bytes, one behind another.
func entryOf(i int64) Entry {
	return Entry{Position: message.Position(1000 + 100*i), Size: 100, TagCode: i - 5}
}

func put(t testing.TB, q *Queue, from, end int64) {
	t.Helper()
	for i := from; i < end; i++ {
		if err := q.Put(message.Offset(i), entryOf(i)); err != nil {
			t.Fatalf("put %d: %v", i, err)
		}
	}
}

// expect checks that the queue has exactly the entries from lo on and below hi.
func expect(t testing.TB, q *Queue, lo, hi int64) {
	t.Helper()
	if int64(q.Min()) != lo || int64(q.Max()) != hi {
		t.Fatalf("queue has %d to %d, want %d to %d", q.Min(), q.Max(), lo, hi)
	}
	dst := make([]Entry, 37)
	for at := lo; at < hi; {
		n, err := q.Read(message.Offset(at), dst)
		if err != nil || n == 0 {
			t.Fatalf("read %d: %d, %v", at, n, err)
		}
		for i, e := range dst[:n] {
			if e != entryOf(at+int64(i)) {
				t.Fatalf("entry %d is %+v, want %+v", at+int64(i), e, entryOf(at+int64(i)))
			}
		}
		at += int64(n)
	}
	if n, err := q.Read(message.Offset(hi), dst); n != 0 || err != nil {
		t.Fatalf("read at the end: %d, %v", n, err)
	}
	if hi > lo {
		if tail := q.Tail(); tail.Position != entryOf(hi-1).Position || tail.Size != 100 || int64(tail.Offset) != hi {
			t.Fatalf("tail is %+v", tail)
		}
	}
}

// The bytes are Apache's: TagA of a record of 0x1F0 bytes at 0x12345.
func TestFileBytes(t *testing.T) {
	dir := t.TempDir()
	tab := open(t, dir, Options{})
	q := tab.Queue("orders", 3)
	if err := q.Put(0, Entry{Position: 0x12345, Size: 0x1F0, TagCode: message.TagCode("TagA")}); err != nil {
		t.Fatal(err)
	}
	if err := q.Put(1, Entry{Position: 0x12535, Size: 0x100, TagCode: -2}); err != nil {
		t.Fatal(err)
	}
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "consumequeue/orders/3/00000000000000000000"))
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != 6_000_000 {
		t.Fatalf("file has %d bytes", len(data))
	}
	want := "0000000000012345000001f0000000000027a807" + "000000000001253500000100fffffffffffffffe" + "0000000000000000000000000000000000000000"
	if got := hex.EncodeToString(data[:60]); got != want {
		t.Errorf("file begins %s, want %s", got, want)
	}
}

func TestFillersBeforeTheStart(t *testing.T) {
	dir := t.TempDir()
	tab := open(t, dir, Options{FileEntries: 1000})
	q := tab.Queue("a", 0)
	put(t, q, 2750, 2760)
	expect(t, q, 2750, 2760)
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "consumequeue/a/0/00000000000000040000"))
	if err != nil {
		t.Fatal(err)
	}
	fill := "00000000000000007fffffff0000000000000000"
	for _, i := range []int{0, 399, 749} {
		if got := hex.EncodeToString(data[i*20 : i*20+20]); got != fill {
			t.Errorf("row %d is %s", i, got)
		}
	}
	if got := getEntry(data[750*20:]); got != entryOf(2750) {
		t.Errorf("row 750 is %+v", got)
	}
	tab = open(t, dir, Options{FileEntries: 1000})
	expect(t, tab.Lookup("a", 0), 2750, 2760)
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprint("snapshot=", snapshot), func(t *testing.T) {
			dir := t.TempDir()
			o := Options{FileEntries: 500, OpenFiles: 2, Snapshot: filepath.Join(dir, "queues")}
			ends := []int64{1, 199, 200, 201, 499, 500, 501, 1000, 1777}
			tab := open(t, dir, o)
			for i, end := range ends {
				put(t, tab.Queue("t", int32(i)), 0, end)
			}
			tab.Queue("empty", 0)
			if snapshot {
				tab.SetStamp("s1")
				o.Stamp = "s1"
			}
			for range 2 {
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
				tab = open(t, dir, o)
				if tab.FromSnapshot() != snapshot {
					t.Fatal("from snapshot:", tab.FromSnapshot())
				}
				for i, end := range ends {
					expect(t, tab.Lookup("t", int32(i)), 0, end)
					put(t, tab.Lookup("t", int32(i)), end-1, end+3) // the first is there already
					expect(t, tab.Lookup("t", int32(i)), 0, end+3)
					ends[i] = end + 3
				}
				if tab.Lookup("empty", 0) != nil || tab.Lookup("t", 99) != nil || len(tab.Topic("t")) != len(ends) {
					t.Error("queues that were never written to are there")
				}
				if snapshot {
					tab.SetStamp("s1")
				}
				if _, err := os.Stat(o.Snapshot); !errors.Is(err, os.ErrNotExist) {
					t.Error("the snapshot outlived Open:", err)
				}
			}
			if err := tab.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A snapshot that does not fit must not be believed.
func TestSnapshotRefused(t *testing.T) {
	cases := map[string]func(t *testing.T, dir string, o *Options){
		"stamp":    func(t *testing.T, dir string, o *Options) { o.Stamp = "other" },
		"no stamp": func(t *testing.T, dir string, o *Options) { o.Stamp = "" },
		"new topic": func(t *testing.T, dir string, o *Options) {
			os.MkdirAll(filepath.Join(dir, "consumequeue/new/0"), 0o755)
		},
		"topic removed": func(t *testing.T, dir string, o *Options) {
			os.RemoveAll(filepath.Join(dir, "consumequeue/gone"))
		},
		"flipped bit": func(t *testing.T, dir string, o *Options) {
			b, err := os.ReadFile(o.Snapshot)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 4
			os.WriteFile(o.Snapshot, b, 0o644)
		},
		"cut": func(t *testing.T, dir string, o *Options) { os.Truncate(o.Snapshot, 20) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := Options{FileEntries: 500, Snapshot: filepath.Join(dir, "queues"), Stamp: "s"}
			tab := open(t, dir, o)
			put(t, tab.Queue("t", 0), 0, 700)
			put(t, tab.Queue("gone", 0), 0, 7)
			tab.SetStamp("s")
			if err := tab.Close(); err != nil {
				t.Fatal(err)
			}
			change(t, dir, &o)
			tab = open(t, dir, o)
			defer tab.Close()
			if tab.FromSnapshot() {
				t.Fatal("the snapshot was believed")
			}
			expect(t, tab.Lookup("t", 0), 0, 700)
			if q := tab.Lookup("gone", 0); q != nil {
				expect(t, q, 0, 7)
			}
		})
	}
}

func TestPutRefuses(t *testing.T) {
	tab := open(t, t.TempDir(), Options{MaxGap: 50})
	q := tab.Queue("t", 0)
	put(t, q, 0, 10)
	for name, c := range map[string]struct {
		q   *Queue
		off message.Offset
		e   Entry
	}{
		"filler":            {q, 10, Entry{Position: 5000, Size: math.MaxInt32}},
		"size 0":            {q, 10, Entry{Position: 5000}},
		"negative position": {q, 10, Entry{Position: -1, Size: 10}},
		"position again":    {q, 10, entryOf(9)},
		"gap":               {q, 61, entryOf(61)},
		"offset":            {tab.Queue("u", 0), math.MaxInt64, entryOf(1)},
		"topic name":        {tab.Queue("../x", 0), 0, entryOf(1)},
		"queue id":          {tab.Queue("x", -1), 0, entryOf(1)},
	} {
		before := c.q.Max()
		if err := c.q.Put(c.off, c.e); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
		if c.q.Max() != before {
			t.Errorf("%s: the queue changed", name)
		}
	}
	expect(t, q, 0, 10)
	if _, err := q.Read(11, make([]Entry, 1)); err != ErrOutside {
		t.Error("read above the end:", err)
	}
	if _, err := q.Read(-1, make([]Entry, 1)); err != ErrOutside {
		t.Error("read below the start:", err)
	}
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	if err := q.Put(10, entryOf(10)); err != ErrClosed {
		t.Error("put after Close:", err)
	}
}

func TestGapReadsAsFillers(t *testing.T) {
	dir := t.TempDir()
	tab := open(t, dir, Options{FileEntries: 100})
	q := tab.Queue("t", 0)
	put(t, q, 0, 95)
	put(t, q, 120, 130)
	for range 2 {
		var row [35]Entry
		if n, err := q.Read(95, row[:]); n != 35 || err != nil {
			t.Fatal(n, err)
		}
		for i, e := range row {
			if off := int64(95 + i); e.Filler() != (off < 120) || off >= 120 && e != entryOf(off) {
				t.Fatalf("offset %d: %+v", off, e)
			}
		}
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
		tab = open(t, dir, Options{FileEntries: 100})
		q = tab.Lookup("t", 0)
	}
	// Fillers go with the record behind them.
	if err := tab.TruncateFrom(entryOf(120).Position); err != nil {
		t.Fatal(err)
	}
	expect(t, q, 0, 95)
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTruncate(t *testing.T) {
	for _, keep := range []int64{0, 1, 150, 199, 200, 201, 399, 400, 950, 999, 1000} {
		for _, flushed := range []int64{0, 300, 1000} {
			t.Run(fmt.Sprintf("keep=%d flushed=%d", keep, flushed), func(t *testing.T) {
				dir := t.TempDir()
				tab := open(t, dir, Options{FileEntries: 200})
				q := tab.Queue("t", 0)
				put(t, q, 0, flushed)
				if err := tab.Flush(); err != nil {
					t.Fatal(err)
				}
				put(t, q, flushed, 1000)
				if err := tab.TruncateFrom(entryOf(keep).Position - 50); err != nil {
					t.Fatal(err)
				}
				expect(t, q, 0, keep)
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
				tab = open(t, dir, Options{FileEntries: 200})
				q = tab.Queue("t", 0)
				expect(t, q, 0, keep)
				put(t, q, keep, 1100)
				expect(t, q, 0, 1100)
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func TestDropBefore(t *testing.T) {
	for _, low := range []int64{0, 1, 199, 200, 201, 555, 999, 1000, 1001} {
		t.Run(fmt.Sprint(low), func(t *testing.T) {
			dir := t.TempDir()
			o := Options{FileEntries: 200}
			tab := open(t, dir, o)
			q := tab.Queue("t", 0)
			put(t, q, 0, 1000)
			if err := tab.Flush(); err != nil {
				t.Fatal(err)
			}
			if err := tab.DropBefore(entryOf(low).Position); err != nil {
				t.Fatal(err)
			}
			expect(t, q, min(low, 1000), 1000)
			if _, err := q.Read(0, make([]Entry, 1)); low > 0 && err != ErrOutside {
				t.Fatal("read of what is gone:", err)
			}
			if err := tab.Close(); err != nil {
				t.Fatal(err)
			}
			list, err := os.ReadDir(filepath.Join(dir, "consumequeue/t/0"))
			if err != nil || list[0].Name() != fmt.Sprintf("%020d", min(low, 999)/200*4000) {
				t.Fatal(list, err)
			}
			// Min is not in the files: the caller drops again after Open.
			tab = open(t, dir, o)
			q = tab.Lookup("t", 0)
			expect(t, q, min(low, 999)/200*200, 1000)
			if err := tab.DropBefore(entryOf(low).Position); err != nil {
				t.Fatal(err)
			}
			put(t, q, 1000, 1010)
			expect(t, q, min(low, 1000), 1010)
			if err := tab.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// An empty queue goes on wherever the log says: nothing of it counts any more.
func TestEmptyQueueBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	o := Options{FileEntries: 100, MaxGap: 10}
	tab := open(t, dir, o)
	q := tab.Queue("t", 0)
	put(t, q, 0, 150)
	if err := tab.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := tab.DropBefore(entryOf(150).Position); err != nil {
		t.Fatal(err)
	}
	expect(t, q, 150, 150)
	put(t, q, 730, 777)
	expect(t, q, 730, 777)
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	tab = open(t, dir, o)
	expect(t, tab.Lookup("t", 0), 730, 777)
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDelete(t *testing.T) {
	dir := t.TempDir()
	tab := open(t, dir, Options{FileEntries: 100})
	q := tab.Queue("t", 0)
	put(t, q, 0, 150)
	put(t, tab.Queue("u", 0), 0, 5)
	if err := tab.Flush(); err != nil {
		t.Fatal(err)
	}
	put(t, q, 150, 160)
	if err := tab.Delete("t"); err != nil {
		t.Fatal(err)
	}
	if err := q.Put(160, entryOf(160)); err != ErrDeleted {
		t.Error("put:", err)
	}
	if _, err := q.Read(0, make([]Entry, 1)); err != ErrDeleted {
		t.Error("read:", err)
	}
	if tab.Lookup("t", 0) != nil {
		t.Error("still there")
	}
	put(t, tab.Queue("t", 0), 0, 3)
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	tab = open(t, dir, Options{FileEntries: 100})
	defer tab.Close()
	expect(t, tab.Lookup("t", 0), 0, 3)
	expect(t, tab.Lookup("u", 0), 0, 5)
	if err := tab.Delete("t"); err != nil {
		t.Fatal(err)
	}
	if err := tab.Delete("never"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "consumequeue/t")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the folder is there:", err)
	}
}

// What is wrong in a folder, and what of it is still served.
func TestDamage(t *testing.T) {
	const per = 100
	file := func(dir string, n int) string {
		return filepath.Join(dir, "consumequeue/t/0", fmt.Sprintf("%020d", n*per*20))
	}
	cases := []struct {
		name    string
		harm    func(dir string) error
		lo, hi  int64 // of the queue, -1: Open is refused
		missing [2]int64
		told    int
	}{
		{"nothing", func(dir string) error { return nil }, 0, 250, [2]int64{}, 0},
		{"last file empty", func(dir string) error { return os.Truncate(file(dir, 2), 0) }, 0, 200, [2]int64{}, 0},
		{"half an entry at the end", func(dir string) error { return os.Truncate(file(dir, 2), 30*20+11) }, 0, 230, [2]int64{}, 0},
		{"middle file short", func(dir string) error { return os.Truncate(file(dir, 1), 40*20) }, 0, 250, [2]int64{140, 200}, 1},
		{"middle file missing", func(dir string) error { return os.Remove(file(dir, 1)) }, 0, 250, [2]int64{100, 200}, 1},
		{"first file missing", func(dir string) error { return os.Remove(file(dir, 0)) }, 100, 250, [2]int64{}, 0},
		{"a file too long", func(dir string) error { return os.Truncate(file(dir, 1), per*20+1) }, -1, 0, [2]int64{}, 0},
		{"a name between", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "consumequeue/t/0/00000000000000000020"), nil, 0o644)
		}, -1, 0, [2]int64{}, 0},
		{"a name beyond", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "consumequeue/t/0/09223372036854774000"), nil, 0o644)
		}, -1, 0, [2]int64{}, 0},
		{"strange names", func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "consumequeue/t/0/readme"), nil, 0o644),
				os.WriteFile(filepath.Join(dir, "consumequeue/readme"), nil, 0o644),
				os.MkdirAll(filepath.Join(dir, "consumequeue/t/x"), 0o755))
		}, 0, 250, [2]int64{}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			told := 0
			o := Options{FileEntries: per, Damaged: func(e *DamageError) { told++ }}
			tab := open(t, dir, o)
			put(t, tab.Queue("t", 0), 0, 250)
			if err := tab.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			tab, err := Open(filepath.Join(dir, "consumequeue"), o)
			var damage *DamageError
			if c.lo < 0 {
				if !errors.As(err, &damage) {
					t.Fatalf("Open: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer tab.Close()
			if told != c.told {
				t.Errorf("told %d times, want %d", told, c.told)
			}
			q := tab.Lookup("t", 0)
			if int64(q.Min()) != c.lo || int64(q.Max()) != c.hi {
				t.Fatalf("queue has %d to %d", q.Min(), q.Max())
			}
			rows := make([]Entry, c.hi-c.lo)
			if n, err := q.Read(q.Min(), rows); n != len(rows) || err != nil {
				t.Fatal(n, err)
			}
			for i, e := range rows {
				off := c.lo + int64(i)
				if gone := off >= c.missing[0] && off < c.missing[1]; gone != e.Filler() || !gone && e != entryOf(off) {
					t.Fatalf("offset %d: %+v", off, e)
				}
			}
			put(t, q, c.hi, c.hi+200)
			if err := tab.Flush(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	o := Options{Snapshot: filepath.Join(dir, "queues"), Stamp: "s"}
	tab := open(t, dir, o)
	put(t, tab.Queue("t", 0), 0, 500)
	tab.SetStamp("s")
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	o.ReadOnly = true
	for range 2 {
		tab = open(t, dir, o)
		if !tab.FromSnapshot() {
			t.Error("the snapshot is gone")
		}
		expect(t, tab.Lookup("t", 0), 0, 500)
		if err := tab.Lookup("t", 0).Put(500, entryOf(500)); err != ErrReadOnly {
			t.Error(err)
		}
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
