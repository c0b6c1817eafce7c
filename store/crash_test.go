package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// keepAll is a source with which CrashClone loses nothing: what a killed
// process leaves.
type keepAll struct{}

func (keepAll) Int63() int64 { return 0 }
func (keepAll) Seed(int64)   {}

func killed(fsys *vfs.Mem) *vfs.Mem { return fsys.CrashClone(rand.New(keepAll{})) }

// model is what was appended, in log order.
type model struct {
	mu      sync.Mutex
	records []modelRecord
}

type modelRecord struct {
	topic string
	queue int32
	off   message.Offset
	pos   message.Position
	end   message.Position
	body  string
	key   string
}

type place struct {
	topic string
	queue int32
}

func (m *model) note(b *Batch, msgs []*message.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, msg := range msgs {
		r := b.Result(i)
		m.records = append(m.records, modelRecord{
			topic: msg.Topic, queue: msg.QueueID, off: r.Offset, pos: r.Position,
			end: r.Position + message.Position(len(b.Record(i))), body: string(msg.Body), key: msg.Properties.Value(message.PropKeys),
		})
	}
}

// check compares a store with the model. Records before durable must be there;
// later ones may be, and leave the model when they are not. What is there must
// be what was appended, and offsets must be dense.
func (m *model) check(t tester, s *Store, durable message.Position, keys bool) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	byPlace := map[place]map[message.Offset]modelRecord{}
	for _, r := range m.records {
		p := place{r.topic, r.queue}
		if byPlace[p] == nil {
			byPlace[p] = map[message.Offset]modelRecord{}
		}
		byPlace[p][r.off] = r
	}
	kept := map[message.Position]bool{}
	for p, records := range byPlace {
		first, end := s.QueueMin(p.topic, p.queue), s.QueueMax(p.topic, p.queue)
		dst := make([]Entry, end-first+1)
		n := 0
		if end > 0 {
			var err error
			if n, err = s.Entries(p.topic, p.queue, first, dst); err != nil || n != int(end-first) {
				t.Fatalf("Entries of %v: %d of %d to %d, %v", p, n, first, end, err)
			}
		}
		for i, e := range dst[:n] {
			off := first + message.Offset(i)
			r, ok := records[off]
			if e.Filler() {
				if ok && r.end <= durable {
					t.Fatalf("%v offset %d is a hole, the record at %d was durable (up to %d)", p, off, r.pos, durable)
				}
				continue
			}
			if !ok || r.pos != e.Position || r.end != e.Position+message.Position(e.Size) {
				t.Fatalf("%v offset %d is %+v, want %+v (known %v)", p, off, e, r, ok)
			}
			kept[r.pos] = true
		}
		for off, r := range records {
			if (off >= end || off < first) && r.end <= durable {
				t.Fatalf("%v goes from %d to %d, the record at offset %d position %d was durable (up to %d)", p, first, end, off, r.pos, durable)
			}
		}
		got := readAll(t, s, p.topic, p.queue)
		var want []string
		for off := range end {
			if r, ok := records[off]; ok && kept[r.pos] {
				want = append(want, r.body)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%v gives %d messages, want %d", p, len(got), len(want))
		}
	}
	rest := m.records[:0]
	for _, r := range m.records {
		if !kept[r.pos] {
			continue
		}
		rest = append(rest, r)
		if !keys || r.key == "" {
			continue
		}
		found, err := s.Query(&KeyQuery{Topic: r.topic, Key: r.key, Max: 64}, nil)
		if err != nil || found.Count != 1 {
			t.Fatalf("the key %s of the record at %d: %d found, %v", r.key, r.pos, found.Count, err)
		}
	}
	m.records = rest
}

func (m *model) copy() *model {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &model{records: append([]modelRecord(nil), m.records...)}
}

// TestModel runs random sends, checkpoints, power cuts, kills and restarts and
// compares with the model. Invariants: nothing durable is lost, nothing is
// there that was not appended, offsets are dense, keys lead to their records.
func TestModel(t *testing.T) {
	for _, sync := range []bool{false, true} {
		t.Run(fmt.Sprintf("sync=%v", sync), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { runModel(rt, sync) })
		})
	}
}

