package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testSegment = 64 << 10

// testMessage is a message whose body is told by n alone.
func testMessage(n, size int) *message.Message {
	host := netip.MustParseAddrPort("10.0.0.1:10911")
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(n + i*7 + i>>8)
	}
	return &message.Message{
		Topic: "orders", QueueID: int32(n % 4), BornTimestamp: 1, BornHost: host, StoreHost: host,
		Body: body, Properties: message.Properties(fmt.Sprintf("n\x01%05d\x02", n)),
	}
}

func batchOf(t testing.TB, from, count, size int) *Batch {
	t.Helper()
	b := new(Batch)
	for i := range count {
		if err := b.Add(testMessage(from+i, size)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// seen is what a recovery handed out, by position.
type seen struct {
	order []message.Position
	recs  map[message.Position][]byte
}

func (s *seen) add(pos message.Position, v message.View) error {
	if s.recs == nil {
		s.recs = map[message.Position][]byte{}
	}
	s.order = append(s.order, pos)
	s.recs[pos] = bytes.Clone(v)
	return nil
}

func open(t testing.TB, fsys vfs.FS, change func(*Options)) (*Log, *seen) {
	t.Helper()
	l, got, err := tryOpen(fsys, Start{}, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, got
}

func tryOpen(fsys vfs.FS, s Start, change func(*Options)) (*Log, *seen, error) {
	o := Options{FS: fsys, SegmentSize: testSegment, AllocateAhead: 8 << 10, FlushEvery: time.Hour}
	if change != nil {
		change(&o)
	}
	l, err := Open("store/commitlog", o)
	if err != nil {
		return nil, nil, err
	}
	got := new(seen)
	if err := l.Recover(s, got.add); err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return l, got, nil
}

func mustAppend(t testing.TB, l *Log, b *Batch) message.Position {
	t.Helper()
	end, err := l.Append(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

func TestAppendReadReopen(t *testing.T) {
	for _, name := range []string{"mem", "os"} {
		t.Run(name, func(t *testing.T) {
			var fsys vfs.FS = vfs.NewMem()
			if name == "os" {
				t.Chdir(t.TempDir())
				fsys = vfs.OS
			}
			l, _ := open(t, fsys, nil)
			type placed struct {
				pos message.Position
				rec []byte
			}
			var all []placed
			for i := range 60 {
				b := batchOf(t, i*5, 5, 900)
				var at []message.Position
				end, err := l.Append(b, func(i int, pos message.Position, ms int64, rec []byte) {
					message.Patch(rec, message.Offset(i), pos, ms)
					at = append(at, pos)
				})
				if err != nil {
					t.Fatal(err)
				}
				if end != l.Max() || l.Safe() != end {
					t.Fatalf("end %d, Max %d, Safe %d", end, l.Max(), l.Safe())
				}
				for j, pos := range at {
					all = append(all, placed{pos, bytes.Clone(b.Record(j))})
				}
			}
			if n := len(l.Segments()); n < 4 {
				t.Fatalf("%d segments, want several", n)
			}
			check := func(l *Log) {
				t.Helper()
				spans := make([]Span, len(all))
				var want []byte
				for i, p := range all {
					got, err := l.Read(p.pos, len(p.rec), nil)
					if err != nil || !bytes.Equal(got, p.rec) {
						t.Fatalf("read %d: %v", p.pos, err)
					}
					v, err := l.Record(p.pos)
					if err != nil || v.Position() != p.pos {
						t.Fatalf("record %d: %v", p.pos, err)
					}
					spans[i], want = Span{p.pos, int32(len(p.rec))}, append(want, p.rec...)
				}
				got, n, err := l.ReadMany(spans, 0, nil)
				if err != nil || n != len(spans) || !bytes.Equal(got, want) {
					t.Fatalf("ReadMany: %d of %d, %v", n, len(spans), err)
				}
				if _, n, _ = l.ReadMany(spans, 3000, nil); n != 2 {
					t.Fatalf("ReadMany with a limit read %d, want 2", n)
				}
			}
			check(l)
			max := l.Max()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal("second Close:", err)
			}
			if _, err := l.Append(batchOf(t, 0, 1, 10), nil); !errors.Is(err, ErrClosed) {
				t.Fatal("append after Close:", err)
			}
			if _, err := l.Read(0, 10, nil); !errors.Is(err, ErrClosed) {
				t.Fatal("read after Close:", err)
			}
			l, got := open(t, fsys, func(o *Options) { o.HotWindow = 1; o.SegmentSize = 1 << 20 })
			if l.Max() != max || l.SegmentSize() != testSegment {
				t.Fatalf("reopened: end %d, want %d; segment size %d", l.Max(), max, l.SegmentSize())
			}
			if len(got.order) != len(all) {
				t.Fatalf("recovered %d records, want %d", len(got.order), len(all))
			}
			for i, p := range all {
				if got.order[i] != p.pos || !bytes.Equal(got.recs[p.pos], p.rec) {
					t.Fatalf("record %d is not the one that was written", i)
				}
			}
			check(l)
			l.Close()
			entries, err := fsys.ReadDir("store/commitlog")
			if err != nil || len(entries) != len(l.Segments()) {
				t.Fatalf("%d files for %d segments, %v", len(entries), len(l.Segments()), err)
			}
			for _, e := range entries {
				if info, _ := e.Info(); info.Size() != testSegment {
					t.Errorf("%s is %d bytes long", e.Name(), info.Size())
				}
			}
		})
	}
}

func TestRollWritesTheFiller(t *testing.T) {
	mem := vfs.NewMem()
	var rolled []message.Position
	l, _ := open(t, mem, func(o *Options) { o.Events.Rolled = func(p message.Position) { rolled = append(rolled, p) } })
	size := batchOf(t, 0, 1, 1000).Size()
	per := (testSegment - message.BlankSize) / size
	end := mustAppend(t, l, batchOf(t, 0, per+2, 1000)) // one batch over two segments
	if want := message.Position(testSegment + 2*size); end != want {
		t.Fatalf("end %d, want %d", end, want)
	}
	if len(rolled) != 1 || rolled[0] != testSegment {
		t.Fatalf("rolled %v", rolled)
	}
	head, err := l.Read(message.Position(per*size), 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, magic, _ := message.PeekSize(head)
	if magic != message.MagicBlank || n != testSegment-per*size {
		t.Fatalf("filler: size %d, magic %#x", n, magic)
	}
}

func TestGroupsShareASegment(t *testing.T) {
	l, _ := open(t, vfs.NewMem(), nil)
	one := batchOf(t, 0, 1, 1000).Size()
	per := (testSegment - message.BlankSize) / one
	mustAppend(t, l, batchOf(t, 0, per-1, 1000))
	b := batchOf(t, 0, 0, 0)
	b.BeginGroup()
	for i := range 3 {
		if err := b.Add(testMessage(i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	b.EndGroup()
	var at []message.Position
	if _, err := l.Append(b, func(_ int, pos message.Position, _ int64, _ []byte) { at = append(at, pos) }); err != nil {
		t.Fatal(err)
	}
	if at[0] != testSegment {
		t.Fatalf("the group stands at %v, want all from %d on", at, testSegment)
	}
	b.Truncate(2)
	if b.Len() != 2 || b.recs[0].unit != 2 || b.Size() != 2*one {
		t.Fatalf("after Truncate: %d records, unit %d, %d bytes", b.Len(), b.recs[0].unit, b.Size())
	}
	b.Reset()
	b.BeginGroup()
	for i := range per + 1 {
		if err := b.Add(testMessage(i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Append(b, nil); !errors.Is(err, ErrTooLarge) {
		t.Fatal("a group larger than a segment:", err)
	}
}

func TestStoreTimeNeverDecreases(t *testing.T) {
	ms := []int64{1000, 900, 2000}
	i := 0
	var mu sync.Mutex
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.UnixMilli(ms[i]) }
	l, _ := open(t, vfs.NewMem(), func(o *Options) { o.Now = now })
	for n, want := range []int64{1000, 1000, 2000} {
		mu.Lock()
		i = n
		mu.Unlock()
		b := batchOf(t, 0, 1, 10)
		mustAppend(t, l, b)
		if got := b.Record(0).StoreTimestamp(); got != want {
			t.Errorf("append %d at clock %d: store time %d, want %d", n, ms[n], got, want)
		}
	}
}

func TestReadOutside(t *testing.T) {
	l, _ := open(t, vfs.NewMem(), nil)
	end := mustAppend(t, l, batchOf(t, 0, 1, 100))
	for _, c := range []struct {
		pos  message.Position
		size int
	}{{-1, 1}, {end, 1}, {end - 1, 2}, {0, -1}, {1 << 62, 1}} {
		if _, err := l.Read(c.pos, c.size, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("read %d bytes at %d: %v, want ErrNotFound", c.size, c.pos, err)
		}
	}
	var corrupt *CorruptError
	if _, err := l.Record(7); !errors.As(err, &corrupt) || corrupt.Offset != 7 {
		t.Errorf("record at a place where none starts: %v", err)
	}
}

func TestDrop(t *testing.T) {
	mem := vfs.NewMem()
	l, _ := open(t, mem, nil)
	mustAppend(t, l, batchOf(t, 0, 300, 900))
	n := len(l.Segments())
	if got, err := l.DropOldest(1); got != 0 || err != nil {
		t.Fatalf("dropped %d unflushed segments, %v", got, err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err := l.DropBefore(2*testSegment + 1); got != 2 || err != nil {
		t.Fatalf("DropBefore dropped %d, %v", got, err)
	}
	if l.Min() != 2*testSegment {
		t.Fatalf("Min %d", l.Min())
	}
	if _, err := l.Read(0, 1, nil); !errors.Is(err, ErrNotFound) {
		t.Fatal("read of a dropped segment:", err)
	}
	if got, err := l.DropOldest(100); got != n-3 || err != nil {
		t.Fatalf("DropOldest dropped %d, %v; want all but the last", got, err)
	}
	max := l.Max()
	l.Close()
	l, _ = open(t, mem.CrashClone(nil), nil)
	if l.Max() != max || len(l.Segments()) != 1 {
		t.Fatalf("after a power cut: end %d, want %d; %d segments", l.Max(), max, len(l.Segments()))
	}
}

func TestGroupCommit(t *testing.T) {
	f := vfs.NewFaulty(vfs.NewMem())
	l, _ := open(t, f, func(o *Options) { o.Sync = true; o.SegmentSize = 4 << 20 })
	gate := make(chan struct{})
	started := make(chan struct{}, 100)
	f.Hook(func(op vfs.Op) {
		if op.Kind == vfs.KindSync {
			started <- struct{}{}
			<-gate
		}
	})
	before := f.Count(vfs.KindSync)
	var mu sync.Mutex
	var order []message.Position
	var wg sync.WaitGroup
	put := func(i int) {
		end := mustAppend(t, l, batchOf(t, i, 1, 500))
		if l.Safe() >= end {
			t.Error("safe before the fsync")
		}
		wg.Add(1)
		l.WhenSafe(end, func(err error) {
			defer wg.Done()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, end)
		})
	}
	put(0)
	<-started // the first fsync runs; the others gather
	for i := range 50 {
		put(i + 1)
	}
	close(gate)
	wg.Wait()
	if n := f.Count(vfs.KindSync) - before; n != 2 {
		t.Errorf("%d fsyncs for 51 appends, want 2", n)
	}
	for i := 1; i < len(order); i++ {
		if order[i] < order[i-1] {
			t.Fatal("answered out of order")
		}
	}
	if l.Safe() != l.Max() {
		t.Error("not all is safe")
	}
}

func TestFailedFlushIsSticky(t *testing.T) {
	for _, sync := range []bool{true, false} {
		t.Run(fmt.Sprint("sync=", sync), func(t *testing.T) {
			f := vfs.NewFaulty(vfs.NewMem())
			failed := make(chan error, 2)
			l, _ := open(t, f, func(o *Options) {
				o.Sync = sync
				o.FlushEvery = time.Millisecond
				o.Events.Failed = func(err error) { failed <- err }
			})
			f.FailNth(vfs.KindSync, 1, syscall.EIO)
			safe := l.Flushed()
			end := mustAppend(t, l, batchOf(t, 0, 1, 100))
			got := make(chan error, 1)
			l.WhenFlushed(end, func(err error) { got <- err })
			if err := <-got; !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Fatal("the waiter got", err)
			}
			if err := <-failed; !errors.Is(err, syscall.EIO) {
				t.Fatal("the event got", err)
			}
			if _, err := l.Append(batchOf(t, 0, 1, 10), nil); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Fatal("append:", err)
			}
			l.WhenFlushed(end, func(err error) { got <- err })
			if err := <-got; !errors.Is(err, ErrFailed) {
				t.Fatal("a later waiter got", err)
			}
			if l.Flushed() != safe {
				t.Fatal("unflushed bytes are called flushed")
			}
			if err := l.Flush(); !errors.Is(err, ErrFailed) {
				t.Fatal("Flush:", err)
			}
			if _, err := l.Record(0); err != nil {
				t.Fatal("reads must go on:", err)
			}
			if err := l.Close(); !errors.Is(err, ErrFailed) {
				t.Fatal("Close:", err)
			}
			if l.Flushed() != safe {
				t.Fatal("Close tried again and believed the kernel")
			}
			if n := len(failed); n != 0 {
				t.Fatal("Failed was called more than once")
			}
		})
	}
}

func TestAsyncFlushesInTime(t *testing.T) {
	flushed := make(chan int64, 10)
	l, _ := open(t, vfs.NewMem(), func(o *Options) {
		o.FlushEvery = time.Millisecond
		o.Events.Flushed = func(n int64, _ time.Duration) { flushed <- n }
	})
	for i := range 3 {
		b := batchOf(t, i, 2, 100)
		mustAppend(t, l, b)
		if n := <-flushed; n != int64(b.Size()) {
			t.Fatalf("flushed %d bytes, want %d", n, b.Size())
		}
	}
}

func TestCloseAnswersAll(t *testing.T) {
	l, _ := open(t, vfs.NewMem(), func(o *Options) { o.Sync = true })
	got := make(chan error, 2)
	l.WhenSafe(mustAppend(t, l, batchOf(t, 0, 1, 10)), func(err error) { got <- err })
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal("flushed by Close, yet the waiter got", err)
	}
	l.WhenSafe(l.Max()+1, func(err error) { got <- err })
	if err := <-got; err == nil {
		t.Fatal("a position that never was is safe")
	}
}

// TestConcurrent appends, reads, waits and drops at once; it is for -race.
func TestConcurrent(t *testing.T) {
	l, _ := open(t, vfs.NewMem(), func(o *Options) { o.Sync = true; o.HotWindow = 3 * testSegment; o.MaxMappings = 2 })
	var writers, others sync.WaitGroup
	stop := make(chan struct{})
	for w := range 3 {
		writers.Go(func() {
			for i := range 150 {
				b := batchOf(t, w*1000+i, 1+i%4, 700)
				end, err := l.Append(b, nil)
				if err != nil {
					t.Error(err)
					return
				}
				done := make(chan error, 1)
				l.WhenSafe(end, func(err error) { done <- err })
				if err := <-done; err != nil || l.Safe() < end {
					t.Error("not safe:", err)
				}
				v, err := l.Record(b.Record(0).Position())
				if err != nil && !errors.Is(err, ErrNotFound) || err == nil && !bytes.Equal(v, b.Record(0)) {
					t.Error("read back:", err)
				}
			}
		})
	}
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, s := range l.Segments() {
				if _, err := l.Record(s.Base); err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
			if _, err := l.DropBefore(l.Max() - 4*testSegment); err != nil {
				t.Error(err)
			}
			runtime.Gosched()
		}
	})
	writers.Wait()
	close(stop)
	others.Wait()
}

func TestOpenEmptyFolderIsCheap(t *testing.T) {
	f := vfs.NewFaulty(vfs.NewMem())
	l, _ := open(t, f, nil)
	if n := f.Count(vfs.KindSync) + f.Count(vfs.KindSyncDir); n != 0 {
		t.Errorf("%d fsyncs before there is anything to keep", n)
	}
	if f.Count(vfs.KindWrite) != 0 {
		t.Error("wrote into an empty log")
	}
	if l.Min() != 0 || l.Max() != 0 {
		t.Error("an empty log does not start at 0")
	}
	if _, err := f.Stat(filepath.Join("store/commitlog", segmentName(0))); err != nil {
		t.Error(err)
	}
}
