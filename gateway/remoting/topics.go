package gateway

import (
	"fmt"
	"strings"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// UPDATE_AND_CREATE_TOPIC 17, UPDATE_AND_CREATE_TOPIC_LIST 18,
// GET_ALL_TOPIC_CONFIG 21, GET_TOPIC_STATS_INFO 202, DELETE_TOPIC_IN_BROKER
// 215, GET_SYSTEM_TOPIC_LIST_FROM_BROKER 305, GET_TOPIC_CONFIG 351
//
//   - 17 and 18 refuse the broker's own topics; 18 does all or nothing.
//   - attributes are "+key=value" and "-key", with commas between them.
//   - 21 gives maxTopicNum topics from topicSeq on where a caller asks so (5.5.0),
//     all of them otherwise, and always their number.
//   - Differences: wrong numbers of queues, permissions and filter types are
//     refused, which Apache stores as they come.

func (s *session) updateTopic(r *remoting.Request) error {
	c, err := readTopic(r)
	if err != nil {
		return err
	}
	if err := s.broker.Topics().Update(c); err != nil {
		return err
	}
	return s.ok(r)
}

func readTopic(r *remoting.Request) (c broker.TopicConfig, err error) {
	if c.Name, err = r.String("topic"); err != nil {
		return c, err
	}
	if c.ReadQueues, err = r.Int32("readQueueNums"); err != nil {
		return c, err
	}
	if c.WriteQueues, err = r.Int32("writeQueueNums"); err != nil {
		return c, err
	}
	if c.Perm, err = r.Int32("perm"); err != nil {
		return c, err
	}
	if c.SysFlag, err = r.Int32Or("topicSysFlag", 0); err != nil {
		return c, err
	}
	if c.Order, err = r.BoolOr("order", false); err != nil {
		return c, err
	}
	c.FilterType = r.StringOr("topicFilterType", string(body.SingleTag))
	c.Attributes, err = parseAttributes(r.StringOr("attributes", ""))
	return c, err
}

// parseAttributes reads "+k=v,-k".
func parseAttributes(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	changes := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, pair := strings.Cut(part, "=")
		if _, twice := changes[key]; twice || key == "" || pair != strings.HasPrefix(key, "+") {
			return nil, &broker.Error{Kind: broker.KindSystem, Text: fmt.Sprintf("kv string format wrong: %q in the attributes; write +key=value or -key, each once, with commas between them", part)}
		}
		changes[key] = value
	}
	return changes, nil
}

func (s *session) updateTopics(r *remoting.Request) error {
	var req body.CreateTopicListRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	configs := make([]broker.TopicConfig, len(req.TopicConfigList))
	for i, t := range req.TopicConfigList {
		configs[i] = broker.TopicConfig{
			Name: t.TopicName, ReadQueues: t.ReadQueueNums, WriteQueues: t.WriteQueueNums, Perm: t.Perm, Order: t.Order,
			SysFlag: t.TopicSysFlag, FilterType: string(t.TopicFilterType), Attributes: t.Attributes,
		}
	}
	if len(configs) > 0 {
		if err := s.broker.Topics().Update(configs...); err != nil {
			return err
		}
	}
	return s.ok(r)
}

func (s *session) deleteTopic(r *remoting.Request) error {
	if err := s.broker.DeleteTopic(r.StringOr("topic", "")); err != nil {
		return err
	}
	return s.ok(r)
}

// page returns the part of a list that a caller asked for with its sequence
// number and count; all of it, if it asked for none.
func page[T any](r *remoting.Request, list []T, seqField, maxField string) ([]T, error) {
	seq, err := r.Int32Or(seqField, 0)
	if err != nil {
		return nil, err
	}
	count, err := r.Int32Or(maxField, 0)
	if err != nil {
		return nil, err
	}
	list = list[min(max(int(seq), 0), len(list)):]
	if count > 0 {
		list = list[:min(int(count), len(list))]
	}
	return list, nil
}

func (s *session) allTopics(r *remoting.Request) error {
	all := s.broker.Topics().All()
	part, err := page(r, all, "topicSeq", "maxTopicNum")
	if err != nil {
		return err
	}
	var out body.TopicConfigAndMappingSerializeWrapper
	out.DataVersion = versionBody(s.broker.Topics().Version())
	out.TopicConfigTable = make(map[string]body.TopicConfig, len(part))
	for _, t := range part {
		out.TopicConfigTable[t.Name] = topicBody(t)
	}
	return s.conn.Reply(r, remoting.RespSuccess).Int("totalTopicNum", int64(len(all))).Body(body.Encode(out)).End()
}

func versionBody(v broker.DataVersion) body.DataVersion {
	return body.DataVersion{Counter: v.Counter, StateVersion: v.StateVersion, Timestamp: v.Timestamp}
}

func (s *session) topicConfig(r *remoting.Request) error {
	name, err := r.String("topic")
	if err != nil {
		return err
	}
	topic := s.broker.Topics().LookupString(name)
	if topic == nil {
		return &broker.Error{Kind: broker.KindTopicNotExist, Text: "No topic in this broker. topic: " + name}
	}
	return s.okBody(r, body.Encode(body.TopicConfigAndQueueMapping{TopicConfig: topicBody(topic)}))
}

func (s *session) systemTopics(r *remoting.Request) error {
	return s.okBody(r, body.Encode(body.TopicList{TopicList: s.broker.Topics().System()}))
}

func (s *session) topicStats(r *remoting.Request) error {
	topic, err := r.String("topic")
	if err != nil {
		return err
	}
	queues, err := s.broker.TopicStats(topic)
	if err != nil {
		return err
	}
	out := body.TopicStatsTable{OffsetTable: make(map[body.MessageQueue]body.TopicOffset, len(queues))}
	for _, q := range queues {
		out.OffsetTable[queueBody(q.Queue)] = body.TopicOffset{MinOffset: int64(q.Min), MaxOffset: int64(q.Max), LastUpdateTimestamp: q.LastTime}
	}
	return s.okBody(r, body.Encode(out))
}

func (s *session) cleanUnusedTopics(r *remoting.Request) error {
	if err := s.broker.CleanUnusedTopics(); err != nil {
		return err
	}
	return s.ok(r)
}
