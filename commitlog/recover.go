package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Start tells Recover where to begin.
type Start struct {
	// Clean says that the log was closed in order: then bytes behind its end
	// are reported as damage, not only cut.
	Clean bool
	// From is where checking begins; it is rounded down to the start of a
	// segment, and into the log.
	From message.Position
	// Exact says that a record begins, or the log ends, at From itself: then
	// nothing before it is read. LastTime is the store time of the record before
	// it, in ms.
	Exact    bool
	LastTime int64
	// Rewrite says that what lies behind Flushed was perhaps never written to
	// the disk, whatever the kernel's memory shows: it is written again.
	Rewrite bool
	Flushed message.Position
	// Stop is asked before each piece that is read; its error ends the recovery
	// and is returned. What Recover has changed by then is nothing. May be nil.
	Stop func() error
}

// Recover checks the records from s.From on, calls each for every good one in
// order, and leaves the log ready for appends at its end. The View dies when
// each returns. An error of each ends the recovery and is returned.
//
// A damaged range with a good record behind it is reported through
// Events.Damaged and skipped. Bad bytes with nothing good behind them are the
// torn tail: they are zeroed, durably, before Recover returns.
func (l *Log) Recover(s Start, each func(pos message.Position, v message.View) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.recovered:
		return errors.New("commitlog: recovered already")
	}
	if l.empty != "" {
		if err := l.o.FS.Remove(l.empty); err != nil {
			return fmt.Errorf("commitlog: remove the empty last segment: %w", err)
		}
		l.empty = ""
	}
	began := l.o.Now()
	segs := *l.segs.Load()
	sc := scanner{segs: segs, size: l.o.SegmentSize, maxRecord: l.o.MaxRecord, each: each, damaged: l.damaged, progress: l.o.Events.Recovering, zeroAt: -1}
	sc.chunks.stop = s.Stop
	if s.Exact {
		sc.exact, sc.lastTime = true, s.LastTime
	}
	if err := sc.run(int64(s.From)); err != nil {
		return err
	}
	if err := sc.foreign(); err != nil {
		return err
	}
	if s.Clean {
		sc.reportTail()
	}
	if s.Rewrite {
		if err := l.rewriteLocked(int64(s.Flushed), sc.end); err != nil {
			return err
		}
	}
	cut, err := l.cutLocked(sc.end, sc.zeroAt)
	if err != nil {
		return err
	}
	l.lastTime = sc.lastTime
	l.end.Store(sc.end)
	l.flush.flushed.Store(sc.end)
	l.recovered = true
	l.room.kick()
	if l.o.Events.Recovered != nil {
		from := int64(0)
		if i := find(segs, int64(s.From)); i >= 0 {
			from = segs[i].base
			if sc.exact {
				from = int64(s.From)
			}
		}
		l.o.Events.Recovered(Recovery{
			From: position(from), End: position(sc.end), Records: sc.records,
			Damaged: sc.ranges, Cut: cut, Took: l.o.Now().Sub(began),
		})
	}
	return nil
}

func (l *Log) damaged(file string, from, to message.Position, err error) {
	if l.o.Events.Damaged != nil {
		l.o.Events.Damaged(file, from, to, err)
	}
}

// cutLocked makes everything from end on zeros, keeps or creates the segment
// that end is in, removes those behind it, and makes all of that durable. What
// the scan believed must be durable too before it is called safe: after a kill
// it may stand in the kernel's memory alone. From zeroAt to the end of its
// segment there are zeros already, where it is not negative.
func (l *Log) cutLocked(end, zeroAt int64) (cut int64, err error) {
	var keep []*segment
	for _, s := range *l.segs.Load() {
		switch {
		case s.end() <= end:
			keep = append(keep, s)
			continue
		case s.base > end: // beyond the segment of the end: made ahead, or torn
			n, err := nonZero(s)
			if err == nil {
				if n > 0 {
					l.damaged(s.name, position(s.base), position(s.end()), &CorruptError{File: s.name, Err: errNoRecord})
				}
				err = s.remove()
			}
			if err != nil {
				return cut, fmt.Errorf("commitlog: remove %s, which lies behind the end of the log: %w", s.name, err)
			}
			cut += n
			continue
		}
		n, err := l.zeroTail(s, end-s.base, zeroAt >= s.base && zeroAt <= end)
		if err != nil {
			return cut, err
		}
		cut += n
		keep = append(keep, s)
	}
	if n := len(keep); n == 0 || keep[n-1].end() <= end {
		s := newSegment(l.o.FS, l.dir, end, l.o.SegmentSize)
		if n > 0 && keep[n-1].end() != end || n == 0 && end != 0 {
			return cut, fmt.Errorf("commitlog: the end of the log, %d, is in none of the segments", end)
		}
		if err := s.create(); err != nil {
			return cut, err
		}
		keep = append(keep, s)
	}
	if err := l.syncRecovered(keep); err != nil {
		return cut, err
	}
	l.setSegmentsLocked(keep)
	return cut, nil
}

