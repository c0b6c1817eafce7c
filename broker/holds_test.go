package broker

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/store"
)

// waiter records what became of one parked pull.
type waiter struct {
	mu       sync.Mutex
	answered time.Time
	times    int
	gone     bool
}

func (w *waiter) Answer(*PullRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered, w.times = time.Now(), w.times+1
}

func (w *waiter) Gone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

func (w *waiter) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.times
}

func parkOne(h *holds, topic string, queue int32, match func(int64) bool, wait time.Duration) (*waiter, *hold, bool) {
	w := &waiter{}
	p := &hold{key: queueKey{topic, queue}, request: &PullRequest{}, parked: w, match: match, deadline: time.Now().Add(wait)}
	return w, p, h.park(p)
}

func TestHoldWakesOnWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(10)
		h.start()
		defer h.close()
		any, _, _ := parkOne(h, "t", 0, nil, time.Minute)
		tagged, _, _ := parkOne(h, "t", 0, func(code int64) bool { return code == 7 }, time.Minute)
		other, _, _ := parkOne(h, "t", 1, nil, time.Minute)
		h.arrived([]store.Arrival{{Topic: "t", Queue: 0, TagCode: 3}})
		synctest.Wait()
		if any.count() != 1 || tagged.count() != 0 || other.count() != 0 {
			t.Fatalf("answered %d %d %d, want 1 0 0", any.count(), tagged.count(), other.count())
		}
		h.arrived([]store.Arrival{{Topic: "t", Queue: 0, TagCode: 7}})
		synctest.Wait()
		if tagged.count() != 1 || h.Len() != 1 {
			t.Fatalf("the tagged one answered %d times, %d left parked", tagged.count(), h.Len())
		}
	})
}

// A message that the pull has had already may be told late.
func TestHoldSleepsThroughWhatItHasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(10)
		h.start()
		defer h.close()
		w := &waiter{}
		h.park(&hold{key: queueKey{"t", 0}, request: &PullRequest{Offset: 4}, parked: w, deadline: time.Now().Add(time.Minute)})
		h.arrived([]store.Arrival{{Topic: "t", Offset: 3}})
		synctest.Wait()
		if w.count() != 0 {
			t.Fatal("woken by the message before its offset")
		}
		h.arrived([]store.Arrival{{Topic: "t", Offset: 4}})
		synctest.Wait()
		if w.count() != 1 {
			t.Fatal("not woken by the message at its offset")
		}
	})
}

func TestHoldIsAnsweredAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(10)
		h.start()
		defer h.close()
		start := time.Now()
		late, _, _ := parkOne(h, "t", 0, nil, 20*time.Second)
		early, _, _ := parkOne(h, "t", 0, nil, 3*time.Second)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := early.answered.Sub(start); got != 3*time.Second {
			t.Errorf("the earlier one was answered after %v", got)
		}
		if got := late.answered.Sub(start); got != 20*time.Second {
			t.Errorf("the later one was answered after %v", got)
		}
	})
}

func TestHoldsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(2)
		h.start()
		for i := range 3 {
			if _, _, ok := parkOne(h, "t", 0, nil, time.Minute); ok != (i < 2) {
				t.Errorf("pull %d parked: %v", i, ok)
			}
		}
		h.close()
	})
}

func TestCloseAnswersEveryHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(100)
		h.start()
		var all []*waiter
		for i := range 50 {
			w, _, _ := parkOne(h, "t", int32(i%3), nil, time.Hour)
			all = append(all, w)
		}
		all[7].gone = true
		h.close()
		for i, w := range all {
			if want := map[bool]int{true: 0, false: 1}[i == 7]; w.count() != want {
				t.Errorf("hold %d answered %d times, want %d", i, w.count(), want)
			}
		}
		if _, _, ok := parkOne(h, "t", 0, nil, time.Hour); ok {
			t.Error("a pull was parked after close")
		}
	})
}

// Every parked pull is answered exactly once, whatever the order of arrivals,
// nudges and deadlines.
func TestHoldsModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(10_000)
		h.start()
		var all []*waiter
		for range 3000 {
			topic := fmt.Sprint("t", rng.IntN(3))
			queue := rng.Int32N(3)
			switch rng.IntN(5) {
			case 0, 1:
				code := rng.Int64N(4)
				w, _, ok := parkOne(h, topic, queue, func(c int64) bool { return c == code }, time.Duration(rng.IntN(1000))*time.Millisecond)
				if !ok {
					t.Fatal("no room")
				}
				all = append(all, w)
			case 2:
				h.arrived([]store.Arrival{{Topic: topic, Queue: queue, TagCode: rng.Int64N(4)}, {Topic: topic, Queue: queue, TagCode: 1}})
			case 3:
				w, p, _ := parkOne(h, topic, queue, nil, time.Second)
				all = append(all, w)
				h.nudge(p)
			case 4:
				time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for i, w := range all {
			if w.count() != 1 {
				t.Errorf("hold %d of %d answered %d times", i, len(all), w.count())
			}
		}
		h.mu.Lock()
		if len(h.queues) != 0 || h.byTime.Len() != 0 || h.count.Load() != 0 {
			t.Errorf("left over: %d queues, %d in the heap, count %d", len(h.queues), h.byTime.Len(), h.count.Load())
		}
		h.mu.Unlock()
		h.close()
	})
}
