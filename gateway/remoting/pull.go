package gateway

import (
	"fmt"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// PULL_MESSAGE 11, LITE_PULL_MESSAGE 361
//
//   - Every answer 0, 19, 20 and 21 carries suggestWhichBrokerId,
//     nextBeginOffset, minOffset and maxOffset.
//   - A pull that finds nothing, may wait and comes for the first time is
//     parked; it is answered when a message that it matches arrives, or when its
//     time is up.
//   - Where too many wait already the answer is SYSTEM_BUSY, after which clients
//     pause; see broker.Holder.
//   - The commit that rides on a pull counts on its first arrival only.
//   - Differences: a queue that the topic does not have is answered with
//     INVALID_PARAMETER and the queues that it has.

// Bits of a pull's sysFlag.
const (
	pullCommit       = 1
	pullSuspend      = 2
	pullSubscription = 4
)

func (s *session) pull(r *remoting.Request) error {
	p := &s.pulls
	if err := s.readPull(r, p); err != nil {
		return err
	}
	parked := s.spare
	if parked == nil {
		parked = &parkedPull{session: s}
	}
	s.spare = nil
	parked.ticket = r.Ticket()
	w := s.conn.Reply(r, remoting.RespSuccess)
	res, body, err := s.broker.Pull(p, w.BodyBuffer(), parked)
	if err == nil && res.Status == broker.PullParked {
		w.Drop()
		return nil
	}
	s.spare = parked
	if err != nil {
		w.Drop()
		return s.refusePull(s.conn.Reply(r, remoting.RespSystemError), err)
	}
	return answerPull(w.SetBody(body), &res)
}

func answerPull(w *remoting.Writer, res *broker.PullResult) error {
	switch res.Status {
	case broker.PullNothing:
		w.Code(remoting.RespPullNotFound)
	case broker.PullNoMatch:
		w.Code(remoting.RespPullRetryImmediately)
	case broker.PullOffsetMoved:
		w.Code(remoting.RespPullOffsetMoved)
	}
	return w.Remark(res.Store.String()).Int("suggestWhichBrokerId", res.Suggest).Int("nextBeginOffset", int64(res.Next)).
		Int("minOffset", int64(res.Min)).Int("maxOffset", int64(res.Max)).
		Int("topicSysFlag", int64(res.TopicFlag)).Int("groupSysFlag", int64(res.GroupFlag)).End()
}

func (s *session) refusePull(w *remoting.Writer, err error) error {
	code, refusal := codeOf(err)
	w.Code(code).Remark(err.Error())
	if refusal != nil && refusal.Forbidden != 0 {
		w.Int("forbiddenType", int64(refusal.Forbidden))
	}
	return w.End()
}

// readPull takes a pull's header apart.
func (s *session) readPull(r *remoting.Request, p *broker.PullRequest) error {
	if s.clientID == "" {
		s.clientID = s.conn.RemoteAddr().String()
	}
	*p = broker.PullRequest{Lite: r.Code == remoting.ReqLitePullMessage, ClientID: s.clientID}
	var flag int32
	var wait int64
	var expression []byte
	for i := range r.Fields {
		f := &r.Fields[i]
		var err error
		switch string(f.Key) {
		case "consumerGroup":
			p.Group = s.names.of(f.Value)
		case "topic":
			p.Topic = s.names.of(f.Value)
		case "queueId":
			p.QueueID, err = int32Of(f.Value)
		case "queueOffset":
			var n int64
			n, err = int64Of(f.Value)
			p.Offset = message.Offset(n)
		case "maxMsgNums":
			p.MaxCount, err = int32Of(f.Value)
		case "maxMsgBytes":
			p.MaxBytes, err = int32Of(f.Value)
		case "sysFlag":
			flag, err = int32Of(f.Value)
		case "commitOffset":
			var n int64
			n, err = int64Of(f.Value)
			p.Commit = message.Offset(n)
		case "suspendTimeoutMillis":
			wait, err = int64Of(f.Value)
		case "subVersion":
			p.SubVersion, err = int64Of(f.Value)
		case "subscription":
			expression = f.Value
		case "expressionType":
			p.ExpressionType = s.names.of(f.Value)
		}
		if err != nil {
			return &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the header field %s of the pull request: %s", f.Key, err)}
		}
	}
	p.HasCommit = flag&pullCommit != 0
	p.MaySuspend = flag&pullSuspend != 0
	p.Suspend = time.Duration(min(max(wait, 0), int64(24*time.Hour/time.Millisecond))) * time.Millisecond
	if flag&pullSubscription != 0 {
		p.OwnExpression = true
		p.Expression = s.names.expression(expression)
	}
	return nil
}

// parkedPull is a pull that waits in the broker.
type parkedPull struct {
	session *session
	ticket  remoting.Ticket
}

// Gone implements broker.Parked.
func (p *parkedPull) Gone() bool { return p.session.closed.Load() }

// Holder implements broker.Parked.
func (p *parkedPull) Holder() *broker.Holder { return &p.session.holder }

// Answer implements broker.Parked.
func (p *parkedPull) Answer(r *broker.PullRequest) {
	w := p.session.conn.Later(p.ticket, remoting.RespSuccess)
	res, body, err := p.session.broker.Repull(r, w.BodyBuffer())
	if err != nil {
		w.Drop()
		_ = p.session.refusePull(p.session.conn.Later(p.ticket, remoting.RespSystemError), err)
		return
	}
	_ = answerPull(w.SetBody(body), &res)
}
