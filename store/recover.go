package store

import (
	"errors"
	"fmt"
	"math"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/index"
	"github.com/merlinmq/merlin/message"
)

// recovery is what Open does to make queues and index agree with the log.
//
// It starts from what is known to be durable. Our own mark says that exactly,
// and is believed when nobody else has used the folder since. Else Apache's
// checkpoint does, more carefully: it is one number for all queues. Behind that
// point queues and index are cut and every record of the log is put again. The
// queues must then continue without a gap; when they do not, something of them
// is missing, and all of the log is gone through.
type recovery struct {
	s         *Store
	found     Recovery
	abort     bool // the folder was not closed in order
	ours      bool // and that was us
	mark      mark
	hasMark   bool
	apache    checkpoint
	queueFrom message.Position // queues hold every record before
	indexFrom message.Position // the index too
	broken    []string         // index files that cannot be used
	// incomplete are the queues that lack what the table's snapshot tells of.
	incomplete []consumequeue.Incomplete
	logDamage  int // damaged ranges that were met
	registry   *registry
	last       message.Position
	lastTime   int64
	first      message.Position // where the log is read from, for Progress
	putter     *recoveryPutter  // of the run under way
}

// errGap says that a queue lacks what it must have.
var errGap = errors.New("store: a queue has a gap")

func (s *Store) recover(lockTime int64) error {
	r := &recovery{s: s, last: message.NoPosition}
	began := s.o.Now()
	if err := r.look(lockTime); err != nil {
		return err
	}
	if err := r.openLog(); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	if err := r.openViews(); err != nil {
		return err
	}
	if err := r.begin(); err != nil {
		return err
	}
	if err := r.choose(); err != nil {
		return err
	}
	err := r.run()
	if errors.Is(err, errGap) {
		s.damaged(s.path(queueFolder), fmt.Errorf("%w; all queues are put together again from the log", err))
		r.rebuild()
		err = r.run()
	}
	if err != nil {
		return err
	}
	if err := r.finish(); err != nil {
		return err
	}
	r.found.Took = s.o.Now().Sub(began)
	if s.o.Events.Recovered != nil {
		s.o.Events.Recovered(r.found)
	}
	return nil
}

func (r *recovery) openLog() (err error) {
	s := r.s
	s.log, err = commitlog.Open(s.path(logFolder), commitlog.Options{
		FS: s.o.FS, SegmentSize: s.o.SegmentSize, Sync: s.o.SyncFlush, FlushEvery: s.o.FlushEvery,
		MaxRecord: s.o.MaxRecord, Now: s.o.Now,
		Events: commitlog.Events{
			Flushed:  s.o.Events.Flushed,
			Answered: s.pending.flushed,
			Recovering: func(pos, end message.Position) {
				if s.o.Progress != nil {
					s.o.Progress(int64(max(pos-r.first, 0)), int64(max(end-r.first, 0)))
				}
			},
			Recovered: func(f commitlog.Recovery) {
				r.found.Records, r.found.Cut, r.found.Damaged = f.Records, f.Cut, f.Damaged
			},
			Damaged: func(file string, from, to message.Position, err error) {
				r.logDamage++
				s.damaged(file, fmt.Errorf("positions %d to %d hold no record that can be believed: %w", from, to, err))
			},
			Ignored: func(file, why string) { s.damaged(file, fmt.Errorf("left alone: %s", why)) },
			Failed: func(err error) {
				s.fail(err)
				s.pending.flushed()
			},
		},
	})
	return err
}

