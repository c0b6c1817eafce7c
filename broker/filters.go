package broker

import "github.com/merlinmq/merlin/message"

// Filter is what a subscription lets through. A nil function lets all through.
type Filter struct {
	Tag    func(code int64) bool   // asked of the queue's entry first
	Record func(message.View) bool // then of the record
}

// filterOf returns the filter of a pull: its own expression, or what the group
// subscribed to with its heartbeats.
func (b *Broker) filterOf(r *PullRequest, group *Group) (Filter, error) {
	sub, err := b.subscriptionOf(r, group)
	if err != nil {
		return Filter{}, err
	}
	return b.filterFor(sub)
}

func (b *Broker) subscriptionOf(r *PullRequest, group *Group) (*Subscription, error) {
	if r.OwnExpression {
		sub, err := ParseSubscription(r.Topic, r.Expression, r.ExpressionType)
		if err != nil {
			return nil, fail(KindSubscriptionParse, err, "parse the consumer's subscription failed")
		}
		return sub, nil
	}
	if group.Forbids(r.Topic) {
		return nil, forbid(ForbiddenSubscription, "the group %s may not read the topic %s", r.Group, r.Topic)
	}
	sub, err := b.clients.SubscriptionFor(r.Group, r.Topic)
	if err != nil {
		return nil, err
	}
	if sub.Version < r.SubVersion {
		return nil, refuse(KindSubscriptionNotLatest, "the consumer's subscription not latest: the broker has version %d, the pull %d; the next heartbeat brings it", sub.Version, r.SubVersion)
	}
	return sub, nil
}
