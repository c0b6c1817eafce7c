package broker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// PopHandle names messages of one queue that were handed out together.
type PopHandle struct {
	Group   string
	Topic   string
	Queue   int32
	PopTime int64 // ms
}

func (h *PopHandle) key() pop.Key { return pop.Key{Topic: h.Topic, Group: h.Group, Queue: h.Queue} }

// AckPop acknowledges messages. Whoever answers the client waits for PopsSafe
// before. What the queue does not hold is left out, as with Apache's broker:
// retention may have taken it. Where none of them could be acknowledged the
// refusal says why.
func (b *Broker) AckPop(h *PopHandle, offsets ...message.Offset) error {
	if err := b.checkHandle(h); err != nil {
		return err
	}
	offsets, err := b.heldOffsets(h, offsets)
	if err != nil {
		return err
	}
	good, bad := 0, pop.Done
	var where message.Offset
	err = b.pops.Ack(h.key(), h.PopTime, offsets, func(off message.Offset, o pop.Outcome) {
		if o == pop.Done || o == pop.Repeated {
			good++
		} else {
			bad, where = o, off
		}
	})
	if err != nil {
		return popRefusal(err, "acknowledging messages of %s", h.Topic)
	}
	if good == 0 && bad != pop.Done {
		return handleRefusal(h, where, bad)
	}
	return nil
}

// ChangePop makes a message visible again after a time from now on, and
// returns the pop time of its new handle. Whoever answers waits for PopsSafe.
func (b *Broker) ChangePop(h *PopHandle, off message.Offset, invisible time.Duration, uncounted bool) (int64, error) {
	if err := b.checkHandle(h); err != nil {
		return 0, err
	}
	if _, err := b.heldOffsets(h, []message.Offset{off}); err != nil {
		return 0, err
	}
	if invisible < 0 || invisible > MaxPopInvisible {
		return 0, refuse(KindInvalidParameter, "invisibleTime is %d ms; 0 to %d are allowed", invisible.Milliseconds(), MaxPopInvisible.Milliseconds())
	}
	newTime, o, err := b.pops.Change(h.key(), off, h.PopTime, b.now().UnixMilli(), invisible, uncounted)
	switch {
	case err != nil:
		return 0, popRefusal(err, "changing when a message of %s is handed out again", h.Topic)
	case o == pop.Repeated:
		return 0, refuse(KindNoMessage, "the message at offset %d of %s queue %d is acknowledged already", off, h.Topic, h.Queue)
	case o != pop.Done:
		return 0, handleRefusal(h, off, o)
	}
	return newTime, nil
}

// PopsSafe waits until all acknowledgements and changes made before are as
// durable as the broker's flush mode promises.
func (b *Broker) PopsSafe() error {
	if err := b.pops.Safe(); err != nil {
		return popRefusal(err, "writing acknowledgements")
	}
	return nil
}

func (b *Broker) checkHandle(h *PopHandle) error {
	topic := b.topics.LookupString(h.Topic)
	if topic == nil {
		return refuse(KindTopicNotExist, "topic[%s] not exist, apply first please! Create it with: merlin topic create %s", h.Topic, h.Topic)
	}
	if h.Queue < 0 || h.Queue >= topic.ReadQueues {
		return refuse(KindIllegalMessage, "queueId[%d] is illegal: the topic %s has the read queues 0 to %d", h.Queue, h.Topic, topic.ReadQueues-1)
	}
	if b.groups.Lookup(h.Group) == nil {
		return refuse(KindGroupNotExist, "subscription group [%s] does not exist", h.Group)
	}
	return nil
}

// heldOffsets returns those of the offsets that the queue holds, and a refusal
// if it holds none of them. It changes nothing of the list.
func (b *Broker) heldOffsets(h *PopHandle, offsets []message.Offset) ([]message.Offset, error) {
	low, high := b.store.QueueMin(h.Topic, h.Queue), b.store.QueueMax(h.Topic, h.Queue)
	outside := func(off message.Offset) bool { return off < low || off >= high }
	first := slices.IndexFunc(offsets, outside)
	if first < 0 {
		return offsets, nil
	}
	held := slices.DeleteFunc(slices.Clone(offsets), outside)
	if len(held) == 0 {
		return nil, refuse(KindNoMessage, "offset[%d] is illegal: %s queue %d holds the offsets %d to %d; acknowledge with the handle that came with the message", offsets[first], h.Topic, h.Queue, low, high-1)
	}
	return held, nil
}

func handleRefusal(h *PopHandle, off message.Offset, o pop.Outcome) error {
	if o == pop.Stale {
		return refuse(KindNoMessage, "the handle of the message at offset %d of %s queue %d has expired: it was handed out again, or its invisible time was changed; use the newest handle", off, h.Topic, h.Queue)
	}
	return refuse(KindNoMessage, "the message at offset %d of %s queue %d was not handed out to the group %s; acknowledge with the handle that came with it", off, h.Topic, h.Queue, h.Group)
}

