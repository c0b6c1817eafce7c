package consumequeue_test

import (
	"path/filepath"
	"testing"

	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
)

// Apache's own folders: every row of every queue is read, by position of the
// clean end the same as its broker served, and more can be put behind.
func TestApacheFolders(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			dir, m := golden.Unpack(t, name)
			o := consumequeue.Options{
				FileEntries: int(m.Entries[0].FileSize / consumequeue.EntrySize),
				Damaged:     func(e *consumequeue.DamageError) { t.Error(e) },
			}
			for round := range 2 {
				tab, err := consumequeue.Open(filepath.Join(dir, "consumequeue"), o)
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for range tab.All() {
					n++
				}
				if n != len(m.Entries) {
					t.Errorf("%d queues, want %d", n, len(m.Entries))
				}
				for _, want := range m.Entries {
					q := tab.Lookup(want.Topic, want.Queue)
					if q == nil {
						t.Errorf("%s %d is not there", want.Topic, want.Queue)
						continue
					}
					end := want.First + int64(len(want.Rows)) + int64(round)
					if int64(q.Min()) != want.First || int64(q.Max()) != end {
						t.Errorf("%s %d: %d to %d, want %d to %d", want.Topic, want.Queue, q.Min(), q.Max(), want.First, end)
						continue
					}
					rows := make([]consumequeue.Entry, len(want.Rows))
					if got, err := q.Read(q.Min(), rows); err != nil || got != len(rows) {
						t.Fatal(got, err)
					}
					for i, r := range want.Rows {
						if e := rows[i]; int64(e.Position) != r[0] || int64(e.Size) != r[1] || e.TagCode != r[2] || e.Filler() {
							t.Errorf("%s %d row %d: %+v, want %v", want.Topic, want.Queue, i, e, r)
						}
					}
					if err := q.Put(q.Max(), consumequeue.Entry{Position: message.Position(m.End + int64(round)), Size: 100}); err != nil {
						t.Error(err)
					}
				}
				if err := tab.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
