// Package heap keeps elements so that the first of them is known at any time,
// and any of them can leave. It is what everything uses that waits for a time.
package heap

// Heap is elements in the order of less, as far as the first is concerned.
// Make one with New. It is not for concurrent use.
type Heap[T any] struct {
	less  func(a, b T) bool
	moved func(x T, place int)
	list  []T
}

// New returns an empty heap. With moved, which may be nil, each element is told
// its place, for Fix and Remove, and -1 when it leaves.
func New[T any](less func(a, b T) bool, moved func(x T, place int)) Heap[T] {
	return Heap[T]{less: less, moved: moved}
}

// Len returns how many elements there are.
func (h *Heap[T]) Len() int { return len(h.list) }

// First returns the element before which there is none. There must be one.
func (h *Heap[T]) First() T { return h.list[0] }

// All returns the elements by their places. The slice is the heap's own, until
// it next changes.
func (h *Heap[T]) All() []T { return h.list }

// Push adds an element.
func (h *Heap[T]) Push(x T) {
	h.list = append(h.list, x)
	h.rise(len(h.list) - 1)
}

// Pop takes the first element out. There must be one.
func (h *Heap[T]) Pop() T { return h.Remove(0) }

// Remove takes the element at a place out.
func (h *Heap[T]) Remove(place int) T {
	x, last := h.list[place], len(h.list)-1
	h.list[place] = h.list[last]
	var none T
	h.list[last] = none
	h.list = h.list[:last]
	if place < last {
		h.Fix(place)
	}
	h.tell(x, -1)
	return x
}

// Fix restores the order when the element at a place has changed.
func (h *Heap[T]) Fix(place int) {
	if !h.sink(place) {
		h.rise(place)
	}
}

// Fill replaces the elements by others, which are in order already. They are
// the heap's own from then on.
func (h *Heap[T]) Fill(sorted []T) {
	for _, x := range h.list {
		h.tell(x, -1)
	}
	h.list = sorted
	for i, x := range sorted {
		h.tell(x, i)
	}
}

func (h *Heap[T]) tell(x T, place int) {
	if h.moved != nil {
		h.moved(x, place)
	}
}

// rise moves an element towards the front, to where it belongs.
func (h *Heap[T]) rise(i int) {
	x := h.list[i]
	for i > 0 {
		up := (i - 1) / 2
		if !h.less(x, h.list[up]) {
			break
		}
		h.list[i] = h.list[up]
		h.tell(h.list[i], i)
		i = up
	}
	h.list[i] = x
	h.tell(x, i)
}

// sink moves an element towards the end and says whether it had to.
func (h *Heap[T]) sink(i int) bool {
	x, from := h.list[i], i
	for {
		down := 2*i + 1
		if down >= len(h.list) {
			break
		}
		if other := down + 1; other < len(h.list) && h.less(h.list[other], h.list[down]) {
			down = other
		}
		if !h.less(h.list[down], x) {
			break
		}
		h.list[i] = h.list[down]
		h.tell(h.list[i], i)
		i = down
	}
	h.list[i] = x
	h.tell(x, i)
	return i > from
}