func (r *recovery) openViews() (err error) {
	s := r.s
	o := consumequeue.Options{
		FS: s.o.FS, FileEntries: s.o.QueueFileEntries, Snapshot: s.path(snapshotFile),
		Damaged: func(d *consumequeue.DamageError) { s.damaged(d.File, d.Err) },
	}
	if r.found.Exact && !r.abort {
		o.Stamp = r.mark.stamp()
	}
	if s.table, err = consumequeue.Open(s.path(queueFolder), o); err != nil {
		return err
	}
	if r.incomplete, err = s.table.Incomplete(); err != nil {
		return err
	}
	s.index, err = index.Open(s.path(indexFolder), index.Options{
		FS: s.o.FS, Slots: s.o.IndexSlots, Items: s.o.IndexItems, Now: s.o.Now,
		Broken: func(b *index.BrokenError) {
			r.broken = append(r.broken, b.File)
			s.damaged(b.File, fmt.Errorf("%w; the index is made anew from the log", b.Err))
		},
	})
	return err
}

// mend makes queues that lack a file be put together again from the log. One
// whose records have all left the log would get nothing back by that, and goes
// on at its end.
func (r *recovery) mend() error {
	s := r.s
	for _, q := range r.incomplete {
		if q.Queue.Tail().Position < s.log.Min() {
			continue
		}
		s.damaged(q.File, fmt.Errorf("%w; %s queue %d is put together again from the log", q.Err, q.Queue.Topic(), q.Queue.ID()))
		if err := q.Queue.Clear(); err != nil {
			return fmt.Errorf("store: empty %s queue %d: %w", q.Queue.Topic(), q.Queue.ID(), err)
		}
		r.rebuild()
	}
	return nil
}

// choose finds the place from which on the views are made anew, and cuts them.
func (r *recovery) choose() error {
	s := r.s
	logMin := s.log.Min()
	switch {
	case r.found.Exact:
		r.queueFrom = r.mark.upto
	case r.found.Clean:
		r.queueFrom = r.tail()
	default:
		r.queueFrom = min(r.apacheStart(), r.tail())
	}
	r.queueFrom = max(r.queueFrom, logMin)
	r.indexFrom = r.queueFrom
	if err := r.mend(); err != nil {
		return err
	}
	if s.o.Rebuild {
		r.rebuild()
		r.indexFrom = r.queueFrom
	}
	if r.abort || s.o.Rebuild {
		if err := s.table.TruncateFrom(r.queueFrom); err != nil {
			return fmt.Errorf("store: cut the queues at %d: %w", r.queueFrom, err)
		}
	}
	if r.found.Exact && !r.found.Rebuilt {
		if sum := r.entries(); sum != r.mark.entries {
			s.damaged(s.path(queueFolder), fmt.Errorf("the queues end at %d in sum, the checkpoint says %d; they are put together again from the log", sum, r.mark.entries))
			r.rebuild()
		}
	}
	return r.chooseIndex(logMin)
}

func (r *recovery) chooseIndex(logMin message.Position) error {
	s := r.s
	for _, file := range r.broken {
		if err := s.index.Drop(file); err != nil {
			return fmt.Errorf("store: drop the broken index file %s: %w", file, err)
		}
		r.indexFrom = logMin
	}
	if last, _ := s.index.Last(); r.found.Exact && !s.o.NoIndex && last < min(r.mark.indexLast, r.indexFrom) {
		s.damaged(s.path(indexFolder), fmt.Errorf("the index ends at %d, the checkpoint says %d; the rest is made anew from the log", last, r.mark.indexLast))
		r.indexFrom = max(last, logMin)
	}
	if last, _ := s.index.Last(); r.abort || last >= r.indexFrom {
		if err := s.index.TruncateFrom(r.indexFrom); err != nil {
			return fmt.Errorf("store: cut the index at %d: %w", r.indexFrom, err)
		}
	}
	return nil
}

// rebuild makes the next run go through all of the log.
func (r *recovery) rebuild() {
	r.queueFrom = r.s.log.Min()
	r.found.Rebuilt = true
}

// entries returns the sum of the ends of all queues.
func (r *recovery) entries() (sum int64) {
	for q := range r.s.table.All() {
		sum += int64(q.Max())
	}
	return sum
}

