package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/index"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// VerifyOptions of Verify. The sizes must be what the folder was written with.
type VerifyOptions struct {
	FS                     vfs.FS // default vfs.OS
	QueueFileEntries       int    // as in Options
	IndexSlots, IndexItems int
	// Progress is called now and then with bytes of the log.
	Progress func(done, total int64)
}

// Place is where a file is not what it should be.
type Place struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`           // in the file, bytes
	Length int64  `json:"length,omitempty"` // 0: not known
	Text   string `json:"problem"`
	// Heals says that the next start puts it right by itself and nothing that
	// was acknowledged is lost by it.
	Heals bool `json:"heals"`
}

// maxPlaces bounds the list of a Verified.
const maxPlaces = 10_000

// Verified is what Verify found.
type Verified struct {
	Records  int64            `json:"records"` // good ones in the log
	Queues   int              `json:"queues"`
	Entries  int64            `json:"entries"` // that lead to their records
	Begin    message.Position `json:"begin"`   // of the log
	End      message.Position `json:"end"`
	Unclean  bool             `json:"unclean"`        // not closed in order
	Unqueued int64            `json:"unqueued"`       // records of topics that were deleted
	Places   []Place          `json:"places"`         // at most 10,000
	More     int64            `json:"more,omitempty"` // places that are not listed
	Damaged  int64            `json:"damaged"`        // places that do not heal, listed or not
	logEnd   message.Position // behind the last file
}

type verifier struct {
	dir   string
	o     VerifyOptions
	in    Inspection
	out   Verified
	table *consumequeue.Table
	good  map[*consumequeue.Queue]int64 // entries that led to their records
	last  *consumequeue.Queue
	topic string
}

// Verify reads all of a folder that nobody has open, changes nothing, and says
// where it is damaged: records of the log by size, magic and CRC, entries of
// queues that do not lead to their record, records without an entry, index
// files that cannot be used. ErrLocked if somebody has the folder.
func Verify(dir string, o VerifyOptions) (out Verified, err error) {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.QueueFileEntries == 0 {
		o.QueueFileEntries = 300_000
	}
	v := &verifier{dir: dir, o: o, good: map[*consumequeue.Queue]int64{}}
	release, err := lockForReading(o.FS, filepath.Join(dir, lockFile))
	if err != nil {
		return v.out, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if v.in, err = Inspect(o.FS, dir); err != nil {
		return v.out, err
	}
	v.out.Unclean = v.in.Abort
	if err := v.views(); err != nil {
		return v.out, err
	}
	err = v.log()
	if err == nil {
		err = v.queues()
	}
	return v.out, errors.Join(err, v.table.Close())
}

// lockForReading makes sure that nobody has the folder, as far as that can be
// done without writing to it.
func lockForReading(fsys vfs.FS, name string) (release func() error, err error) {
	none := func() error { return nil }
	if _, err := fsys.Stat(name); err != nil {
		return none, nil
	}
	lock, err := fsys.Lock(name)
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%w: %s; stop the broker that runs on it first", ErrLocked, filepath.Dir(name))
	}
	if err != nil { // a folder that may only be read
		return none, nil
	}
	return lock.Close, nil
}

func (v *verifier) add(p Place) {
	if !p.Heals {
		v.out.Damaged++
	}
	if len(v.out.Places) == maxPlaces {
		v.out.More++
		return
	}
	v.out.Places = append(v.out.Places, p)
}

// views opens queues and index, read-only.
func (v *verifier) views() (err error) {
	v.table, err = consumequeue.Open(filepath.Join(v.dir, queueFolder), consumequeue.Options{
		FS: v.o.FS, FileEntries: v.o.QueueFileEntries, ReadOnly: true,
		Damaged: func(d *consumequeue.DamageError) { v.add(Place{File: d.File, Text: d.Err.Error(), Heals: v.in.Abort}) },
	})
	if err != nil {
		return err
	}
	x, err := index.Open(filepath.Join(v.dir, indexFolder), index.Options{
		FS: v.o.FS, Slots: v.o.IndexSlots, Items: v.o.IndexItems, ReadOnly: true,
		Broken: func(b *index.BrokenError) {
			v.add(Place{File: b.File, Text: fmt.Sprintf("%v; the next start makes the index anew from the log", b.Err), Heals: true})
		},
	})
	if err != nil {
		return errors.Join(err, v.table.Close())
	}
	return x.Close()
}

// log goes through the records.
func (v *verifier) log() error {
	type bad struct {
		file     string
		from, to message.Position
		err      error
	}
	var found []bad
	segs := v.in.Segments
	if n := len(segs); n > 0 {
		v.out.Begin, v.out.logEnd = segs[0].Base, segs[n-1].Base+message.Position(segs[n-1].Size)
	}
	end, err := commitlog.Scan(v.o.FS, filepath.Join(v.dir, logFolder), v.out.Begin, v.record,
		func(file string, from, to message.Position, err error) {
			if len(found) <= maxPlaces {
				found = append(found, bad{file, from, to, err})
			}
		})
	if err != nil {
		return err
	}
	v.out.End = end
	for _, b := range found {
		p := Place{File: b.file, Length: int64(b.to - b.from), Text: b.err.Error()}
		var corrupt *CorruptError
		if errors.As(b.err, &corrupt) {
			p.File, p.Offset, p.Text = corrupt.File, corrupt.Offset, corrupt.Err.Error()
		}
		if b.from >= end {
			p.Heals = v.in.Abort && !(v.in.Checkpoint.Own && v.in.Checkpoint.Flushed > end)
			p.Text = "behind the end of the log: " + p.Text
		}
		v.add(p)
	}
	if c := v.in.Checkpoint; c.Own && c.Flushed > end {
		name := filepath.Join(v.dir, logFolder)
		v.add(Place{File: name, Text: fmt.Sprintf("the log ends at position %d, but it had been durable up to %d", end, c.Flushed)})
	}
	return nil
}

// record compares a record with the entry that its queue has for it.
func (v *verifier) record(pos message.Position, r message.View) error {
	v.out.Records++
	if v.o.Progress != nil && v.out.Records%4096 == 0 {
		v.o.Progress(int64(pos-v.out.Begin), int64(v.out.logEnd-v.out.Begin))
	}
	if kind := r.SysFlag().Transaction(); kind == message.FlagPrepared || kind == message.FlagRollback {
		return nil
	}
	if v.last == nil || string(r.Topic()) != v.topic || v.last.ID() != r.QueueID() {
		v.topic = string(r.Topic())
		v.last = v.table.Lookup(v.topic, r.QueueID())
	}
	q, off := v.last, r.QueueOffset()
	if q == nil {
		v.lost(pos, r, v.in.Abort && pos >= v.in.Checkpoint.Upto)
		return nil
	}
	tail := q.Tail()
	switch {
	case off < q.Min():
		return nil // forgotten, or of a topic that was deleted and made anew
	case off >= tail.Offset:
		if pos > tail.Position {
			v.lost(pos, r, v.in.Abort && pos >= v.in.Checkpoint.Upto)
		}
		return nil
	}
	var e [1]Entry
	if _, err := q.Read(off, e[:]); err != nil {
		v.add(Place{File: v.queueFile(q, off), Offset: v.queuePlace(off), Text: err.Error()})
		return nil
	}
	switch {
	case e[0].Position == pos && int(e[0].Size) == r.Size():
		v.good[q]++
		v.out.Entries++
	case e[0].Filler() || e[0].Position <= pos:
		v.add(Place{File: v.queueFile(q, off), Offset: v.queuePlace(off), Length: consumequeue.EntrySize,
			Heals: v.in.Abort && pos >= v.in.Checkpoint.Upto,
			Text:  fmt.Sprintf("the entry of offset %d of %s queue %d does not lead to its record at position %d", off, v.topic, q.ID(), pos)})
	}
	return nil
}

// lost counts a record that no queue has: of a deleted topic, or not yet
// dispatched when the broker was killed.
func (v *verifier) lost(pos message.Position, r message.View, heals bool) {
	if !heals && v.table.Lookup(string(r.Topic()), r.QueueID()) == nil {
		v.out.Unqueued++
		return
	}
	v.add(Place{File: filepath.Join(v.dir, queueFolder, string(r.Topic()), fmt.Sprint(r.QueueID())), Heals: heals,
		Text: fmt.Sprintf("the queue has no entry for offset %d, whose record is at position %d", r.QueueOffset(), pos)})
}

// queues looks at the entries of those queues in which not every one led to
// its record.
func (v *verifier) queues() error {
	for q := range v.table.All() {
		v.out.Queues++
		if int64(q.Max()-q.Min()) == v.good[q] {
			continue
		}
		if err := v.queue(q); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) queue(q *consumequeue.Queue) error {
	var entries [512]Entry
	for off := q.Min(); off < q.Max(); {
		n, err := q.Read(off, entries[:])
		if err != nil {
			v.add(Place{File: v.queueFile(q, off), Offset: v.queuePlace(off), Text: err.Error()})
			return nil
		}
		if n == 0 {
			return nil
		}
		for i, e := range entries[:n] {
			if why := v.leads(q, off+message.Offset(i), e); why != nil {
				at := off + message.Offset(i)
				v.add(Place{File: v.queueFile(q, at), Offset: v.queuePlace(at), Length: consumequeue.EntrySize, Heals: v.in.Abort,
					Text: fmt.Sprintf("offset %d of %s queue %d: %v", at, q.Topic(), q.ID(), why)})
			}
		}
		off += message.Offset(n)
	}
	return nil
}

// leads says why an entry does not lead to a record of its queue.
func (v *verifier) leads(q *consumequeue.Queue, off message.Offset, e Entry) error {
	if e.Filler() {
		return errors.New("the entry has no record")
	}
	for i := len(v.in.Segments) - 1; i >= 0; i-- {
		seg := &v.in.Segments[i]
		if e.Position < seg.Base {
			continue
		}
		at := int64(e.Position - seg.Base)
		if at+int64(e.Size) > seg.Size || e.Size <= 0 {
			return fmt.Errorf("the entry names position %d, where the log has no file", e.Position)
		}
		r, err := readRecord(v.o.FS, seg.File, at, e.Size)
		if err != nil {
			return fmt.Errorf("the entry leads to %s at %d, where no good record is: %w", seg.File, at, err)
		}
		if string(r.Topic()) != q.Topic() || r.QueueID() != q.ID() || r.QueueOffset() != off {
			return fmt.Errorf("the entry leads to position %d, where the record of %s queue %d offset %d is", e.Position, r.Topic(), r.QueueID(), r.QueueOffset())
		}
		return nil
	}
	if e.Position < v.out.Begin {
		return nil // retention took the record
	}
	return fmt.Errorf("%w: the log has no position %d", fs.ErrNotExist, e.Position)
}

func (v *verifier) queueFile(q *consumequeue.Queue, off message.Offset) string {
	size := int64(v.o.QueueFileEntries) * consumequeue.EntrySize
	return filepath.Join(v.dir, queueFolder, q.Topic(), fmt.Sprint(q.ID()), fmt.Sprintf("%020d", int64(off)*consumequeue.EntrySize/size*size))
}

func (v *verifier) queuePlace(off message.Offset) int64 {
	return int64(off) % int64(v.o.QueueFileEntries) * consumequeue.EntrySize
}
