package index_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/merlinmq/merlin/index"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
)

// Apache's own index files: what its broker found by key is found, and so is
// every record by its unique key; in what a kill left, too.
func TestApacheFolders(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			dir, m := golden.Unpack(t, name)
			o := index.Options{Slots: 500, Items: 400, Broken: func(e *index.BrokenError) { t.Error(e) }}
			find := func(x *index.Index, key string, end int64) []message.Position {
				found, err := x.Find([]byte(key), 0, 1<<60, 1000)
				if err != nil {
					t.Fatal(err)
				}
				// The keys of records decide, as hashes are the same at times.
				return slices.DeleteFunc(found, func(p message.Position) bool {
					i, ok := slices.BinarySearchFunc(m.Records, int64(p), func(r golden.Record, p int64) int { return int(r.Position - p) })
					return !ok || int64(p) >= end || !hasKey(m.Records[i], key)
				})
			}
			check := func(x *index.Index, end int64) {
				for _, r := range m.Records {
					id := r.Properties["UNIQ_KEY"]
					if id == "" || r.Position >= end || message.SysFlag(r.SysFlag).Transaction() == message.FlagRollback {
						continue
					}
					if got := find(x, r.Topic+"#"+id, end); !slices.Contains(got, message.Position(r.Position)) {
						t.Errorf("record at %d of %s: %s gives %v", r.Position, r.Topic, id, got)
					}
				}
			}
			x, err := index.Open(filepath.Join(dir, "index"), o)
			if err != nil {
				t.Fatal(err)
			}
			check(x, m.End)
			for _, q := range m.Live.Queries {
				want := make([]message.Position, len(q.Positions))
				for i, p := range q.Positions {
					want[i] = message.Position(p)
				}
				if got := find(x, q.Topic+"#"+q.Key, m.End); !slices.Equal(got, want) {
					t.Errorf("%s#%s: %v, want %v", q.Topic, q.Key, got, want)
				}
			}
			// Cut in the middle, it has what is before.
			cut := m.Records[len(m.Records)/2].Position
			if err := x.TruncateFrom(message.Position(cut)); err != nil {
				t.Fatal(err)
			}
			if last, _ := x.Last(); int64(last) >= cut {
				t.Error("last is", last)
			}
			check(x, cut)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func hasKey(r golden.Record, key string) bool {
	rest, ok := strings.CutPrefix(key, r.Topic+"#")
	return ok && (rest == r.Properties["UNIQ_KEY"] || slices.Contains(strings.Split(r.Properties["KEYS"], " "), rest))
}
