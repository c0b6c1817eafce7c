package commitlog

import (
	"bytes"
	"errors"
	"testing"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// collector keeps what it is given, up to stop spans.
type collector struct {
	got  [][]byte
	stop int
}

func (c *collector) Look(_ int, b []byte) bool {
	c.got = append(c.got, bytes.Clone(b))
	return len(c.got) != c.stop
}

// A walk gives what reads give: mapped, in memory but behind the window, and
// from files; over the ends of segments, and up to where it is told to end.
func TestWalk(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"mapped":    nil,
		"cold":      func(o *Options) { o.HotWindow = 1 },
		"some cold": func(o *Options) { o.HotWindow = 3 * testSegment / 2 },
		"few maps":  func(o *Options) { o.HotWindow, o.MaxMappings = 1, 1 },
	} {
		for _, disk := range []string{"mem", "os"} {
			t.Run(name+" "+disk, func(t *testing.T) {
				var fsys vfs.FS = vfs.NewMem()
				if disk == "os" {
					t.Chdir(t.TempDir())
					fsys = vfs.OS
				}
				l, _ := open(t, fsys, change)
				var spans []Span
				for i := range 400 {
					end := mustAppend(t, l, batchOf(t, i, 1, 300+i))
					v, err := message.AppendRecord(nil, testMessage(i, 300+i))
					if err != nil {
						t.Fatal(err)
					}
					spans = append(spans, Span{Position: end - message.Position(len(v)), Size: int32(len(v))})
				}
				var c collector
				_, n, err := l.Walk(spans, &c, nil)
				if err != nil || n != len(spans) {
					t.Fatalf("walked %d of %d: %v", n, len(spans), err)
				}
				for i, s := range spans {
					want, err := l.Read(s.Position, int(s.Size), nil)
					if err != nil || !bytes.Equal(c.got[i], want) {
						t.Fatalf("span %d: %d bytes, want %d, %v", i, len(c.got[i]), len(want), err)
					}
				}
				c = collector{stop: 77}
				if _, n, err = l.Walk(spans, &c, nil); n != 77 || err != nil || len(c.got) != 77 {
					t.Errorf("ended at %d: %v", n, err)
				}
				spans[50].Position = l.Max()
				if _, n, err = l.Walk(spans, &collector{}, nil); n != 50 || !errors.Is(err, ErrNotFound) {
					t.Errorf("a span beyond the end: %d, %v", n, err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if _, n, err = l.Walk(spans, &collector{}, nil); n != 0 || !errors.Is(err, ErrClosed) {
					t.Errorf("closed: %d, %v", n, err)
				}
			})
		}
	}
}

// A mapping whose file was cut short ends a walk with an error, not a crash.
func TestWalkSurvivesAFault(t *testing.T) {
	t.Chdir(t.TempDir())
	l, _ := open(t, vfs.OS, nil)
	end := mustAppend(t, l, batchOf(t, 0, 20, 1000))
	_, n, err := l.Walk([]Span{{Position: 0, Size: 100}}, faulty{}, nil)
	if n != 0 || !errors.Is(err, vfs.ErrFault) || end == 0 {
		t.Errorf("%d, %v", n, err)
	}
}

// faulty reads where nothing is mapped.
type faulty struct{}

func (faulty) Look(int, []byte) bool { panic(fault{errors.New("fault")}) }

// fault looks like the runtime's error for a page that cannot be read.
type fault struct{ error }

func (fault) RuntimeError() {}
func (fault) Addr() uintptr { return 1 }
