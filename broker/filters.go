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
		return ParseSubscription(r.Topic, r.Expression, r.ExpressionType, r.SubVersion)
	}
	model, known := b.clients.Subscribed(r.Group)
	if !known {
		return nil, refuse(KindSubscriptionNotExist, "the consumer's group info not exist: no member of %s has sent a heartbeat yet", r.Group)
	}
	if model == Broadcasting && !group.BroadcastEnable {
		return nil, forbid(ForbiddenBroadcast, "the consumer group[%s] can not consume by broadcast way: consumeBroadcastEnable is off", r.Group)
	}
	if group.ForbidsRead(r.Topic) {
		return nil, forbid(ForbiddenSubscription, "the consumer group[%s] is forbidden for topic[%s]", r.Group, r.Topic)
	}
	sub := b.clients.Subscription(r.Group, r.Topic)
	if sub == nil {
		return nil, refuse(KindSubscriptionNotExist, "the consumer's subscription not exist: the group %s has not subscribed to %s", r.Group, r.Topic)
	}
	if sub.Version < r.SubVersion {
		return nil, refuse(KindSubscriptionNotLatest, "the consumer's subscription not latest: the broker has version %d, the pull %d; the next heartbeat brings it", sub.Version, r.SubVersion)
	}
	return sub, nil
}

// filterFor compiles a subscription. Expressions over properties are not
// applied to retried messages, as in Apache's broker.
func (b *Broker) filterFor(sub *Subscription) (Filter, error) {
	if sub.IsTag() || message.IsRetryTopic(sub.Topic) {
		return Filter{Tag: sub.TagMatcher()}, nil
	}
	if !b.cfg.PropertyFilter.Load() {
		return Filter{}, refuse(KindSystem, "The broker does not support consumer to filter message by %s: enablePropertyFilter is off", sub.Type)
	}
	match, err := b.compile(sub)
	if err != nil {
		return Filter{}, err
	}
	return Filter{Record: match}, nil
}
