package broker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/internal/heap"
	"github.com/merlinmq/merlin/internal/share"
	"github.com/merlinmq/merlin/store"
)

// A Parked is a pull that found nothing and may wait, as a gateway sees it.
type Parked interface {
	// Answer sends the answer of the pull that was parked. It is called once,
	// from the goroutine of the holds, and must not block.
	Answer(r *PullRequest)
	// Gone tells that nobody waits for the answer any more.
	Gone() bool
	// Holder returns what the connection has waiting, of which the pull is one.
	Holder() *Holder
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
	screen   screen                   // nil: what matches is worth an answer
	deadline time.Time
	room     int   // that it takes
	place    int   // in the heap, -1 once it has left
	next     *hold // in the list of its queue, or of the ready ones
	prev     *hold // in the list of its queue

	holder     *Holder
	nextOfSame *hold // in the holder's list
	prevOfSame *hold
}

// screen looks at what has arrived for a parked pull that a look at the tag
// code cannot judge.
type screen interface {
	// Worth tells whether the pull is worth an answer. If not, it may have moved
	// the request's offset past what it looked at. Only the goroutine of the
	// holds calls it. buf is room to read into; what it returns is the next
	// call's.
	Worth(r *PullRequest, buf []byte) (worth bool, grown []byte)
	// Missed tells whether something has arrived that Worth has not looked at.
	Missed(r *PullRequest) bool
}

// holds keeps the parked pulls. A parked pull costs no goroutine: one
// goroutine answers them all, when a message arrives or their time is up. How
// many may be parked is bounded, in all and for each connection; Len shows how
// many are.
type holds struct {
	count atomic.Int64
	wake  chan struct{}
	done  chan struct{}
	stop  context.CancelFunc

	scratch []byte // of the goroutine, for screens

	mu      sync.Mutex // guards what follows
	queues  map[queueKey]*hold
	byTime  heap.Heap[*hold]
	room    share.Room
	ready   *hold
	closing bool
}

// maxScratch bounds the room that is kept for screens.
const maxScratch = 1 << 20

func newHolds(limit int) *holds {
	return &holds{
		room: share.Of(limit), queues: map[queueKey]*hold{}, byTime: heap.New(sooner, func(p *hold, place int) { p.place = place }),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

func sooner(a, b *hold) bool { return a.deadline.Before(b.deadline) }

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
// deadline. It returns errNoRoom when there is no room for it, and errNoWait
// when the broker closes.
func (h *holds) park(p *hold) error {
	p.holder, p.room = p.parked.Holder(), roomFor(len(p.request.Expression))
	h.mu.Lock()
	if h.closing || p.holder.left {
		h.mu.Unlock()
		return errNoWait
	}
	if !h.room.Take(&p.holder.part, p.room) {
		h.mu.Unlock()
		return errNoRoom
	}
	h.count.Add(1)
	first := h.putLocked(p)
	h.mu.Unlock()
	if first {
		h.signal()
	}
	return nil
}

// putLocked puts the hold into its queue, the heap and its holder's list, and
// tells whether its time is up before that of all others.
func (h *holds) putLocked(p *hold) bool {
	if p.next = h.queues[p.key]; p.next != nil {
		p.next.prev = p
	}
	h.queues[p.key] = p
	h.byTime.Push(p)
	p.holder.add(p)
	return h.byTime.First() == p
}

// parkedBy returns the pulls of a group that wait at a queue.
func (h *holds) parkedBy(group, topic string, queue int32) []ParkedPull {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []ParkedPull
	for p := h.queues[queueKey{topic, queue}]; p != nil; p = p.next {
		if p.request.Group == group && !p.parked.Gone() {
			all = append(all, ParkedPull{p.request.ClientID, p.request.Offset, p.deadline})
		}
	}
	return all
}

// parkAgain puts a hold back that turned out not to be worth an answer. It has
// kept its room and its deadline.
func (h *holds) parkAgain(p *hold) {
	h.mu.Lock()
	if p.holder.left {
		h.releaseLocked(p)
		h.mu.Unlock()
		return
	}
	h.putLocked(p)
	h.mu.Unlock()
	if p.screen.Missed(p.request) {
		h.nudge(p)
	}
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
			// One before its offset was read already: queues show their messages
			// a moment before their arrival is told.
			if a.Offset >= p.request.Offset && (p.match == nil || p.match(a.TagCode)) {
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

// readyLocked moves a hold from where it is parked to the ready list.
func (h *holds) readyLocked(p *hold) {
	h.outLocked(p)
	p.next, h.ready = h.ready, p
}

// outLocked takes a hold out of its queue, the heap and its holder's list.
func (h *holds) outLocked(p *hold) {
	h.byTime.Remove(p.place)
	p.holder.remove(p)
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
	p.next, p.prev = nil, nil
}

func (h *holds) run(ctx context.Context) {
	defer close(h.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		closing := ctx.Err() != nil
		ready, nextDeadline := h.take(time.Now(), closing)
		for p := ready; p != nil; {
			following := p.next // p may be parked again
			h.settle(p, closing)
			p = following
		}
		if ready != nil {
			continue
		}
		if closing {
			return // else it was asked to close after the look: everyone is answered first
		}
		timer.Reset(time.Until(nextDeadline))
		select {
		case <-h.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// settle answers a ready hold, or parks it again if nothing of what arrived is
// for it and its time is not up.
func (h *holds) settle(p *hold, closing bool) {
	gone := p.parked.Gone()
	if !gone && !closing && p.screen != nil && time.Now().Before(p.deadline) {
		worth, buf := p.screen.Worth(p.request, h.scratch[:0])
		if cap(buf) <= maxScratch {
			h.scratch = buf
		}
		if !worth {
			h.parkAgain(p)
			return
		}
	}
	h.mu.Lock()
	h.releaseLocked(p)
	h.mu.Unlock()
	if !gone {
		p.parked.Answer(p.request)
	}
}

// take returns the ready holds and those whose time is up, oldest first, and
// when to look again.
func (h *holds) take(now time.Time, all bool) (ready *hold, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.byTime.Len() > 0 && (all || !h.byTime.First().deadline.After(now)) {
		h.readyLocked(h.byTime.First())
	}
	for p := h.ready; p != nil; {
		after := p.next
		p.next, ready = ready, p
		p = after
	}
	h.ready = nil
	next = now.Add(time.Hour)
	if h.byTime.Len() > 0 {
		next = h.byTime.First().deadline
	}
	return ready, next
}
