package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// GET_ALL_DELAY_OFFSET 45, QUERY_CORRECTION_OFFSET 308, QUERY_CONSUME_QUEUE 321
//
//   - 45 is what a slave asks; its data version is that of now.
//   - 321 gives the entries as they are stored. The group's subscription and,
//     for SQL92, its filter come with them; there are no bit maps, so eval is
//     false.
//   - Differences: 308 leaves the groups in filterGroups out of the answer,
//     where Apache's broker also forgets their offsets; it leaves queues out of
//     which it has nothing to compare, where Apache runs into a
//     NullPointerException. 321 gives 10,000 entries at most, and the queue's
//     bounds also where the index is outside of it.

func (s *session) allDelayOffsets(r *remoting.Request) error {
	v := versionBody(broker.DataVersion{Timestamp: s.broker.Now().UnixMilli()})
	return s.okBody(r, body.Encode(body.DelayOffsets{DataVersion: &v, OffsetTable: plainOffsets(s.broker.DelayProgress())}))
}

func (s *session) correctionOffset(r *remoting.Request) error {
	topic, err := r.String("topic")
	if err != nil {
		return err
	}
	compare := r.StringOr("compareGroup", "") // none is compared with nothing
	without := strings.Split(r.StringOr("filterGroups", ""), ",")
	offsets := s.broker.CorrectionOffsets(topic, compare, without)
	return s.okBody(r, body.Encode(body.QueryCorrectionOffset{CorrectionOffsets: plainOffsets(offsets)}))
}

func plainOffsets(offsets map[int32]message.Offset) map[int32]int64 {
	out := make(map[int32]int64, len(offsets))
	for key, offset := range offsets {
		out[key] = int64(offset)
	}
	return out
}

func (s *session) queryQueue(r *remoting.Request) error {
	topic := r.StringOr("topic", "")
	queue, err := r.Int32Or("queueId", 0)
	if err != nil {
		return err
	}
	index, err := r.Int64Or("index", 0)
	if err != nil {
		return err
	}
	count, err := r.Int32Or("count", 0)
	if err != nil {
		return err
	}
	found, err := s.broker.QueueEntries(topic, queue, message.Offset(index), count)
	if err != nil {
		return err
	}
	out := body.QueryConsumeQueueResponse{MinQueueIndex: int64(found.Min), MaxQueueIndex: int64(found.Max)}
	if group := r.StringOr("consumerGroup", ""); group != "" {
		s.describeFilter(&out, group, topic)
	}
	for _, e := range found.Entries {
		one := body.ConsumeQueueData{PhysicOffset: int64(e.Position), PhysicSize: e.Size, TagsCode: e.TagCode}
		if e.TagCode < math.MinInt32 {
			one.Msg = fmt.Sprint("Cq extend not exist!addr: ", e.TagCode) // an address in a file that Apache's broker wrote
		}
		out.QueueData = append(out.QueueData, one)
	}
	w := s.conn.Reply(r, remoting.RespSuccess)
	if !found.Found {
		w.Remark(fmt.Sprintf("Index %d of %d@%s is not exist! The queue goes from %d to before %d", index, queue, topic, found.Min, found.Max))
	}
	return w.Body(body.Encode(out)).End()
}

// describeFilter says what a group subscribes to in a topic.
func (s *session) describeFilter(out *body.QueryConsumeQueueResponse, group, topic string) {
	sub := s.broker.Clients().Subscription(group, topic)
	if sub == nil {
		out.FilterData = fmt.Sprintf("%s@%s is not online!", group, topic)
		return
	}
	d := subscriptionBody(sub)
	out.SubscriptionData = &d
	if out.FilterData = "null"; sub.IsTag() {
		return
	}
	text, err := json.MarshalIndent(map[string]any{
		"consumerGroup": group, "topic": topic, "expression": sub.Expression, "expressionType": sub.Type, "clientVersion": sub.Version,
	}, "", "\t")
	if err == nil {
		out.FilterData = string(text)
	}
}
