package commitlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/message"
)

// Log is an open commit log. See the package comment.
type Log struct {
	o   Options
	dir string

	segs atomic.Pointer[[]*segment] // oldest first; replaced, under mu, never changed in place
	end  atomic.Int64               // end of what is written; grows under mu

	// mu is the append lock. It guards the fields below, the list of segments
	// and the bytes at the end of the log. Order: mu, then room.mu.
	mu        sync.Mutex
	recovered bool
	closed    bool
	empty     string    // path of a last segment without a byte, which Recover removes
	lastTime  int64     // newest store timestamp, ms
	parts     []part    // the plan of the append that runs
	spoiled   []spoiled // leftovers of a failed append that must become zeros
	filler    [message.BlankSize]byte

	room  room
	flush flushState

	mapMu   sync.Mutex // guards mapping and unmapping of segments
	hotBase int64      // segments from here on may be mapped; guarded by mapMu

	cold       chan struct{} // one token for each pread that may run
	failure    atomic.Pointer[failure]
	gone       atomic.Bool // Close has begun: reads are refused
	failedTold bool        // Events.Failed was called; the flusher's alone
	closing    sync.Once
	closeErr   error
}

// failure holds the cause in an atomic.Pointer.
type failure struct{ err error }

// Segment describes one file of the log.
type Segment struct {
	Base           message.Position
	Size           int64
	File           string // path
	ModTime        time.Time
	FirstStoreTime int64 // ms; 0 if the segment has no record yet
}

// Span names the bytes of one record.
type Span struct {
	Position message.Position
	Size     int32
}

// Open loads the segments in dir, creating the folder if it is missing.
// Recover must be called before appends; reads work up to the end of the
// last segment from now on.
func Open(dir string, o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("commitlog: make folder: %w", err)
	}
	found, err := list(o.FS, dir, o.SegmentSize)
	if err != nil {
		return nil, err
	}
	if o.Events.Ignored != nil {
		for _, name := range found.ignored {
			o.Events.Ignored(name, "its name is not that of a segment, 20 digits")
		}
	}
	o.SegmentSize = found.size
	o.AllocateAhead = min(o.AllocateAhead, o.SegmentSize)
	l := &Log{o: o, dir: dir, empty: found.empty, cold: make(chan struct{}, o.ColdReads)}
	l.setSegmentsLocked(found.segs)
	if n := len(found.segs); n > 0 {
		l.end.Store(found.segs[n-1].end())
	}
	l.flush.init()
	l.room.init()
	go l.flusher()
	go l.roomMaker()
	return l, nil
}

func (l *Log) setSegmentsLocked(segs []*segment) {
	l.segs.Store(&segs)
	l.mapMu.Lock()
	defer l.mapMu.Unlock()
	l.hotBase = 0
	if len(segs) > 0 {
		l.hotBase = segs[max(0, len(segs)-l.o.MaxMappings)].base
	}
}

// Min returns the position of the first segment: 0 for a log without any.
func (l *Log) Min() message.Position {
	if segs := *l.segs.Load(); len(segs) > 0 {
		return position(segs[0].base)
	}
	return 0
}

// Max returns the end of the log: where the next append goes.
func (l *Log) Max() message.Position { return position(l.end.Load()) }

// SegmentSize returns the length of a segment in bytes.
func (l *Log) SegmentSize() int64 { return l.o.SegmentSize }

// Dir returns the folder.
func (l *Log) Dir() string { return l.dir }

// Failed returns the error that made the log refuse appends, or nil.
func (l *Log) Failed() error {
	if f := l.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// fail makes the log refuse appends for good. The flusher tells who waits, and
// the event.
func (l *Log) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if !l.failure.CompareAndSwap(nil, &failure{err}) {
		return l.Failed()
	}
	l.flush.kick()
	return err
}

// Segments lists the segments that hold the log, oldest first.
func (l *Log) Segments() []Segment {
	segs := *l.segs.Load()
	out := make([]Segment, 0, len(segs))
	for _, s := range segs {
		seg := Segment{Base: position(s.base), Size: s.size, File: s.name, FirstStoreTime: l.firstStoreTime(s)}
		if info, err := l.o.FS.Stat(s.name); err == nil {
			seg.ModTime = info.ModTime()
		}
		out = append(out, seg)
	}
	return out
}

// firstStoreTime returns the store time of the segment's first record, or 0.
func (l *Log) firstStoreTime(s *segment) int64 {
	if t := s.firstTime.Load(); t != 0 {
		return t
	}
	v, err := l.Record(position(s.base))
	if err != nil {
		return 0
	}
	s.firstTime.Store(v.StoreTimestamp())
	return v.StoreTimestamp()
}

// DropBefore removes the segments that end at or before pos, never the last
// one, and returns how many are gone. After an error the files that could not
// be removed are no longer part of the log, but will be when it is opened anew.
func (l *Log) DropBefore(pos message.Position) (int, error) {
	segs := *l.segs.Load()
	n := 0
	for n < len(segs) && segs[n].end() <= int64(pos) {
		n++
	}
	return l.DropOldest(n)
}

// DropOldest removes up to n of the oldest segments, never the last one nor
// one that is not flushed, and returns how many are gone.
func (l *Log) DropOldest(n int) (int, error) {
	drop := l.cutOff(n)
	for i, s := range drop {
		// Each name is made durable alone, so that a power cut leaves no hole
		// between old segments that came back and young ones.
		if err := errors.Join(s.remove(), l.o.FS.SyncDir(l.dir)); err != nil {
			for _, rest := range drop[i+1:] {
				err = errors.Join(err, rest.retire())
			}
			return i, fmt.Errorf("commitlog: remove the old segment %s: %w", s.name, err)
		}
	}
	return len(drop), nil
}

func (l *Log) cutOff(n int) []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	segs := *l.segs.Load()
	n = min(n, len(segs)-1)
	for n > 0 && (l.closed || !l.recovered || segs[n-1].end() > l.flush.flushed.Load()) {
		n--
	}
	if n <= 0 {
		return nil
	}
	l.setSegmentsLocked(append([]*segment(nil), segs[n:]...))
	return segs[:n]
}

// Close flushes, ends the goroutines, answers who still waits, removes files
// that were made ahead, and returns the error of the last fsync, or the one
// that made the log fail. Further calls return the same.
func (l *Log) Close() error {
	l.closing.Do(func() {
		l.mu.Lock()
		l.closed = true
		recovered := l.recovered
		l.mu.Unlock()
		err := l.room.stop()
		l.flush.stop()
		l.gone.Store(true)
		err = errors.Join(l.Failed(), err)
		if recovered {
			err = errors.Join(err, l.room.removeAhead(l))
		}
		l.mapMu.Lock()
		l.hotBase = 1 << 62 // nothing is mapped from here on
		l.mapMu.Unlock()
		for _, s := range *l.segs.Load() {
			err = errors.Join(err, s.retire())
		}
		l.closeErr = err
	})
	return l.closeErr
}

// parent is the folder that holds the log's own.
func (l *Log) parent() string { return filepath.Dir(l.dir) }
