package remoting

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// socket is a connection as a transport sees it.
type socket interface {
	// write hands all of b to the kernel and waits until it is there. One
	// caller at a time; b is free again afterwards.
	write(b []byte) error
	// abort ends the connection in both directions at once, from any goroutine
	// and any number of times. The transport then calls Conn.finish.
	abort()
	// pending is how much was received and not fed yet, as far as it lies in
	// this process. Any goroutine.
	pending() int
	// brake keeps the peer from sending more, or lets it again, and says
	// whether that is so now. Any goroutine.
	brake(on bool) bool
}

// Conn is one connection of a server. Reply and Answer belong to the goroutine
// that Serve runs on; everything else may be called from anywhere.
type Conn struct {
	server        *Server
	sock          socket
	remote, local netip.AddrPort
	state         atomic.Pointer[any]
	index         int // in server.conns, guarded by server.mu

	// Of the goroutine that feeds.
	out       []byte // frames for the next flush
	whole     int    // of out, up to the end of the last finished frame
	writer    Writer
	partial   []byte // the beginning of a frame that has not ended
	leftover  int    // bytes that were served after the peer left
	skip      int    // bytes of a rejected frame's body that are yet to come
	busy      bool   // requests are being rejected
	connected bool   // Handler.Connected has run

	guess      [2]atomic.Int32 // by encoding, how long a header before a body tends to be
	bodyGuess  atomic.Int32    // how long the last body of BodyBuffer was
	last       atomic.Int64    // server clock of the last traffic
	writing    atomic.Int64    // server clock at which the running write began, 0: none runs
	feeding    atomic.Bool
	held       atomic.Int64 // this connection's part of counters.input
	unsent     atomic.Int64 // this connection's part of counters.output
	braked     atomic.Bool  // the peer is kept from sending; only the watchdog changes it
	closing    atomic.Bool  // Close was called: end when what is written is out
	closeCause atomic.Int32 // why, for closing
	deaf       atomic.Bool  // the peer takes no answers any more; what came from it is still served
	cause      atomic.Int32 // Cause+1, 0 as long as nothing ended it
	err        atomic.Pointer[error]

	writeMu sync.Mutex // held while the socket is written
	gone    bool       // guarded by writeMu: the socket must not be touched

	mu       sync.Mutex // guards what follows
	drained  sync.Cond  // on mu: the queue has become shorter, or closed is set
	queue    []byte     // frames of Later, OneWay and Call
	draining bool       // a goroutine is writing the queue
	closed   bool
	calls    map[int32]chan *Answer
	opaque   int32
}

// RemoteAddr is the peer's address, LocalAddr the one it has dialled.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr is described at RemoteAddr.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// State returns what SetState has kept for the handler, or nil.
func (c *Conn) State() any {
	if v := c.state.Load(); v != nil {
		return *v
	}
	return nil
}

// SetState keeps a value with the connection.
func (c *Conn) SetState(v any) { c.state.Store(&v) }

// Closed says whether the connection has ended or is about to.
func (c *Conn) Closed() bool { return c.closing.Load() || c.deafOrEnded() }

func (c *Conn) deafOrEnded() bool { return c.deaf.Load() || c.cause.Load() != 0 }

// Close ends the connection when what has been written to it is out. It does
// not wait for that; Handler.Closed tells.
func (c *Conn) Close() { c.closeGently(CauseLocal) }

func (c *Conn) closeGently(cause Cause) {
	c.closeCause.CompareAndSwap(0, int32(cause))
	if c.closing.Swap(true) {
		return
	}
	c.mu.Lock()
	ours := !c.closed && !c.draining
	if ours {
		c.draining = true
		c.server.work.Add(1)
	}
	c.mu.Unlock()
	if ours {
		go c.drain()
	}
}

// kill ends the connection at once. The first cause is the one that is told.
func (c *Conn) kill(cause Cause, err error) {
	if c.cause.CompareAndSwap(0, int32(cause)+1) && err != nil {
		c.err.Store(&err)
	}
	c.mu.Lock()
	c.drained.Broadcast()
	c.mu.Unlock()
	c.sock.abort()
}

// finish is called once by the transport, after the last feed, before the
// socket's memory goes.
func (c *Conn) finish() {
	c.mu.Lock()
	c.closed = true
	calls := c.calls
	c.calls = nil
	c.drained.Broadcast()
	c.mu.Unlock()
	for _, answer := range calls {
		close(answer)
	}
	// A running write ends because the socket has.
	c.writeMu.Lock()
	c.gone = true
	c.writeMu.Unlock()

	s := c.server
	if c.connected {
		s.guard(c, func() { s.handler.Closed(c) })
	}
	c.dropPartial()
	if c.out != nil {
		putBuf(c.out)
		c.out = nil
	}
	cause := CausePeer
	if n := c.cause.Load(); n > 0 {
		cause = Cause(n - 1)
	}
	s.counters.closed[cause].Add(1)
	if s.o.Events.Closed != nil {
		var err error
		if p := c.err.Load(); p != nil {
			err = *p
		}
		s.o.Events.Closed(c.remote, cause, err)
	}
	s.remove(c)
}
