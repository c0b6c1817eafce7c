package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// GroupRow is a consumer group in a list.
type GroupRow struct {
	Name    string  `json:"name"`
	System  bool    `json:"system"`
	Members int     `json:"members"`         // clients connected now
	Model   string  `json:"model,omitempty"` // CLUSTERING, BROADCASTING; of groups with members
	Type    string  `json:"type,omitempty"`  // how it consumes
	Lag     int64   `json:"lag"`             // messages, over all topics
	TPS     float64 `json:"tps"`
}

// Groups lists the consumer groups by name. With system groups left out it
// saves asking for them. progress, if not nil, is told how many of how many
// have been looked at.
func (a *Admin) Groups(ctx context.Context, system bool, progress func(done, total int)) ([]GroupRow, error) {
	brokers, err := a.masters(ctx, "", "")
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, b := range brokers {
		table, err := a.groupTable(ctx, b)
		if err != nil {
			return nil, err
		}
		for name := range table {
			if system || !systemGroup(name) {
				names[name] = true
			}
		}
	}
	rows := make([]GroupRow, 0, len(names))
	for _, name := range sortedKeys(names) {
		row, err := a.groupRow(ctx, brokers, name)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
		if progress != nil {
			progress(len(rows), len(names))
		}
	}
	return rows, nil
}

func (a *Admin) groupRow(ctx context.Context, brokers []Broker, name string) (GroupRow, error) {
	row := GroupRow{Name: name, System: systemGroup(name)}
	members := map[string]bool{}
	for _, b := range brokers {
		conns, err := a.connections(ctx, b, name)
		if err != nil {
			return row, err
		}
		for _, c := range conns.ConnectionSet {
			members[c.ClientID] = true
		}
		row.Model, row.Type = cmp.Or(row.Model, string(conns.MessageModel)), cmp.Or(row.Type, string(conns.ConsumeType))
		stats, err := a.consumeStats(ctx, b, name, "")
		if err != nil {
			return row, err
		}
		row.TPS += stats.ConsumeTPS
		for _, o := range stats.OffsetTable {
			row.Lag += max(0, o.BrokerOffset-o.ConsumerOffset)
		}
	}
	row.Members = len(members)
	return row, nil
}

// systemGroup tells groups that brokers have from the start.
func systemGroup(name string) bool {
	switch name {
	case "TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "SELF_TEST_P_GROUP", "CID_ONS-HTTP-PROXY", "CID_ONSAPI_PULL",
		"CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER", "DEFAULT_CONSUMER", message.GroupInnerProducer:
		return true
	}
	return strings.HasPrefix(name, "CID_SYS_RMQ_") || strings.HasPrefix(name, "CID_RMQ_SYS_")
}

// connections returns the group's members at one broker; nobody online is no
// error.
func (a *Admin) connections(ctx context.Context, b Broker, group string) (body.ConsumerConnection, error) {
	c, _, err := a.members(ctx, b, group)
	return c, err
}

// members is connections together with what the broker says of members that
// subscribe to different things; "" if they do not, or the broker does not look.
func (a *Admin) members(ctx context.Context, b Broker, group string) (c body.ConsumerConnection, conflict string, err error) {
	var fields remoting.Fields
	fields.Str("consumerGroup", group)
	ans, err := a.call(ctx, roleBroker, b.Addr, "list the members of group "+group, remoting.ReqGetConsumerConnectionList, fields, nil)
	if isCode(err, remoting.RespConsumerNotOnline, remoting.RespSystemError, remoting.RespSubscriptionGroupNotExist) {
		return c, "", nil
	}
	if err != nil || len(ans.body) == 0 {
		return c, "", err
	}
	if err := body.Decode(ans.body, &c); err != nil {
		return c, "", fmt.Errorf("list the members of group %s: the answer of %s cannot be read: %w", group, b.Addr, err)
	}
	return c, ans.field("subscriptionConflict"), nil
}