// tail returns the position behind the last record that any queue knows.
func (r *recovery) tail() message.Position {
	end := message.Position(0)
	for q := range r.s.table.All() {
		if t := q.Tail(); t.Position >= 0 {
			end = max(end, t.Position+message.Position(t.Size))
		}
	}
	return end
}

// apacheStart returns the position before which Apache's checkpoint says that
// all queues are durable. A checkpoint that the log contradicts says nothing.
func (r *recovery) apacheStart() message.Position {
	segs := r.s.log.Segments()
	if len(segs) == 0 {
		return 0
	}
	last := segs[len(segs)-1]
	if pos := r.apache.queuePosition; pos > 0 {
		if pos >= last.Base+message.Position(last.Size) {
			r.s.damaged(r.s.path(checkpointFile), fmt.Errorf("it names position %d, which is behind the end of the log; all of the log is read", pos))
			return 0
		}
		return pos
	}
	// 4.x: by time, from the start of a file.
	for i := len(segs) - 1; i > 0; i-- {
		if t := segs[i].FirstStoreTime; t > 0 && t <= r.apache.queueTime {
			return segs[i].Base
		}
	}
	return 0
}

// run goes through the log and puts what the views lack.
func (r *recovery) run() error {
	s := r.s
	r.registry = newRegistry(s.table)
	r.found.Dispatched, r.last = 0, message.NoPosition
	from := min(r.queueFrom, r.indexFrom)
	r.first, r.found.From = from, from
	start := commitlog.Start{Clean: r.found.Clean, From: from}
	if r.abort && r.ours {
		start.Rewrite = true // our last run may have ended with a failed fsync
		if r.found.Exact {
			start.Flushed = r.mark.flushed
		}
	}
	if s.o.Context != nil {
		start.Stop = s.o.Context.Err
	}
	if r.found.Exact && from == r.mark.upto && r.endsAtMark() {
		start.Exact, start.LastTime = true, r.mark.lastTime
	}
	r.putter = r.startPutter()
	err := s.log.Recover(start, r.each)
	if perr := r.putter.end(); perr != nil {
		err = perr // it is what ended the reading, if anything did
	}
	return err
}

// endsAtMark tells whether the last record before our mark is where the mark
// says: then what is before it need not be read again.
func (r *recovery) endsAtMark() bool {
	if r.mark.last < 0 {
		return false
	}
	v, err := r.s.log.Record(r.mark.last)
	return err == nil && r.mark.last+message.Position(v.Size()) == r.mark.upto
}

func (r *recovery) each(pos message.Position, v message.View) error {
	r.last, r.lastTime = pos, v.StoreTimestamp()
	if pos < r.queueFrom && pos < r.indexFrom {
		return nil
	}
	if err := checkPlace(v.Topic(), v.QueueID()); err != nil {
		r.s.damaged(r.s.path(logFolder), fmt.Errorf("the record at %d is not put into a queue: %w", pos, err))
		return nil
	}
	kind := v.SysFlag().Transaction()
	keys := pos >= r.indexFrom && kind != message.FlagRollback
	entry := pos >= r.queueFrom && kind != message.FlagPrepared && kind != message.FlagRollback
	if !keys && !entry {
		return nil
	}
	d := found{
		dispatch: dispatch{position: pos, size: int32(v.Size()), storeTime: v.StoreTimestamp(), offset: v.QueueOffset()},
		damage:   r.logDamage > 0,
		topic:    r.registry.findBytes(v.Topic()),
		wantKeys: keys,
	}
	if entry {
		d.queue = d.topic.queue(v.QueueID())
		if r.s.o.TagCode != nil {
			d.tagCode, d.coded = r.s.o.TagCode(v)
		}
	}
	return r.putter.add(d, v.Properties())
}

