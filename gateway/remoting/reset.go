package gateway

import (
	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// INVOKE_BROKER_TO_RESET_OFFSET 222, CLONE_GROUP_OFFSET 314
//
//   - 222 answers with the new offsets and pushes them to every member of the
//     group with RESET_CONSUMER_CLIENT_OFFSET 220; without isForce offsets only go
//     back.
//   - Differences: without members the offsets are committed at once, where
//     Apache before 5.1 answers CONSUMER_NOT_ONLINE and leaves it to the tool;
//     Apache since 5.1 keeps the reset to itself and answers the next pull with
//     it, so that members that pull nothing never learn of it.

func (s *session) resetOffset(r *remoting.Request) error {
	req, err := readReset(r)
	if err != nil {
		return err
	}
	offsets, err := s.broker.ResetOffsets(&req)
	if err != nil {
		return err
	}
	out := body.ResetOffset{OffsetTable: make(map[body.MessageQueue]int64, len(offsets))}
	for q, at := range offsets {
		out.OffsetTable[queueBody(q)] = int64(at)
	}
	return s.okBody(r, body.Encode(out))
}

func readReset(r *remoting.Request) (req broker.ResetRequest, err error) {
	if req.Topic, err = r.String("topic"); err != nil {
		return req, err
	}
	if req.Group, err = r.String("group"); err != nil {
		return req, err
	}
	if req.Timestamp, err = r.Int64("timestamp"); err != nil {
		return req, err
	}
	if req.Force, err = r.Bool("isForce"); err != nil {
		return req, err
	}
	if req.Queue, err = r.Int32Or("queueId", -1); err != nil {
		return req, err
	}
	offset, err := r.Int64Or("offset", -1)
	req.Offset = message.Offset(offset)
	return req, err
}

func (s *session) cloneOffset(r *remoting.Request) error {
	from, err := r.String("srcGroup")
	if err != nil {
		return err
	}
	to, err := r.String("destGroup")
	if err != nil {
		return err
	}
	offline, err := r.BoolOr("offline", false)
	if err != nil {
		return err
	}
	if err := s.broker.CloneOffsets(from, to, r.StringOr("topic", ""), offline); err != nil {
		return err
	}
	return s.ok(r)
}
