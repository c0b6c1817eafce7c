package gateway

import (
	"bytes"
	"context"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
)

// SEND_REPLY_MESSAGE 324, SEND_REPLY_MESSAGE_V2 325, PUSH_REPLY_MESSAGE_TO_CLIENT 326
//
//   - The reply is pushed to who asked and answered when that client has taken it,
//     with msgId 0 and queueOffset 0; it is stored too, unless
//     storeReplyMessageEnable is false.
//   - Who asked is found by its request, so that its heartbeat may come later.
//   - Differences: an empty body is a reply like any other (Apache's broker answers
//     a NullPointerException); a requester that took no heartbeat to this broker
//     yet gets its reply (with Apache it times out).

// maxReplies bounds the replies that wait for their requesters to take them.
const maxReplies = 8192

func (s *session) reply(r *remoting.Request) error {
	var req broker.SendRequest
	if err := readSend(r, &req); err != nil {
		s.refuseSend(r, err)
		return nil
	}
	req.BornHost, req.StoreHost = s.conn.RemoteAddr(), s.storeHost
	// The request's bytes are the connection's; the reply outlives this call.
	for _, part := range []*[]byte{&req.Group, &req.Topic, &req.DefaultTopic, (*[]byte)(&req.Properties), &req.Body} {
		*part = bytes.Clone(*part)
	}
	ticket := r.Ticket()
	err := s.gateway.replies.start(broker.ReplyTimeout, func(ctx context.Context) {
		err := s.broker.Reply(ctx, &req)
		w := s.conn.Later(ticket, remoting.RespSuccess)
		if err != nil {
			code, _ := codeOf(err)
			w.Code(code).Remark(err.Error())
		} else {
			w.Str("msgId", "0").Int("queueId", int64(req.QueueID)).Int("queueOffset", 0)
		}
		w.Fixed(s.gateway.stamp)
		_ = w.End() // who replied may be gone
	})
	if err != nil {
		s.refuseSend(r, err)
	}
	return nil
}

// replyFields are the fields of 326.
func replyFields(r *broker.Reply) remoting.Fields {
	var f remoting.Fields
	f.Str("producerGroup", string(r.Send.Group))
	f.Str("topic", string(r.Send.Topic))
	f.Str("defaultTopic", string(r.Send.DefaultTopic))
	f.Int("defaultTopicQueueNums", int64(r.Send.DefaultQueues))
	f.Int("queueId", int64(r.Send.QueueID))
	f.Int("sysFlag", int64(r.Send.SysFlag))
	f.Int("bornTimestamp", r.Send.BornTimestamp)
	f.Int("flag", int64(r.Send.Flag))
	f.Str("properties", string(r.Properties))
	f.Int("reconsumeTimes", int64(r.Send.ReconsumeTimes))
	f.Bool("unitMode", r.Send.UnitMode)
	f.Str("bornHost", r.Send.BornHost.String())
	f.Str("storeHost", r.Send.StoreHost.String())
	f.Int("storeTimestamp", r.StoreTime)
	return f
}