// buryLease is how long a message that was tried too often is kept from
// everybody while it is put to the dead letters.
const buryLease = 30 * time.Second

// maxBurials bounds the queues whose dead letters are made durable together.
const maxBurials = 256

// burial is what was put to the dead letters of one queue and is still leased.
type burial struct {
	key     pop.Key
	popTime int64 // of the lease
	offsets []message.Offset
}

// bury puts what was handed out too often to the group's dead letters.
func (b *Broker) bury(k pop.Key, limit int32) {
	if d := b.layDown(k, limit); len(d.offsets) > 0 {
		b.ackBuried(d)
	}
}

// layDown appends what was handed out too often of one queue to the group's
// dead letters. What it returns is for ackBuried.
func (b *Broker) layDown(k pop.Key, limit int32) burial {
	d := burial{key: k, popTime: b.now().UnixMilli()}
	for _, m := range b.pops.Expired(k, d.popTime, buryLease, limit) {
		if err := b.buryOne(k, m); err != nil {
			b.events.Warn("a message that was handed out too often cannot be put to the dead letters; it is tried again", "group", k.Group, "topic", k.Topic, "queue", k.Queue, "offset", m.Offset, "error", err)
			continue
		}
		d.offsets = append(d.offsets, m.Offset)
	}
	return d
}

// ackBuried acknowledges what was put to the dead letters, once it is durable
// there: a power cut that took the dead letters and left the acknowledgements
// would lose the messages.
func (b *Broker) ackBuried(list ...burial) {
	if err := b.store.Sync(); err != nil {
		b.events.Warn("dead letters of messages that were handed out too often cannot be made durable; they are put there again", "error", err)
		return
	}
	for i := range list {
		d := &list[i]
		_ = b.pops.Ack(d.key, d.popTime, d.offsets, nil) // if it is lost they are put there twice
	}
}

func (b *Broker) buryOne(k pop.Key, m pop.Message) error {
	var e [1]store.Entry
	n, err := b.store.Entries(k.Topic, k.Queue, m.Offset, e[:])
	if errors.Is(err, store.ErrNotFound) || err == nil && (n == 0 || e[0].Filler()) {
		return nil // retention took it
	}
	if err != nil {
		return fmt.Errorf("finding it: %w", err)
	}
	return b.SendBack(&SendBackRequest{
		Group: k.Group, Position: e[0].Position, OriginTopic: k.Topic, DelayLevel: -1, Reason: DeadMaxAttempts, MaxReconsumeTimes: -1,
		Times: m.Times, StoreHost: b.StoreHost(),
	})
}

// sweepPops puts what was handed out too often to the dead letters though
// nobody pops, forgets what retention took, and publishes progress.
func (b *Broker) sweepPops() {
	b.pops.Trim()
	var dead []burial
	for _, k := range b.pops.Keys() {
		if g := b.groups.Lookup(k.Group); g != nil && b.cfg.Permission.Load()&PermWrite != 0 {
			if d := b.layDown(k, max(0, g.RetryMaxTimes)); len(d.offsets) > 0 {
				dead = append(dead, d)
			}
			if len(dead) == maxBurials {
				b.ackBuried(dead...)
				dead = dead[:0]
			}
		}
	}
	if len(dead) > 0 {
		b.ackBuried(dead...)
	}
	b.publishPops()
}

// publishPops commits what groups that pop have acknowledged without a gap, so
// that tools see their progress.
func (b *Broker) publishPops() {
	b.pops.Floors(func(k pop.Key, floor message.Offset) { b.offsets.Commit(k.Group, k.Topic, k.Queue, floor) })
}

// PopStats returns counters of pops, and how many requests wait for messages.
func (b *Broker) PopStats() (st pop.Stats, waiting int) {
	return b.pops.Stats(), b.popWaits.Load().Len()
}

// PopQueues returns what groups popped of queues; of all groups if it is empty.
func (b *Broker) PopQueues(group string) []pop.QueueState { return b.pops.Queues(group) }

// resetPops lets a group pop from new offsets at once, whoever is connected.
func (b *Broker) resetPops(r *ResetRequest, offsets map[QueueRef]message.Offset) error {
	for ref, at := range offsets {
		if err := b.pops.Reset(pop.Key{Topic: r.Topic, Group: r.Group, Queue: ref.Queue}, at); err != nil {
			return popRefusal(err, "resetting what the group %s pops of %s", r.Group, r.Topic)
		}
	}
	b.publishPops()
	return nil
}