// putEntry puts an entry unless the queue has it. Records of a deleted topic
// are still in the log: those are known by their places in time.
func (r *recovery) putEntry(d *found) error {
	q := d.queue
	if q.topic.gone.Load() {
		q = r.registry.find(q.topic.name).queue(q.id)
	}
	cq := q.cq
	end := cq.Max()
	if d.offset != end {
		tail := cq.Tail()
		switch {
		case d.offset < 0 || d.offset > math.MaxInt64/64:
			r.s.damaged(r.s.path(logFolder), fmt.Errorf("the record at %d has the offset %d; no queue shows it", d.position, d.offset))
			return nil
		case d.offset == 0 && end > 0 && d.position > tail.Position:
			// The queue began anew: its topic had been deleted.
			if err := r.s.table.Delete(q.topic.name); err != nil {
				return fmt.Errorf("store: delete the queues that %s had before it was made anew: %w", q.topic.name, err)
			}
			if err := r.registry.replace(q.topic.name, func() error { return nil }); err != nil {
				return err
			}
			cq = r.registry.find(q.topic.name).queue(q.id).cq
		case d.position <= tail.Position:
			return nil // there already, or older than the queue
		case d.offset < end:
			r.s.damaged(r.s.path(logFolder), fmt.Errorf("the record at %d says it has offset %d of %s queue %d, which ends at %d; no queue shows it",
				d.position, d.offset, q.topic.name, q.id, end))
			return nil
		case !r.found.Rebuilt && !r.found.Exact && !d.damage:
			return fmt.Errorf("%w: %s queue %d ends at %d and the log goes on with %d", errGap, q.topic.name, q.id, end, d.offset)
		}
	}
	err := cq.Put(d.offset, Entry{Position: d.position, Size: d.size, TagCode: d.tagCode})
	if errors.Is(err, consumequeue.ErrEntry) {
		r.s.damaged(r.s.path(logFolder), fmt.Errorf("the record at %d is not put into a queue: %w", d.position, err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("store: put %s queue %d offset %d: %w", q.topic.name, q.id, d.offset, err)
	}
	r.found.Dispatched++
	return nil
}

// finish cuts what the views have behind the log's end, and starts from there.
func (r *recovery) finish() error {
	s := r.s
	end := s.log.Max()
	if r.found.Exact && end < r.mark.upto {
		s.damaged(s.path(logFolder), fmt.Errorf("the log ends at %d; the checkpoint had seen %d", end, r.mark.upto))
	}
	if r.tail() > end {
		if err := s.table.TruncateFrom(end); err != nil {
			return fmt.Errorf("store: cut the queues at the end of the log, %d: %w", end, err)
		}
	}
	if last, _ := s.index.Last(); last >= end {
		if err := s.index.TruncateFrom(end); err != nil {
			return fmt.Errorf("store: cut the index at the end of the log, %d: %w", end, err)
		}
	}
	if s.log.Min() > 0 && !(s.table.FromSnapshot() && s.log.Min() == r.mark.logMin) {
		if err := s.followLog(); err != nil {
			return err
		}
	}
	r.found.End = end
	s.registry = newRegistry(s.table)
	last, _ := s.index.Last()
	s.done = progress{end: end, last: r.last, lastTime: r.lastTime, entries: r.entries(), index: last}
	if r.last == message.NoPosition && r.found.Exact {
		s.done.last, s.done.lastTime = r.mark.last, r.mark.lastTime
	}
	s.visible.Store(int64(end))
	if r.found.Exact {
		s.marked = r.mark
		s.markedEnd.Store(int64(r.mark.upto))
		return nil
	}
	// Nobody need wait for a checkpoint: until the checkpointer has written one,
	// another start does all of this again.
	s.marked = mark{number: r.mark.number, upto: message.NoPosition}
	return nil
}

// damaged reports a file that cannot be used as it is.
func (s *Store) damaged(file string, err error) {
	s.damagedMu.Lock()
	defer s.damagedMu.Unlock()
	if s.o.Events.Damaged != nil {
		s.o.Events.Damaged(file, err)
	}
}
