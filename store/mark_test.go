package store

import (
	"os"
	"testing"

	"github.com/merlinmq/merlin/message"
)

// After a kill only what is behind the mark is read again, not the segment
// that it is in.
func TestRecoveryStartsAtTheMark(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	o := Options{SegmentSize: 1 << 20, QueueFileEntries: 64, IndexSlots: 50, IndexItems: 2000, CheckpointEvery: 1 << 40}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(n int) {
		for range n {
			if _, err := s.Put(&message.Message{Topic: "orders", Body: make([]byte, 300)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	put(200)
	if err := s.checkpoint(true, false); err != nil {
		t.Fatal(err)
	}
	put(10)
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	var found Recovery
	o.Events.Recovered = func(r Recovery) { found = r }
	again, err := Open(killed, o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if found.Records != 10 || found.Clean || !found.Exact {
		t.Errorf("recovery was %+v, want 10 records read", found)
	}
	if end := again.QueueMax("orders", 0); end != 210 {
		t.Errorf("the queue ends at %d, want 210", end)
	}
	if r, err := again.Put(&message.Message{Topic: "orders", Body: []byte("next")}); err != nil || r.Offset != 210 {
		t.Errorf("the next offset is %d (%v), want 210", r.Offset, err)
	}
}
