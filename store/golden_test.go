package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
)

// apache are options for a folder of Apache's.
func apache(m golden.Manifest) Options {
	return Options{
		SegmentSize: m.SegmentSize, QueueFileEntries: int(m.Entries[0].FileSize / 20), IndexSlots: 500, IndexItems: 400,
		CheckpointEvery: time.Hour, TagCode: levelCode,
	}
}

// levelCode is Apache's rule for delay levels: the due time.
func levelCode(v message.View) (int64, bool) {
	if string(v.Topic()) != message.TopicSchedule {
		return 0, false
	}
	level, err := strconv.Atoi(v.Properties().Value(message.PropDelay))
	if err != nil {
		return 0, false
	}
	delays := strings.Fields("1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h")
	d, err := time.ParseDuration(delays[min(level, len(delays))-1])
	return v.StoreTimestamp() + d.Milliseconds(), err == nil
}

// TestApacheFolders opens what real brokers left, clean and killed, and finds
// everything in it that their own code found.
func TestApacheFolders(t *testing.T) {
	for _, name := range golden.Names() {
		for _, change := range []string{"as it is", "no queues", "no checkpoint", "no index", "twice", "rebuild"} {
			t.Run(name+"/"+strings.ReplaceAll(change, " ", "-"), func(t *testing.T) {
				t.Parallel()
				dir, m := golden.Unpack(t, name)
				switch change {
				case "no queues":
					if err := os.RemoveAll(filepath.Join(dir, queueFolder)); err != nil {
						t.Fatal(err)
					}
				case "no checkpoint":
					if err := os.Remove(filepath.Join(dir, checkpointFile)); err != nil {
						t.Fatal(err)
					}
				case "no index":
					if err := os.RemoveAll(filepath.Join(dir, indexFolder)); err != nil {
						t.Fatal(err)
					}
				}
				o := apache(m)
				if change == "rebuild" {
					o.Rebuild = true
					if err := os.RemoveAll(filepath.Join(dir, indexFolder)); err != nil {
						t.Fatal(err)
					}
				}
				var found Recovery
				o.Events.Recovered = func(r Recovery) { found = r }
				o.Events.Damaged = func(file string, err error) { t.Logf("%s: %v", file, err) }
				s, err := Open(dir, o)
				if err != nil {
					t.Fatal(err)
				}
				if change == "twice" {
					mustClose(t, s)
					if s, err = Open(dir, o); err != nil {
						t.Fatal(err)
					}
					if !found.Exact || !found.Clean {
						t.Errorf("the second start: %+v", found)
					}
				}
				defer func() { mustClose(t, s) }()
				equal(t, "end", int64(s.Max()), m.End)
				checkGolden(t, s, m, change != "no index")
			})
		}
	}
}

func checkGolden(t *testing.T, s *Store, m golden.Manifest, indexed bool) {
	t.Helper()
	for _, r := range m.Records {
		v, err := s.Record(message.Position(r.Position))
		if err != nil || int32(len(v)) != r.Size || string(v.Topic()) != r.Topic || int64(v.QueueOffset()) != r.Offset {
			t.Fatalf("record at %d: %v", r.Position, err)
		}
	}
	for _, q := range m.Live.Queues {
		equal(t, fmt.Sprintf("min of %s %d", q.Topic, q.Queue), int64(s.QueueMin(q.Topic, q.Queue)), q.Min)
		equal(t, fmt.Sprintf("max of %s %d", q.Topic, q.Queue), int64(s.QueueMax(q.Topic, q.Queue)), q.Max)
		var got []int64
		for at := message.Offset(q.Min); at < message.Offset(q.Max); {
			r, err := s.Get(&GetQuery{Topic: q.Topic, Queue: q.Queue, Offset: at, MaxCount: 32}, nil)
			if err != nil || r.Status != GetFound || r.Next <= at {
				t.Fatalf("Get %s %d at %d: %v %v", q.Topic, q.Queue, at, r.Status, err)
			}
			for b := r.Body; len(b) > 0; {
				v, err := message.Parse(b)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, int64(v.Position()))
				b = b[len(v):]
			}
			at = r.Next
		}
		if fmt.Sprint(got) != fmt.Sprint(q.Positions) {
			t.Errorf("%s queue %d: %d messages, want %d", q.Topic, q.Queue, len(got), len(q.Positions))
		}
	}
	for _, rows := range m.Entries {
		dst := make([]Entry, len(rows.Rows)+1)
		n, err := s.Entries(rows.Topic, rows.Queue, message.Offset(rows.First), dst)
		if err != nil || n < len(rows.Rows) {
			t.Errorf("entries of %s %d: %d, %v, want %d", rows.Topic, rows.Queue, n, err, len(rows.Rows))
			continue
		}
		for i, row := range rows.Rows {
			want := Entry{Position: message.Position(row[0]), Size: int32(row[1]), TagCode: row[2]}
			if dst[i] != want {
				t.Errorf("entry %d of %s %d is %+v, want %+v", i, rows.Topic, rows.Queue, dst[i], want)
				break
			}
		}
	}
	if !indexed {
		return
	}
	for _, q := range m.Live.Queries {
		r, err := s.Query(&KeyQuery{Topic: q.Topic, Key: q.Key}, nil)
		if err != nil || r.Count != len(q.Positions) {
			t.Errorf("Query %s %s: %d, %v, want %d", q.Topic, q.Key, r.Count, err, len(q.Positions))
		}
	}
}
