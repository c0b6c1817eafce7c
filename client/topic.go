package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// Permission bits of a topic.
const (
	PermWrite = 2
	PermRead  = 4
)

// TopicSpec says what CreateTopic makes.
type TopicSpec struct {
	Name       string
	Queues     int               // both read and write queues; default 8
	Perm       int               // default read and write
	Order      bool              // ordered: its queues are not moved when a broker fails
	Attributes map[string]string // a value that is "" takes the attribute away
	Cluster    string            // "" is every cluster
	Broker     string            // "" is every broker
}

// BrokerTopic is a topic as one broker has it.
type BrokerTopic struct {
	Broker      string            `json:"broker"`
	Cluster     string            `json:"cluster,omitempty"`
	Addr        string            `json:"addr"`
	ReadQueues  int               `json:"read_queues"`
	WriteQueues int               `json:"write_queues"`
	Perm        string            `json:"perm"`
	Order       bool              `json:"order"`
	Attributes  map[string]string `json:"attributes,omitempty"`
}

// PermText writes permission bits as users know them: RW, R-, -W.
func PermText(perm int) string {
	text := []byte("--")
	if perm&PermRead != 0 {
		text[0] = 'R'
	}
	if perm&PermWrite != 0 {
		text[1] = 'W'
	}
	if perm&1 != 0 {
		text = append(text, 'X')
	}
	return string(text)
}

// ParsePerm reads RW, R, W or the number.
func ParsePerm(text string) (int, error) {
	switch strings.ToUpper(strings.ReplaceAll(text, "-", "")) {
	case "RW", "WR", "6":
		return PermRead | PermWrite, nil
	case "R", "4":
		return PermRead, nil
	case "W", "2":
		return PermWrite, nil
	}
	return 0, fmt.Errorf("permission %q: want RW, R or W (or 6, 4, 2)", text)
}

// CreateTopic creates the topic on every broker of the cluster, or changes it
// where it is there already. It returns what each broker has then. The route
// may take a moment to follow.
func (a *Admin) CreateTopic(ctx context.Context, spec TopicSpec) ([]BrokerTopic, error) {
	if err := message.CheckTopicName(spec.Name); err != nil {
		return nil, err
	}
	spec.Queues = cmp.Or(spec.Queues, 8)
	spec.Perm = cmp.Or(spec.Perm, PermRead|PermWrite)
	brokers, err := a.masters(ctx, spec.Cluster, spec.Broker)
	if err != nil {
		return nil, err
	}
	var fields remoting.Fields
	fields.Str("topic", spec.Name)
	fields.Str("defaultTopic", message.TopicAutoCreate)
	fields.Int("readQueueNums", int64(spec.Queues))
	fields.Int("writeQueueNums", int64(spec.Queues))
	fields.Int("perm", int64(spec.Perm))
	fields.Str("topicFilterType", string(body.SingleTag))
	fields.Int("topicSysFlag", 0)
	fields.Bool("order", spec.Order)
	if text := attributeText(spec.Attributes); text != "" {
		fields.Str("attributes", text)
	}
	var made []BrokerTopic
	for _, b := range brokers {
		if _, err := a.call(ctx, roleBroker, b.Addr, "create topic "+spec.Name, remoting.ReqUpdateAndCreateTopic, fields, nil); err != nil {
			return made, err
		}
		c, err := a.topicConfig(ctx, b, spec.Name)
		if err != nil {
			return made, err
		}
		made = append(made, c)
	}
	return made, nil
}

