package consumequeue

import (
	"testing"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// TestStartWithHolesBehind: a queue that begins late in its file and has holes
// behind its first entry still begins with that entry when it is read again.
func TestStartWithHolesBehind(t *testing.T) {
	fsys := vfs.NewMem()
	o := Options{FS: fsys, FileEntries: 16}
	q, err := Open("/q", o)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []message.Offset{1, 4, 5} {
		if err := q.Queue("t", 0).Put(off, Entry{Position: message.Position(off) * 100, Size: 100}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if got := q.Lookup("t", 0); got.Min() != 1 || got.Max() != 6 {
			t.Errorf("the queue goes from %d to %d, want 1 to 6", got.Min(), got.Max())
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if q, err = Open("/q", o); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}
