package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// What is found where a record should be.
var (
	errNothing   = errors.New("zeros where a record should be")
	errMissing   = errors.New("the file is missing")
	errShortFile = errors.New("the file ends before the segment does")
	errFiller    = errors.New("a filler whose size is not what is left of the segment")
	errNoRecord  = errors.New("not one good record in the file; it was removed")
	errStale     = errors.New("records from before an earlier repair")
)

const (
	scanChunk = 1 << 20
	// staleSlack is how much older than its predecessor a record may be that is
	// found behind damage in the last segment. Apache leaves the old tail in
	// place when it cuts its log, and overwrites it from the front: records of
	// that tail look good, stand where they say, and are older.
	staleSlack = 1000 // ms
)

// scanner walks over segments, from record to record, and from a damaged place
// to the next record that can be believed.
type scanner struct {
	segs      []*segment
	size      int64 // of a segment
	maxRecord int
	each      func(pos message.Position, v message.View) error
	damaged   func(file string, from, to message.Position, err error)
	progress  func(pos, end message.Position) // may be nil
	exact     bool                            // run begins at its very place

	chunks   chunks
	pending  []damage
	end      int64 // behind the last good record or filler
	lastTime int64 // store time of the last good record
	records  int64
	ranges   int   // damaged ranges with something good behind them
	budget   int64 // bytes that may still be checked in vain while looking ahead
	zeroAt   int64 // from there to the end of its segment all was found to be zeros, -1 nowhere
}

// damage is a range that may be the torn tail, or be followed by good records.
type damage struct {
	file     string
	at       int64 // byte place in file
	from, to int64
	err      error
}

// Scan reads a folder that no Log has open, changes nothing in it, and calls
// each for every good record from the segment of from on, and damaged for
// every bad range; it returns the end of the log. damaged may be nil. What is
// behind the end and not zero counts as damaged too.
func Scan(fsys vfs.FS, dir string, from message.Position,
	each func(pos message.Position, v message.View) error,
	damaged func(file string, from, to message.Position, err error)) (end message.Position, err error) {
	o, err := Options{FS: fsys}.withDefaults()
	if err != nil {
		return 0, err
	}
	found, err := list(fsys, dir, o.SegmentSize)
	if err != nil {
		return 0, err
	}
	for _, s := range found.segs {
		s.readOnly = true
	}
	defer func() {
		for _, s := range found.segs {
			err = errors.Join(err, s.retire())
		}
	}()
	if damaged == nil {
		damaged = func(string, message.Position, message.Position, error) {}
	}
	s := scanner{segs: found.segs, size: found.size, maxRecord: o.MaxRecord, each: each, damaged: damaged}
	if err := s.run(int64(from)); err != nil {
		return 0, err
	}
	s.reportTail()
	return position(s.end), nil
}

// run scans from the segment that holds from, or the nearest one, to the last.
// Afterwards end is the end of the log, and pending what lies behind it.
func (s *scanner) run(from int64) error {
	if len(s.segs) == 0 {
		return nil
	}
	first := 0
	for i, seg := range s.segs {
		if seg.base <= from {
			first = i
		}
	}
	s.end = s.segs[first].base
	if s.exact = s.exact && from >= s.end && from <= s.segs[first].end(); s.exact {
		s.end = from
	}
	for i := first; i < len(s.segs); i++ {
		seg := s.segs[i]
		if i > first && seg.base != s.segs[i-1].end() {
			at := s.segs[i-1].end()
			s.suspect(damage{filepath.Join(filepath.Dir(seg.name), segmentName(at)), 0, at, seg.base, errMissing})
		}
		if !seg.acquire() {
			return ErrClosed
		}
		start := int64(0)
		if s.exact && i == first {
			start = from - seg.base
		}
		err := s.segment(i, start)
		seg.release()
		if err != nil {
			return err
		}
	}
	if len(s.pending) > 0 {
		s.end = s.pending[0].from
	}
	return nil
}

func (s *scanner) report(d damage) {
	s.damaged(d.file, position(d.from), position(d.to), &CorruptError{File: d.file, Offset: d.at, Err: d.err})
}

// reportTail reports what lies behind the end and is not just zeros.
func (s *scanner) reportTail() {
	for _, d := range s.pending {
		if d.err != errNothing {
			s.report(d)
		}
	}
}

// foreign returns an error when the log seems to be none: it begins with
// something that is neither a record nor zeros, and no good record was found
// anywhere. Such files must not be cut.
func (s *scanner) foreign() error {
	if s.records > 0 || len(s.pending) == 0 || s.pending[0].at != 0 || !errors.Is(s.pending[0].err, message.ErrMagic) {
		return nil
	}
	d := s.pending[0]
	return fmt.Errorf("%w; no good record was found from there on, so this is not a commit log or not a readable one: "+
		"nothing was changed, move the file away to start without it", &CorruptError{File: d.file, Err: d.err})
}

func (s *scanner) suspect(d damage) { s.pending = append(s.pending, d) }

// segment scans the i-th segment from a place in it on.
func (s *scanner) segment(i int, start int64) error {
	seg := s.segs[i]
	usable, err := seg.usable()
	if err != nil {
		return err
	}
	defer s.chunks.forget()
	s.budget = 4*s.size + 64<<20
	told := start
	for off := start; seg.size-off >= message.BlankSize; {
		if s.progress != nil && off-told >= 16*scanChunk {
			told = off
			s.progress(position(seg.base+off), position(s.segs[len(s.segs)-1].end()))
		}
		v, bad, err := s.recordAt(seg, off, usable)
		switch {
		case err != nil:
			return err
		case bad == message.ErrBlank:
			if len(s.pending) == 0 {
				s.end = seg.end()
			}
			return nil
		case bad == nil:
			if err := s.good(seg, off, v); err != nil {
				return err
			}
			off += int64(len(v))
			continue
		}
		next, stale := seg.size, false
		zero, err := s.zeroFrom(seg, off, usable)
		if err == nil && !zero {
			next, stale, err = s.resync(i, off+1, usable)
		}
		if err != nil {
			return err
		}
		if stale {
			bad = errStale
		}
		s.suspect(damage{seg.name, off, seg.base + off, seg.base + next, bad})
		off = next
	}
	if len(s.pending) == 0 {
		s.end = seg.end()
	}
	return nil
}

