package client

import (
	"context"
	"fmt"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// PlanReset returns what ResetOffsets would do, and does nothing.
func (a *Admin) PlanReset(ctx context.Context, group, topic string, to Where) ([]QueueReset, error) {
	queues, err := a.readQueues(ctx, topic)
	if err != nil {
		return nil, err
	}
	var plan []QueueReset
	online := map[string]bool{}
	for _, q := range queues {
		if !to.wants(q.queue) {
			continue
		}
		r := QueueReset{Broker: q.broker.Name, Queue: int(q.queue)}
		if r.From, err = a.CommittedOffset(ctx, q.broker.Addr, group, topic, q.queue); err != nil {
			return nil, err
		}
		if r.To, err = a.offsetOf(ctx, q, to); err != nil {
			return nil, err
		}
		if _, asked := online[q.broker.Addr]; !asked {
			conns, err := a.connections(ctx, q.broker, group)
			if err != nil {
				return nil, err
			}
			online[q.broker.Addr] = len(conns.ConnectionSet) > 0
		}
		r.Online = online[q.broker.Addr]
		plan = append(plan, r)
	}
	return plan, to.found(len(plan), topic)
}

// CloneOffsets gives one group the offsets of another in a topic. Queues of
// which the source has committed nothing are left out. With dry set it does
// nothing and returns what it would do.
func (a *Admin) CloneOffsets(ctx context.Context, from, to, topic string, dry bool) ([]QueueReset, error) {
	queues, err := a.readQueues(ctx, topic)
	if err != nil {
		return nil, err
	}
	var done []QueueReset
	brokers := map[string]bool{}
	for _, q := range queues {
		r := QueueReset{Broker: q.broker.Name, Queue: int(q.queue)}
		if r.To, err = a.CommittedOffset(ctx, q.broker.Addr, from, topic, q.queue); err != nil {
			return done, err
		}
		if r.To == message.NoOffset {
			continue
		}
		if r.From, err = a.CommittedOffset(ctx, q.broker.Addr, to, topic, q.queue); err != nil {
			return done, err
		}
		done = append(done, r)
		brokers[q.broker.Addr] = true
	}
	if len(done) == 0 {
		return nil, fmt.Errorf("group %s has committed nothing in %s, so that there is nothing to clone: %w", from, topic, ErrNotFound)
	}
	if dry {
		return done, nil
	}
	for _, addr := range sortedKeys(brokers) {
		var f remoting.Fields
		f.Str("srcGroup", from)
		f.Str("destGroup", to)
		f.Str("topic", topic)
		f.Bool("offline", true)
		if _, err := a.call(ctx, roleBroker, addr, "clone the offsets of group "+from+" to "+to, remoting.ReqCloneGroupOffset, f, nil); err != nil {
			return done, err
		}
	}
	return done, nil
}
