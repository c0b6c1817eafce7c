package gateway

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync/atomic"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
)

// Options of New.
type Options struct {
	Broker *broker.Broker
	// Address is the one under which clients reach the broker, when it is known;
	// invalid, if each client is told the one that it dialled, with Port.
	Address netip.AddrPort
	Port    uint16 // of the broker
	// Config is what tools read and change; nil: they cannot.
	Config Configuration
	// Panic is told of a request that hit a bug; nil for nobody.
	Panic func(peer netip.AddrPort, value any, stack []byte)
}

// Gateway is a remoting.Handler that serves a broker.
type Gateway struct {
	broker  *broker.Broker
	address netip.AddrPort
	port    uint16
	serve   map[int]serveFunc
	relays  relays // questions to clients
	replies relays // to requests
	owed    owed
	stamp   *remoting.FixedFields // of every answer to a send
	panic   func(peer netip.AddrPort, value any, stack []byte)

	config        Configuration
	configChanges atomic.Int64
}

// serveFunc serves one request. It writes the answer and returns nil, or
// returns an error from which the answer is made.
type serveFunc func(s *session, r *remoting.Request) error

// New returns a gateway before the broker.
func New(o Options) *Gateway {
	g := &Gateway{broker: o.Broker, address: o.Address, port: o.Port, config: o.Config, panic: o.Panic}
	g.owed.none = make(chan struct{}, 1)
	g.relays.limit, g.replies.limit = maxRelays, maxReplies
	cfg := o.Broker.Settings()
	var stamp remoting.Fields
	stamp.Str("MSG_REGION", cfg.Region)
	stamp.Bool("TRACE_ON", cfg.TraceOn)
	g.stamp = stamp.Fixed()
	g.serve = g.table()
	return g
}

// table says who serves which code. Sends are not in it: see session.go.
func (g *Gateway) table() map[int]serveFunc {
	t := map[int]serveFunc{
		remoting.ReqPullMessage:     (*session).pull,
		remoting.ReqLitePullMessage: (*session).pull,
	}
	addClients(t)
	addTools(t)
	addDelays(t)
	addDead(t)
	addPops(t)
	return t
}

// Connected implements remoting.Handler.
func (g *Gateway) Connected(c *remoting.Conn) {
	s := &session{gateway: g, broker: g.broker, conn: c, storeHost: g.address}
	if !s.storeHost.IsValid() {
		s.storeHost = netip.AddrPortFrom(c.LocalAddr().Addr().Unmap(), g.port)
	}
	c.SetState(s)
}

// Closed implements remoting.Handler.
func (g *Gateway) Closed(c *remoting.Conn) {
	if s, ok := c.State().(*session); ok {
		s.closed.Store(true)
		g.broker.ClientClosed(s)
		g.broker.Leave(&s.holder)
	}
}

// Serve implements remoting.Handler.
func (g *Gateway) Serve(c *remoting.Conn, frames []remoting.Request) {
	s := c.State().(*session)
	for i := range frames {
		s.serve(&frames[i])
	}
	s.commit()
}

// serve serves one frame. A panic costs that frame and the sends that wait to
// be stored with it, never a second storing of them.
func (s *session) serve(r *remoting.Request) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(v)
			if !isSend(r.Code) {
				s.answerError(r, errBug)
			}
		}
	}()
	switch {
	case isSend(r.Code):
		s.addSend(r)
	case r.Code == remoting.ReqEndTransaction:
		s.mixed = true
		s.addEnd(r) // of a half that was answered, so that it may overtake sends
	case r.Code == remoting.ReqAckMessage, r.Code == remoting.ReqBatchAckMessage:
		s.addAck(r)
	default:
		s.mixed = s.mixed || r.Code != remoting.ReqHeartBeat
		s.commitSends()
		s.answerError(r, s.dispatch(r))
	}
}

// commit stores and answers what the frames of one read left to be stored.
func (s *session) commit() {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(v)
		}
	}()
	s.commitSends()
	s.commitEnds()
	s.commitAcks()
}

var errBug = &broker.Error{Kind: broker.KindSystem, Text: "the broker hit a bug with this request; its log has the details"}

// panicked tells the operator and refuses the sends that were not answered.
func (s *session) panicked(v any) {
	if s.gateway.panic != nil {
		s.gateway.panic(s.conn.RemoteAddr(), v, debug.Stack())
	}
	sends := s.sends
	s.sends, s.sender = nil, nil
	for _, r := range sends {
		s.refuseSend(r, errBug)
	}
}

func (s *session) dispatch(r *remoting.Request) error {
	serve, ok := s.gateway.serve[r.Code]
	if !ok {
		return s.conn.Answer(r, remoting.Response{
			Code:   remoting.RespRequestCodeNotSupported,
			Remark: fmt.Sprintf(" request type %d not supported: this broker does not know %s", r.Code, remoting.CodeName(r.Code)),
		})
	}
	return serve(s, r)
}

// answerError answers a request with an error; nil is no error. Errors of the
// connection itself find nobody to tell.
func (s *session) answerError(r *remoting.Request, err error) {
	if err == nil || isConnError(err) {
		return
	}
	code, _ := codeOf(err)
	_ = s.conn.Reply(r, code).Remark(err.Error()).End()
}
