package store

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testHost = netip.MustParseAddrPort("127.0.0.1:10911")

// small are options with which files fill up soon.
func small(fsys vfs.FS) Options {
	return Options{
		FS: fsys, SegmentSize: 16 << 10, QueueFileEntries: 64, IndexSlots: 64, IndexItems: 256, MaxRecord: 12 << 10,
		CheckpointEvery: time.Hour, StoreHost: func() netip.AddrPort { return testHost },
	}
}

func mustOpen(t tester, o Options) *Store {
	t.Helper()
	s, err := Open("/data", o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func mustClose(t tester, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func mustSee(t tester, s *Store) {
	t.Helper()
	if err := s.WaitVisible(); err != nil {
		t.Fatalf("WaitVisible: %v", err)
	}
}

func text(topic string, queue int32, body string, props ...string) *message.Message {
	m := &message.Message{Topic: topic, QueueID: queue, BornTimestamp: 1, BornHost: testHost, Body: []byte(body)}
	for i := 0; i+1 < len(props); i += 2 {
		m.Properties = m.Properties.Append(props[i], props[i+1])
	}
	return m
}

func mustPut(t tester, s *Store, m *message.Message) Result {
	t.Helper()
	r, err := s.Put(m)
	if err != nil {
		t.Fatalf("Put: %v", err)
	}
	return r
}

// bodies splits records into their bodies.
func bodies(t tester, records []byte) (out []string) {
	t.Helper()
	for len(records) > 0 {
		v, err := message.Parse(records)
		if err != nil {
			t.Fatalf("the answer holds bytes that are no record: %v", err)
		}
		out = append(out, string(v.Body()))
		records = records[len(v):]
	}
	return out
}

// readAll reads a queue to its end, as a consumer does.
func readAll(t tester, s *Store, topic string, queue int32) (out []string) {
	t.Helper()
	q := GetQuery{Topic: topic, Queue: queue, MaxCount: 32}
	for range 100_000 {
		r, err := s.Get(&q, nil)
		if err != nil {
			t.Fatalf("Get: %v", err)
		}
		out = append(out, bodies(t, r.Body)...)
		switch r.Status {
		case GetOffsetAtEnd, GetEmptyQueue, GetNoQueue:
			return out
		}
		if r.Next <= q.Offset {
			t.Fatalf("Get of %s queue %d stays at %d: %v", topic, queue, q.Offset, r.Status)
		}
		q.Offset = r.Next
	}
	t.Fatal("no end")
	return nil
}

func equal[T comparable](t tester, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestPutGetReopen(t *testing.T) {
	fsys := vfs.NewMem()
	s := mustOpen(t, small(fsys))
	var want []string
	for i := range 500 {
		body := fmt.Sprintf("body %d", i)
		r := mustPut(t, s, text("orders", int32(i%2), body, "TAGS", "A", "KEYS", fmt.Sprintf("k%d common", i), "UNIQ_KEY", fmt.Sprintf("U%d", i)))
		equal(t, "offset", r.Offset, message.Offset(i/2))
		if i%2 == 1 {
			want = append(want, body)
		}
	}
	for _, reopen := range []bool{false, true, true} {
		if reopen {
			mustClose(t, s)
			var found Recovery
			o := small(fsys)
			o.Events.Recovered = func(r Recovery) { found = r }
			s = mustOpen(t, o)
			if !found.Clean || !found.Exact || found.Dispatched != 0 || !s.table.FromSnapshot() {
				t.Errorf("after a clean stop: %+v, snapshot %v", found, s.table.FromSnapshot())
			}
		}
		mustSee(t, s)
		if got := readAll(t, s, "orders", 1); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("queue 1 holds %d messages %v, want %d", len(got), got, len(want))
		}
		for _, q := range []KeyQuery{{Key: "k17"}, {Key: "U17"}, {Key: "U17", Kind: UniqueKey}} {
			q.Topic = "orders"
			r, err := s.Query(&q, nil)
			if err != nil || r.Count != 1 || string(bodies(t, r.Body)[0]) != "body 17" {
				t.Errorf("Query %+v: %+v %v", q, r, err)
			}
		}
		for kind, key := range map[KeyKind]string{AnyKey: "common", TagKey: "A"} {
			r, err := s.Query(&KeyQuery{Topic: "orders", Key: key, Kind: kind, Max: 1000}, nil)
			if err != nil || r.Count != 64 {
				t.Errorf("Query of %q: %d, %v, want 64", key, r.Count, err)
			}
		}
		if r, err := s.Query(&KeyQuery{Topic: "orders", Key: "k17", Kind: UniqueKey}, nil); err != nil || r.Count != 0 {
			t.Errorf("a key was found as a unique key: %d, %v", r.Count, err)
		}
	}
	mustClose(t, s)
	mustClose(t, s)
	if _, err := s.Put(text("orders", 0, "late")); !errors.Is(err, ErrClosed) {
		t.Errorf("Put after Close: %v", err)
	}
	if _, err := s.Get(&GetQuery{Topic: "orders", MaxCount: 1}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
}

func TestLocked(t *testing.T) {
	fsys := vfs.NewMem()
	s := mustOpen(t, small(fsys))
	if _, err := Open("/data", small(fsys)); !errors.Is(err, ErrLocked) {
		t.Errorf("the second Open: %v", err)
	}
	mustClose(t, s)
	mustClose(t, mustOpen(t, small(fsys)))
}

func TestGroupsAndBatches(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, s)
	b := s.NewBatch()
	broken := errors.New("broken")
	for round := range 50 {
		b.Reset()
		if err := b.Add(text("a", 0, "one")); err != nil {
			t.Fatal(err)
		}
		err := b.AddGroup(func(add func(*message.Message) error) error {
			for range 3 {
				if err := add(text("a", 1, "lost")); err != nil {
					return err
				}
			}
			return broken
		})
		if !errors.Is(err, broken) || b.Len() != 1 {
			t.Fatalf("a broken group: %v, %d messages left", err, b.Len())
		}
		err = b.AddGroup(func(add func(*message.Message) error) error {
			for range 5 {
				if err := add(text("a", 1, string(bytes.Repeat([]byte("x"), 500)))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(b); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			r := b.Result(1 + i)
			equal(t, "offset", r.Offset, message.Offset(round*5+i))
			equal(t, "segment", int64(r.Position)/(16<<10), int64(b.Result(1).Position)/(16<<10))
			equal(t, "store time", r.StoreTime, b.Result(1).StoreTime)
			v := b.Record(1 + i)
			equal(t, "stored offset", v.QueueOffset(), r.Offset)
			equal(t, "stored position", v.Position(), r.Position)
		}
		last := b.Result(5).Position + message.Position(len(b.Record(5)))
		equal(t, "End", b.End(), last)
	}
	mustSee(t, s)
	equal(t, "messages in queue 0", len(readAll(t, s, "a", 0)), 50)
	equal(t, "messages in queue 1", len(readAll(t, s, "a", 1)), 250)
	b.Reset()
	if err := b.Add(text("../x", 0, "")); err == nil || b.Len() != 0 {
		t.Errorf("a topic that leaves the folder: %v", err)
	}
	if err := b.Add(text("x", -1, "")); err == nil || b.Len() != 0 {
		t.Errorf("a negative queue: %v", err)
	}
	if err := b.Add(text("x", 0, string(make([]byte, 20<<10)))); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(b); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a message larger than a segment: %v", err)
	}
	equal(t, "offset after a refused append", mustPut(t, s, text("x", 0, "")).Offset, 0)
}

func TestTransactionRecordsGetNoEntry(t *testing.T) {
	s := mustOpen(t, small(vfs.NewMem()))
	defer mustClose(t, s)
	kinds := []message.SysFlag{0, message.FlagPrepared, message.FlagCommit, message.FlagRollback, 0}
	for i, kind := range kinds {
		m := text("t", 0, fmt.Sprint(i), "KEYS", fmt.Sprint("k", i))
		m.SysFlag = kind
		r := mustPut(t, s, m)
		want := map[int]message.Offset{0: 0, 1: 0, 2: 1, 3: 0, 4: 2}[i]
		equal(t, fmt.Sprint("offset of ", i), r.Offset, want)
	}
	mustSee(t, s)
	equal(t, "queue", fmt.Sprint(readAll(t, s, "t", 0)), "[0 2 4]")
	for i := range kinds {
		r, err := s.Query(&KeyQuery{Topic: "t", Key: fmt.Sprint("k", i)}, nil)
		want := 1
		if i == 3 {
			want = 0 // a rollback is not indexed
		}
		if err != nil || r.Count != want {
			t.Errorf("key of %d: found %d, %v", i, r.Count, err)
		}
	}
}

func TestArrivals(t *testing.T) {
	var mu sync.Mutex
	var got []Arrival
	o := small(vfs.NewMem())
	o.OnArrive = func(a []Arrival) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, a...)
	}
	s := mustOpen(t, o)
	for i := range 10 {
		mustPut(t, s, text("t", int32(i%3), "x", "TAGS", "TagA"))
	}
	if _, err := s.PutCode(text("t", 0, "x", "TAGS", "TagA"), 42); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	if len(got) != 11 {
		t.Fatalf("%d arrivals", len(got))
	}
	for i, a := range got[:10] {
		if a.Topic != "t" || a.Queue != int32(i%3) || a.Offset != message.Offset(i/3) || a.TagCode != 2598919 || a.StoreTime == 0 {
			t.Errorf("arrival %d: %+v", i, a)
		}
	}
	equal(t, "code", got[10].TagCode, 42)
}

func TestDeleteTopic(t *testing.T) {
	fsys := vfs.NewMem()
	s := mustOpen(t, small(fsys))
	b := s.NewBatch()
	for round := range 3 {
		for i := range 100 {
			b.Reset()
			if err := b.Add(text("gone", int32(i%2), fmt.Sprint(round, i))); err != nil {
				t.Fatal(err)
			}
			if err := b.Add(text("kept", 0, "x")); err != nil {
				t.Fatal(err)
			}
			if err := s.Append(b); err != nil {
				t.Fatal(err)
			}
			equal(t, "offset", b.Result(0).Offset, message.Offset(i/2))
		}
		mustSee(t, s)
		equal(t, "queues", fmt.Sprint(s.Queues("gone"), s.Topics()), "[0 1] [gone kept]")
		if round < 2 {
			if err := s.DeleteTopic("gone"); err != nil {
				t.Fatal(err)
			}
			equal(t, "queues", fmt.Sprint(s.Queues("gone"), s.Topics()), "[] [kept]")
			r, err := s.Get(&GetQuery{Topic: "gone", MaxCount: 1}, nil)
			if err != nil || r.Status != GetNoQueue {
				t.Errorf("Get of a deleted topic: %v %v", r.Status, err)
			}
		}
	}
	want := fmt.Sprint(readAll(t, s, "gone", 1))
	equal(t, "messages", len(readAll(t, s, "gone", 1)), 50)
	if err := s.log.Flush(); err != nil {
		t.Fatal(err)
	}
	// Whatever the start reads, the topic is the last one of its name.
	crashed := fsys.CrashClone(nil)
	mustClose(t, s)
	for name, prepare := range map[string]func(fs *vfs.Mem){
		"crash":   func(*vfs.Mem) {},
		"rebuild": func(fs *vfs.Mem) { _ = fs.RemoveAll("/data/consumequeue") },
	} {
		fs := crashed.CrashClone(nil)
		prepare(fs)
		s = mustOpen(t, small(fs))
		if got := fmt.Sprint(readAll(t, s, "gone", 1)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		mustClose(t, s)
	}
}

// tester is what tests and property checks have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Fatal(args ...any)
}
