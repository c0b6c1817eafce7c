package commitlog

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Read appends the size bytes at pos to dst. They must lie in one segment and
// before Max, else ErrNotFound. Bytes near the end are copied from a mapping,
// others are read from the file, of which only a bounded number runs at once.
func (l *Log) Read(pos message.Position, size int, dst []byte) ([]byte, error) {
	var c cursor
	out, err := l.read(&c, int64(pos), size, dst)
	c.done(l)
	return out, err
}

// ReadMany appends the bytes of all spans to dst, in order, and stops before
// the first that would make dst longer than limit (0 for no limit) or that
// cannot be read; n says how many were read. The error is that of span n.
func (l *Log) ReadMany(spans []Span, limit int, dst []byte) (out []byte, n int, err error) {
	var c cursor
	defer c.done(l)
	if len(spans) > 0 {
		l.warm(&c, spans)
	}
	for _, s := range spans {
		if limit > 0 && len(dst)+int(s.Size) > limit {
			break
		}
		if dst, err = l.read(&c, int64(s.Position), int(s.Size), dst); err != nil {
			break
		}
		n++
	}
	return dst, n, err
}

// cursor keeps the segment of the last read, so that neighbours cost no lookup.
// A window or a file ref is held while seg is set.
type cursor struct {
	seg *segment
	w   *window // nil: the file is used

	warmFrom, warmTo int64 // positions that are read through a mapping though they are not hot
}

// warm finds out whether the spans, if they are not hot, lie in a mapping and
// in memory all the same: copying them costs a tenth of reading the file, and
// waits for no disk.
func (l *Log) warm(c *cursor, spans []Span) {
	from, to := int64(spans[0].Position), int64(0)
	for _, s := range spans {
		from, to = min(from, int64(s.Position)), max(to, int64(s.Position)+int64(s.Size))
	}
	if from < 0 || from >= l.end.Load()-l.o.HotWindow || to > l.end.Load() {
		return
	}
	segs := *l.segs.Load()
	i := find(segs, from)
	if i < len(segs)-l.o.MaxMappings || i < 0 || to > segs[i].end() {
		return
	}
	w, err := l.windowOf(segs[i])
	if w == nil || err != nil {
		return
	}
	if vfs.Resident(w.m, from-segs[i].base, to-from) {
		c.seg, c.w, c.warmFrom, c.warmTo = segs[i], w, from, to
		return
	}
	if err := w.release(); err != nil {
		l.fail(fmt.Errorf("commitlog: unmap %s: %w", segs[i].name, err))
	}
}

func (c *cursor) done(l *Log) {
	if c.seg == nil {
		return
	}
	if c.w == nil {
		c.seg.release()
	} else if err := c.w.release(); err != nil {
		l.fail(fmt.Errorf("commitlog: unmap %s: %w", c.seg.name, err))
	}
	c.seg, c.w = nil, nil
}

// seek makes c hold what is needed to read at pos.
func (l *Log) seek(c *cursor, pos int64) error {
	if c.seg != nil && pos >= c.seg.base && pos < c.seg.end() {
		return nil
	}
	c.done(l)
	for {
		segs := *l.segs.Load()
		i := find(segs, pos)
		if i < 0 {
			return fmt.Errorf("%w: no segment holds %d", ErrNotFound, pos)
		}
		s := segs[i]
		if pos >= l.end.Load()-l.o.HotWindow || pos >= c.warmFrom && pos < c.warmTo {
			w, err := l.windowOf(s)
			if err != nil {
				return err
			}
			if w != nil {
				c.seg, c.w = s, w
				return nil
			}
		}
		if s.acquire() {
			c.seg = s
			return nil
		}
		if l.gone.Load() {
			return ErrClosed
		}
		// Dropped meanwhile: the list says so now.
	}
}

// windowOf returns the segment's mapping with a ref on it, or nil if it has
// none and is not to have one.
func (l *Log) windowOf(s *segment) (*window, error) {
	if w := s.window.Load(); w != nil && w.acquire() {
		return w, nil
	}
	l.mapMu.Lock()
	defer l.mapMu.Unlock()
	if s.base < l.hotBase || !s.acquire() {
		return nil, nil
	}
	defer s.release()
	w, err := s.mapLocked()
	if w == nil || err != nil || !w.acquire() {
		return nil, err
	}
	return w, nil
}

