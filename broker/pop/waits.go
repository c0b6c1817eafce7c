package pop

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/internal/heap"
	"github.com/merlinmq/merlin/internal/share"
)

// Why a request does not wait for messages.
var (
	// ErrFull: too many wait already, of its connection or in all.
	ErrFull = errors.New("pop: too many requests wait for messages")
	// ErrLineFull: too many wait already in the same line.
	ErrLineFull = errors.New("pop: too many requests wait for the same messages")
)

// Waiter is a pop that found nothing, or a question whether there is
// something. Its methods are called from the goroutine of the Waits and must
// not block.
type Waiter interface {
	// Try answers if there is something, and tells whether it did.
	Try() bool
	// TimeUp answers that there is nothing.
	TimeUp()
	// Gone tells that nobody waits for the answer any more.
	Gone() bool
	// Holder returns what the connection has waiting, of which this is one.
	Holder() *Holder
}

// Line is what waiters queue up for: each message wakes the first of a line.
type Line struct {
	Key   Key // Queue is -1 for all queues
	Order bool
}

// WaitOptions of NewWaits.
type WaitOptions struct {
	MaxLine int // waiters of one line
	MaxAll  int // room in all, of which a connection gets its share
	// Ready tells whether a waiter of the line would find something now, and
	// else when, as far as is known.
	Ready func(Line) (ready bool, at time.Time)
}

// Waits keeps who waits for messages. A waiter costs no goroutine: one
// goroutine answers them all, when a message arrives or becomes visible again,
// or their time is up. Safe for concurrent use.
type Waits struct {
	o     WaitOptions
	count atomic.Int64
	wake  chan struct{}
	done  chan struct{}
	stop  context.CancelFunc

	mu      sync.Mutex // guards what follows
	topics  map[string][]*line
	alarms  heap.Heap[*alarm]
	ready   []*line
	room    share.Room
	leaving []*Holder
	closing bool
}

// line is the waiters of one Line, oldest first.
type line struct {
	Line
	waiters []*waiter
	alarm   alarm // when something becomes visible
	ready   bool  // it is in the ready list
}

type waiter struct {
	Waiter
	line   *line
	holder *Holder
	room   int   // that it takes
	alarm  alarm // when its time is up
}

// NewWaits starts the goroutine; Close ends it.
func NewWaits(o WaitOptions) *Waits {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Waits{
		o: o, room: share.Of(o.MaxAll), wake: make(chan struct{}, 1), done: make(chan struct{}), stop: cancel, topics: map[string][]*line{},
		alarms: heap.New(func(a, b *alarm) bool { return a.at.Before(b.at) }, func(a *alarm, place int) { a.place = place }),
	}
	go w.run(ctx)
	return w
}

// Len returns how many wait.
func (w *Waits) Len() int { return int(w.count.Load()) }

// LineLen returns how many wait for a queue of a group, or for all of them.
func (w *Waits) LineLen(k Key) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, l := range w.topics[k.Topic] {
		if l.Key == k {
			n += len(l.waiters)
		}
	}
	return n
}

// Close answers everybody and waits for the goroutine.
func (w *Waits) Close() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.stop()
	<-w.done
}

// Park lets somebody wait until the deadline, who takes so much room. ErrFull or
// ErrLineFull if there is none, or the Waits closes. What came since the waiter
// looked is not missed.
func (w *Waits) Park(at Line, deadline time.Time, x Waiter, room int) error {
	w.mu.Lock()
	l := w.lineLocked(at)
	p := &waiter{Waiter: x, line: l, holder: x.Holder(), room: room, alarm: alarm{place: -1}}
	if err := w.admitLocked(p); err != nil {
		w.dropLineLocked(l)
		w.mu.Unlock()
		return err
	}
	p.alarm.waiter = p
	l.waiters = append(l.waiters, p)
	w.setLocked(&p.alarm, deadline)
	w.mu.Unlock()
	ready, again := w.o.Ready(at)
	w.mu.Lock()
	if ready {
		w.readyLocked(l)
	} else if !again.IsZero() {
		w.soonerLocked(l, again)
	}
	w.mu.Unlock()
	w.signal()
	return nil
}

// Arrived wakes those who wait for a message of the queue.
func (w *Waits) Arrived(topic string, queue int32) {
	if w.count.Load() == 0 {
		return
	}
	woken := false
	w.mu.Lock()
	for _, l := range w.topics[topic] {
		if l.Key.Queue == queue || l.Key.Queue < 0 {
			w.readyLocked(l)
			woken = true
		}
	}
	w.mu.Unlock()
	if woken {
		w.signal()
	}
}

