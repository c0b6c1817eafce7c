package consumequeue

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"path/filepath"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Many queues with one entry each: what an idle one costs, and how long a start
// takes. MERLIN_QUEUE_TOPICS=20000 makes it the full 160,000 queues.
func TestManyQueues(t *testing.T) {
	topics := 250
	if s := os.Getenv("MERLIN_QUEUE_TOPICS"); s != "" {
		topics, _ = strconv.Atoi(s)
	}
	dir := t.TempDir()
	o := Options{Snapshot: filepath.Join(dir, "queues"), Stamp: "s", OpenFiles: 64}
	tab := open(t, dir, o)
	before := heap()
	start := time.Now()
	pos := int64(0)
	for i := range topics {
		name := fmt.Sprintf("topic-%05d", i)
		for id := range int32(8) {
			if err := tab.Queue(name, id).Put(0, entryOf(pos)); err != nil {
				t.Fatal(err)
			}
			pos++
		}
	}
	puts := time.Since(start)
	start = time.Now()
	for range 3 { // the later ones find the queues idle
		if err := tab.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	flush := time.Since(start)
	each := (heap() - before) / pos
	t.Logf("%d queues: put %v, flush %v, %d heap bytes a queue, %+v", pos, puts, flush, each, tab.Stats())
	if each > 600 {
		t.Errorf("an idle queue costs %d bytes, want 600 at most", each)
	}
	if s := tab.Stats(); s.OpenFiles > 64 || s.BufferedBytes != 0 || s.DirtyQueues != 0 || s.Queues != int(pos) {
		t.Errorf("idle table: %+v", s)
	}
	tab.SetStamp("s")
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	for _, warm := range []bool{true, false} {
		start = time.Now()
		tab = open(t, dir, o)
		t.Logf("open, snapshot=%v: %v", tab.FromSnapshot(), time.Since(start))
		if tab.FromSnapshot() != warm {
			t.Fatal("snapshot:", tab.FromSnapshot())
		}
		start = time.Now()
		lack, err := tab.Incomplete()
		if len(lack) != 0 || err != nil {
			t.Fatal("incomplete:", lack, err)
		}
		t.Logf("looked for missing files: %v", time.Since(start))
		n := int64(0)
		for q := range tab.All() {
			if q.Min() != 0 || q.Max() != 1 {
				t.Fatalf("%s %d: %d to %d", q.Topic(), q.ID(), q.Min(), q.Max())
			}
			n++
		}
		if n != pos {
			t.Fatalf("%d queues of %d", n, pos)
		}
		if !warm {
			start = time.Now()
			if err := tab.TruncateFrom(entryOf(pos).Position); err != nil {
				t.Fatal(err)
			}
			if err := tab.Flush(); err != nil {
				t.Fatal(err)
			}
			t.Logf("truncate at the end and flush: %v", time.Since(start))
		}
		tab.SetStamp("")
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The memory of entries that wait is bounded, whatever the flusher does.
func TestBufferBound(t *testing.T) {
	dir := t.TempDir()
	tab := open(t, dir, Options{BufferBytes: 100_000, FileEntries: 1000})
	for i := range int64(1200) {
		for id := range int32(40) {
			if err := tab.Queue("t", id).Put(message.Offset(i), entryOf(i)); err != nil {
				t.Fatal(err)
			}
		}
		if b := tab.Stats().BufferedBytes; b > 120_000 {
			t.Fatalf("%d bytes wait after %d rounds", b, i)
		}
	}
	for id := range int32(40) {
		expect(t, tab.Lookup("t", id), 0, 1200)
	}
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	tab = open(t, dir, Options{FileEntries: 1000})
	defer tab.Close()
	for id := range int32(40) {
		expect(t, tab.Lookup("t", id), 0, 1200)
	}
}

// Readers beside one writer, a flusher and retention: what is below Max reads
// as it was put.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	tab := open(t, dir, Options{FileEntries: 300, OpenFiles: 3})
	const queues, count = 4, 6000
	var done atomic.Bool
	var wg sync.WaitGroup
	for id := range int32(queues) {
		tab.Queue("t", id)
		wg.Go(func() {
			q := tab.Lookup("t", id)
			rows := make([]Entry, 32)
			at := message.Offset(0)
			for at < count {
				n, err := q.Read(at, rows)
				if errors.Is(err, ErrOutside) {
					at = q.Min()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for i, e := range rows[:n] {
					if e != entryOf(int64(at)+int64(i)) {
						t.Errorf("offset %d: %+v (min %d)", int(at)+i, e, q.Min())
						return
					}
				}
				at += message.Offset(n)
				if at%1000 < 32 && at > 500 {
					at -= 400 // read from the files, too
					for at%1000 < 32 {
						at++
					}
					at += 400
				}
				runtime.Gosched()
			}
		})
	}
	wg.Go(func() {
		for !done.Load() {
			if err := tab.Flush(); err != nil {
				t.Error(err)
			}
			q := tab.Lookup("t", 0)
			if max := int64(q.Max()); max > 2000 {
				if err := q.DropBefore(entryOf(max - 2000).Position); err != nil {
					t.Error(err)
				}
			}
			for range tab.All() {
				tab.Stats()
			}
		}
	})
	for i := range int64(count) {
		for id := range int32(queues) {
			if err := tab.Lookup("t", id).Put(message.Offset(i), entryOf(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	done.Store(true)
	wg.Wait()
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
}

// brokenFS fails the writes, or the syncs, of its files while it is told to.
type brokenFS struct {
	vfs.FS
	write, sync atomic.Pointer[error]
}

type brokenFile struct {
	vfs.File
	fs *brokenFS
}

func (b *brokenFS) Open(name string, w bool) (vfs.File, error) {
	f, err := b.FS.Open(name, w)
	return brokenFile{f, b}, err
}

func (b *brokenFS) Create(name string) (vfs.File, error) {
	if err := b.write.Load(); err != nil {
		return nil, *err
	}
	f, err := b.FS.Create(name)
	return brokenFile{f, b}, err
}

func (f brokenFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.write.Load(); err != nil {
		n, werr := f.File.WriteAt(p[:len(p)/2], off)
		return n, errors.Join(*err, werr)
	}
	return f.File.WriteAt(p, off)
}

func (f brokenFile) Sync() error {
	if err := f.fs.sync.Load(); err != nil {
		return *err
	}
	return f.File.Sync()
}

func TestFullDisk(t *testing.T) {
	fsys := &brokenFS{FS: vfs.OS}
	dir := t.TempDir()
	tab := open(t, dir, Options{FS: fsys, BufferBytes: 60_000, FileEntries: 1000})
	q, fresh := tab.Queue("t", 0), tab.Queue("t", 1)
	put(t, q, 0, 150)
	if err := tab.Flush(); err != nil {
		t.Fatal(err)
	}
	var full error = syscall.ENOSPC
	fsys.write.Store(&full)
	put(t, q, 150, 160)
	put(t, fresh, 0, 7)
	if err := tab.Flush(); !errors.Is(err, ErrNoSpace) || errors.Is(err, ErrFailed) {
		t.Fatal("flush on a full disk:", err)
	}
	var end int64
	for end = 160; ; end++ {
		if err := q.Put(message.Offset(end), entryOf(end)); err != nil {
			if !errors.Is(err, ErrNoSpace) {
				t.Fatal(err)
			}
			break
		}
	}
	if b := tab.Stats().BufferedBytes; end < 1000 || b > 60_000 {
		t.Errorf("refused at %d with %d bytes in memory", end, b)
	}
	expect(t, q, 0, end)
	expect(t, fresh, 0, 7)
	fsys.write.Store(nil)
	put(t, q, end, end+2000)
	expect(t, q, 0, end+2000)
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	tab = open(t, dir, Options{FileEntries: 1000})
	defer tab.Close()
	expect(t, tab.Lookup("t", 0), 0, end+2000)
	expect(t, tab.Lookup("t", 1), 0, 7)
}

func TestFailureIsSticky(t *testing.T) {
	var eio error = syscall.EIO
	for _, what := range []string{"write", "sync"} {
		t.Run(what, func(t *testing.T) {
			fsys := &brokenFS{FS: vfs.OS}
			tab := open(t, t.TempDir(), Options{FS: fsys, FileEntries: 1000})
			q := tab.Queue("t", 0)
			put(t, q, 0, 50)
			if what == "write" {
				fsys.write.Store(&eio)
			} else {
				fsys.sync.Store(&eio)
			}
			if err := tab.Flush(); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			fsys.write.Store(nil)
			fsys.sync.Store(nil)
			if err := tab.Flush(); !errors.Is(err, ErrFailed) {
				t.Error("flush:", err)
			}
			if err := q.Put(50, entryOf(50)); !errors.Is(err, ErrFailed) {
				t.Error("put:", err)
			}
			tab.SetStamp("s")
			if err := tab.Close(); !errors.Is(err, ErrFailed) {
				t.Error("close:", err)
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	tab := open(b, b.TempDir(), Options{})
	defer tab.Close()
	var queues [32]*Queue
	for i := range queues {
		queues[i] = tab.Queue("t", int32(i))
	}
	b.ReportAllocs()
	i := int64(0)
	for b.Loop() {
		if err := queues[i%32].Put(message.Offset(i/32), entryOf(i)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkRead(b *testing.B) {
	tab := open(b, b.TempDir(), Options{})
	defer tab.Close()
	q := tab.Queue("t", 0)
	put(b, q, 0, 10_050)
	rows := make([]Entry, 32)
	for name, at := range map[string]message.Offset{"tail": 10_010, "files": 5000} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n, err := q.Read(at, rows); n != 32 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
