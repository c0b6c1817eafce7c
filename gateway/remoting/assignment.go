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
//     every broker. A group that pops gets the queue -1 of each broker that has
//     the topic, and nothing as long as the name servers did not tell which.
//   - A topic or member that is not known here gets no assignment at all, which
//     means to keep what one has.
//   - A group that pops gets the queue -1, which is all of them, or, with fewer
//     than all members sharing queues, its own and those of the members behind it.
//   - Difference: Apache's broker looks the route up and divides in any case.

func (s *session) queryAssignment(r *remoting.Request) error {
	var req body.QueryAssignmentRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if !s.broker.Alone() {
		if done, err := s.assignBrokers(r, &req); done || err != nil {
			return err
		}
		return s.conn.Answer(r, remoting.Response{
			Code:   remoting.RespRequestCodeNotSupported,
			Remark: "this broker leaves it to the members of " + req.ConsumerGroup + " to divide the queues of " + req.Topic,
		})
	}
	mode := body.ModePop
	queues, pops, known, err := s.broker.AssignPop(req.Topic, req.ConsumerGroup, req.ClientID, req.StrategyName)
	if err == nil && (!pops || req.MessageModel == body.Broadcasting) {
		mode = body.ModePull
		queues, known, err = s.broker.Assign(req.Topic, req.ConsumerGroup, req.ClientID, req.StrategyName, req.MessageModel == body.Broadcasting)
	}
	if err != nil {
		return err
	}
	var out body.QueryAssignmentResponse
	if known {
		out.Assignments = make([]body.MessageQueueAssignment, len(queues))
	}
	for i, q := range queues {
		out.Assignments[i] = body.MessageQueueAssignment{
			Mode:         mode,
			MessageQueue: &body.MessageQueue{Topic: req.Topic, BrokerName: s.broker.Settings().Name, QueueID: q},
		}
	}
	return s.okBody(r, body.Encode(out))
}

// assignBrokers answers a member of a group that pops where there are several
// brokers; done is false if the group does not pop.
func (s *session) assignBrokers(r *remoting.Request, req *body.QueryAssignmentRequest) (done bool, err error) {
	brokers, pops, err := s.broker.PopBrokers(req.Topic, req.ConsumerGroup)
	if err != nil || !pops || req.MessageModel == body.Broadcasting {
		return false, err
	}
	var out body.QueryAssignmentResponse
	for _, name := range brokers {
		out.Assignments = append(out.Assignments, body.MessageQueueAssignment{
			Mode:         body.ModePop,
			MessageQueue: &body.MessageQueue{Topic: req.Topic, BrokerName: name, QueueID: broker.AnyQueue},
		})
	}
	return true, s.okBody(r, body.Encode(out))
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
		mode := body.ModePull
		if m.Pop {
			mode = body.ModePop
		}
		out.Modes[m.Topic][m.Group] = body.SetMessageRequestMode{Topic: m.Topic, ConsumerGroup: m.Group, Mode: mode, PopShareQueueNum: m.Shared}
	}
	return s.okBody(r, body.Encode(out))
}