func runModel(t *rapid.T, sync bool) {
	fsys := vfs.NewMem()
	o := small(nil)
	o.SyncFlush = sync
	o.SegmentSize = rapid.SampledFrom([]int64{16 << 10, 64 << 10}).Draw(t, "segment")
	o.DispatchLimit = rapid.SampledFrom([]int{16, 1000}).Draw(t, "limit")
	o.Events.Skipped = func(e *RecordError) { t.Errorf("skipped: %v", e) }
	o.Events.Damaged = func(file string, err error) { t.Logf("damaged: %s: %v", file, err) }
	o.Events.Recovered = func(r Recovery) { t.Logf("recovered: %+v", r) }
	open := func() *Store {
		o.FS = fsys
		s, err := Open("/data", o)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		return s
	}
	s := open()
	b := s.NewBatch()
	m := &model{}
	durable := message.Position(0)
	key := 0
	for range rapid.IntRange(1, 25).Draw(t, "steps") {
		switch rapid.SampledFrom([]string{"send", "send", "send", "checkpoint", "close", "cut", "kill", "check"}).Draw(t, "step") {
		case "send":
			b.Reset()
			var msgs []*message.Message
			for range rapid.IntRange(1, 12).Draw(t, "messages") {
				key++
				msgs = append(msgs, text(rapid.SampledFrom([]string{"a", "b", "%RETRY%g"}).Draw(t, "topic"), rapid.Int32Range(0, 2).Draw(t, "queue"),
					fmt.Sprintf("%d %0*d", key, rapid.IntRange(0, 1500).Draw(t, "size"), 0), "KEYS", fmt.Sprint("k", key), "TAGS", "T"))
			}
			if rapid.Bool().Draw(t, "group") && len(msgs) < 8 {
				if err := b.AddGroup(func(add func(*message.Message) error) error {
					for _, m := range msgs {
						if err := add(m); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			} else {
				for _, m := range msgs {
					if err := b.Add(m); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := s.Append(b); err != nil {
				t.Fatalf("Append: %v", err)
			}
			m.note(b, msgs)
			if sync {
				safe := make(chan error, 1)
				s.WhenSafe(b.End(), func(err error) { safe <- err })
				if err := <-safe; err != nil {
					t.Fatal(err)
				}
				durable = b.End()
			}
		case "checkpoint":
			if raceEnabled {
				mustSee(t, s) // the model of a mapping reads it while it is written
			}
			if err := s.checkpoint(false, false); err != nil {
				t.Fatal(err)
			}
		case "check":
			mustSee(t, s)
			m.check(t, s, s.Max(), true)
		case "close":
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			durable = s.Max()
			s = open()
			b = s.NewBatch()
			m.check(t, s, durable, true)
		case "cut", "kill":
			mustSee(t, s) // the index writes through a mapping while it dispatches
			durable = max(durable, s.Flushed())
			var next *vfs.Mem
			if rapid.Bool().Draw(t, "kill") {
				next = killed(fsys)
				durable = s.Max()
			} else {
				next = fsys.CrashClone(rand.New(rand.NewSource(rapid.Int64().Draw(t, "seed"))))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			fsys = next
			s = open()
			b = s.NewBatch()
			m.check(t, s, durable, true)
			durable = s.Max()
		}
	}
	mustSee(t, s)
	m.check(t, s, s.Max(), true)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCrashBeforeEveryOperation lets the power fail before each operation that
// changes the disk, during sends, segment rolls, checkpoints, a delete of
// another topic, a close and an open, and opens what is left.
func TestCrashBeforeEveryOperation(t *testing.T) {
	inner := vfs.NewMem()
	faulty := vfs.NewFaulty(inner)
	m := &model{}
	acked := message.Position(0)
	var mu sync.Mutex // guards acked, and one check at a time
	ops, opens := 0, 0
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	o := small(faulty)
	o.SyncFlush, o.NoIndex = true, raceEnabled // a clone reads what a mapping writes
	every := 1
	if testing.Short() {
		every = 5
	}
	faulty.Hook(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if ops++; !op.Changes() || t.Failed() || ops%every != 0 {
			return
		}
		clone := inner.CrashClone(nil)
		switch opens++; opens % 3 {
		case 1:
			clone = inner.CrashClone(rng)
		case 2:
			clone = killed(inner)
		}
		c := small(clone)
		c.NoIndex = raceEnabled
		s, err := Open("/data", c)
		if err != nil {
			t.Errorf("crash before operation %d (%v %s): Open: %v", ops, op.Kind, op.Name, err)
			return
		}
		m.copy().checkAcked(t, s, acked, fmt.Sprintf("crash before operation %d (%v %s)", ops, op.Kind, op.Name))
		if err := s.Close(); err != nil {
			t.Errorf("crash before operation %d (%v %s): Close: %v", ops, op.Kind, op.Name, err)
		}
	})
	for round := range 3 {
		s := mustOpen(t, o)
		b := s.NewBatch()
		for i := range 25 {
			b.Reset()
			var msgs []*message.Message
			for j := range 5 {
				msgs = append(msgs, text("a", int32(j%2), fmt.Sprintf("%d %d %d %0400d", round, i, j, 0), "KEYS", fmt.Sprintf("k%d-%d-%d", round, i, j)))
			}
			addAll := func(add func(*message.Message) error) error {
				for _, m := range msgs {
					if err := add(m); err != nil {
						return err
					}
				}
				return nil
			}
			var err error
			if i%3 == 1 { // as a client sends a batch
				err = b.AddGroup(addAll)
			} else {
				err = addAll(b.Add)
			}
			if err == nil {
				err = s.Append(b)
			}
			if err != nil {
				t.Fatal(err)
			}
			safe := make(chan error, 1)
			s.WhenSafe(b.End(), func(err error) { safe <- err })
			if err := <-safe; err != nil {
				t.Fatal(err)
			}
			m.note(b, msgs)
			mu.Lock()
			acked = b.End()
			mu.Unlock()
			if i%8 == 7 {
				mustSee(t, s)
				if err := s.checkpoint(false, false); err != nil {
					t.Fatal(err)
				}
			}
			if i == 12 {
				mustPut(t, s, text("other", 0, "x"))
				if err := s.DeleteTopic("other"); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustClose(t, s)
	}
	t.Logf("%d operations, %d crashes", ops, opens)
	if opens < 50 {
		t.Errorf("only %d crashes", opens)
	}
}

// checkAcked is check for a log that may hold more than the model knows.
func (m *model) checkAcked(t tester, s *Store, acked message.Position, when string) {
	t.Helper()
	next := map[place]message.Offset{}
	for _, r := range m.records {
		if r.end > acked {
			continue
		}
		v, err := s.RecordAt(r.topic, r.queue, r.off)
		if err != nil || v.Position() != r.pos || string(v.Body()) != r.body {
			t.Errorf("%s: %s queue %d offset %d at %d is gone: %v", when, r.topic, r.queue, r.off, r.pos, err)
			return
		}
		if !raceEnabled {
			if found, err := s.Query(&KeyQuery{Topic: r.topic, Key: r.key}, nil); err != nil || found.Count != 1 {
				t.Errorf("%s: the key %s of the record at %d: %d found, %v", when, r.key, r.pos, found.Count, err)
				return
			}
		}
		next[place{r.topic, r.queue}] = r.off + 1
	}
	for p, end := range next {
		if got := s.QueueMax(p.topic, p.queue); got < end || got > end+5 {
			t.Errorf("%s: %v ends at %d, want %d to %d", when, p, got, end, end+5)
		}
	}
}

// TestOpenEndsWithItsContext: an Open that is told to end while it reads the log
// ends, and harms nothing.
func TestOpenEndsWithItsContext(t *testing.T) {
	fsys := vfs.NewMem()
	s := mustOpen(t, small(fsys))
	var want []string
	for i := range 400 {
		want = append(want, fmt.Sprint("message ", i, strings.Repeat(".", 200)))
		mustPut(t, s, text("orders", 0, want[i], message.PropKeys, fmt.Sprint("k", i)))
	}
	mustSee(t, s)
	left := killed(fsys)
	mustClose(t, s)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	slow := vfs.NewFaulty(left)
	o := small(slow)
	o.Context = ctx
	o.Rebuild = true
	reads := 0 // of the log
	slow.Hook(func(op vfs.Op) {
		if op.Kind == vfs.KindRead && strings.Contains(op.Name, logFolder) {
			if reads++; reads == 4 {
				cancel()
			}
		}
	})
	if s, err := Open("/data", o); !errors.Is(err, context.Canceled) {
		if err == nil {
			mustClose(t, s)
		}
		t.Fatalf("Open: %v after %d reads, want that it was cancelled", err, reads)
	}
	s = mustOpen(t, small(left))
	defer mustClose(t, s)
	if got := readAll(t, s, "orders", 0); !slices.Equal(got, want) {
		t.Errorf("%d messages afterwards, want %d", len(got), len(want))
	}
}