// unmapCold unmaps the segments that are no longer among the newest.
func (l *Log) unmapCold(segs []*segment) {
	l.mapMu.Lock()
	defer l.mapMu.Unlock()
	for i := len(segs) - 1 - l.o.MaxMappings; i >= 0 && segs[i].window.Load() != nil; i-- {
		if err := segs[i].unmap(); err != nil {
			l.fail(fmt.Errorf("commitlog: unmap %s: %w", segs[i].name, err))
		}
	}
}

func (l *Log) read(c *cursor, pos int64, size int, dst []byte) ([]byte, error) {
	if l.gone.Load() {
		return dst, ErrClosed
	}
	if end := l.end.Load(); pos < 0 || size < 0 || pos > end || int64(size) > end-pos {
		return dst, fmt.Errorf("%w: %d bytes at %d, the log ends at %d", ErrNotFound, size, pos, end)
	}
	if size == 0 {
		return dst, nil
	}
	if err := l.seek(c, pos); err != nil {
		return dst, err
	}
	off := pos - c.seg.base
	if int64(size) > c.seg.size-off {
		return dst, fmt.Errorf("%w: %d bytes at %d cross the end of %s", ErrNotFound, size, pos, c.seg.name)
	}
	n := len(dst)
	out := slices.Grow(dst, size)[:n+size]
	var err error
	if c.w != nil {
		err = vfs.Copy(out[n:], c.w.data[off:off+int64(size)])
	} else {
		err = l.pread(c.seg, out[n:], off)
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

// pread reads from the file, waiting for its turn.
func (l *Log) pread(s *segment, p []byte, off int64) error {
	l.cold <- struct{}{}
	defer func() { <-l.cold }()
	f, err := s.open()
	if err != nil {
		return err
	}
	switch n, err := f.ReadAt(p, off); {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return &CorruptError{File: s.name, Offset: off + int64(n), Err: errors.New("the file ends there; it was cut short")}
	default:
		return fmt.Errorf("commitlog: read %d bytes at %d: %w", len(p), s.base+off, err)
	}
}

// Record reads, checks and returns a copy of the record at pos. CorruptError
// if there is none or it is damaged.
func (l *Log) Record(pos message.Position) (message.View, error) {
	var c cursor
	defer c.done(l)
	head, err := l.read(&c, int64(pos), message.BlankSize, make([]byte, 0, message.BlankSize))
	if err != nil {
		return nil, err
	}
	corrupt := func(err error) error {
		return &CorruptError{File: c.seg.name, Offset: int64(pos) - c.seg.base, Err: err}
	}
	size, _, _ := message.PeekSize(head)
	if size < message.BlankSize || size > l.o.MaxRecord {
		return nil, corrupt(fmt.Errorf("no record: it would be %d bytes long", size))
	}
	b, err := l.read(&c, int64(pos), size, nil)
	if errors.Is(err, ErrNotFound) {
		return nil, corrupt(fmt.Errorf("no record: it would be %d bytes long and end outside of the segment or the log", size))
	}
	if err != nil {
		return nil, err
	}
	v, err := checkRecord(b, int64(pos))
	if err != nil {
		return nil, corrupt(err)
	}
	return v, nil
}

// checkRecord returns the record that b starts with if it may be believed:
// its lengths fit, it says itself that it stands at pos, its body is whole, and
// its end was written. Nothing but the body has a checksum, but what a power
// cut keeps from the disk reads as zeros, and no properties end with one.
func checkRecord(b []byte, pos int64) (message.View, error) {
	v, err := message.Parse(b)
	if err != nil {
		return nil, err
	}
	if v.Position() != position(pos) {
		return nil, fmt.Errorf("the record there says that it stands at position %d, not %d", v.Position(), pos)
	}
	if p := v.Properties(); len(p) > 0 && p[len(p)-1] == 0 {
		return nil, errors.New("the end of the record is zeros")
	}
	return v, v.VerifyBody()
}
