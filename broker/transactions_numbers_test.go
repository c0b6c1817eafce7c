package broker

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// TestNumbersOfResolved: MERLIN_RESOLVED=1000000 transactions have been sent
// and committed. Wanted: a start takes as long as that of a folder with as many
// ordinary records (within 10 %, and 30 ms for the fsyncs of it), after a clean stop and after a kill. After a
// kill in the midst of it the last second or two are read again; that is told.
func TestNumbersOfResolved(t *testing.T) {
	n := asked(t, "MERLIN_RESOLVED")
	with, without := t.TempDir(), t.TempDir()
	records := fill(t, with, func(b *Broker) int {
		commitMany(t, b, n)
		half, op := b.store.QueueMax(message.TopicHalf, 0), b.store.QueueMax(message.TopicOp, 0)
		return n + int(half) + int(op)
	})
	fill(t, without, func(b *Broker) int {
		sender := b.NewSender()
		for i := 0; i < records; {
			sender.Reset()
			for range min(64, records-i) {
				sender.Add(request("orders", "a body of a few bytes", fmt.Sprintf("UNIQ_KEY\x01K%d\x02TAGS\x01a\x02", i)))
				i++
			}
			for _, r := range sender.Commit() {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
			}
		}
		return records
	})
	for _, state := range []string{"clean", "killed", "busy"} {
		var took, behind [2][]time.Duration
		for range 7 { // in turns
			for i, dir := range []string{with, without} {
				whole, store := start(t, filepath.Join(dir, state), state == "clean")
				took[i], behind[i] = append(took[i], whole), append(behind[i], whole-store)
			}
		}
		a, b := slices.Min(took[0]), slices.Min(took[1])
		t.Logf("%s, %d records: a start takes %v with %d resolved transactions, %v without (of 7; medians %v and %v); behind the store's part of it %v and %v",
			state, records, a, n, b, percentile(took[0], 0.5), percentile(took[1], 0.5), slices.Min(behind[0]), slices.Min(behind[1]))
		if state != "busy" && a > b*11/10+30*time.Millisecond {
			t.Errorf("%s: resolved transactions cost a start %v", state, a-b)
		}
	}
}

// fill leaves three folders in dir: busy, as a kill in the midst of the sends
// leaves it, killed, as one does a moment later, and clean.
func fill(t *testing.T, dir string, put func(*Broker) int) (records int) {
	t.Helper()
	b := openLarge(t, filepath.Join(dir, "clean"))
	records = put(b)
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	copyFolder(t, filepath.Join(dir, "clean"), filepath.Join(dir, "busy"))
	time.Sleep(7 * time.Second) // checkpoints come every 5 s
	copyFolder(t, filepath.Join(dir, "clean"), filepath.Join(dir, "killed"))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return records
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-r", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func openLarge(t *testing.T, dir string) *Broker {
	t.Helper()
	s := DefaultSettings()
	bigFiles(s)
	b, err := Open(dir, Options{Settings: s, StoreHost: testAddr})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// start returns how long the folder takes to open, and how long of that the
// store does. One that was killed is opened in a copy, because a stop would make
// it clean.
func start(t *testing.T, dir string, clean bool) (took, store time.Duration) {
	t.Helper()
	if !clean {
		scratch := filepath.Join(t.TempDir(), "data")
		copyFolder(t, dir, scratch)
		dir = scratch
	}
	began := time.Now()
	b := openLarge(t, dir)
	took = time.Since(began)
	if n := b.TransactionStats().Pending; n != 0 {
		t.Fatalf("%d transactions are pending", n)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return took, b.recovered.Took
}

// commitMany sends halves of a few bytes, 64 at a time, and commits them.
func commitMany(t *testing.T, b *Broker, n int) {
	t.Helper()
	sender, ender := b.NewSender(), b.NewEnder()
	for i := 0; i < n; {
		sender.Reset()
		ender.Reset()
		for range min(64, n-i) {
			sender.Add(request("orders", "a body of a few bytes", fmt.Sprintf("TRAN_MSG\x01true\x02PGROUP\x01g\x02UNIQ_KEY\x01K%d\x02TAGS\x01a\x02", i)))
			i++
		}
		for _, r := range sender.Commit() {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			_, pos, err := message.ParseOffsetID(string(r.AppendMessageID(nil)))
			if err != nil {
				t.Fatal(err)
			}
			ender.Add(TransactionEnd{Group: "g", Offset: r.Offset, Position: pos, Verdict: TransactionCommit})
		}
		for _, e := range ender.Commit() {
			if e.Err != nil {
				t.Fatal(e.Err)
			}
		}
	}
}