// syncRecovered fsyncs the segments that were scanned, and the folder.
func (l *Log) syncRecovered(segs []*segment) error {
	named := false
	for _, s := range segs {
		if !s.named.Load() { // made just now: nothing to lose yet
			continue
		}
		named = true
		if !s.opened() {
			continue // before the place where checking began
		}
		f, err := s.open()
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			return fmt.Errorf("commitlog: flush %s after recovery: %w", s.name, err)
		}
	}
	if !named {
		return nil
	}
	if err := l.o.FS.SyncDir(l.dir); err != nil {
		return fmt.Errorf("commitlog: flush the folder's names after recovery: %w", err)
	}
	return nil
}

// zeroTail makes the segment's bytes from off on zero and gives the file its
// full length. It returns how many bytes, from the first to the last that was
// not zero, it wrote; with zero, the caller knows that there are none.
func (l *Log) zeroTail(s *segment, off int64, zero bool) (cut int64, err error) {
	if err := s.grow(); err != nil {
		return 0, err
	}
	s.allocated.Store(off &^ 4095)
	if zero {
		return 0, nil
	}
	f, err := s.open()
	if err != nil {
		return 0, err
	}
	err = eachNonZero(f, off, s.size, func(from, to int64) error {
		for ; from < to; from += int64(len(zeroPage)) {
			n := min(int64(len(zeroPage)), to-from)
			if _, err := f.WriteAt(zeroPage[:n], from); err != nil {
				return err
			}
			cut += n
		}
		return nil
	})
	if err != nil {
		return cut, fmt.Errorf("commitlog: clear the torn tail of %s from byte %d: %w", s.name, off, spaceError(err))
	}
	return cut, nil
}

// nonZero returns how many bytes of the segment are not zero, roughly: whole
// stretches are counted.
func nonZero(s *segment) (n int64, err error) {
	f, err := s.open()
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	err = eachNonZero(f, 0, size, func(from, to int64) error { n += to - from; return nil })
	return n, err
}

// zeroFrom tells whether the rest of the segment is zeros, as it is behind the
// end of a log that was not torn. It stops at the first byte that is not.
func (s *scanner) zeroFrom(seg *segment, off, usable int64) (bool, error) {
	f, err := seg.open()
	if err != nil {
		return false, err
	}
	err = eachNonZero(f, off, usable, func(int64, int64) error { return errNoRecord })
	if err == nil {
		s.zeroAt = seg.base + off
		return true, nil
	}
	if err == errNoRecord {
		return false, nil
	}
	return false, fmt.Errorf("commitlog: look for data in %s: %w", seg.name, err)
}

// eachNonZero calls fn for stretches of [off, end) that hold all bytes in it
// that are not zero. Holes are not read. The file reaches to end.
func eachNonZero(f vfs.File, off, end int64, fn func(from, to int64) error) error {
	buf := make([]byte, min(max(end-off, 0), 256<<10))
	for off < end {
		data, hole, err := vfs.NextData(f, off)
		if err != nil {
			return err
		}
		off, hole = max(off, data), min(hole, end)
		for off < hole {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), hole-off)], off)
			if n == 0 {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if first, last := span01(buf[:n]); first < last {
				if err := fn(off+int64(first), off+int64(last)); err != nil {
					return err
				}
			}
			off += int64(n)
		}
		off = max(off, hole)
	}
	return nil
}

// span01 returns the range from the first byte that is not zero to the last.
func span01(b []byte) (first, last int) {
	for first+len(zeroPage) <= len(b) && bytes.Equal(b[first:first+len(zeroPage)], zeroPage[:]) {
		first += len(zeroPage)
	}
	for first+8 <= len(b) && binary.NativeEndian.Uint64(b[first:]) == 0 {
		first += 8
	}
	for first < len(b) && b[first] == 0 {
		first++
	}
	last = len(b)
	for last > first && b[last-1] == 0 {
		last--
	}
	return first, last
}

func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
