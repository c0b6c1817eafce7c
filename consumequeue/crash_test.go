package consumequeue

import (
	"fmt"
	"math/rand"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"pgregory.net/rapid"
)

// model is what the queues should hold: positions ascend over all of them.
type model struct {
	rows    [5][]Entry
	pos     message.Position
	dropped message.Position // what lies before it may be gone
}

func (m *model) next(id int) (message.Offset, Entry) {
	e := Entry{Position: m.pos, Size: int32(50 + m.pos%7), TagCode: int64(m.pos) * 31}
	m.pos += message.Position(e.Size)
	m.rows[id] = append(m.rows[id], e)
	return message.Offset(len(m.rows[id]) - 1), e
}

// agree checks that the table has the model's entries below the position, but
// for those that were dropped at the front, and no others.
func (m *model) agree(tab *Table, below message.Position) error {
	for id, rows := range m.rows {
		n := 0
		for n < len(rows) && rows[n].Position < below {
			n++
		}
		q := tab.Lookup("t", int32(id))
		if q == nil {
			if n > 0 {
				return fmt.Errorf("queue %d of %d entries is not there", id, n)
			}
			continue
		}
		if q.Min() == q.Max() && (n == 0 || below < m.dropped) {
			continue // all of it was cut or dropped; a real log does not lose what lies behind its beginning
		}
		if int(q.Max()) != n {
			return fmt.Errorf("queue %d has %d to %d, want to %d", id, q.Min(), q.Max(), n)
		}
		dst := make([]Entry, 50)
		for at := int(q.Min()); at < n; {
			got, err := q.Read(message.Offset(at), dst)
			if err != nil || got == 0 {
				return fmt.Errorf("queue %d read %d: %d, %w", id, at, got, err)
			}
			for i, e := range dst[:got] {
				if e != rows[at+i] && rows[at+i].Position >= m.dropped { // a crash may bring back what was dropped, in whatever state
					return fmt.Errorf("queue %d offset %d is %+v, want %+v", id, at+i, e, rows[at+i])
				}
			}
			at += got
		}
	}
	return nil
}