// good hands on a record, and before it the damage that it shows to be in the
// middle of the log.
func (s *scanner) good(seg *segment, off int64, v message.View) error {
	for _, d := range s.pending {
		s.ranges++
		s.report(d)
	}
	s.pending = s.pending[:0]
	if off == 0 {
		seg.firstTime.Store(v.StoreTimestamp())
	}
	s.records++
	s.lastTime = v.StoreTimestamp()
	s.end = seg.base + off + int64(len(v))
	if s.each == nil {
		return nil
	}
	return s.each(position(seg.base+off), v)
}

// recordAt returns the record at off, or why there is none in bad
// (message.ErrBlank for a proper filler). err is an I/O error. The View dies
// with the next call.
func (s *scanner) recordAt(seg *segment, off, usable int64) (v message.View, bad, err error) {
	if usable-off < message.BlankSize {
		return nil, errShortFile, nil
	}
	b, err := s.chunks.bytes(seg, off, message.BlankSize, usable)
	if err != nil {
		return nil, nil, err
	}
	size, magic, _ := message.PeekSize(b)
	left := seg.size - off
	switch {
	case magic == message.MagicBlank && int64(size) == left:
		return nil, message.ErrBlank, nil
	case magic == message.MagicBlank:
		return nil, errFiller, nil
	case size == 0 && magic == 0:
		return nil, errNothing, nil
	case magic != message.MagicV1 && magic != message.MagicV2:
		return nil, fmt.Errorf("%w: %#08x", message.ErrMagic, magic), nil
	case size < message.BlankSize || int64(size) > left || size > s.maxRecord:
		return nil, fmt.Errorf("%w: a record of %d bytes where %d are left in the segment", message.ErrLayout, size, left), nil
	case int64(size) > usable-off:
		return nil, errShortFile, nil
	}
	if b, err = s.chunks.bytes(seg, off, size, usable); err != nil {
		return nil, nil, err
	}
	v, bad = checkRecord(b[:size], seg.base+off)
	return v, bad, nil
}

var magicPrefix = []byte{byte(message.MagicV1 >> 24), byte(message.MagicV1 >> 16 & 0xFF), byte(message.MagicV1 >> 8 & 0xFF)}

// resync looks from off on for the next record that can be believed and
// returns its place, or the segment's end. stale says that only records older
// than the last good one were met.
func (s *scanner) resync(i int, off, usable int64) (next int64, stale bool, err error) {
	seg := s.segs[i]
	f, err := seg.open()
	if err != nil {
		return 0, false, err
	}
	for off < usable && s.budget > 0 {
		data, hole, err := vfs.NextData(f, off)
		if err != nil {
			return 0, stale, fmt.Errorf("commitlog: look for data in %s: %w", seg.name, err)
		}
		// A record may begin a little before the data does: its size field
		// can be zeros in its upper bytes, never more than three.
		off = max(off, data-7)
		for off < min(hole, usable) && s.budget > 0 {
			at, err := s.nextMagic(seg, off, usable)
			if err != nil {
				return 0, stale, err
			}
			if at < 0 {
				off += scanChunk / 2
				continue
			}
			v, bad, err := s.recordAt(seg, at, usable)
			if err != nil {
				return 0, stale, err
			}
			if bad == nil && v.StoreTimestamp() < s.lastTime-staleSlack {
				if later, err := s.laterRecord(i); err != nil {
					return 0, stale, err
				} else if !later {
					stale, bad = true, errStale
				}
			}
			if bad == nil {
				return at, false, nil
			}
			off = at + 1
		}
		off = max(off, hole)
	}
	return seg.size, stale, nil
}

// nextMagic returns the next place in [off, off+scanChunk/2) where a record of
// believable size that says it stands there may start, or -1.
func (s *scanner) nextMagic(seg *segment, off, usable int64) (int64, error) {
	const head = 36 // up to and with the record's own position
	stop := min(off+scanChunk/2, usable-head+1)
	for off < stop {
		b, err := s.chunks.bytes(seg, off, int(min(stop-off+head-1, usable-off)), usable)
		if err != nil {
			return 0, err
		}
		b = b[:min(int64(len(b)), stop-off+head-1)]
		k := bytes.Index(b[4:], magicPrefix)
		if k < 0 || off+int64(k) >= stop {
			return -1, nil
		}
		at := off + int64(k)
		size, magic, _ := message.PeekSize(b[k:])
		own := int64(be64(b[k+28:]))
		if (magic == message.MagicV1 || magic == message.MagicV2) && own == seg.base+at &&
			size >= head && int64(size) <= usable-at && size <= s.maxRecord {
			s.budget -= int64(size)
			return at, nil
		}
		off = at + 1
	}
	return -1, nil
}

// laterRecord tells whether a segment behind the i-th starts with a record.
func (s *scanner) laterRecord(i int) (bool, error) {
	for _, seg := range s.segs[i+1:] {
		usable, err := seg.usable()
		if err != nil {
			return false, err
		}
		_, bad, err := s.recordAt(seg, 0, usable)
		if err != nil || bad == nil {
			return err == nil, err
		}
	}
	return false, nil
}
