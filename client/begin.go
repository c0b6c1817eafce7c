package client

import (
	"context"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// begin gives a group that is new to a topic its first offset in every queue.
// It must be stored before the first member connects: a broker answers 0 to a
// member that asks for an offset that is not there, whatever the member wishes,
// as long as a queue still has its first message.
//
// A group is left alone when it has an offset in any queue, when the brokers
// have a rule for where it begins, and when it has members: then somebody has
// chosen already. Queues that come later are read from their first message.
func (a *Admin) begin(ctx context.Context, group, topic string, from Where) error {
	if from.kind == whereEarliest {
		return nil // what members of a new group do by themselves
	}
	queues, err := a.readQueues(ctx, topic)
	if err != nil {
		return err
	}
	begun, err := a.begun(ctx, group, queues)
	if err != nil || begun {
		return err
	}
	// All places are found before the first is stored, so that a broker that
	// fails leaves no group behind that has begun in half of its queues.
	places := make([]message.Offset, len(queues))
	for i, q := range queues {
		if places[i], err = a.offsetOf(ctx, q, from); err != nil {
			return err
		}
	}
	for i, q := range queues {
		if err := a.CommitOffset(ctx, q.broker.Addr, group, topic, q.queue, places[i]); err != nil {
			return err
		}
	}
	return nil
}

// begun tells whether a group has an offset in one of the queues or a member at
// one of their brokers. The group is there afterwards, where brokers make
// groups by themselves.
func (a *Admin) begun(ctx context.Context, group string, queues []queueRef) (bool, error) {
	asked := map[string]bool{}
	for _, q := range queues {
		if !asked[q.broker.Addr] {
			asked[q.broker.Addr] = true
			if err := a.meet(ctx, q.broker, group); err != nil {
				return false, err
			}
			conns, err := a.connections(ctx, q.broker, group)
			if err != nil || len(conns.ConnectionSet) > 0 {
				return true, err
			}
		}
		offset, err := a.CommittedOffset(ctx, q.broker.Addr, group, q.topic, q.queue)
		if err != nil || offset != message.NoOffset {
			return true, err
		}
	}
	return false, nil
}

// meet has a broker make the group as the group's first member would: brokers
// take no offset of a group that they do not know, and those with
// autoCreateSubscriptionGroup=false go on refusing it.
func (a *Admin) meet(ctx context.Context, b Broker, group string) error {
	var f remoting.Fields
	f.Str("group", group)
	_, err := a.call(ctx, roleBroker, b.Addr, "look at group "+group, remoting.ReqGetSubscriptionGroupConfig, f, nil)
	return err
}