func (m *model) putFrom(tab *Table, from message.Position) error {
	for id, rows := range m.rows {
		for off, e := range rows {
			if e.Position >= from {
				if err := tab.Queue("t", int32(id)).Put(message.Offset(off), e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Before every change of the disk the power fails; what then is opened, cut at
// the last position that a Flush had made certain, and put again, must be the
// model, and so must what the next clean stop leaves.
func TestCrashEverywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := vfs.NewMem()
		faulty := vfs.NewFaulty(mem)
		rng := rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed")))
		o := Options{FS: faulty, FileEntries: rapid.IntRange(40, 500).Draw(t, "entries"), OpenFiles: 3, BufferBytes: 30_000}
		dir := "/store/consumequeue"
		var m model
		var certain message.Position
		var busy atomic.Bool
		crash := func() {
			disk := mem.CrashClone(rng)
			oo := o
			oo.FS, oo.Snapshot = disk, "/store/queues"
			oo.Damaged = nil
			for round := range 3 {
				tab, err := Open(dir, oo)
				if err != nil {
					t.Fatalf("open after a crash: %v", err)
				}
				if err := tab.TruncateFrom(certain); err != nil {
					t.Fatal(err)
				}
				if err := m.agree(tab, certain); err != nil {
					t.Fatalf("cut at %d: %v", certain, err)
				}
				if round == 0 && rng.Intn(3) == 0 {
					// It crashes again on its way.
					if err := m.putFrom(tab, certain); err != nil {
						t.Fatal(err)
					}
					disk = disk.CrashClone(rng)
					oo.FS = disk
					continue
				}
				if rng.Intn(2) == 0 {
					if err := m.putFrom(tab, certain); err != nil {
						t.Fatal(err)
					}
					if err := m.agree(tab, m.pos); err != nil {
						t.Fatal(err)
					}
				}
				// Else the log has lost what was behind.
				below := certain
				for q := range tab.All() {
					if p := q.Tail().Position; p >= below {
						below = p + 1
					}
				}
				tab.SetStamp("x")
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
				for _, stamp := range []string{"x", ""} {
					oo.Stamp = stamp
					if tab, err = Open(dir, oo); err != nil {
						t.Fatal(err)
					}
					if tab.FromSnapshot() != (stamp == "x") {
						t.Fatal("snapshot")
					}
					if err := m.agree(tab, below); err != nil {
						t.Fatalf("after a clean stop, snapshot %q: %v", stamp, err)
					}
					if err := tab.Close(); err != nil {
						t.Fatal(err)
					}
				}
				return
			}
		}
		faulty.Hook(func(op vfs.Op) {
			if op.Changes() && rng.Intn(3) == 0 && busy.CompareAndSwap(false, true) {
				crash()
				busy.Store(false)
			}
		})
		tab, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"put", "put", "flush", "truncate", "drop"}).Draw(t, "step") {
			case "put":
				id := rapid.IntRange(0, 4).Draw(t, "queue")
				for range rapid.IntRange(1, 500).Draw(t, "count") {
					off, e := m.next(id)
					if err := tab.Queue("t", int32(id)).Put(off, e); err != nil {
						t.Fatal(err)
					}
				}
			case "flush":
				if err := tab.Flush(); err != nil {
					t.Fatal(err)
				}
				certain = m.pos
			case "truncate":
				m.pos -= message.Position(rapid.IntRange(0, int(m.pos)/4).Draw(t, "cut"))
				for id, rows := range m.rows {
					for len(rows) > 0 && rows[len(rows)-1].Position >= m.pos {
						rows = rows[:len(rows)-1]
					}
					m.rows[id] = rows
				}
				certain = min(certain, m.pos)
				if err := tab.TruncateFrom(m.pos); err != nil {
					t.Fatal(err)
				}
			case "drop":
				low := message.Position(rapid.IntRange(0, int(m.pos)/2).Draw(t, "low"))
				m.dropped = max(m.dropped, low)
				if err := tab.DropBefore(low); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.agree(tab, m.pos); err != nil {
				t.Fatal(err)
			}
		}
		faulty.Hook(nil)
		crash()
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Any bytes as files of a queue: nothing but answers and errors comes of them.
func FuzzFiles(f *testing.F) {
	var good []byte
	for i := range int64(30) {
		good = append(good, make([]byte, EntrySize)...)
		putEntry(good[i*EntrySize:], entryOf(i))
	}
	f.Add(good, []byte{}, []byte("merlin queues 1\n"), int64(1500))
	f.Add(good, good[:111], []byte{}, int64(0))
	f.Add([]byte{}, good[:200], good, int64(1<<40))
	f.Fuzz(func(t *testing.T, a, b, snapshot []byte, cut int64) {
		mem := vfs.NewMem()
		dir := "/s/consumequeue"
		for name, data := range map[string][]byte{
			filepath.Join(dir, "t/0/00000000000000000000"): a,
			filepath.Join(dir, "t/0/00000000000000000600"): b,
			"/s/queues": snapshot,
		} {
			if err := mem.MkdirAll(filepath.Dir(name)); err != nil {
				t.Fatal(err)
			}
			file, err := mem.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt(data, 0); err != nil {
				t.Fatal(err)
			}
			file.Close()
		}
		tab, err := Open(dir, Options{FS: mem, FileEntries: 30, Snapshot: "/s/queues", Stamp: "s"})
		if err != nil {
			return
		}
		look := func() {
			for q := range tab.All() {
				rows := make([]Entry, 100)
				if n, err := q.Read(q.Min(), rows); err != nil || n != int(q.Max()-q.Min()) {
					t.Fatalf("%d of %d to %d: %v", n, q.Min(), q.Max(), err)
				}
			}
		}
		look()
		if err := tab.DropBefore(message.Position(cut / 2)); err != nil {
			t.Fatal(err)
		}
		look()
		if err := tab.TruncateFrom(message.Position(cut)); err != nil {
			t.Fatal(err)
		}
		look()
		q := tab.Queue("t", 0)
		pos := q.Tail().Position
		for i := range message.Position(40) {
			if pos > 1<<62 {
				break
			}
			if err := q.Put(q.Max(), Entry{Position: pos + 1 + i, Size: 1}); err != nil {
				t.Fatal(err)
			}
		}
		look()
		if err := tab.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
