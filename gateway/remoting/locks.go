package gateway

import (
	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// LOCK_BATCH_MQ 41, UNLOCK_BATCH_MQ 42
//
//   - 41 answers with the queues that the client holds now, newly or still; a
//     lock lasts 60 s (rebalanceLockMaxLiveTime) after it was last taken.
//   - Difference: who holds what outlives a restart of the broker.
//   - onlyThisBroker changes nothing: a broker here has no replicas to ask.

func readLocks(r *remoting.Request) (req body.LockBatchRequest, queues []broker.QueueRef, err error) {
	if err := decode(r, &req); err != nil {
		return req, nil, err
	}
	if err := required(r, "consumerGroup", req.ConsumerGroup); err != nil {
		return req, nil, err
	}
	if err := required(r, "clientId", req.ClientID); err != nil {
		return req, nil, err
	}
	for _, q := range req.MQSet {
		queues = append(queues, broker.QueueRef{Topic: q.Topic, Broker: q.BrokerName, Queue: q.QueueID})
	}
	return req, queues, nil
}

func (s *session) lockQueues(r *remoting.Request) error {
	req, queues, err := readLocks(r)
	if err != nil {
		return err
	}
	var answer body.LockBatchResponse
	held, err := s.broker.Locks().Lock(req.ConsumerGroup, req.ClientID, queues)
	if err != nil {
		return err
	}
	for _, q := range held {
		answer.LockOKMQSet = append(answer.LockOKMQSet, queueBody(q))
	}
	return s.okBody(r, body.Encode(answer))
}

func (s *session) unlockQueues(r *remoting.Request) error {
	req, queues, err := readLocks(r)
	if err != nil {
		return err
	}
	if err := s.broker.Locks().Unlock(req.ConsumerGroup, req.ClientID, queues); err != nil {
		return err
	}
	return s.ok(r)
}

func queueBody(q broker.QueueRef) body.MessageQueue {
	return body.MessageQueue{Topic: q.Topic, BrokerName: q.Broker, QueueID: q.Queue}
}