func (a *Admin) consumeStats(ctx context.Context, b Broker, group, topic string) (body.ConsumeStats, error) {
	var s body.ConsumeStats
	var fields remoting.Fields
	fields.Str("consumerGroup", group)
	if topic != "" {
		fields.Str("topic", topic)
	}
	err := a.callInto(ctx, roleBroker, b.Addr, "look at the offsets of group "+group, remoting.ReqGetConsumeStats, fields, nil, &s)
	if isCode(err, remoting.RespSubscriptionGroupNotExist, remoting.RespTopicNotExist) {
		return body.ConsumeStats{}, nil
	}
	return s, err
}

// GroupMember is one connected client of a group.
type GroupMember struct {
	ClientID string   `json:"client_id"`
	Addr     string   `json:"addr"`
	Language string   `json:"language"`
	Version  int      `json:"version"`
	Brokers  []string `json:"brokers"`
}

// GroupSubscription is what a group's members subscribe to.
type GroupSubscription struct {
	Topic      string `json:"topic"`
	Expression string `json:"expression"`
	Type       string `json:"type"` // TAG or SQL92
	Broker     string `json:"broker"`
}

// GroupQueue is how far a group has come in one queue.
type GroupQueue struct {
	Topic      string         `json:"topic"`
	Broker     string         `json:"broker"`
	Queue      int            `json:"queue"`
	Committed  message.Offset `json:"committed"`
	End        message.Offset `json:"end"`
	Lag        int64          `json:"lag"`                     // messages
	LagSeconds float64        `json:"lag_seconds"`             // age of the oldest message not consumed
	Consumed   *time.Time     `json:"last_consumed,omitempty"` // when the last consumed message was stored
}

// GroupConfig is a group's settings at one broker.
type GroupConfig struct {
	Broker       string            `json:"broker"`
	Enabled      bool              `json:"consume_enabled"`
	Broadcast    bool              `json:"broadcast_enabled"`
	Orderly      bool              `json:"orderly"`
	RetryQueues  int               `json:"retry_queues"`
	RetryMax     int               `json:"retry_max"`
	TimeoutMin   int               `json:"consume_timeout_minutes"`
	RetryPolicy  string            `json:"retry_policy"`
	NotifyChange bool              `json:"notify_changes"`
	Attributes   map[string]string `json:"attributes,omitempty"`
}

// GroupView is everything that is known of one consumer group.
type GroupView struct {
	Name          string              `json:"name"`
	Configs       []GroupConfig       `json:"config"`
	Model         string              `json:"model,omitempty"`
	Type          string              `json:"type,omitempty"`
	From          string              `json:"consume_from,omitempty"`
	Members       []GroupMember       `json:"members"`
	Subscriptions []GroupSubscription `json:"subscriptions"`
	Conflicts     []string            `json:"subscription_conflicts,omitempty"` // sentences: members subscribe to different things
	Queues        []GroupQueue        `json:"queues"`
	Lag           int64               `json:"lag"`
	LagSeconds    float64             `json:"lag_seconds"`
	TPS           float64             `json:"tps"`
}

// Group looks at one group: settings, members, subscriptions, and how far it
// has come. The error is ErrNotFound when no broker knows the group. It picks
// the group out of each broker's list, because asking a broker of Apache's for
// one group alone creates it.
func (a *Admin) Group(ctx context.Context, group string) (*GroupView, error) {
	brokers, err := a.masters(ctx, "", "")
	if err != nil {
		return nil, err
	}
	v := &GroupView{Name: group, Members: []GroupMember{}, Subscriptions: []GroupSubscription{}, Queues: []GroupQueue{}}
	for _, b := range brokers {
		table, err := a.groupTable(ctx, b)
		if err != nil {
			return nil, err
		}
		c, known := table[group]
		if !known {
			continue
		}
		v.Configs = append(v.Configs, groupConfig(b, c))
		if err := a.addGroup(ctx, v, b); err != nil {
			return nil, err
		}
	}
	if len(v.Configs) == 0 {
		return nil, fmt.Errorf("group %s: no broker knows it (groups are made when a consumer first connects): %w", group, ErrNotFound)
	}
	slices.SortFunc(v.Queues, func(x, y GroupQueue) int {
		return cmp.Or(strings.Compare(x.Topic, y.Topic), strings.Compare(x.Broker, y.Broker), cmp.Compare(x.Queue, y.Queue))
	})
	slices.SortFunc(v.Members, func(x, y GroupMember) int { return strings.Compare(x.ClientID, y.ClientID) })
	slices.SortFunc(v.Subscriptions, func(x, y GroupSubscription) int {
		return cmp.Or(strings.Compare(x.Topic, y.Topic), strings.Compare(x.Broker, y.Broker))
	})
	return v, nil
}

