package gateway

import (
	"errors"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/remoting"
)

// NOTIFICATION 200054, POLLING_INFO 200055
//
//   - 200054 waits as a pop does and answers whether there is something to pop:
//     hasMsg, and pollingFull if too many wait already. Its filter is not looked
//     at: a pop may still find that nothing matches.
//   - 200055 answers how many pops and notifications wait for the queue of a
//     group; -1 counts those that wait for any.

// addPops adds the requests of pops; acknowledgements are not in it: see
// gateway.go.
func addPops(t map[int]serveFunc) {
	t[remoting.ReqPopMessage] = (*session).pop
	t[remoting.ReqChangeMessageInvisibleTime] = (*session).changeInvisible
	t[remoting.ReqNotification] = (*session).notification
	t[remoting.ReqPollingInfo] = (*session).pollingInfo
}

func (s *session) notification(r *remoting.Request) error {
	n := parkedNotice{session: s}
	var err error
	if n.topic, err = r.String("topic"); err != nil {
		return invalid(err)
	}
	if n.group, err = r.String("consumerGroup"); err != nil {
		return invalid(err)
	}
	if n.queue, err = r.Int32Or("queueId", -1); err != nil {
		return invalid(err)
	}
	if n.order, err = r.BoolOr("order", false); err != nil {
		return invalid(err)
	}
	poll, err := r.Int64Or("pollTime", 0)
	if err != nil {
		return invalid(err)
	}
	has, err := s.broker.HasPop(n.group, n.topic, n.queue, n.order)
	if err != nil {
		return err
	}
	wait := milliseconds(poll)
	if has || wait <= 0 {
		return answerNotice(s.conn.Reply(r, remoting.RespSuccess), has, false)
	}
	n.ticket = r.Ticket()
	line := pop.Line{Key: pop.Key{Topic: n.topic, Group: n.group, Queue: n.queue}, Order: n.order}
	err = s.broker.ParkNotice(line, s.conn.RemoteAddr().String(), wait, &n)
	var refusal *broker.Error
	if errors.As(err, &refusal) && refusal.Kind == broker.KindPollingFull {
		return answerNotice(s.conn.Reply(r, remoting.RespSuccess).Remark(refusal.Text), false, true)
	}
	return err
}

func answerNotice(w *remoting.Writer, has, full bool) error {
	return w.Bool("hasMsg", has).Bool("pollingFull", full).End()
}

// parkedNotice is a notification that waits in the broker.
type parkedNotice struct {
	session      *session
	ticket       remoting.Ticket
	group, topic string
	queue        int32
	order        bool
}

// Gone implements pop.Waiter.
func (n *parkedNotice) Gone() bool { return n.session.closed.Load() }

// Holder implements pop.Waiter.
func (n *parkedNotice) Holder() *pop.Holder { return &n.session.holder.Pops }

// Try implements pop.Waiter.
func (n *parkedNotice) Try() bool {
	has, err := n.session.broker.HasPop(n.group, n.topic, n.queue, n.order)
	switch {
	case err != nil:
		code, _ := codeOf(err)
		_ = n.session.conn.Later(n.ticket, code).Remark(err.Error()).End()
		return true
	case has:
		_ = answerNotice(n.session.conn.Later(n.ticket, remoting.RespSuccess), true, false)
	}
	return has
}

// TimeUp implements pop.Waiter.
func (n *parkedNotice) TimeUp() {
	_ = answerNotice(n.session.conn.Later(n.ticket, remoting.RespSuccess), false, false)
}

func (s *session) pollingInfo(r *remoting.Request) error {
	topic, err := r.String("topic")
	if err != nil {
		return invalid(err)
	}
	group, err := r.String("consumerGroup")
	if err != nil {
		return invalid(err)
	}
	queue, err := r.Int32("queueId")
	if err != nil {
		return invalid(err)
	}
	n, err := s.broker.Popping(group, topic, queue)
	if err != nil {
		return err
	}
	return s.conn.Reply(r, remoting.RespSuccess).Int("pollingNum", int64(n)).End()
}
