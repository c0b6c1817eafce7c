package broker

import (
	"strconv"
	"time"

	"github.com/merlinmq/merlin/message"
)

// AttributeInitial is the group attribute that says where a group begins in a
// queue of which it has committed nothing: latest, earliest, or a time, in
// RFC 3339 or in ms since 1970. It goes before what the clients wish.
const AttributeInitial = "initialPosition"

// initialPosition is a parsed AttributeInitial.
type initialPosition struct {
	latest, earliest bool
	ms               int64 // if neither
}

func parseInitial(text string) (p initialPosition, err error) {
	switch text {
	case "latest":
		return initialPosition{latest: true}, nil
	case "earliest":
		return initialPosition{earliest: true}, nil
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 {
		return initialPosition{ms: ms}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return p, refuse(KindInvalidParameter, "the attribute %s is %q; write latest, earliest, a time as 2026-11-21T13:00:00Z, or ms since 1970", AttributeInitial, text)
	}
	return initialPosition{ms: at.UnixMilli()}, nil
}

// initial returns the attribute's text for a topic, or "". A retry topic holds
// what the group was given already: wherever it begins, it wants all of that.
func (g *Group) initial(topic string) string {
	if message.IsRetryTopic(topic) {
		return ""
	}
	return g.Attributes[AttributeInitial]
}

// initialOffset returns where the attribute's text says to begin in a queue.
func (b *Broker) initialOffset(text, topic string, queue int32) (message.Offset, error) {
	p, err := parseInitial(text)
	switch {
	case err != nil:
		return 0, err
	case p.latest:
		return b.store.QueueMax(topic, queue), nil
	case p.earliest:
		return b.store.QueueMin(topic, queue), nil
	}
	return b.OffsetByTime(topic, queue, p.ms, false)
}
