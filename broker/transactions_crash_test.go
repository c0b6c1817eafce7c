package broker

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
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
	halves []TransactionEnd                 // answered
	said   map[message.Position]txn.Verdict // ends that were sent
	acked  map[message.Position]txn.Verdict // and answered
}

func (b *txnBook) copy() *txnBook {
	c := &txnBook{halves: append([]TransactionEnd(nil), b.halves...), said: map[message.Position]txn.Verdict{}, acked: map[message.Position]txn.Verdict{}}
	for p, v := range b.said {
		c.said[p] = v
	}
	for p, v := range b.acked {
		c.acked[p] = v
	}
	return c
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
// delivered, what was rolled back never.
func TestTransactionCrashBeforeEveryWrite(t *testing.T) {
	dir := t.TempDir()
	inner := vfs.NewMem()
	if err := inner.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.NewFaulty(inner)
	var mu sync.Mutex // guards what follows
	book := &txnBook{said: map[message.Position]txn.Verdict{}, acked: map[message.Position]txn.Verdict{}}
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
	b := openBrokerOn(t, dir, faulty, settings)
	runTransactions(t, b, &mu, book)
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
		}
		b := openBrokerOn(t, dir, c.fsys, settings)
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

// runTransactions sends halves and ends some, alone and several at once.
func runTransactions(t *testing.T, b *Broker, mu *sync.Mutex, book *txnBook) {
	for round := range 12 {
		s := b.NewSender()
		for i := range 4 {
			s.Add(request("orders", "body", fmt.Sprintf("TRAN_MSG\x01true\x02PGROUP\x01g\x02UNIQ_KEY\x01K%d-%d\x02", round, i)))
		}
		var halves []TransactionEnd
		for _, r := range s.Commit() {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			_, pos, _ := message.ParseOffsetID(string(r.AppendMessageID(nil)))
			halves = append(halves, TransactionEnd{Group: "g", Offset: r.Offset, Position: pos})
		}
		waitSafe(t, s.WhenSafe)
		mu.Lock()
		book.halves = append(book.halves, halves...)
		mu.Unlock()
		e := b.NewEnder()
		for i := range halves[:3] { // the fourth stays pending
			halves[i].Verdict = []txn.Verdict{txn.Commit, txn.Rollback, txn.Commit}[i]
			e.Add(halves[i])
		}
		mu.Lock()
		for _, h := range halves[:3] {
			book.said[h.Position] = h.Verdict
		}
		mu.Unlock()
		for _, r := range e.Commit() {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		waitSafe(t, e.WhenSafe)
		mu.Lock()
		for _, h := range halves[:3] {
			book.acked[h.Position] = h.Verdict
		}
		mu.Unlock()
	}
}

func waitSafe(t *testing.T, when func(func(error))) {
	t.Helper()
	safe := make(chan error, 1)
	when(func(err error) { safe <- err })
	if err := <-safe; err != nil {
		t.Fatal(err)
	}
}

func deliveries(t *testing.T, b *Broker) map[message.Position]int {
	t.Helper()
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	n := map[message.Position]int{}
	for q := range int32(8) {
		for off := b.store.QueueMin("orders", q); off < b.store.QueueMax("orders", q); off++ {
			v, err := b.store.RecordAt("orders", q, off)
			if errors.Is(err, store.ErrNotFound) {
				continue // it was not safe, and the crash took it
			}
			if err != nil {
				t.Fatal(err)
			}
			n[v.PreparedPosition()]++
		}
	}
	return n
}

func checkTransactions(t *testing.T, b *Broker, c *txnCrash) {
	t.Helper()
	delivered := deliveries(t, b)
	pending := map[message.Offset]bool{}
	list, _, err := b.Transactions(TransactionFilter{Max: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		pending[x.Offset] = true
	}
	for _, h := range c.book.halves {
		if _, err := b.Record(h.Position); err != nil {
			t.Errorf("%s: the half at %d was answered and is gone: %v", c.when, h.Position, err)
			return
		}
		n, said := delivered[h.Position], c.book.said[h.Position]
		switch acked := c.book.acked[h.Position]; {
		case said == txn.Rollback && n > 0, said == txn.Unknown && n > 0:
			t.Errorf("%s: the half at %d has %v and was delivered", c.when, h.Position, said)
		case acked == txn.Commit && n == 0:
			t.Errorf("%s: the half at %d was committed and is not delivered", c.when, h.Position)
		case acked != txn.Unknown && pending[h.Offset]:
			lo, hi := b.store.QueueMin(message.TopicOp, 0), b.store.QueueMax(message.TopicOp, 0)
			t.Errorf("%s: the half at %d has %v and is pending; delivered %d, %d halves, marks %d to %d, log read from %d of %d, database %q", c.when, h.Position, acked, n, len(c.book.halves), lo, hi, b.recovered.From, b.recovered.End, c.kv)
		case said == txn.Unknown && !pending[h.Offset]:
			t.Errorf("%s: nobody ended the half at %d, and it is not pending", c.when, h.Position)
		case said == txn.Commit && n == 0 && !pending[h.Offset]:
			t.Errorf("%s: the half at %d is neither delivered nor pending", c.when, h.Position)
		}
		if said == txn.Unknown {
			said = txn.Commit
		}
		h.Verdict, h.FromCheck = said, true
		if err := end(b, h); err != nil {
			t.Errorf("%s: the half at %d cannot be ended: %v", c.when, h.Position, err)
		}
		c.book.said[h.Position] = said
	}
	after := deliveries(t, b)
	for _, h := range c.book.halves {
		n := after[h.Position]
		if said := c.book.said[h.Position]; said == txn.Commit && (n == 0 || n > 2) || said == txn.Rollback && n > 0 {
			t.Errorf("%s: the half at %d has %v and was delivered %d times", c.when, h.Position, said, n)
		}
	}
}
