package golden

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// TestManifestsAgree checks what was recorded against itself: the log, the consume queues and what the live broker told.
func TestManifestsAgree(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, m := Unpack(t, name)
			_, err := os.Stat(filepath.Join(dir, "abort"))
			if killed := m.Stop == "kill"; (err == nil) != killed || m.Abort != killed {
				t.Errorf("stop is %q, abort in the manifest %v, in the folder: %v", m.Stop, m.Abort, err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "commitlog", "*"))
			if err != nil || len(files) < 3 {
				t.Fatalf("%d commit log files: %v", len(files), err)
			}
			for _, f := range files {
				if info, err := os.Stat(f); err != nil || info.Size() != m.SegmentSize {
					t.Errorf("%s: %v, want %d bytes", f, err, m.SegmentSize)
				}
			}
			at, blanks := int64(0), m.Blanks
			byQueue := map[string]map[int64]int64{}
			v2 := false
			for _, r := range m.Records {
				if len(blanks) > 0 && blanks[0].Position == at {
					at += int64(blanks[0].Size)
					blanks = blanks[1:]
				}
				if r.Position != at {
					t.Fatalf("a record at %d, the one before ends at %d", r.Position, at)
				}
				at += int64(r.Size)
				v2 = v2 || r.Version == 2
				q := key(r.Topic, r.Queue)
				if byQueue[q] == nil {
					byQueue[q] = map[int64]int64{}
				}
				byQueue[q][r.Offset] = r.Position
			}
			if at != m.End {
				t.Errorf("the records end at %d, the log at %d", at, m.End)
			}
			if v2 != (m.Apache == "5.5.0") {
				t.Errorf("records of version 2: %v", v2)
			}
			for _, e := range m.Entries {
				for i, row := range e.Rows {
					if byQueue[key(e.Topic, e.Queue)][e.First+int64(i)] != row[0] {
						t.Fatalf("%s/%d: row %d points to %d", e.Topic, e.Queue, e.First+int64(i), row[0])
					}
				}
			}
			for _, q := range m.Live.Queues {
				if int64(len(q.Positions)) != q.Max-q.Min {
					t.Errorf("%s/%d: %d pulled, of %d to %d", q.Topic, q.Queue, len(q.Positions), q.Min, q.Max)
				}
				for i, pos := range q.Positions {
					if byQueue[key(q.Topic, q.Queue)][q.Min+int64(i)] != pos {
						t.Fatalf("%s/%d: the broker gave %d at offset %d", q.Topic, q.Queue, pos, q.Min+int64(i))
					}
				}
			}
			if len(m.Live.Offsets) != 3 || len(m.Live.Halves) != 12 || len(m.Live.Queries) != 7 || len(m.Pending) < 7 {
				t.Errorf("%d offsets, %d transactions, %d queries, %d pending", len(m.Live.Offsets), len(m.Live.Halves), len(m.Live.Queries), len(m.Pending))
			}
		})
	}
}

func key(topic string, queue int32) string {
	return string(binary.BigEndian.AppendUint32([]byte(topic), uint32(queue)))
}

func TestFrames(t *testing.T) {
	sorts := map[string]int{}
	for _, f := range Frames(t, "") {
		if int(binary.BigEndian.Uint32(f.Raw)) != len(f.Raw)-4 || len(f.Payload()) != f.BodySize {
			t.Errorf("%s:%d: %d bytes, %d of them the body", f.File, f.Line, len(f.Raw), f.BodySize)
		}
		if want := map[byte]string{0: "JSON", 1: "ROCKETMQ"}[f.Raw[4]]; f.Encoding != want {
			t.Errorf("%s:%d: encoding %s, want %s", f.File, f.Line, f.Encoding, want)
		}
		sorts[f.Encoding+" "+f.Kind]++
	}
	for _, s := range []string{"JSON request", "JSON oneway", "JSON response", "ROCKETMQ request", "ROCKETMQ oneway", "ROCKETMQ response"} {
		if sorts[s] < 20 {
			t.Errorf("%d frames of the sort %s", sorts[s], s)
		}
	}
}
