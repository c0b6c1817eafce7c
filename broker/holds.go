package broker

import (
	"container/heap"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/store"
)

// A Parked is a pull that found nothing and may wait, as a gateway sees it.
type Parked interface {
	// Answer sends the answer of the pull that was parked. It is called once,
	// from the goroutine of the holds, and must not block.
	Answer(r *PullRequest)
	// Gone tells that nobody waits for the answer any more.
	Gone() bool
}

type queueKey struct {
	topic string
	queue int32
}

// hold is one parked pull.
type hold struct {
	key      queueKey
	request  *PullRequest
	parked   Parked
	match    func(tagCode int64) bool // nil: every message
	deadline time.Time
	place    int   // in the heap, -1 once it has left
	next     *hold // in the list of its queue, or of the ready ones
	prev     *hold // in the list of its queue
}

// holds keeps the parked pulls. A parked pull costs no goroutine: one
// goroutine answers them all, when a message arrives or their time is up. How
// many may be parked is bounded; Len shows how many are.
type holds struct {
	limit int
	count atomic.Int64
	wake  chan struct{}
	done  chan struct{}
	stop  context.CancelFunc

	mu      sync.Mutex // guards what follows
	queues  map[queueKey]*hold
	byTime  holdHeap
	ready   *hold
	closing bool
}

func newHolds(limit int) *holds {
	return &holds{
		limit: limit, queues: map[queueKey]*hold{},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Len returns how many pulls are parked.
func (h *holds) Len() int { return int(h.count.Load()) }

// start runs the goroutine that answers; close stops it.
func (h *holds) start() {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go h.run(ctx)
}

// close answers every parked pull and waits for the goroutine.
func (h *holds) close() {
	h.mu.Lock()
	h.closing = true
	h.mu.Unlock()
	h.stop()
	<-h.done
}

// park keeps the pull until something arrives that match accepts, or until the
// deadline. It returns false when there is no room, or the broker closes.
func (h *holds) park(p *hold) bool {
	h.mu.Lock()
	if h.closing || h.count.Load() >= int64(h.limit) {
		h.mu.Unlock()
		return false
	}
	h.count.Add(1)
	if p.next = h.queues[p.key]; p.next != nil {
		p.next.prev = p
	}
	h.queues[p.key] = p
	heap.Push(&h.byTime, p)
	first := h.byTime[0] == p
	h.mu.Unlock()
	if first {
		h.signal()
	}
	return true
}

func (h *holds) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// arrived wakes the pulls that wait for one of the arrivals. The dispatcher
// calls it: it does no more than move the woken ones to the ready list.
func (h *holds) arrived(arrivals []store.Arrival) {
	if h.count.Load() == 0 {
		return
	}
	woken := false
	h.mu.Lock()
	for i := range arrivals {
		a := &arrivals[i]
		for p := h.queues[queueKey{a.Topic, a.Queue}]; p != nil; {
			next := p.next
			if p.match == nil || p.match(a.TagCode) {
				h.readyLocked(p)
				woken = true
			}
			p = next
		}
	}
	h.mu.Unlock()
	if woken {
		h.signal()
	}
}

// nudge wakes the one hold: something arrived while it was being parked.
func (h *holds) nudge(p *hold) {
	h.mu.Lock()
	if p.place >= 0 {
		h.readyLocked(p)
	}
	h.mu.Unlock()
	h.signal()
}

// readyLocked moves a hold from its queue and the heap to the ready list.
func (h *holds) readyLocked(p *hold) {
	heap.Remove(&h.byTime, p.place)
	switch {
	case p.prev != nil:
		p.prev.next = p.next
	case p.next != nil:
		h.queues[p.key] = p.next
	default:
		delete(h.queues, p.key)
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	p.prev = nil
	p.next, h.ready = h.ready, p
}

func (h *holds) run(ctx context.Context) {
	defer close(h.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ready, nextDeadline := h.take(time.Now(), ctx.Err() != nil)
		for p := ready; p != nil; p = p.next {
			h.count.Add(-1)
			if !p.parked.Gone() {
				p.parked.Answer(p.request)
			}
		}
		if ready != nil {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		timer.Reset(time.Until(nextDeadline))
		select {
		case <-h.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// take returns the ready holds and those whose time is up, oldest first, and
// when to look again.
func (h *holds) take(now time.Time, all bool) (ready *hold, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.byTime) > 0 && (all || !h.byTime[0].deadline.After(now)) {
		h.readyLocked(h.byTime[0])
	}
	for p := h.ready; p != nil; {
		after := p.next
		p.next, ready = ready, p
		p = after
	}
	h.ready = nil
	next = now.Add(time.Hour)
	if len(h.byTime) > 0 {
		next = h.byTime[0].deadline
	}
	return ready, next
}

// holdHeap orders holds by their deadlines.
type holdHeap []*hold

func (h holdHeap) Len() int           { return len(h) }
func (h holdHeap) Less(i, j int) bool { return h[i].deadline.Before(h[j].deadline) }
func (h holdHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *holdHeap) Push(x any) {
	p := x.(*hold)
	p.place = len(*h)
	*h = append(*h, p)
}

// Pop implements heap.Interface.
func (h *holdHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.place = -1
	return p
}
