package gateway

import (
	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
)

// Our own requests: MERLIN_WHY_MESSAGE 30302, MERLIN_WHY_QUEUE 30303
//
//   - 30302 takes a broker.WhyQuery as JSON and answers with the messages that
//     it names; QUERY_NOT_FOUND if this broker knows none.
//   - 30303 takes topic, queueId and group in its header.

func (s *session) whyMessage(r *remoting.Request) error {
	var q broker.WhyQuery
	if err := readJSON(r, &q); err != nil {
		return err
	}
	found, err := s.broker.WhyMessage(q)
	if err != nil {
		return err
	}
	return s.okJSON(r, map[string]any{"messages": found})
}

func (s *session) whyQueue(r *remoting.Request) error {
	topic, queue, err := queueOf(r)
	if err != nil {
		return invalid(err)
	}
	why, err := s.broker.WhyQueue(topic, queue, r.StringOr("group", ""))
	if err != nil {
		return err
	}
	return s.okJSON(r, why)
}
