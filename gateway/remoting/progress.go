package gateway

import (
	"slices"
	"strings"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// GET_CONSUME_STATS 208, QUERY_TOPIC_CONSUME_BY_WHO 300,
// QUERY_CONSUME_TIME_SPAN 303, GET_BROKER_CONSUME_STATS 317,
// QUERY_TOPICS_BY_CONSUMER 343, QUERY_SUBSCRIPTION_BY_CONSUMER 345
//
//   - 208 takes one topic, a list with semicolons, or none: all in which the
//     group has offsets.
//   - Rates are 0: the broker does not count them per group and topic.

func (s *session) consumeStats(r *remoting.Request) error {
	group, err := r.String("consumerGroup")
	if err != nil {
		return err
	}
	var topics []string
	if list := r.StringOr("topicList", r.StringOr("topic", "")); list != "" {
		topics = strings.Split(list, ";")
	}
	return s.okBody(r, body.Encode(statsBody(s.broker.ConsumeProgress(group, topics...))))
}

func statsBody(queues []broker.QueueProgress) body.ConsumeStats {
	out := body.ConsumeStats{OffsetTable: make(map[body.MessageQueue]body.OffsetWrapper, len(queues))}
	for _, q := range queues {
		out.OffsetTable[queueBody(q.Queue)] = body.OffsetWrapper{
			BrokerOffset: int64(q.End), ConsumerOffset: int64(q.Committed), PullOffset: int64(q.Pulled), LastTimestamp: q.LastTime,
		}
	}
	return out
}

func (s *session) brokerConsumeStats(r *remoting.Request) error {
	ordered, err := r.Bool("isOrder")
	if err != nil {
		return err
	}
	out := body.ConsumeStatsList{BrokerAddr: s.storeHost.String()}
	for _, group := range s.broker.Groups().All() {
		stats := []body.ConsumeStats{}
		for _, name := range s.broker.Offsets().TopicsOf(group.Name) {
			if topic := s.broker.Topics().LookupString(name); topic == nil || ordered && !topic.Order {
				continue
			}
			queues := s.broker.ConsumeProgress(group.Name, name)
			for _, q := range queues {
				out.TotalDiff += int64(q.End - q.Committed)
				out.TotalInflightDiff += int64(q.Pulled - q.Committed)
			}
			stats = append(stats, statsBody(queues))
		}
		out.List = append(out.List, map[string][]body.ConsumeStats{group.Name: stats})
	}
	return s.okBody(r, body.Encode(out))
}

func (s *session) consumeTimeSpan(r *remoting.Request) error {
	topic, err := r.String("topic")
	if err != nil {
		return err
	}
	group, err := r.String("group")
	if err != nil {
		return err
	}
	spans, err := s.broker.ConsumeSpans(group, topic)
	if err != nil {
		return err
	}
	var out body.QueryConsumeTimeSpan
	for _, span := range spans {
		queue := queueBody(span.Queue)
		out.Spans = append(out.Spans, body.QueueTimeSpan{
			MessageQueue: &queue, MinTimeStamp: span.Min, MaxTimeStamp: span.Max, ConsumeTimeStamp: span.Consumed, DelayTime: span.Delay,
		})
	}
	return s.okBody(r, body.Encode(out))
}

func (s *session) consumedByWhom(r *remoting.Request) error {
	topic, err := r.String("topic")
	if err != nil {
		return err
	}
	return s.okBody(r, body.Encode(body.GroupList{GroupList: s.broker.GroupsConsuming(topic)}))
}

func (s *session) topicsByConsumer(r *remoting.Request) error {
	group, err := r.String("group")
	if err != nil {
		return err
	}
	topics := s.broker.Offsets().TopicsOf(group)
	for _, sub := range s.broker.Clients().Subscriptions(group) {
		topics = append(topics, sub.Topic)
	}
	slices.Sort(topics)
	return s.okBody(r, body.Encode(body.TopicList{TopicList: slices.Compact(topics), BrokerAddr: s.storeHost.String()}))
}

func (s *session) subscriptionByConsumer(r *remoting.Request) error {
	group, err := r.String("group")
	if err != nil {
		return err
	}
	topic, err := r.String("topic")
	if err != nil {
		return err
	}
	out := body.QuerySubscriptionResponse{Group: group, Topic: topic}
	if sub := s.broker.Clients().Subscription(group, topic); sub != nil {
		d := subscriptionBody(sub)
		out.SubscriptionData = &d
	}
	return s.okBody(r, body.Encode(out))
}