// groupTable returns the groups that a broker knows.
func (a *Admin) groupTable(ctx context.Context, b Broker) (map[string]body.SubscriptionGroupConfig, error) {
	var w body.SubscriptionGroupWrapper
	err := a.callInto(ctx, roleBroker, b.Addr, "list groups", remoting.ReqGetAllSubscriptionGroupConfig, nil, nil, &w)
	return w.SubscriptionGroupTable, err
}

func groupConfig(b Broker, c body.SubscriptionGroupConfig) GroupConfig {
	return GroupConfig{Broker: b.Name, Enabled: c.ConsumeEnable, Broadcast: c.ConsumeBroadcastEnable, Orderly: c.ConsumeMessageOrderly,
		RetryQueues: int(c.RetryQueueNums), RetryMax: int(c.RetryMaxTimes), TimeoutMin: int(c.ConsumeTimeoutMinute),
		RetryPolicy: string(c.GroupRetryPolicy.Type), NotifyChange: c.NotifyConsumerIDsChangedEnable, Attributes: c.Attributes}
}

// addGroup adds what one broker knows of the group.
func (a *Admin) addGroup(ctx context.Context, v *GroupView, b Broker) error {
	conns, conflict, err := a.members(ctx, b, v.Name)
	if err != nil {
		return err
	}
	if conflict != "" {
		v.Conflicts = append(v.Conflicts, conflict)
	}
	v.Model, v.Type, v.From = cmp.Or(v.Model, string(conns.MessageModel)), cmp.Or(v.Type, string(conns.ConsumeType)), cmp.Or(v.From, string(conns.ConsumeFromWhere))
	for _, c := range conns.ConnectionSet {
		i := slices.IndexFunc(v.Members, func(m GroupMember) bool { return m.ClientID == c.ClientID })
		if i < 0 {
			v.Members = append(v.Members, GroupMember{ClientID: c.ClientID, Addr: c.ClientAddr, Language: c.Language, Version: int(c.Version)})
			i = len(v.Members) - 1
		}
		v.Members[i].Brokers = append(v.Members[i].Brokers, b.Name)
	}
	for topic, s := range conns.SubscriptionTable {
		v.Subscriptions = append(v.Subscriptions, GroupSubscription{Topic: topic, Expression: s.SubString, Type: s.ExpressionType, Broker: b.Name})
	}
	stats, err := a.consumeStats(ctx, b, v.Name, "")
	if err != nil {
		return err
	}
	v.TPS += stats.ConsumeTPS
	for mq, o := range stats.OffsetTable {
		q := GroupQueue{Topic: mq.Topic, Broker: cmp.Or(mq.BrokerName, b.Name), Queue: int(mq.QueueID), Committed: message.Offset(o.ConsumerOffset),
			End: message.Offset(o.BrokerOffset), Lag: max(0, o.BrokerOffset-o.ConsumerOffset), Consumed: timeOf(o.LastTimestamp)}
		if q.Lag > 0 {
			oldest, err := a.storeTime(ctx, b.Addr, mq.Topic, mq.QueueID, max(0, o.ConsumerOffset))
			if err != nil {
				return err
			}
			if oldest != nil {
				q.LagSeconds = max(0, a.now().Sub(*oldest).Seconds())
			}
		}
		v.Lag += q.Lag
		v.LagSeconds = max(v.LagSeconds, q.LagSeconds)
		v.Queues = append(v.Queues, q)
	}
	return nil
}
