package gateway

import (
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// session is what the gateway keeps of a connection. Its methods run on the
// connection's own goroutine, except those of broker.Client.
type session struct {
	gateway   *Gateway
	broker    *broker.Broker
	conn      *remoting.Conn
	storeHost netip.AddrPort // under which this client reached the broker
	closed    atomic.Bool
	language  atomic.Int32 // as the client last told it
	clientID  string       // likewise; its address before; of the connection's goroutine

	sender  *broker.Sender      // made with the first send
	sends   []*remoting.Request // in the order they were added to the sender
	ender   *broker.Ender       // made with the first end of a transaction
	ends    []*remoting.Request // in the order they were added to the ender
	acks    []*remoting.Request // done, and not answered
	request broker.SendRequest
	scratch []byte
	names   names
	holder  broker.Holder
	pulls   broker.PullRequest
	spare   *parkedPull // for the next pull that may park
	mixed   bool        // has asked for other things than plain sends; see flushAlone
}

// RemoteAddr implements broker.Client.
func (s *session) RemoteAddr() netip.AddrPort { return s.conn.RemoteAddr() }

// ok answers a request with success and nothing else.
func (s *session) ok(r *remoting.Request) error {
	return s.conn.Reply(r, remoting.RespSuccess).End()
}

// okBody answers a request with success and a body.
func (s *session) okBody(r *remoting.Request, body []byte) error {
	return s.conn.Reply(r, remoting.RespSuccess).Body(body).End()
}

func isConnError(err error) bool {
	return errors.Is(err, remoting.ErrClosed) || errors.Is(err, remoting.ErrOutputFull) || errors.Is(err, remoting.ErrTooLarge)
}

// names gives back one string for the same bytes, so that the group and topic
// of a connection's requests are not copied each time. Neither one string nor
// all of them grow with what the peer sends.
type names struct {
	known map[string]string
	bytes int // of the known ones
}

// The bounds of names.
const (
	maxName      = message.MaxRetryTopicLen // the longest that a name may be
	maxKept      = 4 << 10                  // bytes of a string that is kept
	maxNames     = 1024
	maxNameBytes = 128 << 10
)

// of returns a name. Of one that is too long to be any it returns the
// beginning, which still is, so that it is refused like the whole.
func (n *names) of(b []byte) string { return n.keep(b[:min(len(b), maxName+1)]) }

// expression is of for a filter expression.
func (n *names) expression(b []byte) string {
	return n.keep(b[:min(len(b), broker.MaxExpression+1)])
}

func (n *names) keep(b []byte) string {
	if s, ok := n.known[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(s) > maxKept {
		return s
	}
	if n.known == nil || len(n.known) >= maxNames || n.bytes+len(s) > maxNameBytes {
		n.known, n.bytes = make(map[string]string), 0
	}
	n.known[s] = s
	n.bytes += len(s)
	return s
}
