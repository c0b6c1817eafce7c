package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
	"github.com/merlinmq/merlin/txn"
)

// txnBook is what producers were told and told themselves.
type txnBook struct {
	halves []bookedHalf           // answered
	said   map[string]txn.Verdict // ends that were sent, by key
	acked  map[string]txn.Verdict // and answered
}

// bookedHalf is a half as its producer knows it.
type bookedHalf struct {
	TransactionEnd
	key    string
	old    bool // so old that the broker gives it up
	moving bool // the broker has begun to carry it forward
}

func (b *txnBook) copy() *txnBook {
	return &txnBook{halves: slices.Clone(b.halves), said: maps.Clone(b.said), acked: maps.Clone(b.acked)}
}

type txnCrash struct {
	when string
	fsys *vfs.Mem
	kv   string // copy of the database; "" if it was lost
	book *txnBook
}

// TestTransactionCrashBeforeEveryWrite lets the broker crash before each
// operation that changes the disk, with the database as it was then or lost,
// and opens what is left: whoever was answered is served, what was committed is
// delivered, what was rolled back never. Halves are ended by their producers, in
// answer to checks too, carried forward, and given up.
func TestTransactionCrashBeforeEveryWrite(t *testing.T) {
	dir := t.TempDir()
	inner := vfs.NewMem()
	if err := inner.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.NewFaulty(inner)
	var mu sync.Mutex // guards what follows
	book := &txnBook{said: map[string]txn.Verdict{}, acked: map[string]txn.Verdict{}}
	var crashes []txnCrash
	ops := 0
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	faulty.Hook(func(op vfs.Op) {
		mu.Lock()
		defer mu.Unlock()
		if !op.Changes() {
			return
		}
		ops++
		if testing.Short() && ops%5 != 0 {
			return
		}
		c := txnCrash{when: fmt.Sprintf("crash before operation %d (%v %s)", ops, op.Kind, filepath.Base(op.Name)), book: book.copy()}
		if c.fsys = inner.CrashClone(nil); ops%2 == 0 {
			c.fsys = inner.CrashClone(rng)
		}
		if ops%3 != 0 {
			c.kv = filepath.Join(t.TempDir(), "kv")
			if err := os.CopyFS(c.kv, os.DirFS(filepath.Join(dir, "kv"))); err != nil {
				c.kv = "" // it was being written: as if lost
			}
		}
		crashes = append(crashes, c)
	})
	settings := func(s *Settings) {
		s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems, s.NoIndex, s.SyncFlush = 1<<16, 100, 100, 400, true, true
	}
	b := openBrokerOn(t, dir, faulty, func(s *Settings) {
		settings(s)
		s.TransactionTimeoutMs.Store(1)
	})
	run := txnRun{t: t, b: b, mu: &mu, book: book}
	run.rounds()
	run.checks()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(crashes) < 20 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for _, c := range crashes {
		if err := os.RemoveAll(filepath.Join(dir, "kv")); err != nil {
			t.Fatal(err)
		}
		if c.kv != "" {
			if err := os.CopyFS(filepath.Join(dir, "kv"), os.DirFS(c.kv)); err != nil {
				t.Fatal(err)
			}
		} else if err := c.fsys.Remove(filepath.Join(dir, stateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) { // what says that it was there
			t.Fatal(err)
		}
		b := openBrokerOn(t, dir, c.fsys, func(s *Settings) {
			settings(s)
			s.TransactionMaxAgeSec.Store(1 << 40) // what is old is pending, or was given up before
		})
		checkTransactions(t, b, &c)
		if err := b.Close(); err != nil {
			t.Errorf("%s: Close: %v", c.when, err)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d crashes", len(crashes))
}

func openBrokerOn(t *testing.T, dir string, fsys vfs.FS, change func(*Settings)) *Broker {
	t.Helper()
	s := DefaultSettings()
	change(s)
	b, err := Open(dir, Options{FS: fsys, Settings: s, StoreHost: testAddr})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// txnRun is the broker's life before the crashes.
type txnRun struct {
	t    *testing.T
	b    *Broker
	mu   *sync.Mutex // guards book
	book *txnBook
}

// send stores halves of a group, safely.
func (r *txnRun) send(group string, born time.Time, old bool, keys ...string) (halves []bookedHalf) {
	r.t.Helper()
	s := r.b.NewSender()
	for _, key := range keys {
		// Longer than a block, so that a crash may take the middle of a copy or of a
		// final message and leave the mark behind it.
		req := request("orders", strings.Repeat("body ", 1200), fmt.Sprintf("TRAN_MSG\x01true\x02PGROUP\x01%s\x02UNIQ_KEY\x01%s\x02", group, key))
		req.BornTimestamp = born.UnixMilli()
		s.Add(req)
	}
	for i, res := range s.Commit() {
		if res.Err != nil {
			r.t.Fatal(res.Err)
		}
		_, pos, _ := message.ParseOffsetID(string(res.AppendMessageID(nil)))
		halves = append(halves, bookedHalf{TransactionEnd: TransactionEnd{Group: group, Offset: res.Offset, Position: pos}, key: keys[i], old: old})
	}
	waitSafe(r.t, s.WhenSafe)
	r.mu.Lock()
	r.book.halves = append(r.book.halves, halves...)
	r.mu.Unlock()
	return halves
}

// end ends halves together, safely.
func (r *txnRun) end(halves ...bookedHalf) {
	r.t.Helper()
	e := r.b.NewEnder()
	r.mu.Lock()
	for _, h := range halves {
		e.Add(h.TransactionEnd)
		r.book.said[h.key] = h.Verdict
	}
	r.mu.Unlock()
	for _, res := range e.Commit() {
		if res.Err != nil {
			r.t.Fatal(res.Err)
		}
	}
	waitSafe(r.t, e.WhenSafe)
	r.mu.Lock()
	for _, h := range halves {
		r.book.acked[h.key] = h.Verdict
	}
	r.mu.Unlock()
}

// rounds sends halves and ends some, alone and several at once. Those that are
// pending after a while are carried forward.
func (r *txnRun) rounds() {
	verdicts := []txn.Verdict{txn.Commit, txn.Rollback, txn.Commit}
	for round := range 12 {
		var keys []string
		for i := range 4 {
			keys = append(keys, fmt.Sprintf("K%d-%d", round, i))
		}
		halves := r.send("g", time.Now(), false, keys...)
		for i := range verdicts { // the fourth stays pending
			halves[i].Verdict = verdicts[i]
		}
		r.end(halves[:3]...)
		if round != 7 {
			continue
		}
		r.mu.Lock()
		for i := range r.book.halves {
			h := &r.book.halves[i]
			h.moving = r.book.said[h.key] == txn.Unknown
		}
		r.mu.Unlock()
		if err := r.b.txn.Carry(r.b.store.Max()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// checks lets the broker give up what is too old and ask about the rest, and
// answers half of the checks.
func (r *txnRun) checks() {
	r.send("old", time.Now().Add(-30*24*time.Hour), true, "O1", "O2")
	p := &fakeProducer{}
	if err := r.b.clients.Heartbeat(p, &Heartbeat{ClientID: "c", Producers: []string{"g"}}); err != nil {
		r.t.Fatal(err)
	}
	asked := map[string]bool{}
	for i, c := range p.wait(r.t, 12) {
		if asked[c.MessageID] || i%2 == 0 {
			continue // again, or never answered
		}
		asked[c.MessageID] = true
		e := TransactionEnd{Group: "g", Offset: c.HalfOffset, Position: c.Position, FromCheck: true, Verdict: []txn.Verdict{txn.Commit, txn.Rollback}[i/2%2]}
		r.end(bookedHalf{TransactionEnd: e, key: c.MessageID})
	}
	for end := time.Now().Add(time.Minute); r.b.TransactionStats().Discarded < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatal("the old halves are not given up")
		}
	}
	r.send("g", time.Now(), false, "last") // makes the marks of what was given up safe
}

func waitSafe(t *testing.T, when func(func(error))) {
	t.Helper()
	safe := make(chan error, 1)
	when(func(err error) { safe <- err })
	if err := <-safe; err != nil {
		t.Fatal(err)
	}
}

// keysIn counts the messages in queues of a topic by their unique keys.
func keysIn(t *testing.T, b *Broker, topic string, queues int32) map[string]int {
	t.Helper()
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for q := range queues {
		for off := b.store.QueueMin(topic, q); off < b.store.QueueMax(topic, q); off++ {
			v, err := b.store.RecordAt(topic, q, off)
			if errors.Is(err, store.ErrNotFound) {
				continue // it was not safe, and the crash took it
			}
			if err != nil {
				t.Fatal(err)
			}
			n[v.Properties().Value(message.PropUniqueKey)]++
		}
	}
	return n
}

func deliveries(t *testing.T, b *Broker) map[string]int {
	t.Helper()
	return keysIn(t, b, "orders", 8)
}

func pendingKeys(t *testing.T, b *Broker, c *txnCrash) map[string]bool {
	t.Helper()
	list, _, err := b.Transactions(TransactionFilter{Max: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	pending := map[string]bool{}
	for _, x := range list {
		if pending[x.Key] {
			t.Errorf("%s: the half %s is pending twice", c.when, x.Key)
		}
		pending[x.Key] = true
	}
	return pending
}

func checkTransactions(t *testing.T, b *Broker, c *txnCrash) {
	t.Helper()
	delivered, discarded := deliveries(t, b), keysIn(t, b, message.TopicCheckMax, 1)
	pending := pendingKeys(t, b, c)
	for _, h := range c.book.halves {
		if _, err := b.Record(h.Position); err != nil {
			t.Errorf("%s: the half at %d was answered and is gone: %v", c.when, h.Position, err)
			return
		}
		n, said := delivered[h.key], c.book.said[h.key]
		switch acked := c.book.acked[h.key]; {
		case said == txn.Rollback && n > 0, said == txn.Unknown && n > 0:
			t.Errorf("%s: the half at %d has %v and was delivered", c.when, h.Position, said)
		case acked == txn.Commit && n == 0:
			t.Errorf("%s: the half at %d was committed and is not delivered", c.when, h.Position)
		case acked != txn.Unknown && pending[h.key]:
			lo, hi := b.store.QueueMin(message.TopicOp, 0), b.store.QueueMax(message.TopicOp, 0)
			t.Errorf("%s: the half at %d has %v and is pending; delivered %d, %d halves, marks %d to %d, log read from %d of %d, database %q", c.when, h.Position, acked, n, len(c.book.halves), lo, hi, b.recovered.From, b.recovered.End, c.kv)
		case said == txn.Unknown && !pending[h.key] && (!h.old || discarded[h.key] == 0):
			t.Errorf("%s: nobody ended the half %s at %d, and it is not pending; database %q", c.when, h.key, h.Position, c.kv)
		case said == txn.Commit && n == 0 && !pending[h.key]:
			t.Errorf("%s: the half at %d is neither delivered nor pending", c.when, h.Position)
		}
		if h.old && !pending[h.key] {
			continue
		}
		if said == txn.Unknown {
			said = txn.Commit
		}
		h.Verdict, h.FromCheck = said, true
		// By the place where a half was first, its end may not be known any more.
		if err := end(b, h.TransactionEnd); err != nil && (!h.moving || pending[h.key] || !strings.Contains(err.Error(), "not known any more")) {
			t.Errorf("%s: the half %s at %d cannot be ended: %v", c.when, h.key, h.Position, err)
		}
		c.book.said[h.key] = said
	}
	after := deliveries(t, b)
	for _, h := range c.book.halves {
		n := after[h.key]
		if said := c.book.said[h.key]; said == txn.Commit && (n == 0 || n > 2) || said == txn.Rollback && n > 0 {
			t.Errorf("%s: the half at %d has %v and was delivered %d times", c.when, h.Position, said, n)
		}
	}
}
