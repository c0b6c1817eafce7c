package broker

import (
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// TestOffsetsAreNotBehindTheLogAfterAPowerCut: the cut takes messages that a
// group had consumed; those that get their places must still come to it.
func TestOffsetsAreNotBehindTheLogAfterAPowerCut(t *testing.T) {
	dir, mem := t.TempDir(), vfs.NewMem()
	settings := func(s *Settings) {
		s.SegmentSize, s.QueueFileEntries, s.NoIndex = 1<<20, 1000, true
		s.FlushEvery = time.Hour
	}
	b := openBrokerOn(t, dir, mem, settings)
	put := func(n int) {
		t.Helper()
		for range n {
			mustSend(t, b, request("cut", "body", ""))
		}
	}
	put(10)
	if err := b.store.Sync(); err != nil {
		t.Fatal(err)
	}
	disk := mem.CrashClone(nil)
	put(5)
	b.offsets.Commit("ahead", "cut", 0, 15)
	b.offsets.Commit("behind", "cut", 0, 7)
	b.offsets.CommitPull("ahead", "cut", 0, 14)
	if err := b.Close(); err != nil { // the offsets are saved, and the log of this disk is what the cut took
		t.Fatal(err)
	}

	b = openBrokerOn(t, dir, disk, settings)
	if end := b.store.QueueMax("cut", 0); end != 10 {
		t.Fatalf("the queue ends at %d after the cut, want 10", end)
	}
	check := func(when string, o *Offsets) {
		t.Helper()
		for group, want := range map[string]message.Offset{"ahead": 10, "behind": 7} {
			if at, _ := o.Query(group, "cut", 0); at != want {
				t.Errorf("%s: %s is at %d, want %d", when, group, at, want)
			}
		}
		if at, _ := o.QueryPull("ahead", "cut", 0); at != 10 {
			t.Errorf("%s: the pull offset is %d, want 10", when, at)
		}
	}
	check("after the cut", b.offsets)
	check("as stored", must(openOffsets(b.db, time.Now)))
	put(6)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBrokerOn(t, dir, disk, settings)
	check("with new messages", b.offsets)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
