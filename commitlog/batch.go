package commitlog

import "github.com/merlinmq/merlin/message"

// Batch is a run of encoded records that one Append writes. The zero value is
// empty and ready; it may be reused after Reset. Not safe for concurrent use.
type Batch struct {
	buf   []byte
	recs  []span
	group int // index of the open group's first record, -1 for none; valid if open
	open  bool

	// Settle, if set, is called under the append lock at the end of every
	// Append that called assign: with nil when all records are in the log, with
	// the error when none is, so that the caller can give queue offsets back
	// before anybody else takes some.
	Settle func(err error)
}

// span is one record in buf. Records of one group carry its number of records
// at the first one, and 0 at the others.
type span struct {
	at, size int
	unit     int
}

// Reset empties the batch and keeps its memory. Settle stays.
func (b *Batch) Reset() {
	b.buf, b.recs, b.open = b.buf[:0], b.recs[:0], false
}

// Add encodes m behind the records that are there. On an error
// (message.ErrTooLarge) the batch is unchanged.
func (b *Batch) Add(m *message.Message) error {
	at := len(b.buf)
	buf, err := message.AppendRecord(b.buf, m)
	if err != nil {
		return err
	}
	b.buf = buf
	b.added(at)
	return nil
}

// AddRecord copies a record that is encoded already. It must be one that
// message.Parse accepts.
func (b *Batch) AddRecord(v message.View) {
	at := len(b.buf)
	b.buf = append(b.buf, v...)
	b.added(at)
}

func (b *Batch) added(at int) {
	b.recs = append(b.recs, span{at: at, size: len(b.buf) - at, unit: 1})
	if b.open && len(b.recs)-1 > b.group {
		b.recs[len(b.recs)-1].unit = 0
		b.recs[b.group].unit++
	}
}

// BeginGroup says that the records added until EndGroup must stand in one
// segment, as those of a batch message do.
func (b *Batch) BeginGroup() { b.open, b.group = true, len(b.recs) }

// EndGroup ends the group.
func (b *Batch) EndGroup() { b.open = false }

// Truncate drops the records from the n-th on; a group loses those behind n.
func (b *Batch) Truncate(n int) {
	if n >= len(b.recs) {
		return
	}
	b.buf = b.buf[:b.recs[n].at]
	for i, lost := n-1, b.recs[n].unit == 0; lost && i >= 0; i-- {
		if b.recs[i].unit > 0 {
			b.recs[i].unit = n - i
			break
		}
	}
	b.recs = b.recs[:n]
	b.open = false
}

// Len returns the number of records.
func (b *Batch) Len() int { return len(b.recs) }

// Size returns the number of bytes.
func (b *Batch) Size() int { return len(b.buf) }

// Bytes returns the encoded records, one behind the other. They belong to the
// batch until Reset. After Append they carry their positions and times.
func (b *Batch) Bytes() []byte { return b.buf }

// Record returns the i-th record, in place.
func (b *Batch) Record(i int) message.View {
	s := b.recs[i]
	return message.View(b.buf[s.at : s.at+s.size : s.at+s.size])
}
