package gateway

import (
	"fmt"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/remoting"
)

// POP_MESSAGE 200050
//
//   - Every answer 0, 209 and 210 carries popTime, invisibleTime, reviveQid and
//     restNum; clients do not read it without.
//   - A pop that finds nothing waits for pollTime, then gets 210; where too many
//     wait already, 209.
//   - Messages whose time is over come again from their own queue, with the
//     number of attempts in the record. See docs/adr/0004-pop.md.
//   - Differences: pollTime counts from when the request came, not from bornTime,
//     which is the client's clock; invisibleTime must be 1 ms to 3 days; Apache's
//     broker hands out again from a retry topic for each group and topic.

const (
	initMax        = 1 // initMode: begin at the end
	maxPopPollTime = 24 * time.Hour
)

// popNumbers are the fields of a pop that are not the broker's matter.
type popNumbers struct {
	poll      time.Duration
	invisible int64 // ms
}

func (s *session) pop(r *remoting.Request) error {
	var p broker.PopRequest
	n, err := s.readPop(r, &p)
	if err != nil {
		return err
	}
	w := s.conn.Reply(r, remoting.RespSuccess)
	res, out, err := s.broker.Pop(&p, w.BodyBuffer())
	if err == nil && res.Found() {
		return s.answerPop(w.SetBody(out), &p, n.invisible, &res)
	}
	w.Drop()
	if err != nil {
		return err
	}
	code := remoting.RespPollingTimeout
	if n.poll > 0 {
		err := s.broker.ParkPop(&p, n.poll, &parkedPop{session: s, ticket: r.Ticket(), request: p, invisible: n.invisible})
		if err == nil {
			return nil
		}
		code, _ = codeOf(err)
		return s.answerNoPop(s.conn.Reply(r, code).Remark(err.Error()), &p, n.invisible, &res)
	}
	return s.answerNoPop(s.conn.Reply(r, code), &p, n.invisible, &res)
}

// answerPop answers with messages, which are in the body already.
func (s *session) answerPop(w *remoting.Writer, p *broker.PopRequest, invisible int64, res *broker.PopResult) error {
	var start, offsets, counts [512]byte
	writePopNumbers(w, p, invisible, res).Bytes("startOffsetInfo", appendStarts(start[:0], res.Queues)).
		Bytes("msgOffsetInfo", appendOffsets(offsets[:0], res.Queues))
	if p.Order {
		w.Bytes("orderCountInfo", appendCounts(counts[:0], res.Queues))
	}
	return w.Remark("FOUND").End()
}

func (s *session) answerNoPop(w *remoting.Writer, p *broker.PopRequest, invisible int64, res *broker.PopResult) error {
	if res.Full {
		w.Remark(fmt.Sprintf("too many messages of %s are handed out to %s and not acknowledged; only those come again", p.Topic, p.Group))
	}
	return writePopNumbers(w, p, invisible, res).End()
}

func writePopNumbers(w *remoting.Writer, p *broker.PopRequest, invisible int64, res *broker.PopResult) *remoting.Writer {
	revive := int64(reviveNormal)
	if p.Order {
		revive = reviveOrdered
	}
	return w.Int("popTime", res.PopTime).Int("invisibleTime", invisible).Int("reviveQid", revive).Int("restNum", res.Rest)
}

// readPop takes a pop's header apart.
func (s *session) readPop(r *remoting.Request, p *broker.PopRequest) (n popNumbers, err error) {
	var poll int64
	var initMode int32
	if s.clientID == "" {
		s.clientID = s.conn.RemoteAddr().String()
	}
	p.ClientID = s.clientID
	for i := range r.Fields {
		f := &r.Fields[i]
		switch string(f.Key) {
		case "consumerGroup":
			p.Group = s.names.of(f.Value)
		case "topic":
			p.Topic = s.names.of(f.Value)
		case "queueId":
			p.QueueID, err = int32Of(f.Value)
		case "maxMsgNums":
			p.MaxCount, err = int32Of(f.Value)
		case "invisibleTime":
			n.invisible, err = int64Of(f.Value)
		case "pollTime":
			poll, err = int64Of(f.Value)
		case "initMode":
			initMode, err = int32Of(f.Value)
		case "expType":
			p.ExpressionType = s.names.of(f.Value)
		case "exp":
			p.Expression = s.names.expression(f.Value)
		case "order":
			p.Order = boolOf(f.Value)
		case "attemptId":
			if len(f.Value) > maxName {
				err = fmt.Errorf("it has %d bytes; %d are allowed", len(f.Value), maxName)
				break
			}
			p.Attempt = string(f.Value)
		}
		if err != nil {
			return n, &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the header field %s of the pop request: %s", f.Key, err)}
		}
	}
	p.Invisible = milliseconds(n.invisible)
	p.FromEnd = initMode == initMax
	n.poll = min(max(milliseconds(poll), 0), maxPopPollTime)
	return n, nil
}

// milliseconds turns a number of the wire into a duration; what does not fit is
// as long as a duration can be.
func milliseconds(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(max(n, -most), most)) * time.Millisecond
}

// parkedPop is a pop that waits in the broker.
type parkedPop struct {
	session   *session
	ticket    remoting.Ticket
	request   broker.PopRequest
	invisible int64
}

// Gone implements pop.Waiter.
func (p *parkedPop) Gone() bool { return p.session.closed.Load() }

// Holder implements pop.Waiter.
func (p *parkedPop) Holder() *pop.Holder { return &p.session.holder.Pops }

// Try implements pop.Waiter.
func (p *parkedPop) Try() bool {
	s := p.session
	w := s.conn.Later(p.ticket, remoting.RespSuccess)
	res, out, err := s.broker.Pop(&p.request, w.BodyBuffer())
	if err == nil && res.Found() {
		_ = s.answerPop(w.SetBody(out), &p.request, p.invisible, &res)
		return true
	}
	w.Drop()
	if err == nil {
		return false
	}
	code, _ := codeOf(err)
	_ = s.conn.Later(p.ticket, code).Remark(err.Error()).End()
	return true
}

// TimeUp implements pop.Waiter.
func (p *parkedPop) TimeUp() {
	res := broker.PopResult{PopTime: p.session.broker.Now().UnixMilli()}
	_ = p.session.answerNoPop(p.session.conn.Later(p.ticket, remoting.RespPollingTimeout), &p.request, p.invisible, &res)
}
