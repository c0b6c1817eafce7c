package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// SEND_MESSAGE 10, SEND_MESSAGE_V2 310, SEND_BATCH_MESSAGE 320
//
//   - The sends that one read of a connection brought are stored with one write.
//   - Code 10 has fields with long names, 310 and 320 letters; whether the body
//     is a batch is told by the field m, not by the code.
//   - A send that waits for its fsync longer than syncFlushTimeout is answered
//     FLUSH_DISK_TIMEOUT, with all fields: the message is stored.
//   - Answers carry MSG_REGION and TRACE_ON, refusals too: clients look for them.
//   - Differences: a topic without the write bit is refused (Apache looks at the
//     bit in routes alone); a send without a topic and a broken batch get a
//     sentence where Apache sends the name of a Java exception.

// readSend takes a send request's header apart. The result points into the request.
func readSend(r *remoting.Request, s *broker.SendRequest) error {
	*s = broker.SendRequest{MaxReconsumeTimes: -1, Body: r.Body}
	letters := r.Code == remoting.ReqSendMessageV2 || r.Code == remoting.ReqSendBatchMessage || r.Code == remoting.ReqSendReplyMessageV2
	for i := range r.Fields {
		f := &r.Fields[i]
		var err error
		if letters && len(f.Key) == 1 {
			err = readSendField(s, f.Key[0], f.Value)
		} else if !letters {
			err = readSendField(s, sendLetter(f.Key), f.Value)
		}
		if err != nil {
			return &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the header field %s of the send request: %s", f.Key, err)}
		}
	}
	return nil
}

// sendLetter returns the letter that stands for a field's long name, or 0.
func sendLetter(name []byte) byte {
	switch string(name) {
	case "producerGroup":
		return 'a'
	case "topic":
		return 'b'
	case "defaultTopic":
		return 'c'
	case "defaultTopicQueueNums":
		return 'd'
	case "queueId":
		return 'e'
	case "sysFlag":
		return 'f'
	case "bornTimestamp":
		return 'g'
	case "flag":
		return 'h'
	case "properties":
		return 'i'
	case "reconsumeTimes":
		return 'j'
	case "unitMode":
		return 'k'
	case "maxReconsumeTimes":
		return 'l'
	case "batch":
		return 'm'
	}
	return 0
}

func readSendField(s *broker.SendRequest, letter byte, v []byte) (err error) {
	switch letter {
	case 'a':
		s.Group = v
	case 'b':
		s.Topic = v
	case 'c':
		s.DefaultTopic = v
	case 'd':
		s.DefaultQueues, err = int32Of(v)
	case 'e':
		s.QueueID, err = int32Of(v)
	case 'f':
		var n int32
		n, err = int32Of(v)
		s.SysFlag = message.SysFlag(n)
	case 'g':
		s.BornTimestamp, err = int64Of(v)
	case 'h':
		s.Flag, err = int32Of(v)
	case 'i':
		s.Properties = v
	case 'j':
		s.ReconsumeTimes, err = int32Of(v)
	case 'k':
		s.UnitMode = boolOf(v)
	case 'l':
		s.MaxReconsumeTimes, err = int32Of(v)
	case 'm':
		s.Batch = boolOf(v)
	}
	return err
}

func isSend(code int) bool {
	return code == remoting.ReqSendMessage || code == remoting.ReqSendMessageV2 || code == remoting.ReqSendBatchMessage
}

// addSend checks and encodes a send; commitSends stores and answers it.
func (s *session) addSend(r *remoting.Request) {
	if s.sender == nil {
		s.sender = s.broker.NewSender()
	}
	req := &s.request
	if err := readSend(r, req); err != nil {
		s.refuseSend(r, err)
		return
	}
	if r.Version < versionMaxReconsume {
		req.MaxReconsumeTimes = -1
	}
	s.mixed = s.mixed || req.SysFlag.Transaction() != 0
	req.BornHost, req.StoreHost, req.Client = s.conn.RemoteAddr(), s.storeHost, s
	s.sender.Add(req)
	s.sends = append(s.sends, r)
}

// versionMaxReconsume is the first client version whose maxReconsumeTimes counts: 3.4.9.
const versionMaxReconsume = 121

// commitSends stores what addSend gathered and answers it, at once or, where a
// message waits for its fsync, after it.
func (s *session) commitSends() {
	if len(s.sends) == 0 {
		return
	}
	results := s.sender.Commit()
	switch {
	case !s.sender.Waits():
		s.answerSends(results)
	case s.flushAlone(results):
	default:
		s.answerWhenSafe(results)
	}
	s.sender.Reset()
	s.sends = s.sends[:0]
}

func (s *session) answerSends(results []broker.SendResult) {
	for i, r := range s.sends {
		s.answerSend(s.conn.Reply(r, remoting.RespSuccess), &results[i])
	}
}

