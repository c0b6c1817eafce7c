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
	holder   *Holder
}

func (w *waiter) Holder() *Holder { return w.holder }

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
	return parkFor(h, &Holder{}, topic, queue, match, wait)
}

func parkFor(h *holds, o *Holder, topic string, queue int32, match func(int64) bool, wait time.Duration) (*waiter, *hold, bool) {
	w := &waiter{holder: o}
	p := &hold{key: queueKey{topic, queue}, request: &PullRequest{}, parked: w, match: match, deadline: time.Now().Add(wait)}
	return w, p, h.park(p) == nil
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
		w := &waiter{holder: &Holder{}}
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

// One connection gets its share of the room and no more, more of it for pulls
// that keep much, and gives back what is answered.
func TestHoldsOfOneConnectionAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 10_000
		h := newHolds(room)
		h.start()
		defer h.close()
		var greedy, other, wordy Holder
		fill := func(o *Holder) (n int) {
			for {
				if _, _, ok := parkFor(h, o, "t", 0, nil, time.Minute); !ok {
					return n
				}
				n++
			}
		}
		if n := fill(&greedy); n != room/5 {
			t.Errorf("one connection parked %d", n)
		}
		if n := fill(&other); n != room*4/25 {
			t.Errorf("another one parked %d", n)
		}
		long := &PullRequest{Expression: string(make([]byte, MaxExpression))}
		n := 0
		for h.park(&hold{request: long, parked: &waiter{holder: &wordy}, deadline: time.Now().Add(time.Minute)}) == nil {
			n++
		}
		if n == 0 || n*MaxExpression > 1<<20 {
			t.Errorf("%d pulls with %d bytes each are parked", n, MaxExpression)
		}
		h.arrived([]store.Arrival{{Topic: "t"}})
		synctest.Wait()
		if h.Len() != n {
			t.Errorf("%d are parked, want the %d of another queue", h.Len(), n)
		}
		if again := fill(&greedy); again < room/6 {
			t.Errorf("after the answers the first one parked %d", again)
		}
	})
}

// The pulls of a connection that is gone go with it; one that is just being
// looked at is not parked again.
func TestHoldsOfAConnectionThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(100)
		h.start()
		defer h.close()
		var leaver, stayer Holder
		var gone []*waiter
		for i := range 20 {
			w, _, _ := parkFor(h, &leaver, "t", int32(i%3), nil, time.Hour)
			gone = append(gone, w)
		}
		stays, _, _ := parkFor(h, &stayer, "t", 0, nil, time.Hour)
		looked := &waiter{holder: &leaver}
		leave := screenFunc(func() bool { h.leave(&leaver); return false })
		if err := h.park(&hold{key: queueKey{"s", 0}, request: &PullRequest{}, parked: looked, screen: leave, deadline: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		h.arrived([]store.Arrival{{Topic: "s"}})
		synctest.Wait()
		if h.Len() != 1 || h.room.Used() != 1 || leaver.part.Used() != 0 || leaver.first != nil {
			t.Errorf("%d are parked and take %d; the one that left has %d", h.Len(), h.room.Used(), leaver.part.Used())
		}
		if _, _, ok := parkFor(h, &leaver, "t", 0, nil, time.Hour); ok {
			t.Error("a pull of the connection that left was parked")
		}
		h.arrived([]store.Arrival{{Topic: "t", Queue: 0}, {Topic: "t", Queue: 1}, {Topic: "t", Queue: 2}})
		synctest.Wait()
		for i, w := range append(gone, looked) {
			if w.count() != 0 {
				t.Errorf("pull %d of the connection that left was answered", i)
			}
		}
		if stays.count() != 1 {
			t.Error("the pull of the other connection was not answered")
		}
	})
}

// screenFunc is a screen with what happens while it looks.
type screenFunc func() bool

func (f screenFunc) Worth(*PullRequest, []byte) (bool, []byte) { return f(), nil }
func (f screenFunc) Missed(*PullRequest) bool                  { return false }

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
		gone := map[*waiter]bool{} // those whose connection left while they waited
		holders := []*Holder{{}, {}, {}}
		parked := map[*Holder][]*waiter{}
		for range 3000 {
			topic := fmt.Sprint("t", rng.IntN(3))
			queue := rng.Int32N(3)
			o := holders[rng.IntN(len(holders))]
			switch rng.IntN(6) {
			case 0, 1:
				code := rng.Int64N(4)
				w, _, ok := parkFor(h, o, topic, queue, func(c int64) bool { return c == code }, time.Duration(rng.IntN(1000))*time.Millisecond)
				if !ok {
					t.Fatal("no room")
				}
				all = append(all, w)
				parked[o] = append(parked[o], w)
			case 2:
				h.arrived([]store.Arrival{{Topic: topic, Queue: queue, TagCode: rng.Int64N(4)}, {Topic: topic, Queue: queue, TagCode: 1}})
			case 3:
				w, p, _ := parkOne(h, topic, queue, nil, time.Second)
				all = append(all, w)
				h.nudge(p)
			case 5:
				if rng.IntN(10) > 0 {
					break
				}
				h.leave(o)
				synctest.Wait() // until what was being answered is
				for _, w := range parked[o] {
					gone[w] = w.count() == 0
				}
				delete(parked, o)
				*o = Holder{} // the next connection
			case 4:
				time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for i, w := range all {
			if w.count() != 1 && !gone[w] || gone[w] && w.count() != 0 {
				t.Errorf("hold %d of %d answered %d times; its connection left: %v", i, len(all), w.count(), gone[w])
			}
		}
		h.mu.Lock()
		if used := h.room.Used(); used != 0 {
			t.Errorf("a room of %d is still taken", used)
		}
		if len(h.queues) != 0 || h.byTime.Len() != 0 || h.count.Load() != 0 {
			t.Errorf("left over: %d queues, %d in the heap, count %d", len(h.queues), h.byTime.Len(), h.count.Load())
		}
		h.mu.Unlock()
		h.close()
	})
}
