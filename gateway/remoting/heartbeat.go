package gateway

import (
	"fmt"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// HEART_BEAT 34, UNREGISTER_CLIENT 35, GET_CONSUMER_LIST_BY_GROUP 38,
// CHECK_CLIENT_CONFIG 46
//
//   - When 34 is answered the client stands in the lists that 38 gives.
//   - 38 of a group without members is SYSTEM_ERROR: clients keep their queues.
//   - Differences: the fields IS_SUPPORT_HEART_BEAT_V2 and IS_SUB_CHANGE are left
//     out, so that clients go on to send their subscriptions; a heartbeat that
//     leaves them out nevertheless is taken.
//   - A body that is no JSON is SYSTEM_ERROR with the place of the error, where
//     Apache sends the name of a Java exception.

// decode reads a request's JSON body; an error is a refusal that says where it
// is broken.
func decode(r *remoting.Request, v any) error {
	if len(r.Body) == 0 {
		return &broker.Error{Kind: broker.KindSystem, Text: fmt.Sprintf("%s needs a body, which is empty; send it again with one", remoting.CodeName(r.Code))}
	}
	if err := body.Decode(r.Body, v); err != nil {
		return &broker.Error{Kind: broker.KindSystem, Text: "the body of " + remoting.CodeName(r.Code) + " cannot be read", Cause: err}
	}
	return nil
}

// required refuses a body whose member is empty.
func required(r *remoting.Request, member, value string) error {
	if value != "" {
		return nil
	}
	return &broker.Error{Kind: broker.KindSystem, Text: fmt.Sprintf("the body of %s needs the member %q, which is missing or empty", remoting.CodeName(r.Code), member)}
}

func (s *session) heartbeat(r *remoting.Request) error {
	var beat body.HeartbeatData
	if err := decode(r, &beat); err != nil {
		return err
	}
	if err := required(r, "clientID", beat.ClientID); err != nil {
		return err
	}
	s.language.Store(int32(r.Language))
	s.clientID = beat.ClientID
	h := broker.Heartbeat{ClientID: beat.ClientID, Language: r.Language, Version: int32(r.Version), Partial: beat.WithoutSub}
	for _, p := range beat.ProducerDataSet {
		if p.GroupName != "" {
			h.Producers = append(h.Producers, p.GroupName)
		}
	}
	for i := range beat.ConsumerDataSet {
		if c := &beat.ConsumerDataSet[i]; c.GroupName != "" {
			h.Consumers = append(h.Consumers, consumerOf(c))
		}
	}
	if err := s.broker.Heartbeat(s, &h); err != nil {
		return err
	}
	return s.ok(r)
}

func consumerOf(c *body.ConsumerData) broker.ConsumerHeartbeat {
	h := broker.ConsumerHeartbeat{Group: c.GroupName, Type: broker.ConsumePassively, UnitMode: c.UnitMode}
	switch c.ConsumeType {
	case body.ConsumeActively:
		h.Type = broker.ConsumeActively
	case body.ConsumePop:
		h.Type = broker.ConsumePop
	}
	if c.MessageModel == body.Broadcasting {
		h.Model = broker.Broadcasting
	}
	switch c.ConsumeFromWhere {
	case body.FromFirstOffset, "CONSUME_FROM_MIN_OFFSET":
		h.From = broker.FromFirstOffset
	case body.FromTimestamp:
		h.From = broker.FromTimestamp
	}
	for i := range c.SubscriptionDataSet {
		h.Subscriptions = append(h.Subscriptions, subscriptionOf(&c.SubscriptionDataSet[i]))
	}
	return h
}

func subscriptionOf(d *body.SubscriptionData) *broker.Subscription {
	codes := make([]int64, len(d.CodeSet))
	for i, code := range d.CodeSet {
		codes[i] = int64(code)
	}
	s := broker.NewSubscription(d.Topic, d.SubString, d.ExpressionType, d.SubVersion, d.TagsSet, codes)
	s.Class = d.ClassFilterMode
	return s
}

func subscriptionBody(s *broker.Subscription) body.SubscriptionData {
	d := body.SubscriptionData{
		Topic: s.Topic, SubString: s.Expression, ExpressionType: s.Type, SubVersion: s.Version,
		TagsSet: s.Tags, ClassFilterMode: s.Class,
	}
	for _, code := range s.Codes {
		d.CodeSet = append(d.CodeSet, int32(code))
	}
	return d
}

func (s *session) unregister(r *remoting.Request) error {
	s.broker.Clients().Unregister(s, r.StringOr("producerGroup", ""), r.StringOr("consumerGroup", ""))
	return s.ok(r)
}

func (s *session) consumerList(r *remoting.Request) error {
	group, err := r.String("consumerGroup")
	if err != nil {
		return err
	}
	ids := s.broker.Clients().ConsumerIDs(group)
	if len(ids) == 0 {
		return &broker.Error{Kind: broker.KindSystem, Text: "no consumer for this group, " + group}
	}
	return s.okBody(r, body.Encode(body.ConsumerList{ConsumerIDList: ids}))
}

func (s *session) checkClientConfig(r *remoting.Request) error {
	var check body.CheckClientRequest
	if len(r.Body) == 0 {
		return s.ok(r)
	}
	if err := decode(r, &check); err != nil {
		return err
	}
	if check.SubscriptionData == nil {
		return s.ok(r)
	}
	sub := subscriptionOf(check.SubscriptionData)
	if !sub.IsTag() {
		if err := s.broker.CheckFilter(sub); err != nil {
			return err
		}
	}
	return s.ok(r)
}
