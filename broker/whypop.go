package broker

import (
	"fmt"
	"time"

	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/message"
)

// PopWhy is how a group that pops gets on with a queue.
type PopWhy struct {
	Next     message.Offset `json:"next"`      // the first that was never handed out
	InFlight int            `json:"in_flight"` // handed out and not acknowledged
	Oldest   time.Time      `json:"oldest,omitzero"`
	Waiting  int            `json:"waiting"` // pops that wait for a message
}

// popWhy looks at what the group popped of the queue; nil if it never did.
func (b *Broker) popWhy(group, topic string, queue int32) (*PopWhy, message.Offset) {
	key := pop.Key{Topic: topic, Group: group, Queue: queue}
	st, popped := b.pops.State(key)
	if !popped {
		return nil, 0
	}
	p := &PopWhy{Next: st.Next, InFlight: st.InFlight, Waiting: b.popWaits.Load().LineLen(key)}
	key.Queue = -1
	p.Waiting += b.popWaits.Load().LineLen(key)
	if st.Oldest > 0 {
		p.Oldest = time.UnixMilli(st.Oldest)
	}
	return p, st.Floor
}

// popHolds notes what the pops and acknowledgements tell.
func (b *Broker) popHolds(w *QueueWhy) {
	p := w.Pop
	if p.InFlight > 0 && w.Now.Sub(p.Oldest) > commitSilence {
		w.held(HeldUnacknowledged, "%d messages are handed out and not acknowledged, the first of them for %s: they are still being handled, or the member that has them is gone. Each comes again when its invisible time is over; in order, nothing new comes before.",
			p.InFlight, span(w.Now.Sub(p.Oldest)))
	}
	if p.Waiting > 0 || p.Next >= w.Max {
		return // there is somebody, or nothing to be had
	}
	switch {
	case w.Pull == nil:
		w.held(HeldNotPulled, "No member has popped from the queue since the broker began, %s ago.", span(w.Now.Sub(b.started)))
	case w.Now.Sub(w.Pull.At) > pullSilence:
		w.held(HeldStalled, "No pop waits, and the last that got something of the queue came %s ago, by %s: the members stand still, or what they hold in memory is over their limits.",
			span(w.Now.Sub(w.Pull.At)), w.Pull.Client)
	}
}

// whyPopped tells what the pops of a group say of a record; false if it never
// popped from the queue.
func (b *Broker) whyPopped(g *GroupWhy, c *whyCopy, delivery string) bool {
	h, popped := b.pops.Look(pop.Key{Topic: c.topic, Group: g.Group, Queue: c.QueueID()}, c.QueueOffset())
	if !popped || h.New {
		return false
	}
	if !h.InFlight {
		if delivery == "" {
			delivery = "It was handed out; to whom is not remembered any more"
		}
		g.say(GotConsumed, "%s, and is acknowledged.", delivery)
		return true
	}
	if delivery == "" {
		delivery = "It was handed out at " + clockTime(h.PopTime)
	}
	if h.Times > 0 {
		g.Retry, g.Retries = h.Times, DefaultGroupConfig("").RetryMaxTimes
		if group := b.groups.Lookup(g.Group); group != nil {
			g.Retries = group.RetryMaxTimes
		}
		delivery += fmt.Sprintf(", as retry %d of %d", g.Retry, g.Retries)
	}
	state := GotDelivered
	if h.Times > 0 {
		state = GotRetry
	}
	if now := b.now().UnixMilli(); h.Visible > now {
		g.say(state, "%s, and is not acknowledged yet; without that it comes again at %s.", delivery, clockTime(h.Visible))
	} else {
		g.say(state, "%s, and was not acknowledged in time; it comes again with the next pop.", delivery)
	}
	g.Due = time.UnixMilli(h.Visible)
	return true
}
