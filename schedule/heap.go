package schedule

import (
	"cmp"
	"encoding/binary"
	"slices"

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

// dueHeap holds the timed messages that are due next; the first is the least.
type dueHeap []rowKey

func (h *dueHeap) push(k rowKey) {
	*h = append(*h, k)
	q := *h
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if !q[i].less(q[up]) {
			return
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
}

func (h *dueHeap) pop() rowKey {
	q := *h
	first := q[0]
	q[0] = q[len(q)-1]
	*h = q[:len(q)-1]
	h.sink(0)
	return first
}

func (h *dueHeap) sink(i int) {
	q := *h
	for {
		least := i
		for down := 2*i + 1; down <= 2*i+2 && down < len(q); down++ {
			if q[down].less(q[least]) {
				least = down
			}
		}
		if least == i {
			return
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
}

// remove takes a key out and tells whether it was there. It looks at all.
func (h *dueHeap) remove(k rowKey) bool {
	i := slices.Index(*h, k)
	if i < 0 {
		return false
	}
	q := *h
	last := len(q) - 1
	q[i] = q[last]
	*h = q[:last]
	if i < last {
		h.sink(i)
		for up := (i - 1) / 2; i > 0 && q[i].less(q[up]); up = (i - 1) / 2 {
			q[i], q[up] = q[up], q[i]
			i = up
		}
	}
	return true
}

// keep drops all but the first n and returns the least that was dropped.
func (h *dueHeap) keep(n int) rowKey {
	slices.SortFunc(*h, rowKey.compare)
	dropped := (*h)[n]
	*h = slices.Clip(slices.Clone((*h)[:n]))
	return dropped
}
