package commitlog

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// ruin is a log of several segments to break: record i stands at at[i].
type ruin struct {
	t   *testing.T
	mem *vfs.Mem
	at  []int64
	len int64 // of every record
	end int64
}

func newRuin(t *testing.T) *ruin {
	r := &ruin{t: t, mem: vfs.NewMem()}
	l, _, err := tryOpen(r.mem, Start{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 160 {
		b := batchOf(t, i, 1, 1000)
		r.len = int64(b.Size())
		end := mustAppend(t, l, b)
		r.at = append(r.at, int64(end)-r.len)
		r.end = int64(end)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *ruin) file(pos int64) (vfs.File, int64) {
	base := pos / testSegment * testSegment
	f, err := r.mem.Open(filepath.Join("store/commitlog", segmentName(base)), true)
	if err != nil {
		r.t.Fatal(err)
	}
	return f, pos - base
}

func (r *ruin) write(pos int64, b []byte) {
	f, off := r.file(pos)
	if _, err := f.WriteAt(b, off); err != nil {
		r.t.Fatal(err)
	}
}

func (r *ruin) truncate(pos, size int64) {
	f, _ := r.file(pos)
	if err := f.Truncate(size); err != nil {
		r.t.Fatal(err)
	}
}

func (r *ruin) last() int { return len(r.at) - 1 }

// inSegment returns the indexes of the records in the n-th segment.
func (r *ruin) inSegment(n int64) (out []int) {
	for i, at := range r.at {
		if at/testSegment == n {
			out = append(out, i)
		}
	}
	return out
}

// TestCorruption breaks one thing at a time and says exactly what survives.
func TestCorruption(t *testing.T) {
	type outcome struct {
		lost    []int  // records that are gone; all others must be there
		end     int64  // -1 for the end as it was
		damaged string // "file@offset" of the report, "" for none
		err     string // what Open or Recover says instead
	}
	name := func(pos int64) string { return segmentName(pos / testSegment * testSegment) }
	cases := []struct {
		name string
		harm func(r *ruin) outcome
	}{
		{"nothing", func(r *ruin) outcome { return outcome{end: -1} }},
		{"torn last record", func(r *ruin) outcome {
			r.write(r.at[r.last()]+300, make([]byte, r.len-300))
			return outcome{lost: []int{r.last()}, end: r.at[r.last()]}
		}},
		{"wrong CRC in the middle", func(r *ruin) outcome {
			r.write(r.at[20]+200, []byte{1, 2, 3, 4})
			return outcome{lost: []int{20}, end: -1, damaged: name(r.at[20]) + "@" + itoa(r.at[20]%testSegment)}
		}},
		{"wrong magic in the middle", func(r *ruin) outcome {
			r.write(r.at[21]+4, []byte{1, 2, 3, 4})
			return outcome{lost: []int{21}, end: -1, damaged: name(r.at[21]) + "@" + itoa(r.at[21]%testSegment)}
		}},
		{"size far too large", func(r *ruin) outcome {
			r.write(r.at[70], []byte{0x7F, 0xFF, 0xFF, 0xFF})
			return outcome{lost: []int{70}, end: -1, damaged: name(r.at[70]) + "@" + itoa(r.at[70]%testSegment)}
		}},
		{"size beyond the file", func(r *ruin) outcome {
			i := r.inSegment(1)[0]
			r.write(r.at[i], binary.BigEndian.AppendUint32(nil, testSegment+1))
			return outcome{lost: []int{i}, end: -1, damaged: name(r.at[i]) + "@0"}
		}},
		{"negative size", func(r *ruin) outcome {
			r.write(r.at[5], []byte{0xFF, 0xFF, 0xFF, 0xFF})
			return outcome{lost: []int{5}, end: -1, damaged: name(0) + "@" + itoa(r.at[5])}
		}},
		{"zeroed page", func(r *ruin) outcome {
			r.write(8192, make([]byte, 4096))
			var lost []int
			for i, at := range r.at {
				if at < 12288 && at+r.len > 8192 {
					lost = append(lost, i)
				}
			}
			return outcome{lost: lost, end: -1, damaged: name(0) + "@" + itoa(r.at[lost[0]])}
		}},
		{"filler lost", func(r *ruin) outcome {
			seg := r.inSegment(0)
			end := r.at[seg[len(seg)-1]] + r.len
			r.write(end, make([]byte, testSegment-end))
			return outcome{end: -1, damaged: name(0) + "@" + itoa(end)}
		}},
		{"record that says it stands elsewhere, at the tail", func(r *ruin) outcome {
			var pos [8]byte
			binary.BigEndian.PutUint64(pos[:], 12)
			r.write(r.at[r.last()]+28, pos[:])
			return outcome{lost: []int{r.last()}, end: r.at[r.last()]}
		}},
		{"missing middle segment", func(r *ruin) outcome {
			if err := r.mem.Remove(filepath.Join("store/commitlog", segmentName(testSegment))); err != nil {
				t.Fatal(err)
			}
			return outcome{lost: r.inSegment(1), end: -1, damaged: name(testSegment) + "@0"}
		}},
		{"last file of length 0", func(r *ruin) outcome {
			f, err := r.mem.Create(filepath.Join("store/commitlog", segmentName(3*testSegment)))
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			return outcome{end: -1}
		}},
		{"last file too short, its records whole", func(r *ruin) outcome {
			r.truncate(r.end, r.end%testSegment)
			return outcome{end: -1}
		}},
		{"last file cut in a record", func(r *ruin) outcome {
			r.truncate(r.end, r.end%testSegment-10)
			return outcome{lost: []int{r.last()}, end: r.at[r.last()]}
		}},
		{"middle file cut in a record", func(r *ruin) outcome {
			seg := r.inSegment(1)
			r.truncate(testSegment, r.at[seg[3]]+10-testSegment)
			return outcome{lost: seg[3:], end: -1, damaged: name(testSegment) + "@" + itoa(r.at[seg[3]]-testSegment)}
		}},
		{"file too long", func(r *ruin) outcome {
			r.truncate(0, testSegment+5000)
			return outcome{end: -1}
		}},
		{"stray file", func(r *ruin) outcome {
			f, err := r.mem.Create("store/commitlog/notes.txt")
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			return outcome{end: -1}
		}},
		{"garbage behind the end", func(r *ruin) outcome {
			r.write(r.end+5000, []byte("stale bytes that are no record"))
			return outcome{end: -1}
		}},
		{"stale tail of an earlier life behind the end", func(r *ruin) outcome {
			// A good record at its own place, older than the last one.
			rec := batchOf(t, 9, 1, 1000).Bytes()
			message.Patch(rec, 3, message.Position(r.end+2000), 5)
			r.write(r.end+2000, rec)
			return outcome{end: -1}
		}},
		{"a file that is no log", func(r *ruin) outcome {
			for n := range int64(3) {
				r.write(n*testSegment, []byte(strings.Repeat("SQLite format 3 ", testSegment/16)))
			}
			return outcome{err: "not a commit log"}
		}},
		{"a name where no segment can start", func(r *ruin) outcome {
			f, err := r.mem.Create(filepath.Join("store/commitlog", segmentName(100)))
			if err != nil {
				t.Fatal(err)
			}
			f.Truncate(50)
			return outcome{err: segmentName(100)}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRuin(t)
			want := c.harm(r)
			if want.end < 0 {
				want.end = r.end
			}
			var reports []string
			l, got, err := tryOpen(r.mem, Start{}, func(o *Options) {
				o.Events.Damaged = func(file string, _, _ message.Position, err error) {
					var c *CorruptError
					if !errors.As(err, &c) || c.File != file {
						t.Errorf("the report of %s is no CorruptError of it: %v", file, err)
						return
					}
					reports = append(reports, filepath.Base(file)+"@"+itoa(c.Offset))
				}
			})
			if want.err != "" {
				if err == nil || !strings.Contains(err.Error(), want.err) {
					t.Fatalf("got %v, want an error with %q", err, want.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for i, at := range r.at {
				_, there := got.recs[message.Position(at)]
				if there == slices.Contains(want.lost, i) {
					t.Errorf("record %d at %d: there %v", i, at, there)
				}
				_, err := l.Record(message.Position(at))
				if there != (err == nil) {
					t.Errorf("record %d: there %v, but reading it says %v", i, there, err)
				}
			}
			if len(got.order) != len(r.at)-len(want.lost) {
				t.Errorf("%d records, want %d", len(got.order), len(r.at)-len(want.lost))
			}
			if int64(l.Max()) != want.end {
				t.Errorf("end %d, want %d", l.Max(), want.end)
			}
			if want.damaged == "" && len(reports) > 0 || want.damaged != "" && !slices.Equal(reports, []string{want.damaged}) {
				t.Errorf("reports %q, want %q", reports, want.damaged)
			}
			// The tail is zeros on the disk now, and appends go on there.
			mustBeZeros(t, r, want.end)
			b := batchOf(t, 5000, 3, 500)
			mustAppend(t, l, b)
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
			again, got2, err := tryOpen(r.mem.CrashClone(nil), Start{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if len(got2.order) != len(got.order)+3 || again.Max() != l.Max() {
				t.Errorf("opened again: %d records to %d, want %d to %d", len(got2.order), again.Max(), len(got.order)+3, l.Max())
			}
		})
	}
}

func itoa(n int64) string { return strings.TrimLeft(segmentName(n)[:19], "0") + segmentName(n)[19:] }

func mustBeZeros(t *testing.T, r *ruin, end int64) {
	t.Helper()
	f, off := r.file(end)
	size, _ := f.Size()
	err := eachNonZero(f, off, size, func(from, to int64) error {
		t.Errorf("bytes %d to %d behind the end, %d, are not zero", from, to, off)
		return nil
	})
	if err != nil || size != testSegment {
		t.Errorf("last segment: %d bytes, %v", size, err)
	}
}

// TestStartFrom begins at a checkpoint, in the log or out of it.
func TestStartFrom(t *testing.T) {
	for _, c := range []struct {
		from  message.Position
		first int64
	}{{0, 0}, {testSegment + 77, testSegment}, {2 * testSegment, 2 * testSegment}, {1 << 50, 2 * testSegment}, {-5, 0}} {
		r := newRuin(t)
		l, got, err := tryOpen(r.mem, Start{From: c.from, Clean: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if int64(got.order[0]) != c.first || int64(l.Max()) != r.end {
			t.Errorf("from %d: first %d, want %d; end %d, want %d", c.from, got.order[0], c.first, l.Max(), r.end)
		}
		l.Close()
	}
}

// TestScanChangesNothing: a verification is no recovery.
func TestScanChangesNothing(t *testing.T) {
	r := newRuin(t)
	r.write(r.at[20]+200, []byte{1, 2, 3, 4})
	r.write(r.end+100, []byte("garbage"))
	f := vfs.NewFaulty(r.mem)
	changed := false
	f.Hook(func(op vfs.Op) { changed = changed || op.Changes() })
	var got seen
	var at []message.Position
	end, err := Scan(f, "store/commitlog", 0, got.add, func(_ string, from, _ message.Position, _ error) { at = append(at, from) })
	if err != nil || int64(end) != r.end || len(got.order) != len(r.at)-1 {
		t.Fatalf("%d records to %d, %v", len(got.order), end, err)
	}
	if !slices.Equal(at, []message.Position{message.Position(r.at[20])}) {
		t.Errorf("damage at %v", at)
	}
	if changed {
		t.Error("Scan changed the folder")
	}
}

// TestIOErrorIsNoDamage: what cannot be read now must not be cut away.
func TestIOErrorIsNoDamage(t *testing.T) {
	r := newRuin(t)
	f := vfs.NewFaulty(r.mem)
	f.FailNth(vfs.KindRead, 2, nil)
	if _, _, err := tryOpen(f, Start{}, nil); err == nil {
		t.Fatal("recovered over a read error")
	}
	l, got := open(t, r.mem, nil)
	if len(got.order) != len(r.at) || int64(l.Max()) != r.end {
		t.Fatalf("%d records to %d", len(got.order), l.Max())
	}
}

func TestEachEndsRecovery(t *testing.T) {
	r := newRuin(t)
	l, err := Open("store/commitlog", Options{FS: r.mem, SegmentSize: testSegment})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stop := errors.New("stop")
	if err := l.Recover(Start{}, func(message.Position, message.View) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if _, err := l.Append(batchOf(t, 0, 1, 10), nil); !errors.Is(err, ErrNotRecovered) {
		t.Fatal("append before recovery:", err)
	}
}

// FuzzRecover puts any bytes into the files of a log. It must come up or say
// why not, and what it hands out must be readable.
func FuzzRecover(f *testing.F) {
	rec := batchOf(f, 1, 3, 200).Bytes()
	f.Add(rec, uint16(0), uint8(2))
	f.Add(rec, uint16(4000), uint8(0))
	f.Add([]byte{0, 0, 0x10, 0, 0xCB, 0xD4, 0x31, 0x94}, uint16(0), uint8(1))
	f.Fuzz(fuzzOne)
}

func fuzzOne(t *testing.T, data []byte, at uint16, good uint8) {
	const size = 8 << 10
	small := func(o *Options) { o.SegmentSize = size; o.AllocateAhead = 4096 }
	mem := vfs.NewMem()
	l, _, err := tryOpen(mem, Start{}, small)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int(good % 16) {
		mustAppend(t, l, batchOf(t, i, 1, 700))
	}
	segs := l.Segments()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 0; len(data) > 0; i++ {
		seg := segs[(int(at)/size+i)%len(segs)]
		file, err := mem.Open(seg.File, true)
		if err != nil {
			t.Fatal(err)
		}
		n := min(len(data), size)
		if _, err := file.WriteAt(data[:n], int64(at)%size); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
		if i > 4 {
			break
		}
	}
	l, got, err := tryOpen(mem, Start{}, small)
	if err != nil {
		return
	}
	defer l.Close()
	for _, pos := range got.order {
		if v, err := l.Record(pos); err != nil || string(v) != string(got.recs[pos]) {
			t.Fatalf("record at %d was handed out, but: %v", pos, err)
		}
	}
	mustAppend(t, l, batchOf(t, 1, 1, 100))
}
