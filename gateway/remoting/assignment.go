package gateway

import (
	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// QUERY_ASSIGNMENT 400, SET_MESSAGE_REQUEST_MODE 401, GET_ALL_MESSAGE_REQUEST_MODE 402
//
//   - 400 divides the queues of this broker, by AVG or AVG_BY_CIRCLE, as long as
//     the name servers know no other broker. Beside others it is not supported
//     (3): a Java client then divides by itself, and it alone sees the queues of
//     every broker.
//   - A topic or member that is not known here gets no assignment at all, which
//     means to keep what one has.
//   - 401 takes the mode PULL alone.
//   - Difference: Apache's broker looks the route up and divides in any case.

func (s *session) queryAssignment(r *remoting.Request) error {
	var req body.QueryAssignmentRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if !s.broker.Alone() {
		return s.conn.Answer(r, remoting.Response{
			Code:   remoting.RespRequestCodeNotSupported,
			Remark: "this broker leaves it to the members of " + req.ConsumerGroup + " to divide the queues of " + req.Topic,
		})
	}
	queues, known, err := s.broker.Assign(req.Topic, req.ConsumerGroup, req.ClientID, req.StrategyName, req.MessageModel == body.Broadcasting)
	if err != nil {
		return err
	}
	var out body.QueryAssignmentResponse
	if known {
		out.Assignments = make([]body.MessageQueueAssignment, len(queues))
	}
	for i, q := range queues {
		out.Assignments[i] = body.MessageQueueAssignment{
			Mode:         body.ModePull,
			MessageQueue: &body.MessageQueue{Topic: req.Topic, BrokerName: s.broker.Settings().Name, QueueID: q},
		}
	}
	return s.okBody(r, body.Encode(out))
}

func (s *session) setRequestMode(r *remoting.Request) error {
	var m body.SetMessageRequestMode
	if err := decode(r, &m); err != nil {
		return err
	}
	err := s.broker.SetRequestMode(broker.RequestMode{Topic: m.Topic, Group: m.ConsumerGroup, Pop: m.Mode == body.ModePop, Shared: m.PopShareQueueNum})
	if err != nil {
		return err
	}
	return s.ok(r)
}

func (s *session) requestModes(r *remoting.Request) error {
	all, err := s.broker.RequestModes()
	if err != nil {
		return err
	}
	out := body.MessageRequestModes{Modes: map[string]map[string]body.SetMessageRequestMode{}}
	for _, m := range all {
		if out.Modes[m.Topic] == nil {
			out.Modes[m.Topic] = map[string]body.SetMessageRequestMode{}
		}
		out.Modes[m.Topic][m.Group] = body.SetMessageRequestMode{Topic: m.Topic, ConsumerGroup: m.Group, Mode: body.ModePull, PopShareQueueNum: m.Shared}
	}
	return s.okBody(r, body.Encode(out))
}
