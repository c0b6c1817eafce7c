package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// ledger is what a run has appended, and what it was told is safe.
type ledger struct {
	mu   sync.Mutex
	recs map[message.Position][]byte
	safe message.Position // every record that ends here or before was reported flushed
}

// TestCrashEverywhere cuts the power before every operation of a run and opens
// what is left. Invariants:
//   - every record that was reported flushed is there, byte for byte;
//   - nothing is there that was not appended, at that place, whole;
//   - the log can be appended to, and a second crash loses nothing of the first.
func TestCrashEverywhere(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	for _, sync := range []bool{true, false} {
		t.Run(fmt.Sprint("sync=", sync), func(t *testing.T) { crashEverywhere(t, sync, seed) })
	}
}

func crashEverywhere(t *testing.T, sync bool, seed int64) {
	const size = 16 << 10
	small := func(o *Options) {
		o.SegmentSize, o.AllocateAhead, o.Sync, o.FlushEvery = size, 4096, sync, time.Millisecond
	}
	mem := vfs.NewMem()
	f := vfs.NewFaulty(mem)
	g := &ledger{recs: map[message.Position][]byte{}}
	type crash struct {
		op   vfs.Op
		disk *vfs.Mem
		safe message.Position
	}
	var crashes []crash
	rng := rand.New(rand.NewSource(seed))
	f.Hook(func(op vfs.Op) {
		if !op.Changes() {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		// safe is read before the clone is made: what it covers must be in it.
		crashes = append(crashes, crash{op, mem.CrashClone(rng), g.safe})
	})
	l, _, err := tryOpen(f, Start{}, small)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		b := batchOf(t, i*10, 1+i%5, 300+i*13)
		// The hook must know the records before the write can reach the disk.
		end, err := l.Append(b, func(i int, pos message.Position, ms int64, rec []byte) {
			message.Patch(rec, message.Offset(pos), pos, ms)
			g.mu.Lock()
			defer g.mu.Unlock()
			g.recs[pos] = bytes.Clone(rec)
		})
		if err != nil {
			t.Fatal(err)
		}
		wait := make(chan error, 1)
		if sync || i%8 == 0 {
			l.WhenFlushed(end, func(err error) { wait <- err })
			if err := <-wait; err != nil {
				t.Fatal(err)
			}
			g.mu.Lock()
			g.safe = end
			g.mu.Unlock()
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.safe = l.Max()
	g.mu.Unlock()
	f.Hook(nil)
	crashes = append(crashes, crash{vfs.Op{}, mem.CrashClone(rng), g.safe})
	if len(crashes) < 60 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for i, c := range crashes {
		at := fmt.Sprintf("crash %d before %v", i, c.op)
		extra := map[message.Position][]byte{}
		first := checkCrash(t, at, c.disk, small, g.recs, extra, c.safe, nil)
		checkCrash(t, at+", then another", first, small, g.recs, extra, c.safe, rng)
	}
}

// checkCrash opens a disk, checks the invariants, appends a little, notes that
// in extra, and returns the disk without a clean close.
func checkCrash(t *testing.T, at string, disk *vfs.Mem, small func(*Options), recs, extra map[message.Position][]byte, safe message.Position, rng *rand.Rand) *vfs.Mem {
	t.Helper()
	l, got, err := tryOpen(disk, Start{}, small)
	if err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	defer l.Close()
	for _, pos := range got.order {
		if rec := got.recs[pos]; !bytes.Equal(rec, recs[pos]) && !bytes.Equal(rec, extra[pos]) {
			t.Fatalf("%s: the record at %d is not what was written", at, pos)
		}
	}
	for pos, rec := range extra {
		if !bytes.Equal(got.recs[pos], rec) {
			t.Fatalf("%s: the record at %d, flushed after the first crash, is lost", at, pos)
		}
	}
	for pos, rec := range recs {
		if end := pos + message.Position(len(rec)); end <= safe && got.recs[pos] == nil {
			t.Fatalf("%s: the record at %d, safe up to %d, is lost", at, pos, safe)
		}
	}
	if l.Max() < safe {
		t.Fatalf("%s: the log ends at %d, safe was %d", at, l.Max(), safe)
	}
	b := batchOf(t, 900, 2, 400)
	end := mustAppend(t, l, b)
	for i := range b.Len() {
		extra[b.Record(i).Position()] = bytes.Clone(b.Record(i))
	}
	if err := l.Flush(); err != nil || l.Flushed() != end {
		t.Fatalf("%s: flushed %d of %d, %v", at, l.Flushed(), end, err)
	}
	clone := disk.CrashClone(rng)
	after, got2, err := tryOpen(clone, Start{}, small)
	if err != nil {
		t.Fatalf("%s, opened again: %v", at, err)
	}
	defer after.Close()
	if len(got2.order) != len(got.order)+2 || after.Max() != end {
		t.Fatalf("%s, opened again: %d records to %d, want %d to %d", at, len(got2.order), after.Max(), len(got.order)+2, end)
	}
	return disk.CrashClone(rng)
}

func TestNoSpaceAndResume(t *testing.T) {
	for _, allocate := range []bool{true, false} {
		t.Run(fmt.Sprint("allocate=", allocate), func(t *testing.T) {
			mem := vfs.NewMem()
			f := vfs.NewFaulty(mem)
			f.SetBudget(40 << 10)
			if !allocate { // the room is missed in the middle of a write
				var fsys vfs.FS = noAllocate{f}
				testNoSpace(t, mem, f, fsys)
				return
			}
			testNoSpace(t, mem, f, f)
		})
	}
}

func testNoSpace(t *testing.T, mem *vfs.Mem, f *vfs.Faulty, fsys vfs.FS) {
	l, _ := open(t, fsys, nil)
	var want []message.Position
	settled := 0
	var b *Batch
	for i := 0; ; i++ {
		b = batchOf(t, i*7, 7, 700)
		b.Settle = func(err error) {
			if err != nil {
				settled++
			}
		}
		before := l.Max()
		_, err := l.Append(b, nil)
		if err != nil {
			if !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			if l.Max() != before {
				t.Fatal("the end moved though nothing was written")
			}
			break
		}
		for j := range b.Len() {
			want = append(want, b.Record(j).Position())
		}
	}
	if len(want) == 0 || l.Failed() != nil {
		t.Fatalf("%d records, failed: %v", len(want), l.Failed())
	}
	if _, wrote := fsys.(noAllocate); wrote != (settled == 1) {
		t.Fatalf("Settle was told %d times", settled)
	}
	// Nothing of the batch may come to life after a crash, even behind a
	// shorter one in its place.
	check := func(disk *vfs.Mem) {
		t.Helper()
		l2, got, err := tryOpen(disk, Start{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l2.Close()
		if len(got.order) != len(want) || l2.Max() != l.Max() {
			t.Fatalf("%d records to %d, want %d to %d", len(got.order), l2.Max(), len(want), l.Max())
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	check(mem.CrashClone(rand.New(rand.NewSource(1))))
	f.SetBudget(400 << 10)
	for range 3 {
		short := batchOf(t, 1, 1, 699)
		mustAppend(t, l, short)
		want = append(want, short.Record(0).Position())
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	check(mem.CrashClone(nil))
	mustAppend(t, l, b)
}

// noAllocate is a file system that cannot reserve room.
type noAllocate struct{ *vfs.Faulty }

type noAllocateFile struct{ vfs.File }

func (noAllocateFile) Allocate(int64, int64) error { return nil }

func (n noAllocate) Open(name string, writable bool) (vfs.File, error) {
	f, err := n.Faulty.Open(name, writable)
	return noAllocateFile{f}, err
}

func (n noAllocate) Create(name string) (vfs.File, error) {
	f, err := n.Faulty.Create(name)
	return noAllocateFile{f}, err
}

// TestFailedWriteIsSticky: an EIO is not a full disk.
func TestFailedWriteIsSticky(t *testing.T) {
	f := vfs.NewFaulty(vfs.NewMem())
	l, _ := open(t, f, nil)
	mustAppend(t, l, batchOf(t, 0, 1, 100))
	end := l.Max()
	f.Inject(vfs.Rule{Kind: vfs.KindWrite, Times: 1, Short: true})
	if _, err := l.Append(batchOf(t, 1, 3, 100), nil); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if _, err := l.Append(batchOf(t, 1, 1, 100), nil); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if l.Max() != end {
		t.Fatal("the end moved")
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if _, got := open(t, f, nil); len(got.order) == 0 {
		t.Fatal("the record before the failure is lost")
	}
}
