package gateway

import (
	"context"
	"errors"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// What the broker sends to clients over their own connections:
// CHECK_TRANSACTION_STATE 39, NOTIFY_CONSUMER_IDS_CHANGED 40,
// RESET_CONSUMER_CLIENT_OFFSET 220, GET_CONSUMER_STATUS_FROM_CLIENT 221,
// GET_CONSUMER_RUNNING_INFO 307, CONSUME_MESSAGE_DIRECTLY 309,
// PUSH_REPLY_MESSAGE_TO_CLIENT 326
//
//   - 39, 40 and 220 are one-way; the others wait for the client's answer, whose
//     body is passed on untouched.
//   - C++ clients get the offsets of 220 as a list.

const languageCPP = 1

// NotifyConsumersChanged implements broker.Client.
func (s *session) NotifyConsumersChanged(group string) {
	_ = s.conn.OneWay(remoting.ReqNotifyConsumerIDsChanged, remoting.Fields{{Key: "consumerGroup", Value: group}}, nil)
}

// ResetOffsets implements broker.Client.
func (s *session) ResetOffsets(r *broker.OffsetReset) {
	var fields remoting.Fields
	fields.Str("topic", r.Topic)
	fields.Str("group", r.Group)
	fields.Int("timestamp", r.Timestamp)
	fields.Bool("isForce", r.Force)
	_ = s.conn.OneWay(remoting.ReqResetConsumerClientOffset, fields, s.resetBody(r))
}

func (s *session) resetBody(r *broker.OffsetReset) []byte {
	if s.language.Load() == languageCPP {
		var list body.ResetOffsetForC
		for q, off := range r.Offsets {
			list.OffsetTable = append(list.OffsetTable, body.QueueOffset{Topic: q.Topic, BrokerName: q.Broker, QueueID: q.Queue, Offset: int64(off)})
		}
		return body.Encode(list)
	}
	table := make(map[body.MessageQueue]int64, len(r.Offsets))
	for q, off := range r.Offsets {
		table[body.MessageQueue{Topic: q.Topic, BrokerName: q.Broker, QueueID: q.Queue}] = int64(off)
	}
	return body.Encode(body.ResetOffset{OffsetTable: table})
}

// CheckTransaction implements broker.Client.
func (s *session) CheckTransaction(c *broker.TransactionCheck) error {
	var fields remoting.Fields
	fields.Str("topic", c.Topic)
	fields.Int("tranStateTableOffset", int64(c.HalfOffset))
	fields.Int("commitLogOffset", int64(c.Position))
	fields.Str("msgId", c.MessageID)
	fields.Str("transactionId", c.Transaction)
	fields.Str("offsetMsgId", c.OffsetID)
	fields.Str("bname", s.broker.Settings().Name)
	return s.conn.OneWay(remoting.ReqCheckTransactionState, fields, c.Record)
}

// Ask implements broker.Client.
func (s *session) Ask(ctx context.Context, q *broker.Question) ([]byte, error) {
	var fields remoting.Fields
	code := remoting.ReqGetConsumerRunningInfo
	switch q.Kind {
	case broker.AskRunningInfo:
		fields.Str("consumerGroup", q.Group)
		fields.Str("clientId", q.ClientID)
		fields.Bool("jstackEnable", q.Stacks)
	case broker.AskConsumeDirectly:
		code = remoting.ReqConsumeMessageDirectly
		fields.Str("consumerGroup", q.Group)
		fields.Str("clientId", q.ClientID)
		fields.Str("msgId", q.MessageID)
		fields.Str("brokerName", s.broker.Settings().Name)
		fields.Str("topic", q.Topic)
		fields.Int("topicSysFlag", 0)
		fields.Int("groupSysFlag", 0)
	case broker.AskQueueOffsets:
		code = remoting.ReqGetConsumerStatusFromClient
		fields.Str("topic", q.Topic)
		fields.Str("group", q.Group)
	}
	body := q.Record
	if q.Kind == broker.AskTakeReply {
		code, fields, body = remoting.ReqPushReplyMessageToClient, replyFields(q.Reply), q.Reply.Send.Body
	}
	a, err := s.conn.Call(ctx, code, fields, body)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &broker.Error{Kind: broker.KindConsumerTimeout, Text: "the client " + q.ClientID + " did not answer in time"}
	case err != nil:
		return nil, &broker.Error{Kind: broker.KindSystem, Text: "asking the client " + q.ClientID, Cause: err}
	case a.Code != remoting.RespSuccess:
		return nil, &broker.Error{Kind: broker.KindSystem, Text: "the client " + q.ClientID + " refused: " + a.Remark}
	}
	return a.Body, nil
}
