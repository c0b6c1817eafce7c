package gateway

import (
	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// QUERY_CONSUMER_OFFSET 14, UPDATE_CONSUMER_OFFSET 15,
// SEARCH_OFFSET_BY_TIMESTAMP 29, GET_MAX_OFFSET 30, GET_MIN_OFFSET 31,
// GET_EARLIEST_MSG_STORETIME 32, GET_ALL_CONSUMER_OFFSET 43
//
//   - 14 of a group that never committed is QUERY_NOT_FOUND, which clients take
//     for their first start; or 0, where the queue's first message is still at
//     hand and the client does not forbid it.
//   - 15 takes a lower offset than before.
//   - 29 to 31 of a queue that there is not give 0, 32 gives -1.

func (s *session) queryOffset(r *remoting.Request) error {
	group, err := r.String("consumerGroup")
	if err != nil {
		return notFound(err)
	}
	topic, queue, err := queueOf(r)
	if err != nil {
		return err
	}
	zero, err := r.BoolOr("setZeroIfNotFound", true)
	if err != nil {
		return err
	}
	offset, err := s.broker.QueryOffset(group, topic, queue, !zero)
	if err != nil {
		return err
	}
	return s.okOffset(r, offset)
}

func (s *session) updateOffset(r *remoting.Request) error {
	group, err := r.String("consumerGroup")
	if err != nil {
		return invalid(err)
	}
	topic, queue, err := queueOf(r)
	if err != nil {
		return invalid(err)
	}
	offset, err := r.Int64("commitOffset")
	if err != nil {
		return invalid(err)
	}
	if err := s.broker.CommitOffset(group, topic, queue, message.Offset(offset)); err != nil {
		return err
	}
	return s.ok(r)
}

func (s *session) maxOffset(r *remoting.Request) error {
	topic, queue, err := queueOf(r)
	if err != nil {
		return err
	}
	return s.okOffset(r, s.broker.Store().QueueMax(topic, queue))
}

func (s *session) minOffset(r *remoting.Request) error {
	topic, queue, err := queueOf(r)
	if err != nil {
		return err
	}
	return s.okOffset(r, s.broker.Store().QueueMin(topic, queue))
}

func (s *session) searchOffset(r *remoting.Request) error {
	topic, queue, err := queueOf(r)
	if err != nil {
		return err
	}
	at, err := r.Int64("timestamp")
	if err != nil {
		return err
	}
	boundary, _ := r.Get("boundaryType")
	upper := len(boundary) == 5 && string(lower(boundary)) == "upper"
	offset, err := s.broker.OffsetByTime(topic, queue, at, upper)
	if err != nil {
		return err
	}
	return s.okOffset(r, offset)
}

func (s *session) earliestTime(r *remoting.Request) error {
	topic, queue, err := queueOf(r)
	if err != nil {
		return err
	}
	return s.conn.Reply(r, remoting.RespSuccess).Int("timestamp", s.broker.EarliestTime(topic, queue)).End()
}

func (s *session) allOffsets(r *remoting.Request) error {
	v := versionBody(s.broker.Offsets().Version())
	all := body.ConsumerOffsets{DataVersion: &v, OffsetTable: map[string]map[int32]int64{}}
	s.broker.Offsets().Each(func(group, topic string, offsets map[int32]message.Offset) {
		queues := make(map[int32]int64, len(offsets))
		for queue, offset := range offsets {
			queues[queue] = int64(offset)
		}
		all.OffsetTable[topic+"@"+group] = queues
	})
	return s.okBody(r, body.Encode(all))
}

// invalid makes a field's error INVALID_PARAMETER.
func invalid(err error) error {
	return &broker.Error{Kind: broker.KindInvalidParameter, Text: err.Error()}
}

// notFound makes a field's error QUERY_NOT_FOUND, for what Apache looks up with
// no name and does not find.
func notFound(err error) error {
	return &broker.Error{Kind: broker.KindNotFound, Text: err.Error()}
}

// queueOf reads the fields that name a queue.
func queueOf(r *remoting.Request) (topic string, queue int32, err error) {
	if topic, err = r.String("topic"); err != nil {
		return "", 0, err
	}
	queue, err = r.Int32("queueId")
	return topic, queue, err
}

func (s *session) okOffset(r *remoting.Request, offset message.Offset) error {
	return s.conn.Reply(r, remoting.RespSuccess).Int("offset", int64(offset)).End()
}

// lower returns ASCII letters in lower case.
func lower(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		out[i] = c
	}
	return out
}
