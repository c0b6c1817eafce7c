package gateway

import "github.com/merlinmq/merlin/remoting"

// CLEAN_EXPIRED_CONSUMEQUEUE 306, DELETE_EXPIRED_COMMITLOG 329
//
//   - Neither has header fields that count, nor a body in its answer.
//   - 329 deletes segments that are past fileReservedTime at any hour of the
//     day, at most ten at a time; Apache's broker remembers it for 20 rounds.
//   - 306 trims the queues to the start of the log. Apache's broker removes
//     queues of which nothing is left; here they keep their next offset.

func (s *session) cleanQueues(r *remoting.Request) error {
	if err := s.broker.Store().FollowLog(); err != nil {
		return err
	}
	return s.ok(r)
}

func (s *session) deleteExpired(r *remoting.Request) error {
	if err := s.broker.Retain(true); err != nil {
		return err
	}
	return s.ok(r)
}
