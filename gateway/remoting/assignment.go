package gateway

import (
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// QUERY_ASSIGNMENT 400
//
//   - Consumers are told to divide the queues among themselves, as they did
//     before Apache 5: a Java client that is answered with an error falls back to
//     that, and it alone sees the queues of every broker. That is pull mode.
//   - Difference: Apache's broker looks the route up and divides.

func (s *session) queryAssignment(r *remoting.Request) error {
	var req body.QueryAssignmentRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	return s.conn.Answer(r, remoting.Response{
		Code:   remoting.RespRequestCodeNotSupported,
		Remark: "this broker leaves it to the members of " + req.ConsumerGroup + " to divide the queues of " + req.Topic,
	})
}
