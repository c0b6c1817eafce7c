package remoting

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Errors of connections, servers and clients.
var (
	ErrClosed     = errors.New("remoting: the connection is closed")
	ErrOutputFull = errors.New("remoting: the peer does not read and too much is buffered for it; the connection is closed")
	ErrTooLarge   = errors.New("remoting: a frame cannot carry that much")
)

// Handler serves the requests of a server's connections. Connected comes before
// the first Serve of a connection, Closed once after the last; different
// connections are served at the same time.
type Handler interface {
	Connected(c *Conn)
	// Serve gets all whole requests of one read, in order, on the connection's
	// own goroutine. The frames and what they point to are valid until it
	// returns. It may wait, but then only this peer waits with it. If it
	// panics, the first request without an answer is answered SYSTEM_ERROR and
	// the ones behind it are served again.
	Serve(c *Conn, frames []Request)
	Closed(c *Conn)
}

// Transports for ServerOptions.
const (
	TransportNetpoll = "netpoll"
	TransportNet     = "net"
)

// ServerOptions are the settings of a server. The zero value of a member means
// its default.
type ServerOptions struct {
	Transport string // TransportNetpoll where it exists, else TransportNet

	MaxFrame   int // bytes of a whole frame with its length, default 16 MiB as Apache has it
	BatchBytes int // input handed to one Serve, default 256 KiB
	MaxConns   int // connections at a time, default without limit

	// ReadBuffer is the kernel's receive buffer in bytes, default 256 KiB with
	// netpoll and the kernel's own choice with net; negative: always that one.
	// It bounds what one read of netpoll brings, and with it how long one
	// connection keeps the poller from the others, and it bounds what a distant
	// peer can have on the way.
	ReadBuffer int

	IdleTimeout  time.Duration // without traffic either way, default 120 s; negative: never
	WriteTimeout time.Duration // until a peer must have taken one write, default 30 s

	// What is received and not served yet, frames that have not ended included.
	// Past a soft bound the peer is kept from sending, where the system can do
	// that. Past a soft bound where it cannot, and half way to the hard one
	// where it can, requests get SYSTEM_BUSY; past a hard bound the connection
	// is closed. The bounds of the whole server touch only those connections
	// that hold more than their share of it.
	InputSoft, InputHard           int   // of a connection, default 20 and 32 MiB
	TotalInputSoft, TotalInputHard int64 // of the server, default 64 and 128 MiB

	// What is answered and not taken by the peer's socket yet. Past OutputHigh
	// no further request of the connection is served, past OutputHard it is
	// closed; past TotalOutput the connections that hold most are.
	OutputHigh, OutputHard int   // of a connection, default 256 KiB and 8 MiB
	TotalOutput            int64 // of the server, default 64 MiB

	Events Events

	noBrake bool // tests: as on systems that have none
}

// Events are told what is worth a line in a log; each may be nil. They run on
// the connection's goroutines and must not block.
type Events struct {
	Closed   func(peer netip.AddrPort, cause Cause, err error) // err is nil where the cause says it all
	BadFrame func(peer netip.AddrPort, err error)              // the connection lives on
	Busy     func(peer netip.AddrPort, reason string)          // requests are rejected; told when it begins
	Panic    func(peer netip.AddrPort, value any, stack []byte)
	Accept   func(err error)
}

// Cause says why a connection was closed.
type Cause uint8

// The causes.
const (
	CausePeer     Cause = iota // the peer left
	CauseLocal                 // Conn.Close
	CauseShutdown              // the server is going
	CauseIdle                  // no traffic for IdleTimeout
	CauseFraming               // a length that cannot be, so nothing behind it can be read
	CauseInput                 // sent more than is served, past the hard bound
	CauseOutput                // does not read its answers, past the hard bound
	CauseStalled               // did not take a write within WriteTimeout
	CauseError                 // the socket failed
	causes
)

var causeNames = [causes]string{"peer", "local", "shutdown", "idle", "framing", "input", "output", "stalled", "error"}

func (c Cause) String() string {
	if c < causes {
		return causeNames[c]
	}
	return "unknown"
}

func (o ServerOptions) withDefaults() (ServerOptions, error) {
	def := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	if o.Transport == "" {
		o.Transport = defaultTransport
	}
	if o.Transport == TransportNetpoll {
		def(&o.ReadBuffer, 256<<10)
	}
	def(&o.MaxFrame, 16<<20)
	def(&o.BatchBytes, 256<<10)
	def(&o.InputSoft, o.MaxFrame+4<<20)
	def(&o.InputHard, o.InputSoft+12<<20)
	def(&o.OutputHigh, 256<<10)
	def(&o.OutputHard, 8<<20)
	if o.TotalInputSoft == 0 {
		o.TotalInputSoft = max(64<<20, 2*int64(o.InputSoft))
	}
	if o.TotalInputHard == 0 {
		o.TotalInputHard = 2 * o.TotalInputSoft
	}
	if o.TotalOutput == 0 {
		o.TotalOutput = 64 << 20
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 120 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 30 * time.Second
	}
	switch {
	case o.Transport != TransportNet && o.Transport != TransportNetpoll:
		return o, fmt.Errorf("remoting: the transport %q is not known; use %q or %q", o.Transport, TransportNetpoll, TransportNet)
	case o.MaxFrame < 64 || o.MaxFrame > 1<<30:
		return o, fmt.Errorf("remoting: MaxFrame is %d; it must be between 64 bytes and 1 GiB", o.MaxFrame)
	case o.InputHard < o.InputSoft || o.TotalInputHard < o.TotalInputSoft || o.OutputHard < o.OutputHigh:
		return o, errors.New("remoting: a hard bound is below its soft one")
	case o.BatchBytes < 0 || o.InputSoft < 0 || o.OutputHigh < 0 || o.MaxConns < 0 || o.TotalOutput < 0:
		return o, errors.New("remoting: a bound is negative")
	}
	return o, nil
}
