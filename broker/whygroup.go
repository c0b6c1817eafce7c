package broker

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/merlinmq/merlin/message"
)

// whyGroup says what became of a message in one group. It is not told if the
// message never reached the log under its topic, nor a retry of the group.
func (b *Broker) whyGroup(group string, copies []whyCopy, final *whyCopy) (GroupWhy, bool) {
	g := GroupWhy{Group: group}
	var last *whyCopy // for this group: a retry or a dead letter, the newest
	for i := range copies {
		if copies[i].group == group {
			last = &copies[i]
		}
	}
	switch {
	case last != nil && final != nil && final.Position() > last.Position():
		b.whyDelivered(&g, final) // sent again since, under its own topic
	case last != nil && b.purged(last):
		g.say(GotExpired, "It was a dead letter, at offset %d of %s, which begins behind it now: it was purged, or its time was over.", last.QueueOffset(), last.topic)
	case last != nil:
		b.whyRetry(&g, last)
	case final != nil:
		b.whyDelivered(&g, final)
	default:
		return g, false
	}
	return g, true
}

// purged tells whether a dead letter cannot be read any more, though its record
// is still there.
func (b *Broker) purged(c *whyCopy) bool {
	return message.IsDLQTopic(c.topic) && c.QueueOffset() < b.store.QueueMin(c.topic, c.QueueID())
}

func (g *GroupWhy) say(state, format string, args ...any) {
	g.State, g.Text = state, fmt.Sprintf(format, args...)
}

// whyRetry tells of a message that the group has given back.
func (b *Broker) whyRetry(g *GroupWhy, c *whyCopy) {
	p := c.Properties()
	g.Attempts = Attempts(p)
	g.Retry, g.Retries = c.ReconsumeTimes(), DefaultGroupConfig("").RetryMaxTimes
	if group := b.groups.Lookup(g.Group); group != nil {
		g.Retries = group.RetryMaxTimes
	}
	if limit, ok := p.Get(message.PropMaxReconsume); ok {
		g.Retries = int32(numberOr(limit, int64(g.Retries)))
	}
	if message.IsDLQTopic(c.topic) {
		g.Retry = max(0, g.Retry-1)
		reason := map[string]string{
			DeadMaxAttempts: "it failed as often as it may", DeadConsumer: "its consumer asked for it",
			DeadOrderly: "an orderly consumer gave it up", DeadSent: "a client sent it there",
		}[p.Value(PropDeadReason)]
		if reason == "" {
			reason = "the reason was not noted"
		}
		g.say(GotDead, "It is a dead letter since %s, offset %d of %s: %s.", clockTime(c.StoreTimestamp()), c.QueueOffset(), c.topic, reason)
		return
	}
	nth := fmt.Sprintf("retry %d of %d", g.Retry, g.Retries)
	if c.waits {
		g.Due = time.UnixMilli(c.due)
		g.say(GotRetry, "It failed; %s comes at %s.", nth, clockTime(c.due))
		return
	}
	if c.delayed {
		g.say(GotExpired, "It failed; %s waits no more, and its record is gone: it was cancelled, or retention has removed it.", nth)
		return
	}
	b.whyAt(g, c)
	switch g.State {
	case GotConsumed:
		g.Text = fmt.Sprintf("It was consumed in %s. %s", nth, g.Text)
	case GotDelivered, GotNothing:
		g.State, g.Text = GotRetry, fmt.Sprintf("It is in %s. %s", nth, g.Text)
	}
}

// whyDelivered tells of a message under its own topic.
func (b *Broker) whyDelivered(g *GroupWhy, c *whyCopy) {
	sub := b.clients.Subscription(g.Group, c.topic)
	_, committed := b.offsets.Query(g.Group, c.topic, c.QueueID())
	_, _, pulled := b.pulls.of(g.Group, c.topic, c.QueueID())
	if sub == nil && !committed && !pulled {
		g.say(GotUnwanted, "The group %s does not subscribe to %s, and never consumed it.", g.Group, c.topic)
		return
	}
	if sub != nil {
		f, err := b.filterFor(sub)
		if err != nil {
			g.say(GotNothing, "The subscription of the group cannot be used: %s.", err)
			return
		}
		code := c.Properties().TagCode()
		if left := leftOut(f, sub, c.View, code); left != "" {
			g.say(GotFiltered, "It is not for the group: %s.", left)
			return
		}
	}
	b.whyAt(g, c)
}

// whyAt tells what the commits and pulls of a group say of a record.
func (b *Broker) whyAt(g *GroupWhy, c *whyCopy) {
	queue, offset := c.QueueID(), c.QueueOffset()
	committed, known := b.offsets.Query(g.Group, c.topic, queue)
	_, ranges, _ := b.pulls.of(g.Group, c.topic, queue)
	delivery := ""
	for _, r := range slices.Backward(ranges) {
		if offset >= r.From && offset < r.To {
			g.Client, g.First, g.Last = r.Client, r.First, r.Last
			delivery = fmt.Sprintf("It was delivered to %s at %s", r.Client, clockTime(r.Last.UnixMilli()))
			if r.Last.Sub(r.First) > time.Second {
				delivery = fmt.Sprintf("It was delivered to %s between %s and %s", r.Client, clockTime(r.First.UnixMilli()), clockTime(r.Last.UnixMilli()))
			}
			break
		}
	}
	if b.whyPopped(g, c, delivery) {
		return
	}
	model, _ := b.clients.Subscribed(g.Group)
	switch {
	case model == Broadcasting && delivery != "":
		g.say(GotDelivered, "%s; members of a broadcasting group keep their progress themselves.", delivery)
	case known && committed > offset && delivery != "":
		g.say(GotConsumed, "%s, and the group has committed behind it (offset %d).", delivery, committed)
	case known && committed > offset:
		g.say(GotConsumed, "The group has committed behind it (offset %d); who got it is not remembered any more.", committed)
	case delivery != "" && b.hasLeft(g.Group, g.Client):
		b.whyNot(g, c, max(committed, 0))
		g.Text = delivery + ", which has left the group without committing it. " + g.Text
	case delivery != "":
		g.say(GotDelivered, "%s, and is not committed yet: the commits stand at %d.", delivery, max(committed, 0))
	case offset < b.store.QueueMin(c.topic, queue):
		g.say(GotExpired, "Retention removed it before the group came to it.")
	default:
		b.whyNot(g, c, max(committed, 0))
	}
}

// hasLeft tells whether a client that pulled is no member of the group any
// more. Who pulls without having joined is known by its address alone.
func (b *Broker) hasLeft(group, client string) bool {
	if _, err := netip.ParseAddrPort(client); err == nil {
		return false
	}
	_, member := b.clients.Consumer(group, client)
	return !member
}

// whyNot says why a group has not been given a message yet.
func (b *Broker) whyNot(g *GroupWhy, c *whyCopy, committed message.Offset) {
	g.say(GotNothing, "The group stands at offset %d of queue %d, %d before it.", committed, c.QueueID(), c.QueueOffset()-committed)
	queue, err := b.WhyQueue(c.topic, c.QueueID(), g.Group)
	if err != nil {
		return
	}
	for _, held := range queue.Holds {
		if held.Cause != HeldFiltered {
			g.Text += " " + held.Text
			return
		}
	}
	if queue.Pull != nil {
		g.Text += fmt.Sprintf(" %s consumes the queue, and was given the offsets below %d.", queue.Pull.Client, queue.Pull.Given)
	}
}
