package gateway

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// END_TRANSACTION 37, RESUME_CHECK_HALF_MESSAGE 323
//
//   - The ends that one read of a connection brought are stored with one write.
//   - An end without a verdict gets no answer. One that names a half wrongly is
//     told in the log and counted all the same, which Apache's broker does not.
//   - 323 gives a half that was given up back to the checks, from the first on.
//   - Differences: an end that comes again changes nothing and succeeds, where
//     Apache's broker delivers the message once more; one that contradicts the
//     verdict that stands is refused with SYSTEM_ERROR, where Apache's does it,
//     delivering what was rolled back. A half with a delay is refused with
//     MESSAGE_ILLEGAL, where Apache's loses it. 323 takes nothing but halves.

func (s *session) readEnd(r *remoting.Request) (e broker.TransactionEnd, err error) {
	group, _ := r.Get("producerGroup")
	e.Group, e.Client = s.names.of(group), s.conn.RemoteAddr()
	offset, err := r.Int64("tranStateTableOffset")
	if err != nil {
		return e, err
	}
	position, err := r.Int64("commitLogOffset")
	if err != nil {
		return e, err
	}
	e.Offset, e.Position = message.Offset(offset), message.Position(position)
	word, err := r.Int32("commitOrRollback")
	if err != nil {
		return e, err
	}
	switch word {
	case 0:
		e.Verdict = broker.TransactionUnknown
	case 8:
		e.Verdict = broker.TransactionCommit
	case 12:
		e.Verdict = broker.TransactionRollback
	default:
		return e, &broker.Error{Kind: broker.KindSystem, Text: fmt.Sprintf("commitOrRollback field wrong: it is %d; it can be 8 commit, 12 rollback, 0 unknown", word)}
	}
	e.FromCheck, err = r.BoolOr("fromTransactionCheck", false)
	return e, err
}

// addEnd gathers an end; commitEnds applies and answers it.
func (s *session) addEnd(r *remoting.Request) {
	e, err := s.readEnd(r)
	if err != nil {
		s.broker.MalformedEnd(e.Group, err)
		s.answerError(r, err)
		return
	}
	if s.ender == nil {
		s.ender = s.broker.NewEnder()
	}
	s.ender.Add(e)
	s.ends = append(s.ends, r)
}

// commitEnds applies what addEnd gathered and answers it, at once or, with
// synchronous flushing, after the fsync.
func (s *session) commitEnds() {
	if len(s.ends) == 0 {
		return
	}
	var late []remoting.Ticket
	results := s.ender.Commit()
	waits := s.ender.Waits()
	for i, r := range s.ends {
		switch e := &results[i]; {
		case e.Verdict == broker.TransactionUnknown || r.OneWay():
		case e.Err != nil:
			s.answerError(r, e.Err)
		case waits:
			late = append(late, r.Ticket())
		default:
			_ = s.conn.Reply(r, remoting.RespSuccess).End()
		}
	}
	if len(late) > 0 {
		s.answerEndsWhenSafe(late)
	}
	s.ender.Reset()
	s.ends = s.ends[:0]
}

func (s *session) answerEndsWhenSafe(late []remoting.Ticket) {
	conn := s.conn
	s.gateway.owed.add()
	s.ender.WhenSafe(s.withinFlushTimeout(func(err error) {
		for _, ticket := range late {
			w := conn.Later(ticket, remoting.RespSuccess)
			if err != nil && err != errFlushTimeout { // late, it is stored all the same: a success, as with Apache
				w.Code(remoting.RespServiceNotAvailable).Remark("the end of the transaction could not be flushed to the disk and may be lost: " + err.Error())
			}
			_ = w.End()
		}
		s.gateway.owed.done()
	}))
}

// Our own requests about transactions: LIST 30201, SHOW 30202, RESOLVE 30203,
// CHECK 30204. Bodies are JSON.

func (s *session) listTransactions(r *remoting.Request) error {
	age, err := r.Int64Or("ageMs", 0)
	if err != nil {
		return err
	}
	limit, err := r.Int32Or("max", 0)
	if err != nil {
		return err
	}
	list, pending, err := s.broker.Transactions(broker.TransactionFilter{
		Group: r.StringOr("group", ""), Topic: r.StringOr("topic", ""), Key: r.StringOr("key", ""),
		Age: time.Duration(age) * time.Millisecond, Max: int(limit),
	})
	if err != nil {
		return err
	}
	if list == nil {
		list = []broker.TransactionInfo{}
	}
	return s.okJSON(r, map[string]any{"transactions": list, "pending": pending})
}

func (s *session) showTransaction(r *remoting.Request) error {
	id, err := r.String("id")
	if err != nil {
		return err
	}
	t, err := s.broker.Transaction(id)
	if err != nil {
		return err
	}
	return s.okJSON(r, t)
}

func (s *session) resolveTransaction(r *remoting.Request) error {
	id, err := r.String("id")
	if err != nil {
		return err
	}
	commit, err := r.Bool("commit")
	if err != nil {
		return err
	}
	t, err := s.broker.ResolveTransaction(id, commit, s.conn.RemoteAddr())
	if err != nil {
		return err
	}
	return s.okJSON(r, t)
}

func (s *session) checkTransaction(r *remoting.Request) error {
	id, err := r.String("id")
	if err != nil {
		return err
	}
	t, err := s.broker.CheckTransaction(id)
	if err != nil {
		return err
	}
	return s.okJSON(r, t)
}

// okJSON answers a request of ours with a body.
func (s *session) okJSON(r *remoting.Request, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.okBody(r, text)
}

func (s *session) resumeCheck(r *remoting.Request) error {
	id, err := r.String("msgId")
	if err != nil {
		return err
	}
	_, pos, err := message.ParseOffsetID(id)
	if err != nil {
		return &broker.Error{Kind: broker.KindInvalidParameter, Text: err.Error()}
	}
	if err := s.broker.ResumeTransaction(pos); err != nil {
		// Apache's tools know no other code here.
		return &broker.Error{Kind: broker.KindSystem, Text: "Put message back to RMQ_SYS_TRANS_HALF_TOPIC failed.", Cause: err}
	}
	return s.ok(r)
}
