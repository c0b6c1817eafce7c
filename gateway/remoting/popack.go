package gateway

import (
	"fmt"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// ACK_MESSAGE 200051, BATCH_ACK_MESSAGE 200151, CHANGE_MESSAGE_INVISIBLETIME 200053
//
//   - The acknowledgements of one read are written together, before the first of
//     them is answered.
//   - Acknowledging again what is acknowledged is a success; a handle that is not
//     the newest of its message gets NO_MESSAGE, where Apache's broker answers
//     success and does nothing.
//   - 200053 answers the popTime, invisibleTime and reviveQid of the new handle.
//     With suspend=true the next hand-out counts as no attempt.

// addAck acknowledges; the answer waits for commitAcks.
func (s *session) addAck(r *remoting.Request) {
	var err error
	if r.Code == remoting.ReqBatchAckMessage {
		err = s.ackBatch(r)
	} else {
		err = s.ack(r)
	}
	if err != nil {
		s.answerError(r, err)
		return
	}
	s.acks = append(s.acks, r)
}

// commitAcks waits until the acknowledgements are written, and answers them.
func (s *session) commitAcks() {
	if len(s.acks) == 0 {
		return
	}
	acks := s.acks
	s.acks = s.acks[:0]
	err := s.broker.PopsSafe()
	for _, r := range acks {
		if err != nil {
			s.answerError(r, err)
			continue
		}
		_ = s.ok(r)
	}
}

func (s *session) ack(r *remoting.Request) error {
	h, off, err := s.readHandle(r)
	if err != nil {
		return err
	}
	return s.broker.AckPop(&h, off)
}

// readHandle reads what names one message.
func (s *session) readHandle(r *remoting.Request) (h broker.PopHandle, off message.Offset, err error) {
	var text []byte
	queue, offset := int32(-1), int64(-1)
	for i := range r.Fields {
		f := &r.Fields[i]
		switch string(f.Key) {
		case "consumerGroup":
			h.Group = s.names.of(f.Value)
		case "topic":
			h.Topic = s.names.of(f.Value)
		case "queueId":
			queue, err = int32Of(f.Value)
		case "offset":
			offset, err = int64Of(f.Value)
		case "extraInfo":
			text = f.Value
		}
		if err != nil {
			return h, 0, &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the header field %s of %s: %s", f.Key, remoting.CodeName(r.Code), err)}
		}
	}
	handle, err := parsePopHandle(text)
	switch name := s.broker.Settings().Name; {
	case err != nil:
		return h, 0, err
	case handle.Broker != name:
		return h, 0, &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the handle %q is one of the broker %s; this is %s", clip(text), clip([]byte(handle.Broker)), name)}
	case handle.Queue != queue, handle.Offset >= 0 && handle.Offset != message.Offset(offset):
		return h, 0, badHandle(text, "the request names queue %d, offset %d", queue, offset)
	}
	h.Queue, h.PopTime = queue, handle.PopTime
	return h, message.Offset(offset), nil
}

func (s *session) ackBatch(r *remoting.Request) error {
	var req body.BatchAckRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if len(req.Acks) == 0 {
		return &broker.Error{Kind: broker.KindNoMessage, Text: "the batch acknowledges nothing"}
	}
	if name := s.broker.Settings().Name; req.BrokerName != "" && req.BrokerName != name {
		return &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the batch is for the broker %s; this is %s", clip([]byte(req.BrokerName)), name)}
	}
	var errs []error
	for i := range req.Acks {
		if err := s.ackEntry(&req.Acks[i]); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(req.Acks) {
		return errs[0]
	}
	return nil // what was refused comes again
}

// ackEntry acknowledges the messages of one hand-out; it is refused where none
// of them can be.
func (s *session) ackEntry(a *body.BatchAck) error {
	offsets, err := batchOffsets(a)
	if err != nil {
		return err
	}
	h := broker.PopHandle{Group: a.ConsumerGroup, Topic: a.Topic, Queue: a.QueueID, PopTime: a.PopTime}
	var refused error
	good := false
	for len(offsets) > 0 {
		n := min(len(offsets), pop.MaxTake)
		if err := s.broker.AckPop(&h, offsets[:n]...); err != nil {
			refused = err
		} else {
			good = true
		}
		offsets = offsets[n:]
	}
	if good {
		return nil
	}
	return refused
}

func (s *session) changeInvisible(r *remoting.Request) error {
	h, off, err := s.readHandle(r)
	if err != nil {
		return err
	}
	invisible, err := r.Int64("invisibleTime")
	if err != nil {
		return invalid(err)
	}
	suspend, err := r.BoolOr("suspend", false)
	if err != nil {
		return invalid(err)
	}
	popTime, err := s.broker.ChangePop(&h, off, milliseconds(invisible), suspend)
	if err != nil {
		return err
	}
	if err := s.broker.PopsSafe(); err != nil {
		return err
	}
	text, _ := r.Get("extraInfo")
	handle, _ := parsePopHandle(text) // readHandle could
	return s.conn.Reply(r, remoting.RespSuccess).Int("popTime", popTime).Int("invisibleTime", invisible).
		Int("reviveQid", int64(handle.ReviveQid)).End()
}