// Visible wakes those who wait for the queue at a time in ms: something of it
// may be handed out then.
func (w *Waits) Visible(k Key, at int64) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	for _, l := range w.topics[k.Topic] {
		if l.Key.Group == k.Group && (l.Key.Queue == k.Queue || l.Key.Queue < 0) {
			w.soonerLocked(l, time.UnixMilli(at))
		}
	}
	w.mu.Unlock()
	w.signal()
}

func (w *Waits) lineLocked(at Line) *line {
	for _, l := range w.topics[at.Key.Topic] {
		if l.Line == at {
			return l
		}
	}
	l := &line{Line: at, alarm: alarm{place: -1}}
	l.alarm.line = l
	w.topics[at.Key.Topic] = append(w.topics[at.Key.Topic], l)
	return l
}

// dropLineLocked forgets a line in which nobody waits.
func (w *Waits) dropLineLocked(l *line) {
	if len(l.waiters) > 0 || l.ready {
		return
	}
	if l.alarm.place >= 0 {
		w.alarms.Remove(l.alarm.place)
	}
	rest := slices.DeleteFunc(w.topics[l.Key.Topic], func(o *line) bool { return o == l })
	if len(rest) == 0 {
		delete(w.topics, l.Key.Topic)
	} else {
		w.topics[l.Key.Topic] = rest
	}
}

func (w *Waits) readyLocked(l *line) {
	if !l.ready {
		l.ready = true
		w.ready = append(w.ready, l)
	}
}

// soonerLocked sets the line's alarm, unless it rings before anyway.
func (w *Waits) soonerLocked(l *line, at time.Time) {
	if l.alarm.place < 0 || at.Before(l.alarm.at) {
		w.setLocked(&l.alarm, at)
	}
}

func (w *Waits) setLocked(a *alarm, at time.Time) {
	a.at = at
	if a.place >= 0 {
		w.alarms.Fix(a.place)
		return
	}
	w.alarms.Push(a)
}

func (w *Waits) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Waits) run(ctx context.Context) {
	defer close(w.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		late, ready, next := w.take(time.Now(), ctx.Err() != nil)
		for _, p := range late {
			if !p.Gone() {
				p.TimeUp()
			}
		}
		for _, l := range ready {
			w.serve(l)
		}
		if len(late)+len(ready) > 0 {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		timer.Reset(time.Until(next))
		select {
		case <-w.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// take returns the waiters whose time is up, everybody if all, the lines that
// are ready, and when the next alarm rings.
func (w *Waits) take(now time.Time, all bool) (late []*waiter, ready []*line, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropLeavingLocked()
	for w.alarms.Len() > 0 && (all || !w.alarms.First().at.After(now)) {
		a := w.alarms.Pop()
		if a.line != nil {
			w.readyLocked(a.line)
			continue
		}
		l := a.waiter.line
		l.waiters = slices.DeleteFunc(l.waiters, func(o *waiter) bool { return o == a.waiter })
		w.releaseLocked(a.waiter)
		late = append(late, a.waiter)
		w.dropLineLocked(l)
	}
	ready, w.ready = w.ready, nil
	next = now.Add(time.Hour)
	if w.alarms.Len() > 0 {
		next = w.alarms.First().at
	}
	return late, ready, next
}

// serve lets those who wait in a line try, until one finds nothing.
func (w *Waits) serve(l *line) {
	w.mu.Lock()
	l.ready = false
	for len(l.waiters) > 0 {
		p := l.waiters[0]
		w.mu.Unlock()
		settled := p.Gone() || p.Try()
		w.mu.Lock()
		if !settled {
			break
		}
		// Nobody but this goroutine takes waiters out.
		l.waiters = l.waiters[1:]
		w.alarms.Remove(p.alarm.place)
		w.releaseLocked(p)
	}
	w.dropLineLocked(l)
	waiting := len(l.waiters) > 0
	w.mu.Unlock()
	if !waiting {
		return
	}
	ready, at := w.o.Ready(l.Line)
	if ready {
		at = time.Now().Add(lookAgain)
	}
	if !at.IsZero() {
		w.mu.Lock()
		if len(l.waiters) > 0 {
			w.soonerLocked(l, at)
		}
		w.mu.Unlock()
	}
}

// lookAgain is when to try again what seemed to be there and was not given:
// much of a queue may not match a filter.
const lookAgain = 10 * time.Millisecond

// alarm is a time at which a waiter or a line is looked at.
type alarm struct {
	at     time.Time
	place  int // in the heap, -1 outside
	waiter *waiter
	line   *line
}
