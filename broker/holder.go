package broker

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/internal/share"
)

// Holder is what one connection has waiting at the broker. The zero value is
// ready. It belongs to whoever serves the connection, who gives it to
// Broker.Leave when the connection has ended; else only the broker touches it.
type Holder struct {
	Pops pop.Holder

	// Guarded by the mutex of the holds.
	part  share.Part
	first *hold // parked, in a list of its own
	left  bool
}

func (o *Holder) add(p *hold) {
	p.prevOfSame, p.nextOfSame = nil, o.first
	if o.first != nil {
		o.first.prevOfSame = p
	}
	o.first = p
}

func (o *Holder) remove(p *hold) {
	if p.prevOfSame != nil {
		p.prevOfSame.nextOfSame = p.nextOfSame
	} else {
		o.first = p.nextOfSame
	}
	if p.nextOfSame != nil {
		p.nextOfSame.prevOfSame = p.prevOfSame
	}
	p.nextOfSame, p.prevOfSame = nil, nil
}

// Why a pull is not parked.
var (
	errNoRoom = errors.New("too many pulls wait")
	errNoWait = errors.New("the pull does not wait")
)

// roomFor returns what a pull takes of the room for those that wait: more where
// its expression is kept with it. A unit is about half a kilobyte.
func roomFor(expression int) int { return 1 + expression/64 }

// releaseLocked gives the room of a hold back that is parked no more.
func (h *holds) releaseLocked(p *hold) {
	h.room.Give(&p.holder.part, p.room)
	h.count.Add(-1)
}

// leave forgets the pulls of a connection that is gone.
func (h *holds) leave(o *Holder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.left = true
	for o.first != nil {
		p := o.first
		h.outLocked(p)
		h.releaseLocked(p)
	}
}

// Leave forgets what a connection that is gone has waiting. Nothing of it is
// answered afterwards, but for what is being answered already.
func (b *Broker) Leave(o *Holder) {
	b.holds.leave(o)
	b.popWaits.Load().Leave(&o.Pops)
}

// refusals count the requests that found no room to wait in, and say when the
// next one is worth a warning.
type refusals struct {
	count atomic.Int64
	next  atomic.Int64 // ms
}

// refusalEvery is how often an operator is told.
const refusalEvery = time.Minute

// tooMany refuses a request that may not wait because too many do.
func (b *Broker) tooMany(n *refusals, kind Kind, what, clientID, topic string) *Error {
	n.count.Add(1)
	now := b.now().UnixMilli()
	if next := n.next.Load(); now >= next && n.next.CompareAndSwap(next, now+refusalEvery.Milliseconds()) {
		b.events.Warn(what+" are refused because too many wait; look for a client that asks without end",
			"client", clientID, "topic", topic, "pulls", b.holds.Len(), "pops", b.popWaits.Load().Len(), "bound", b.cfg.MaxHolds)
	}
	return refuse(kind, "too many %s wait already: a connection may have a quarter of the room that is free, of %d in all; ask again later, or for fewer queues", what, b.cfg.MaxHolds)
}

// Refused returns how many pulls, and how many pops and notifications, were
// refused since the start because too many waited.
func (b *Broker) Refused() (pulls, pops int64) {
	return b.refusedHolds.count.Load(), b.refusedPops.count.Load()
}
