package broker

import (
	"errors"
	"time"

	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/store"
)

// ParkPop lets a pop that found nothing wait for messages. Refusals are *Error.
func (b *Broker) ParkPop(r *PopRequest, wait time.Duration, w pop.Waiter) error {
	line := pop.Line{Key: pop.Key{Topic: r.Topic, Group: r.Group, Queue: r.QueueID}, Order: r.Order}
	return b.parkPop(line, r.ClientID, roomFor(len(r.Expression)), wait, w)
}

func (b *Broker) parkPop(line pop.Line, clientID string, room int, wait time.Duration, w pop.Waiter) error {
	err := b.popWaits.Load().Park(line, time.Now().Add(min(wait, maxSuspend)), w, room)
	switch {
	case errors.Is(err, pop.ErrLineFull):
		return refuse(KindPollingFull, "too many pops wait already: %d of the same queue of %s; ask again later", maxPopLine, line.Key.Topic)
	case errors.Is(err, pop.ErrFull):
		return b.tooMany(&b.refusedPops, KindPollingFull, "pops", clientID, line.Key.Topic)
	}
	return err
}

// Popping tells how many pops wait for a queue of a group, or, with -1, for
// any. Refusals are *Error.
func (b *Broker) Popping(group, topic string, queue int32) (int, error) {
	if _, _, err := b.popTarget(group, topic, queue); err != nil {
		return 0, err
	}
	return b.popWaits.Load().LineLen(pop.Key{Topic: topic, Group: group, Queue: queue}), nil
}

// HasPop tells whether a pop would find something now. Refusals are *Error.
func (b *Broker) HasPop(group, topic string, queue int32, order bool) (bool, error) {
	if _, _, err := b.popTarget(group, topic, queue); err != nil {
		return false, err
	}
	ready, _ := b.popReady(pop.Line{Key: pop.Key{Topic: topic, Group: group, Queue: queue}, Order: order})
	return ready, nil
}

// ParkNotice lets a question of a client whether there is something to pop wait
// until there is.
func (b *Broker) ParkNotice(line pop.Line, clientID string, wait time.Duration, w pop.Waiter) error {
	return b.parkPop(line, clientID, 1, wait, w)
}

// popReady tells whether a pop would find something now, and else when.
func (b *Broker) popReady(l pop.Line) (bool, time.Time) {
	first, last := l.Key.Queue, l.Key.Queue
	if first < 0 {
		topic := b.topics.LookupString(l.Key.Topic)
		if topic == nil {
			return true, time.Time{} // the pop says why not
		}
		first, last = 0, topic.ReadQueues-1
	}
	now := b.now().UnixMilli()
	soonest := int64(0)
	for k := l.Key; first <= last; first++ {
		k.Queue = first
		ready, at := b.pops.Ready(k, now, l.Order)
		if ready {
			return true, time.Time{}
		}
		if at > 0 && (soonest == 0 || at < soonest) {
			soonest = at
		}
	}
	if soonest == 0 {
		return false, time.Time{}
	}
	return false, time.UnixMilli(soonest)
}

// popsArrived wakes the pops that wait for what arrived. The dispatcher calls it.
func (b *Broker) popsArrived(arrivals []store.Arrival) {
	w := b.popWaits.Load()
	if w == nil || w.Len() == 0 {
		return
	}
	for i := range arrivals {
		w.Arrived(arrivals[i].Topic, arrivals[i].Queue)
	}
}
