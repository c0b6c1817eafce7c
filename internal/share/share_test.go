package share

import (
	"math"
	"testing"
)

func fill(r *Room, p *Part, n int) (times int) {
	for r.Take(p, n) {
		times++
	}
	return times
}

func TestNobodyTakesItAll(t *testing.T) {
	const size = 100_000
	for _, greedy := range []int{1, 2, 10, 20} {
		r := Of(size)
		parts := make([]Part, greedy)
		for range 2 { // whoever comes first has no more in the end
			for i := range parts {
				fill(&r, &parts[i], 1)
			}
		}
		used := 0
		for i := range parts {
			used += parts[i].Used()
		}
		if used != r.Used() || used > size {
			t.Fatalf("%d greedy ones: %d taken, %d counted", greedy, used, r.Used())
		}
		var late Part
		got := fill(&r, &late, 1)
		if want := int(size / 5 * math.Pow(0.8, float64(greedy))); got < want*9/10 || got < Few {
			t.Errorf("after %d greedy ones somebody else gets %d, want about %d", greedy, got, want)
		}
		if greedy == 1 && (used < size/5-1 || used > size/5+1) {
			t.Errorf("one alone gets %d", used)
		}
	}
}

func TestAFewInAnyCase(t *testing.T) {
	r := Of(3 * Few)
	var a, b, c, d Part
	for _, p := range []*Part{&a, &b, &c} {
		if got := fill(&r, p, 1); got != Few {
			t.Errorf("got %d", got)
		}
	}
	if r.Take(&d, 1) {
		t.Error("there was nothing left")
	}
	r.Give(&b, 2)
	if r.Take(&d, 3) || !r.Take(&d, 2) || r.Used() != 3*Few || b.Used() != Few-2 || d.Used() != 2 {
		t.Errorf("b has %d, d %d of %d", b.Used(), d.Used(), r.Used())
	}
}
