package schedule

import (
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// TestMarksBehindTheLogAreSetBackForGood: the log lost its end, new messages
// take the places that were gone through before, and then the process is killed.
func TestMarksBehindTheLogAreSetBackForGood(t *testing.T) {
	bubble(t, func(w *world) {
		w.crash()
		for _, mark := range [][]byte{levelMark(17), []byte(markIndexed), []byte(markDefinitions)} {
			if err := newRows(w.db).marks.Put(mark, 2, kv.Synced); err != nil {
				t.Fatal(err)
			}
		}
		w.open()
		for _, mark := range []string{string(levelMark(17)), markIndexed, markDefinitions} {
			if at, found, err := w.s.rows.marks.Get([]byte(mark)); err != nil || !found || at != 0 {
				t.Errorf("the mark %q is stored as %d, %v, %v; want 0", mark, at, found, err)
			}
		}
		w.send("t", "a", message.PropDelay, "17")
		w.send("t", "b", message.PropDelay, "17")
		w.send("t", "c", message.PropDelay, "17")
		w.crash()
		w.open()
		after(61 * time.Minute)
		w.want("a b c")
	})
}
