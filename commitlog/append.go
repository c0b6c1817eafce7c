package commitlog

import (
	"fmt"
	"time"

	"github.com/merlinmq/merlin/message"
)

// part is what one append writes into one segment.
type part struct {
	seg    *segment
	off    int64 // byte place in the segment
	at, to int   // the bytes of the batch
	seal   bool  // write the filler behind it: the segment ends here
}

func (p *part) size() int64 { return int64(p.to - p.at) }

// spoiled is a range of a segment behind the end of the log that may hold
// bytes of an append that failed.
type spoiled struct {
	seg      *segment
	off, end int64
}

// Append writes the records of b to the log's end. Each gets its position and
// the store timestamp (never decreasing) patched in and is then shown to
// assign, in order, to patch the rest; assign may be nil. Both run under the
// append lock. end is the position behind the last record: hand it to WhenSafe.
//
// All records are in the log or none. Errors: ErrNoSpace, ErrTooLarge,
// ErrFailed, ErrClosed, ErrNotRecovered.
func (l *Log) Append(b *Batch, assign func(i int, pos message.Position, storeTime int64, rec []byte)) (end message.Position, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.readyLocked(); err != nil {
		return 0, err
	}
	if len(b.recs) == 0 {
		return l.Max(), nil
	}
	if err := l.planLocked(b); err != nil {
		return 0, err
	}
	l.assignLocked(b, assign)
	err = l.writeLocked(b)
	if err == nil {
		end = l.publishLocked()
	}
	if b.Settle != nil {
		b.Settle(err)
	}
	return end, err
}

func (l *Log) readyLocked() error {
	switch {
	case l.closed:
		return ErrClosed
	case l.failure.Load() != nil:
		return l.Failed()
	case !l.recovered:
		return ErrNotRecovered
	case len(l.spoiled) > 0:
		return l.cleanLocked()
	}
	return nil
}

// planLocked says which bytes of b go where and makes sure that there is room
// for them, so that a full disk is met before a byte is written.
func (l *Log) planLocked(b *Batch) error {
	segs := *l.segs.Load()
	last := segs[len(segs)-1]
	cur := part{seg: last, off: l.end.Load() - last.base}
	l.parts = l.parts[:0]
	ahead := 0
	for i := 0; i < len(b.recs); {
		n, size, err := l.unit(b, i)
		if err != nil {
			return err
		}
		if cur.off+cur.size()+size+message.BlankSize > cur.seg.size {
			cur.seal = true
			l.parts = append(l.parts, cur)
			next, err := l.room.segment(l, last, ahead)
			if err != nil {
				return err
			}
			ahead++
			cur = part{seg: next, at: cur.to, to: cur.to}
		}
		cur.to += int(size)
		i += n
	}
	l.parts = append(l.parts, cur)
	for i := range l.parts {
		p := &l.parts[i]
		to := p.off + p.size()
		if p.seal {
			to = min(to+message.BlankSize, p.seg.size)
		}
		if err := l.room.reserve(l, p.seg, to); err != nil {
			return err
		}
	}
	return nil
}

// unit returns how many records from the i-th on must share a segment, and
// their size.
func (l *Log) unit(b *Batch, i int) (n int, size int64, err error) {
	n = max(1, b.recs[i].unit)
	for _, r := range b.recs[i : i+n] {
		if r.size > l.o.MaxRecord {
			return 0, 0, fmt.Errorf("%w: a record of %d bytes, the limit is %d", ErrTooLarge, r.size, l.o.MaxRecord)
		}
		size += int64(r.size)
	}
	if size+message.BlankSize > l.o.SegmentSize {
		return 0, 0, fmt.Errorf("%w: %d bytes in %d records, a segment takes %d", ErrTooLarge, size, n, l.o.SegmentSize-message.BlankSize)
	}
	return n, size, nil
}

// maxClockLead bounds how far a stored timestamp is believed to be ahead of
// the clock: header fields have no checksum, and one flipped bit must not date
// all later messages into the far future.
const maxClockLead = 24 * time.Hour

