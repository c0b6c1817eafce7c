package gateway

import (
	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP 200, GET_ALL_SUBSCRIPTIONGROUP_CONFIG
// 201, DELETE_SUBSCRIPTIONGROUP 207, UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST
// 225, GET_SUBSCRIPTIONGROUP_CONFIG 352, UPDATE_AND_GET_GROUP_FORBIDDEN 353
//
//   - 225 does all or nothing.
//   - 201 gives maxGroupNum groups from groupSeq on where a caller asks so
//     (5.5.0), all of them otherwise, and always their number.
//   - 352 of an unknown group creates it where groups may be created, as Apache's
//     look-up does.
//   - Differences: subscriptions that a server fixes for a group
//     (subscriptionDataSet) are not kept.

func groupOf(c *body.SubscriptionGroupConfig) broker.GroupConfig {
	g := broker.GroupConfig{
		Name: c.GroupName, ConsumeEnable: c.ConsumeEnable, ConsumeFromMinEnable: c.ConsumeFromMinEnable,
		BroadcastEnable: c.ConsumeBroadcastEnable, Orderly: c.ConsumeMessageOrderly, RetryQueues: c.RetryQueueNums,
		RetryMaxTimes: c.RetryMaxTimes, BrokerID: c.BrokerID, SlowReadBrokerID: c.WhichBrokerWhenConsumeSlowly,
		NotifyMembers: c.NotifyConsumerIDsChangedEnable, SysFlag: c.GroupSysFlag,
		ConsumeTimeoutMinutes: c.ConsumeTimeoutMinute, Attributes: c.Attributes,
		RetryPolicy: broker.RetryPolicy{Type: string(c.GroupRetryPolicy.Type)},
	}
	if p := c.GroupRetryPolicy.Customized; p != nil {
		g.RetryPolicy.Next = p.Next
	}
	if p := c.GroupRetryPolicy.Exponential; p != nil {
		g.RetryPolicy.InitialMs, g.RetryPolicy.MaxMs, g.RetryPolicy.Multiplier = p.Initial, p.Max, p.Multiplier
	}
	return g
}

func groupBody(g *broker.Group) body.SubscriptionGroupConfig {
	c := body.SubscriptionGroupConfig{
		GroupName: g.Name, ConsumeEnable: g.ConsumeEnable, ConsumeFromMinEnable: g.ConsumeFromMinEnable,
		ConsumeBroadcastEnable: g.BroadcastEnable, ConsumeMessageOrderly: g.Orderly, RetryQueueNums: g.RetryQueues,
		RetryMaxTimes: g.RetryMaxTimes, BrokerID: g.BrokerID, WhichBrokerWhenConsumeSlowly: g.SlowReadBrokerID,
		NotifyConsumerIDsChangedEnable: g.NotifyMembers, GroupSysFlag: g.SysFlag,
		ConsumeTimeoutMinute: g.ConsumeTimeoutMinutes, Attributes: g.Attributes,
		GroupRetryPolicy: body.GroupRetryPolicy{Type: body.GroupRetryPolicyType(g.RetryPolicy.Type)},
	}
	if p := g.RetryPolicy; len(p.Next) > 0 {
		c.GroupRetryPolicy.Customized = &body.CustomizedRetryPolicy{Next: p.Next}
	}
	if p := g.RetryPolicy; p.InitialMs > 0 {
		c.GroupRetryPolicy.Exponential = &body.ExponentialRetryPolicy{Initial: p.InitialMs, Max: p.MaxMs, Multiplier: p.Multiplier}
	}
	return c
}

func (s *session) updateGroup(r *remoting.Request) error {
	var c body.SubscriptionGroupConfig
	if err := decode(r, &c); err != nil {
		return err
	}
	if err := s.broker.UpdateGroups(groupOf(&c)); err != nil {
		return err
	}
	return s.ok(r)
}

func (s *session) updateGroups(r *remoting.Request) error {
	var list body.SubscriptionGroupList
	if err := decode(r, &list); err != nil {
		return err
	}
	configs := make([]broker.GroupConfig, len(list.GroupConfigList))
	for i := range list.GroupConfigList {
		configs[i] = groupOf(&list.GroupConfigList[i])
	}
	if len(configs) > 0 {
		if err := s.broker.UpdateGroups(configs...); err != nil {
			return err
		}
	}
	return s.ok(r)
}

func (s *session) allGroups(r *remoting.Request) error {
	all := s.broker.Groups().All()
	part, err := page(r, all, "groupSeq", "maxGroupNum")
	if err != nil {
		return err
	}
	out := body.SubscriptionGroupWrapper{
		DataVersion:            versionBody(s.broker.Groups().Version()),
		SubscriptionGroupTable: make(map[string]body.SubscriptionGroupConfig, len(part)),
		ForbiddenTable:         map[string]map[string]int32{},
	}
	for _, g := range part {
		out.SubscriptionGroupTable[g.Name] = groupBody(g)
		if len(g.Forbidden) > 0 {
			out.ForbiddenTable[g.Name] = g.Forbidden
		}
	}
	return s.conn.Reply(r, remoting.RespSuccess).Int("totalGroupNum", int64(len(all))).Body(body.Encode(out)).End()
}

func (s *session) groupConfig(r *remoting.Request) error {
	name, err := r.String("group")
	if err != nil {
		return err
	}
	g, err := s.broker.Groups().AutoCreate(name)
	if err != nil {
		return err
	}
	return s.okBody(r, body.Encode(groupBody(g)))
}

func (s *session) deleteGroup(r *remoting.Request) error {
	name, err := r.String("groupName")
	if err != nil {
		return err
	}
	offsets, err := r.BoolOr("cleanOffset", false)
	if err != nil {
		return err
	}
	if err := s.broker.DeleteGroup(name, offsets); err != nil {
		return err
	}
	return s.ok(r)
}

func (s *session) groupForbidden(r *remoting.Request) error {
	group, err := r.String("group")
	if err != nil {
		return err
	}
	topic, err := r.String("topic")
	if err != nil {
		return err
	}
	out := body.GroupForbidden{Group: group, Topic: topic}
	readable := true
	if r.Has("readable") {
		if readable, err = r.Bool("readable"); err != nil {
			return err
		}
		if readable, err = s.broker.Groups().SetForbidden(group, topic, readable); err != nil {
			return err
		}
	} else if g := s.broker.Groups().Lookup(group); g != nil {
		readable = !g.ForbidsRead(topic)
	}
	out.Readable = &readable
	return s.okBody(r, body.Encode(out))
}