// flushAlone answers the sends after an fsync on this goroutine, if nobody else
// is at one: a lone producer is answered sooner than by way of the flusher. An
// fsync that takes too long is answered by a timer; it holds up what follows on
// this connection, so only connections that do nothing but send take this way.
func (s *session) flushAlone(results []broker.SendResult) bool {
	if s.mixed {
		return false
	}
	var done func(error)
	alone, err := s.sender.FlushAlone(func() {
		done = s.withinFlushTimeout(func(err error) {
			if err == errFlushTimeout { // from the timer, which reads what is this goroutine's while that waits
				answerLate(s.conn, s.gateway.stamp, s.lateSends(results), err)
				return
			}
			for i := range results {
				results[i].Err = cmp.Or(results[i].Err, unsafeError(err))
			}
			s.answerSends(results)
			_ = s.conn.Flush() // before others are woken for what is new
		})
	})
	if !alone {
		return false
	}
	defer s.sender.Show()
	done(err)
	return true
}

// answerSend writes the answer to one send.
func (s *session) answerSend(w *remoting.Writer, res *broker.SendResult) {
	if res.Err != nil {
		code, _ := codeOf(res.Err)
		w.Code(code).Remark(res.Err.Error())
	} else {
		s.scratch = res.AppendMessageID(s.scratch[:0])
		writeSent(w, s.scratch, res)
	}
	_ = w.Fixed(s.gateway.stamp).End()
}

// writeSent writes where a message was stored.
func writeSent(w *remoting.Writer, id []byte, res *broker.SendResult) {
	w.Bytes("msgId", id).Int("queueId", int64(res.QueueID)).Int("queueOffset", int64(res.Offset))
	if len(res.UniqueKey) > 0 {
		w.Bytes("transactionId", res.UniqueKey)
	}
	if handle := res.RecallHandle(); handle != "" {
		w.Str("recallHandle", handle)
	}
}

func (s *session) refuseSend(r *remoting.Request, err error) {
	code, _ := codeOf(err)
	w := s.conn.Reply(r, code).Remark(err.Error())
	_ = w.Fixed(s.gateway.stamp).End()
}

// lateSend is the answer to a send that waits for its fsync.
type lateSend struct {
	ticket remoting.Ticket
	result broker.SendResult
	id     []byte
}

// answerWhenSafe answers the sends from the goroutine that flushed them.
func (s *session) answerWhenSafe(results []broker.SendResult) {
	late, conn, g := s.lateSends(results), s.conn, s.gateway
	g.owed.add()
	s.sender.WhenSafe(s.withinFlushTimeout(func(err error) {
		answerLate(conn, g.stamp, late, err)
		g.owed.done()
	}))
}

// lateSends copies what answers need when the session has gone on.
func (s *session) lateSends(results []broker.SendResult) []lateSend {
	late := make([]lateSend, len(results))
	var ids []byte
	for i := range results {
		res := &results[i]
		late[i] = lateSend{ticket: s.sends[i].Ticket(), result: *res}
		if res.Err == nil {
			from := len(ids)
			ids = res.AppendMessageID(ids)
			late[i].id = ids[from:len(ids):len(ids)]
			from = len(ids)
			ids = append(ids, res.UniqueKey...)
			late[i].result.UniqueKey = ids[from:len(ids):len(ids)]
		}
	}
	return late
}

// flushTimeout is syncFlushTimeout, 0 for none.
func (s *session) flushTimeout() time.Duration {
	return time.Duration(s.broker.Settings().SyncFlushTimeoutMs.Load()) * time.Millisecond
}

// withinFlushTimeout is within for syncFlushTimeout, if there is one.
func (s *session) withinFlushTimeout(answer func(error)) func(error) {
	if limit := s.flushTimeout(); limit > 0 {
		return within(limit, answer)
	}
	return answer
}

// errFlushTimeout is told in place of the outcome of an fsync.
var errFlushTimeout = errors.New("the fsync takes longer than syncFlushTimeout")

// within returns a function that calls answer with its argument, unless limit
// was over before: then answer has been called with errFlushTimeout. It must be
// called at last, which ends the timer.
func within(limit time.Duration, answer func(error)) func(error) {
	var once sync.Once
	timer := time.AfterFunc(limit, func() { once.Do(func() { answer(errFlushTimeout) }) })
	return func(err error) {
		timer.Stop()
		once.Do(func() { answer(err) })
	}
}

// unsafeError is what a send is told whose fsync failed; nil for nil.
func unsafeError(err error) error {
	if err == nil {
		return nil
	}
	return &broker.Error{Kind: broker.KindUnavailable, Text: "the message could not be flushed to the disk and may be lost", Cause: err}
}

// answerLate answers sends whose fsync has ended with err, or takes too long.
func answerLate(conn *remoting.Conn, stamp *remoting.FixedFields, sends []lateSend, err error) {
	late := err == errFlushTimeout
	for i := range sends {
		l := &sends[i]
		w := conn.Later(l.ticket, remoting.RespSuccess)
		if l.result.Err == nil && !late {
			l.result.Err = unsafeError(err)
		}
		if l.result.Err != nil {
			code, _ := codeOf(l.result.Err)
			w.Code(code).Remark(l.result.Err.Error())
		} else {
			if late {
				w.Code(remoting.RespFlushDiskTimeout) // stored all the same: the fields say where
			}
			writeSent(w, l.id, &l.result)
		}
		_ = w.Fixed(stamp).End()
	}
}