func (l *Log) assignLocked(b *Batch, assign func(i int, pos message.Position, storeTime int64, rec []byte)) {
	now := l.o.Now().UnixMilli()
	if now < l.lastTime && l.lastTime-now < maxClockLead.Milliseconds() {
		now = l.lastTime
	}
	l.lastTime = now
	i := 0
	for p := range l.parts {
		part := &l.parts[p]
		pos := part.seg.base + part.off
		for ; i < len(b.recs) && b.recs[i].at < part.to; i++ {
			rec := b.Record(i)
			message.Patch(rec, rec.QueueOffset(), position(pos), now)
			if assign != nil {
				assign(i, position(pos), now, rec)
			}
			pos += int64(len(rec))
		}
	}
}

func (l *Log) writeLocked(b *Batch) error {
	for i := range l.parts {
		p := &l.parts[i]
		f, err := p.seg.open()
		if err != nil {
			return l.writeFailedLocked(i, 0, err)
		}
		if p.to > p.at {
			if n, err := f.WriteAt(b.buf[p.at:p.to], p.off); err != nil {
				return l.writeFailedLocked(i, int64(n), err)
			}
		}
		left := p.seg.size - p.off - p.size()
		if !p.seal || left < message.BlankSize {
			continue
		}
		message.PutBlank(l.filler[:], left)
		if n, err := f.WriteAt(l.filler[:], p.off+p.size()); err != nil {
			return l.writeFailedLocked(i, p.size()+int64(n), err)
		}
	}
	return nil
}

// writeFailedLocked takes back what parts before the i-th, and n bytes of it,
// have left on the disk: a later append may be shorter, and a whole record of
// this one must not come to life behind it.
func (l *Log) writeFailedLocked(i int, n int64, cause error) error {
	for j := range l.parts[:i+1] {
		p := &l.parts[j]
		end := p.off + n
		if j < i {
			end = min(p.off+p.size()+message.BlankSize, p.seg.size)
		}
		if end > p.off {
			l.spoiled = append(l.spoiled, spoiled{p.seg, p.off, end})
		}
	}
	cause = fmt.Errorf("commitlog: write %s: %w", l.parts[i].seg.name, spaceError(cause))
	if !isNoSpace(cause) {
		return l.fail(cause)
	}
	if err := l.cleanLocked(); err != nil && !isNoSpace(err) {
		return err
	}
	return cause
}

// cleanLocked turns spoiled ranges into zeros again.
func (l *Log) cleanLocked() error {
	for len(l.spoiled) > 0 {
		s := &l.spoiled[len(l.spoiled)-1]
		f, err := s.seg.open()
		for err == nil && s.off < s.end {
			zeros := zeroPage[:min(int64(len(zeroPage)), s.end-s.off)]
			if _, err = f.WriteAt(zeros, s.off); err == nil {
				s.off += int64(len(zeros))
			}
		}
		if err != nil {
			err = fmt.Errorf("commitlog: clear what a failed write left in %s: %w", s.seg.name, spaceError(err))
			if isNoSpace(err) {
				return err
			}
			return l.fail(err)
		}
		l.spoiled = l.spoiled[:len(l.spoiled)-1]
	}
	return nil
}

// zeroPage is never written.
var zeroPage [64 << 10]byte

// publishLocked makes the written parts the end of the log.
func (l *Log) publishLocked() message.Position {
	last := &l.parts[len(l.parts)-1]
	end := last.seg.base + last.off + last.size()
	if n := len(l.parts) - 1; n > 0 {
		l.rollLocked(n)
	}
	l.end.Store(end)
	l.flush.written(l.o.FlushEvery)
	if reserve, create := l.wantsRoom(last.seg, end); reserve || create {
		l.room.kick()
	}
	return position(end)
}

// rollLocked takes n segments made ahead into the list and unmaps those that
// are no longer near the end.
func (l *Log) rollLocked(n int) {
	old := *l.segs.Load()
	segs := append(make([]*segment, 0, len(old)+n), old...)
	l.room.take(n, func(made []*segment) {
		segs = append(segs, made...)
		l.setSegmentsLocked(segs)
	})
	l.unmapCold(segs)
	if l.o.Events.Rolled != nil {
		l.o.Events.Rolled(position(segs[len(segs)-1].base))
	}
}
