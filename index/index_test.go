package index

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

const t0 = 1_700_000_000_000

func small(o Options) Options {
	if o.Slots == 0 {
		o.Slots, o.Items = 50, 400
	}
	return o
}

func open(t testing.TB, dir string, o Options) *Index {
	t.Helper()
	x, err := Open(filepath.Join(dir, "index"), small(o))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// record i is at 1000+100i, was stored 250 ms after the one before, and has the
// keys of keysOf.
func posOf(i int) message.Position { return message.Position(1000 + 100*i) }
func timeOf(i int) int64           { return t0 + 250*int64(i) }
func keysOf(i int) []string {
	return []string{fmt.Sprintf("t#id%d", i), fmt.Sprintf("t#user%d", i%7), "t#T#TagA"}
}

func putRecords(t testing.TB, x *Index, from, end int) {
	t.Helper()
	for i := from; i < end; i++ {
		for _, k := range keysOf(i) {
			if err := x.Put([]byte(k), posOf(i), timeOf(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// expect checks that the records from lo on and below hi are found by their
// keys, once each, and no others, but for those whose hash is the same.
func expect(t testing.TB, x *Index, lo, hi int) {
	t.Helper()
	if pos, _ := x.Last(); hi > lo && pos != posOf(hi-1) || hi == 0 && pos != message.NoPosition {
		t.Fatalf("last is %d", pos)
	}
	users := map[string][]message.Position{}
	for i := lo; i < hi; i++ {
		users[keysOf(i)[1]] = append(users[keysOf(i)[1]], posOf(i))
	}
	for i := 0; i < hi+10; i++ {
		got, err := x.Find([]byte(keysOf(i)[0]), timeOf(i), timeOf(i), 10)
		want := i >= lo && i < hi
		if err != nil || want && !slices.Equal(got, []message.Position{posOf(i)}) || !want && len(got) != 0 {
			t.Fatalf("record %d of %d to %d: %v, %v", i, lo, hi, got, err)
		}
		key := keysOf(i)[1]
		if i >= 7 {
			continue
		}
		if got, err = x.Find([]byte(key), 0, 1<<60, 1<<30); err != nil || !slices.Equal(got, users[key]) {
			t.Fatalf("%s: %v, %v, want %v", key, got, err, users[key])
		}
	}
}

func TestFileBytes(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.FixedZone("", 3600))
	x, err := Open(filepath.Join(dir, "index"), Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	// "b1k#k0" and "polygenelubricants": the hash of the second is MIN_VALUE.
	for i, k := range []string{"b1k#k0", "polygenelubricants", "b1k#k0"} {
		if err := x.Put([]byte(k), message.Position(0x100+i), t0+int64(i)*1999); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "index", "20260304050607089"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := f.Stat()
	if info.Size() != 420_000_040 {
		t.Fatalf("the file has %d bytes", info.Size())
	}
	bytes := func(at int64, n int) string {
		b := make([]byte, n)
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	hash := hashOf([]byte("b1k#k0"))
	if hash != javaAbs("b1k#k0") {
		t.Errorf("hash is %d", hash)
	}
	if got, want := bytes(0, 40), fmt.Sprintf("%016x%016x%016x%016x%08x%08x", t0, t0+3998, 0x100, 0x102, 2, 4); got != want {
		t.Errorf("header %s, want %s", got, want)
	}
	if got := bytes(40+4*int64(hash%5_000_000), 4); got != "00000003" {
		t.Errorf("slot of the key: %s", got)
	}
	if got := bytes(40, 4); got != "00000002" {
		t.Errorf("slot 0: %s", got)
	}
	want := strings.Repeat("00", 20) +
		fmt.Sprintf("%08x%016x%08x%08x", hash, 0x100, 0, 0) +
		fmt.Sprintf("%08x%016x%08x%08x", 0, 0x101, 1, 0) +
		fmt.Sprintf("%08x%016x%08x%08x", hash, 0x102, 3, 1) +
		strings.Repeat("00", 20)
	if got := bytes(20_000_040, 100); got != want {
		t.Errorf("items %s, want %s", got, want)
	}
}

// javaAbs is Java's hash of ASCII text, made positive, worked out apart.
func javaAbs(s string) int32 {
	var h uint64
	for _, c := range []byte(s) {
		h = (h*31 + uint64(c)) % (1 << 32)
	}
	if v := int32(uint32(h)); v < 0 {
		return -v
	} else {
		return v
	}
}

func TestManyFiles(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 3, 4, 5, 59, 59, 999_000_000, time.UTC)
	o := Options{Now: func() time.Time { return now }} // all files in one millisecond
	x := open(t, dir, o)
	expect(t, x, 0, 0)
	putRecords(t, x, 0, 1000)
	expect(t, x, 0, 1000)
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	expect(t, x, 0, 1000)
	putRecords(t, x, 900, 999) // all there already; the last one may come twice
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, dir, o)
	expect(t, x, 0, 1000)
	putRecords(t, x, 1000, 1100)
	expect(t, x, 0, 1100)
	list, _ := os.ReadDir(filepath.Join(dir, "index"))
	if len(list) != 9 || list[0].Name() != "20260304055959999" || list[1].Name() != "20260304060000000" {
		t.Error(list)
	}
	if err := x.DropBefore(posOf(500)); err != nil {
		t.Fatal(err)
	}
	expect(t, x, 399, 1100) // whole files of 133 records
	if err := x.DropBefore(posOf(5000)); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if list, _ = os.ReadDir(filepath.Join(dir, "index")); len(list) != 1 {
		t.Error("the newest file does not stay alone:", list)
	}
	if _, err := x.Find([]byte("t#id3"), 0, 1, 1); err != ErrClosed {
		t.Error(err)
	}
	if err := x.Put([]byte("t#id3"), 1<<40, t0); err != ErrClosed {
		t.Error(err)
	}
}

func TestFindLimits(t *testing.T) {
	x := open(t, t.TempDir(), Options{})
	defer x.Close()
	putRecords(t, x, 0, 500)
	key := []byte("t#T#TagA")
	got, err := x.Find(key, 0, 1<<60, 3)
	if err != nil || !slices.Equal(got, []message.Position{posOf(497), posOf(498), posOf(499)}) {
		t.Error("the newest, ascending:", got, err)
	}
	// A time within a second of the item counts: files know seconds.
	got, err = x.Find(key, timeOf(100), timeOf(199), 1000)
	if err != nil || len(got) < 100 || len(got) > 108 || !slices.Contains(got, posOf(100)) || !slices.Contains(got, posOf(199)) {
		t.Error("by time:", len(got), err)
	}
	for _, r := range [][2]int64{{0, t0 - 1}, {timeOf(500) + 1000, 1 << 60}, {timeOf(20), timeOf(10) - 2000}} {
		if got, err := x.Find(key, r[0], r[1], 10); err != nil || len(got) != 0 {
			t.Error("outside:", r, got, err)
		}
	}
	if got, _ := x.Find(key, 0, 1<<60, 0); len(got) != 0 {
		t.Error("none were asked for:", got)
	}
	if err := x.Put([]byte("k k"), posOf(600), timeOf(600)); err != nil {
		t.Fatal(err)
	}
	if err := x.Put([]byte("k k"), posOf(600), timeOf(600)); err != nil {
		t.Fatal(err)
	}
	if got, _ := x.Find([]byte("k k"), 0, 1<<60, 10); len(got) != 1 {
		t.Error("a record with the key twice:", got)
	}
}

func TestTruncate(t *testing.T) {
	for _, keep := range []int{0, 1, 132, 133, 134, 300, 399, 400} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			dir := t.TempDir()
			x := open(t, dir, Options{})
			putRecords(t, x, 0, 400)
			if keep%2 == 0 { // also without a start in between
				if err := x.Close(); err != nil {
					t.Fatal(err)
				}
				x = open(t, dir, Options{})
			}
			if err := x.TruncateFrom(posOf(keep)); err != nil {
				t.Fatal(err)
			}
			expect(t, x, 0, keep)
			putRecords(t, x, keep, 450)
			expect(t, x, 0, 450)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			x = open(t, dir, Options{})
			expect(t, x, 0, 450)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The same with the index running: power fails before every change of the disk.
func TestCrashEverywhere(t *testing.T) {
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	defer func() {
		if t.Failed() {
			t.Log("seed", seed)
		}
	}()
	for range 15 {
		mem := vfs.NewMem()
		faulty := vfs.NewFaulty(mem)
		o := Options{FS: faulty, Slots: 1500, Items: 700, Now: time.Now}
		certain, end := 0, 0
		faulty.Hook(func(op vfs.Op) {
			if !op.Changes() {
				return
			}
			oo := o
			oo.FS = mem.CrashClone(rng)
			oo.Broken = func(e *BrokenError) { t.Error(e) }
			x := open(t, "/s", oo)
			if err := x.TruncateFrom(posOf(certain)); err != nil {
				t.Fatal(err)
			}
			expect(t, x, 0, certain)
			putRecords(t, x, certain, end)
			expect(t, x, 0, end)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			x = open(t, "/s", oo)
			expect(t, x, 0, end)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		})
		x := open(t, "/s", o)
		for range 6 {
			n := rng.Intn(200)
			for range n {
				putRecords(t, x, end, end+1)
				end++
			}
			if rng.Intn(2) == 0 {
				if err := x.Flush(); err != nil {
					t.Fatal(err)
				}
				certain = end
			}
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A crash leaves each page of what was not flushed old or new, each for itself.
func TestHalfWritten(t *testing.T) {
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	for range 25 {
		dir := t.TempDir()
		o := Options{Slots: 700, Items: 2000}
		x := open(t, dir, o)
		certain, end := 1+rng.Intn(300), 0
		putRecords(t, x, 0, certain)
		if err := x.Flush(); err != nil {
			t.Fatal(err)
		}
		list, _ := os.ReadDir(filepath.Join(dir, "index"))
		name := filepath.Join(dir, "index", list[0].Name())
		old, _ := os.ReadFile(name)
		end = certain + rng.Intn(300)
		putRecords(t, x, certain, end)
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		crashed, _ := os.ReadFile(name)
		for at := 0; at < len(crashed); at += 512 {
			if rng.Intn(2) == 0 {
				copy(crashed[at:min(at+512, len(crashed))], old[at:])
			}
		}
		if err := os.WriteFile(name, crashed, 0o644); err != nil {
			t.Fatal(err)
		}
		x = open(t, dir, o)
		if err := x.TruncateFrom(posOf(certain)); err != nil {
			t.Fatal(err)
		}
		expect(t, x, 0, certain)
		putRecords(t, x, certain, end+20)
		expect(t, x, 0, end+20)
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestBroken(t *testing.T) {
	cases := map[string]struct {
		harm func(name string) error
		says string
	}{
		"short":        {func(name string) error { return os.Truncate(name, 100) }, "has 100 bytes, not the 8240"},
		"other size":   {func(name string) error { return os.Truncate(name, 420_000_040) }, "maxHashSlotNum"},
		"count":        {func(name string) error { return overwrite(name, 36, 401) }, "header is damaged"},
		"negative":     {func(name string) error { return overwrite(name, 16, 1<<31) }, "header is damaged"},
		"slots in use": {func(name string) error { return overwrite(name, 32, 51) }, "header is damaged"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := open(t, dir, Options{})
			putRecords(t, x, 0, 200)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			list, _ := os.ReadDir(filepath.Join(dir, "index"))
			if err := c.harm(filepath.Join(dir, "index", list[1].Name())); err != nil {
				t.Fatal(err)
			}
			var broken []*BrokenError
			x = open(t, dir, Options{Broken: func(e *BrokenError) { broken = append(broken, e) }})
			if len(broken) != 1 || !strings.Contains(broken[0].Error(), c.says) {
				t.Fatal(broken)
			}
			expect(t, x, 0, 133) // the first file
			if err := x.Drop(broken[0].File); err != nil {
				t.Fatal(err)
			}
			// The file before it has one key of record 133.
			if err := x.TruncateFrom(posOf(133)); err != nil {
				t.Fatal(err)
			}
			putRecords(t, x, 133, 200)
			expect(t, x, 0, 200)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func overwrite(name string, at int64, v uint32) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.BigEndian.AppendUint32(nil, v), at)
	return errors.Join(err, f.Close())
}

func TestConcurrent(t *testing.T) {
	x := open(t, t.TempDir(), Options{Slots: 50, Items: 1000})
	var last atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for last.Load() < 2999 {
				i := int(last.Load())
				if i == 0 {
					continue
				}
				i = rand.Intn(i)
				got, err := x.Find([]byte(keysOf(i)[0]), timeOf(i), timeOf(i), 10)
				if err != nil || !slices.Equal(got, []message.Position{posOf(i)}) {
					t.Errorf("record %d: %v, %v", i, got, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for last.Load() < 2999 {
			if err := x.Flush(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 3000 {
		putRecords(t, x, i, i+1)
		last.Store(int64(i))
	}
	wg.Wait()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

// fullFS has no room while full is set.
type fullFS struct {
	vfs.FS
	full *atomic.Bool
}

type fullFile struct {
	vfs.File
	full *atomic.Bool
}

func (f fullFS) Open(name string, w bool) (vfs.File, error) {
	file, err := f.FS.Open(name, w)
	return fullFile{file, f.full}, err
}

func (f fullFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return fullFile{file, f.full}, err
}

func (f fullFile) Allocate(off, size int64) error {
	if f.full.Load() {
		return syscall.ENOSPC
	}
	return f.File.Allocate(off, size)
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	var full atomic.Bool
	o := Options{FS: fullFS{vfs.OS, &full}}
	x := open(t, dir, o)
	full.Store(true)
	if err := x.Put([]byte("k"), 1, t0); !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	full.Store(false)
	putRecords(t, x, 0, 100)
	full.Store(true)
	putRecords(t, x, 100, 133) // has its place
	for range 3 {
		if err := x.Put([]byte("k"), posOf(133), timeOf(133)); !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
	}
	full.Store(false)
	putRecords(t, x, 133, 300)
	expect(t, x, 0, 300)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Error("left beside the folder:", list)
	}
}

// Any bytes as a file: nothing but answers and errors comes of them.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	x := open(f, dir, Options{Slots: 5, Items: 20})
	putRecords(f, x, 0, 6)
	if err := x.Close(); err != nil {
		f.Fatal(err)
	}
	list, _ := os.ReadDir(filepath.Join(dir, "index"))
	good, _ := os.ReadFile(filepath.Join(dir, "index", list[0].Name()))
	f.Add(good, int64(1200))
	f.Add(good[:100], int64(0))
	f.Add(make([]byte, 460), int64(1))
	f.Fuzz(func(t *testing.T, data []byte, cut int64) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "index"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "index", "20260101000000000"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		x := open(t, dir, Options{Slots: 5, Items: 20})
		look := func() {
			for _, key := range keysOf(2) {
				if _, err := x.Find([]byte(key), 0, 1<<62, 1000); err != nil {
					t.Fatal(err)
				}
			}
		}
		look()
		if err := x.TruncateFrom(message.Position(cut)); err != nil {
			t.Fatal(err)
		}
		look()
		base := max(0, cut) % (1 << 40)
		for i := range 25 {
			if err := x.Put([]byte("t#user2"), message.Position(base+int64(i)), t0); err != nil {
				t.Fatal(err)
			}
		}
		look()
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	x, err := Open(filepath.Join(b.TempDir(), "index"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	keys := make([][]byte, 1<<12)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "orders#7F00000100002A9F%016d", i*7919)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := x.Put(keys[i%len(keys)], message.Position(i), t0+int64(i)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkFind(b *testing.B) {
	dir := b.TempDir()
	x, err := Open(filepath.Join(dir, "index"), Options{Slots: 50_000, Items: 200_000})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	putRecords(b, x, 0, 100_000)
	for name, i := range map[string]int{"newest": 99_000, "old": 10_000} {
		b.Run(name, func(b *testing.B) {
			key := []byte(keysOf(i)[0])
			b.ReportAllocs()
			for b.Loop() {
				if got, err := x.Find(key, timeOf(i)-60_000, timeOf(i)+60_000, 32); err != nil || len(got) == 0 {
					b.Fatal(got, err)
				}
			}
		})
	}
}
