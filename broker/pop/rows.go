package pop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Rows of the bucket, behind topic, zero, group, zero, queue in 4 bytes:
//
//	'c'          the cursor: the offset in 8 bytes
//	'h', id (8)  a hand-out:
//	             flags (1: attempts do not count), popTime, visible - popTime,
//	             number of messages, for each the distance to the offset before
//	             it and how often it was handed out before; numbers as varints.
//	             Acknowledged ones are left out.
const (
	rowCursor  = 'c'
	rowHandout = 'h'
)

func rowPrefix(k Key) []byte {
	b := make([]byte, 0, len(k.Topic)+len(k.Group)+6)
	b = append(append(b, k.Topic...), 0)
	b = append(append(b, k.Group...), 0)
	return binary.BigEndian.AppendUint32(b, uint32(k.Queue))
}

// parseRow takes the key of a row apart.
func parseRow(row []byte) (k Key, kind byte, id uint64, ok bool) {
	i := bytes.IndexByte(row, 0)
	if i < 0 {
		return k, 0, 0, false
	}
	j := bytes.IndexByte(row[i+1:], 0)
	rest := row[i+j+2:]
	if j < 0 || len(rest) < 5 {
		return k, 0, 0, false
	}
	k = Key{Topic: string(row[:i]), Group: string(row[i+1 : i+1+j]), Queue: int32(binary.BigEndian.Uint32(rest))}
	switch kind = rest[4]; {
	case kind == rowCursor && len(rest) == 5:
		return k, kind, 0, true
	case kind == rowHandout && len(rest) == 13:
		return k, kind, binary.BigEndian.Uint64(rest[5:]), true
	}
	return k, 0, 0, false
}

func (q *queue) cursorRow() []byte { return append(q.prefix[:len(q.prefix):len(q.prefix)], rowCursor) }

func (q *queue) handoutRow(h *handout) []byte {
	b := append(q.prefix[:len(q.prefix):len(q.prefix)], rowHandout)
	return binary.BigEndian.AppendUint64(b, h.id)
}

func (q *queue) putCursorLocked(w *kv.Batch) {
	_ = q.table.stored.PutTo(w, q.cursorRow(), binary.BigEndian.AppendUint64(nil, uint64(q.next))) // bytes always encode
}

func (q *queue) putLocked(w *kv.Batch, h *handout) {
	_ = q.table.stored.PutTo(w, q.handoutRow(h), h.encode()) // bytes always encode
}

func (q *queue) deleteLocked(w *kv.Batch, h *handout) { q.table.stored.DeleteTo(w, q.handoutRow(h)) }

func (h *handout) encode() []byte {
	b := make([]byte, 1, 32+3*len(h.offsets))
	if h.uncounts {
		b[0] = 1
	}
	b = binary.AppendVarint(b, h.popTime)
	b = binary.AppendVarint(b, h.visible-h.popTime)
	b = binary.AppendUvarint(b, uint64(bits.OnesCount32(h.left)))
	before := message.Offset(0)
	h.each(func(i int) {
		b = binary.AppendVarint(b, int64(h.offsets[i]-before))
		b = binary.AppendVarint(b, int64(h.times[i]))
		before = h.offsets[i]
	})
	return b
}

var errRow = errors.New("pop: a row of what is handed out does not decode")

func decodeHandout(id uint64, b []byte) (*handout, error) {
	h := &handout{id: id}
	if len(b) == 0 {
		return nil, errRow
	}
	h.uncounts = b[0]&1 != 0
	b = b[1:]
	ok := true
	number := func() int64 {
		n, size := binary.Varint(b)
		if size <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[size:]
		return n
	}
	h.popTime = number()
	h.visible = h.popTime + number()
	n, size := binary.Uvarint(b)
	if !ok || size <= 0 || n == 0 || n > MaxTake {
		return nil, errRow
	}
	b = b[size:]
	at := message.Offset(0)
	for i := range n {
		distance := number()
		at += message.Offset(distance)
		if times := number(); !ok || at < 0 || i > 0 && distance <= 0 || times < 0 || times > 1<<30 {
			return nil, errRow
		} else {
			h.times = append(h.times, int32(times))
		}
		h.offsets = append(h.offsets, at)
	}
	h.left = uint32(1<<n - 1)
	return h, nil
}

// load reads all rows.
func (t *Table) load() error {
	var bad error
	at := func(k Key) *queue {
		q := t.queues[k]
		if q == nil {
			q = newQueue(t, k)
			t.queues[k] = q
		}
		return q
	}
	err := t.stored.Range(nil, nil, func(row []byte, v []byte) bool {
		k, kind, id, ok := parseRow(row)
		switch {
		case !ok || kind == rowCursor && len(v) != 8:
			bad = errRow
		case kind == rowCursor:
			at(k).next = message.Offset(binary.BigEndian.Uint64(v))
		default:
			var h *handout
			if h, bad = decodeHandout(id, v); bad == nil {
				q := at(k)
				q.lastID = max(q.lastID, id)
				q.addLocked(h)
			}
		}
		return bad == nil
	})
	return errors.Join(err, bad)
}
