package heap

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type element struct{ value, place int }

// A heap against a sorted list.
func TestHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := New(func(a, b *element) bool { return a.value < b.value }, func(x *element, place int) { x.place = place })
		var all []*element
		drop := func(x *element) { all = slices.DeleteFunc(all, func(o *element) bool { return o == x }) }
		pick := func() *element { return rapid.SampledFrom(all).Draw(t, "element") }
		value := rapid.IntRange(0, 20)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				x := &element{value: value.Draw(t, "value"), place: -1}
				all = append(all, x)
				h.Push(x)
			},
			"pop": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip("empty")
				}
				x := h.Pop()
				if x.place != -1 || slices.ContainsFunc(all, func(o *element) bool { return o.value < x.value }) {
					t.Fatalf("%+v was the first", x)
				}
				drop(x)
			},
			"remove": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip("empty")
				}
				x := pick()
				if got := h.Remove(x.place); got != x || x.place != -1 {
					t.Fatalf("%+v left, not %+v", got, x)
				}
				drop(x)
			},
			"fix": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip("empty")
				}
				x := pick()
				x.value = value.Draw(t, "new value")
				h.Fix(x.place)
			},
			"fill": func(t *rapid.T) {
				kept := all[:len(all)/2]
				gone := all[len(all)/2:]
				slices.SortFunc(kept, func(a, b *element) int { return a.value - b.value })
				h.Fill(slices.Clone(kept))
				for _, x := range gone {
					if x.place != -1 {
						t.Fatalf("%+v has left", x)
					}
				}
				all = slices.Clone(kept)
			},
			"": func(t *rapid.T) {
				if h.Len() != len(all) {
					t.Fatalf("%d elements, not %d", h.Len(), len(all))
				}
				for i, x := range h.All() {
					if x.place != i || x.value < h.First().value || x.value < h.All()[max(0, (i-1)/2)].value {
						t.Fatalf("%+v stands at %d", x, i)
					}
				}
			},
		})
	})
}

func TestWithoutPlaces(t *testing.T) {
	h := New(func(a, b int) bool { return a < b }, nil)
	for _, x := range []int{3, 1, 2} {
		h.Push(x)
	}
	if got := []int{h.Pop(), h.Pop(), h.Pop()}; !slices.Equal(got, []int{1, 2, 3}) || h.Len() != 0 {
		t.Errorf("%v", got)
	}
}
