package gateway

import (
	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// CONSUMER_SEND_MSG_BACK 36
//
//   - offset is the position of the record in the log of this broker.
//   - A group whose retryQueueNums is 0 gets success, and its message is gone.
//   - Each answer that is not success makes clients send the message anew, to the
//     retry topic: see send.go.

func (s *session) sendBack(r *remoting.Request) error {
	req, err := s.readSendBack(r)
	if err != nil {
		return err
	}
	if err := s.broker.SendBack(&req); err != nil {
		return err
	}
	return s.ok(r)
}

func (s *session) readSendBack(r *remoting.Request) (req broker.SendBackRequest, err error) {
	if req.Group, err = r.String("group"); err != nil {
		return req, err
	}
	offset, err := r.Int64("offset")
	if err != nil {
		return req, err
	}
	if req.DelayLevel, err = r.Int32("delayLevel"); err != nil {
		return req, err
	}
	if req.UnitMode, err = r.BoolOr("unitMode", false); err != nil {
		return req, err
	}
	if req.MaxReconsumeTimes, err = r.Int32Or("maxReconsumeTimes", -1); err != nil {
		return req, err
	}
	if r.Version < versionMaxReconsume {
		req.MaxReconsumeTimes = -1
	}
	req.Position, req.OriginTopic, req.StoreHost, req.Client = message.Position(offset), r.StringOr("originTopic", ""), s.storeHost, s
	return req, nil
}
