package schedule

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/merlinmq/merlin/internal/heap"
	"github.com/merlinmq/merlin/message"
)

// rowKey is the place of a timed message in the order of delivery.
type rowKey struct {
	due int64
	pos message.Position
}

func (k rowKey) compare(o rowKey) int {
	return cmp.Or(cmp.Compare(k.due, o.due), cmp.Compare(k.pos, o.pos))
}

func (k rowKey) less(o rowKey) bool { return k.compare(o) < 0 }

// bytes returns the key so that the order of bytes is the order of delivery.
func (k rowKey) bytes() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(k.due))
	return binary.BigEndian.AppendUint64(b, uint64(k.pos))
}

func parseRowKey(b []byte) (rowKey, bool) {
	if len(b) != 16 {
		return rowKey{}, false
	}
	return rowKey{int64(binary.BigEndian.Uint64(b)), message.Position(binary.BigEndian.Uint64(b[8:]))}, true
}

// dueRows holds the timed messages that are due next.
type dueRows struct{ heap.Heap[rowKey] }

func newDueRows() dueRows { return dueRows{heap.New(rowKey.less, nil)} }

// drop takes a key out and tells whether it was there. It looks at all.
func (h *dueRows) drop(k rowKey) bool {
	i := slices.Index(h.All(), k)
	if i >= 0 {
		h.Remove(i)
	}
	return i >= 0
}

// keep drops all but the first n and returns the least that was dropped.
func (h *dueRows) keep(n int) rowKey {
	all := slices.SortedFunc(slices.Values(h.All()), rowKey.compare)
	h.Fill(slices.Clip(slices.Clone(all[:n])))
	return all[n]
}