// attributeText writes attribute changes as brokers read them: +k=v,-k.
func attributeText(attrs map[string]string) string {
	parts := make([]string, 0, len(attrs))
	for k, v := range attrs {
		if v == "" {
			parts = append(parts, "-"+k)
		} else {
			parts = append(parts, "+"+k+"="+v)
		}
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}

func (a *Admin) topicConfig(ctx context.Context, b Broker, topic string) (BrokerTopic, error) {
	var c body.TopicConfigAndQueueMapping
	c.SetDefaults()
	var fields remoting.Fields
	fields.Str("topic", topic)
	if err := a.callInto(ctx, roleBroker, b.Addr, "look at topic "+topic, remoting.ReqGetTopicConfig, fields, nil, &c); err != nil {
		return BrokerTopic{}, err
	}
	return brokerTopic(b, c.TopicConfig), nil
}

func brokerTopic(b Broker, c body.TopicConfig) BrokerTopic {
	return BrokerTopic{Broker: b.Name, Cluster: b.Cluster, Addr: b.Addr, ReadQueues: int(c.ReadQueueNums), WriteQueues: int(c.WriteQueueNums),
		Perm: PermText(int(c.Perm)), Order: c.Order, Attributes: c.Attributes}
}

// DeleteTopic deletes the topic from every broker that has it and then from
// every name server, so that no route is left behind. It fails with a
// *ServerError of code RespTopicNotExist when nobody knows the topic.
func (a *Admin) DeleteTopic(ctx context.Context, topic string) error {
	route, err := a.Route(ctx, topic)
	if err != nil {
		return err
	}
	op := "delete topic " + topic
	var fields remoting.Fields
	fields.Str("topic", topic)
	for _, b := range routeBrokers(route) {
		if _, err := a.call(ctx, roleBroker, b.Addr, op, remoting.ReqDeleteTopicInBroker, fields, nil); err != nil && !isCode(err, remoting.RespTopicNotExist) {
			return err
		}
	}
	var errs []error
	for _, ns := range a.nameServers {
		if _, err := a.call(ctx, roleNameServer, ns, op, remoting.ReqDeleteTopicInNameServer, fields, nil); err != nil && !isCode(err, remoting.RespTopicNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// TopicRow is a topic in a list.
type TopicRow struct {
	Name    string        `json:"name"`
	System  bool          `json:"system"` // the broker's own, retry and dead letters included
	Brokers []BrokerTopic `json:"brokers"`
}

// Topics lists the topics by name, as the brokers have them.
func (a *Admin) Topics(ctx context.Context) ([]TopicRow, error) {
	brokers, err := a.masters(ctx, "", "")
	if err != nil {
		return nil, err
	}
	rows := map[string]*TopicRow{}
	for _, b := range brokers {
		var w body.TopicConfigAndMappingSerializeWrapper
		if err := a.callInto(ctx, roleBroker, b.Addr, "list topics", remoting.ReqGetAllTopicConfig, nil, nil, &w); err != nil {
			return nil, err
		}
		for name, c := range w.TopicConfigTable {
			if rows[name] == nil {
				rows[name] = &TopicRow{Name: name, System: systemTopic(name, b)}
			}
			rows[name].Brokers = append(rows[name].Brokers, brokerTopic(b, c))
		}
	}
	list := make([]TopicRow, 0, len(rows))
	for _, r := range rows {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(x, y TopicRow) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

// systemTopic tells what users did not make. Brokers have topics named like
// themselves and their cluster.
func systemTopic(name string, b Broker) bool {
	return message.IsSystemTopic(name) || message.ForbidsSend(name) || message.IsRetryTopic(name) || message.IsDLQTopic(name) ||
		name == b.Name || name == b.Cluster || strings.HasSuffix(name, message.ReplyTopicSuffix)
}

// TopicQueue is one queue of a topic.
type TopicQueue struct {
	Broker   string         `json:"broker"`
	Queue    int            `json:"queue"`
	Min      message.Offset `json:"min_offset"`
	Max      message.Offset `json:"max_offset"`
	Messages int64          `json:"messages"`
	Updated  *time.Time     `json:"updated,omitempty"` // when the newest message was stored
}

// TopicView is everything that is known of one topic.
type TopicView struct {
	Name     string        `json:"name"`
	Brokers  []BrokerTopic `json:"brokers"`
	Queues   []TopicQueue  `json:"queues"`
	Messages int64         `json:"messages"`
	Groups   []string      `json:"groups"` // that have offsets or members on it
}

// Topic looks at one topic: where it is, how its queues stand, who reads it.
func (a *Admin) Topic(ctx context.Context, topic string) (*TopicView, error) {
	route, err := a.Route(ctx, topic)
	if err != nil {
		return nil, err
	}
	view := &TopicView{Name: topic}
	groups := map[string]bool{}
	var fields remoting.Fields
	fields.Str("topic", topic)
	for _, b := range routeBrokers(route) {
		c, err := a.topicConfig(ctx, b, topic)
		if err != nil {
			return nil, err
		}
		view.Brokers = append(view.Brokers, c)
		var stats body.TopicStatsTable
		if err := a.callInto(ctx, roleBroker, b.Addr, "look at topic "+topic, remoting.ReqGetTopicStatsInfo, fields, nil, &stats); err != nil {
			return nil, err
		}
		for mq, o := range stats.OffsetTable {
			q := TopicQueue{Broker: cmp.Or(mq.BrokerName, b.Name), Queue: int(mq.QueueID), Min: message.Offset(o.MinOffset), Max: message.Offset(o.MaxOffset),
				Messages: o.MaxOffset - o.MinOffset, Updated: timeOf(o.LastUpdateTimestamp)}
			view.Queues = append(view.Queues, q)
			view.Messages += q.Messages
		}
		var who body.GroupList
		if err := a.callInto(ctx, roleBroker, b.Addr, "look who reads topic "+topic, remoting.ReqQueryTopicConsumeByWho, fields, nil, &who); err != nil {
			return nil, err
		}
		for _, g := range who.GroupList {
			groups[g] = true
		}
	}
	view.Groups = sortedKeys(groups)
	slices.SortFunc(view.Queues, func(x, y TopicQueue) int {
		return cmp.Or(strings.Compare(x.Broker, y.Broker), cmp.Compare(x.Queue, y.Queue))
	})
	return view, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// timeOf turns a server's milliseconds into a time; nil where it has none.
func timeOf(ms int64) *time.Time {
	if ms <= 0 {
		return nil
	}
	t := time.UnixMilli(ms)
	return &t
}
