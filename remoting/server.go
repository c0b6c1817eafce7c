package remoting

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// transport accepts connections and feeds them. It calls Server.accepted for
// each, Conn.feed for what arrives, and Conn.finish at its end.
type transport interface {
	addr() net.Addr
	stopAccepting() error
	// shutdown waits for what the transport itself started. All connections
	// have ended, or ctx has.
	shutdown(ctx context.Context) error
}

// Server listens on one address. Several may live in one process.
type Server struct {
	o         ServerOptions
	handler   Handler
	transport transport
	counters  counters

	clock  atomic.Int64 // milliseconds since start, as fresh as the watchdog runs
	start  time.Time
	active atomic.Int64 // connections being fed or drained
	braked atomic.Int64 // connections that are kept from sending
	asleep atomic.Bool  // the watchdog looks once a second only
	quiet  atomic.Bool  // StopServing was called
	served chan struct{}
	wake   chan struct{}
	stop   chan struct{}
	work   sync.WaitGroup // drains
	ended  sync.Once      // the transport's end
	endErr error          // what came of it
	watch  sync.WaitGroup // the watchdog

	mu       sync.Mutex // guards what follows
	conns    []*Conn
	stopping bool
	empty    chan struct{} // closed when stopping and the last connection has gone
}

// Listen opens a server on addr, such as ":10911"; port 0 picks a free one. It
// returns when connections are being accepted.
func Listen(addr string, h Handler, o ServerOptions) (*Server, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("remoting: cannot listen on %s: %w", addr, err)
	}
	return Serve(ln, h, o)
}

// Serve is Listen on a TCP listener that is there: it is for a handler that has
// to know the port before the first connection. The listener is the server's
// from here on; an error closes it.
func Serve(ln net.Listener, h Handler, o ServerOptions) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	s := &Server{
		o: o, handler: h, start: time.Now(),
		wake: make(chan struct{}, 1), served: make(chan struct{}, 1), stop: make(chan struct{}), empty: make(chan struct{}),
	}
	s.clock.Store(1) // 0 stands for never
	s.asleep.Store(true)
	if o.Transport == TransportNetpoll {
		s.transport, err = newNetpollTransport(s, ln)
	} else {
		s.transport, err = newNetTransport(s, ln)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("remoting: cannot serve on %s: %w", ln.Addr(), err), ln.Close())
	}
	s.watch.Add(1)
	go s.watchdog()
	return s, nil
}

// Addr is the address that the server listens on, with the port that was
// picked.
func (s *Server) Addr() net.Addr { return s.transport.addr() }

// StopAccepting closes the listener; connections live on.
func (s *Server) StopAccepting() error {
	s.mu.Lock()
	was := s.stopping
	s.stopping = true
	if !was && len(s.conns) == 0 {
		close(s.empty)
	}
	s.mu.Unlock()
	if was {
		return nil
	}
	return s.transport.stopAccepting()
}

// Shutdown stops accepting, lets what is being served and what is written go
// out, closes every connection and waits for all of it. When ctx ends first it
// cuts the connections off and returns ctx's error, at the latest then without
// waiting for a handler that does not return.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.StopAccepting()
	for _, c := range s.list() {
		c.closeGently(CauseShutdown)
	}
	cut := false
	select {
	case <-s.empty:
	case <-ctx.Done():
		cut = true
		for _, c := range s.list() {
			c.kill(CauseShutdown, nil)
		}
		select {
		case <-s.empty:
		case <-time.After(time.Second):
			return fmt.Errorf("remoting: a handler did not return during shutdown: %w", ctx.Err())
		}
	}
	s.mu.Lock()
	if s.stop != nil {
		close(s.stop)
		s.stop = nil
	}
	s.mu.Unlock()
	s.watch.Wait()
	s.work.Wait()
	s.ended.Do(func() { s.endErr = s.transport.shutdown(ctx) })
	if err == nil {
		err = s.endErr
	}
	if cut {
		return fmt.Errorf("remoting: connections were cut off at shutdown: %w", ctx.Err())
	}
	return err
}

func (s *Server) list() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.conns...)
}

// accepted registers a new connection, or returns nil where it is refused.
func (s *Server) accepted(sock socket, remote, local net.Addr) *Conn {
	c := &Conn{server: s, sock: sock, remote: addrPort(remote), local: addrPort(local)}
	c.drained.L = &c.mu
	c.last.Store(s.now())
	s.mu.Lock()
	if s.stopping || s.o.MaxConns > 0 && len(s.conns) >= s.o.MaxConns {
		s.mu.Unlock()
		s.counters.refused.Add(1)
		return nil
	}
	c.index = len(s.conns)
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	s.counters.accepted.Add(1)
	s.counters.conns.Add(1)
	return c
}

// full says whether MaxConns is reached.
func (s *Server) full() bool {
	return s.o.MaxConns > 0 && s.counters.conns.Load() >= int64(s.o.MaxConns)
}

// connect tells the handler of a new connection.
func (s *Server) connect(c *Conn) {
	c.connected = true
	s.guard(c, func() { s.handler.Connected(c) })
}

func (s *Server) remove(c *Conn) {
	s.mu.Lock()
	last := len(s.conns) - 1
	s.conns[c.index] = s.conns[last]
	s.conns[c.index].index = c.index
	s.conns[last] = nil
	s.conns = s.conns[:last]
	if c.braked.Load() { // steer runs under mu, so nothing changes it any more
		s.braked.Add(-1)
	}
	c.setHeld(0) // here, since the watchdog counts what waits under mu
	s.counters.conns.Add(-1)
	if s.stopping && last == 0 {
		close(s.empty)
	}
	s.mu.Unlock()
}

// guard runs the handler and returns what it panicked with, or nil.
func (s *Server) guard(c *Conn, f func()) (p any) {
	defer func() {
		if p = recover(); p != nil {
			s.counters.panics.Add(1)
			if s.o.Events.Panic != nil {
				s.o.Events.Panic(c.remote, p, debug.Stack())
			}
		}
	}()
	f()
	return nil
}

// share is the part of a total that every connection may have even when the
// total is used up, so that those who use it up do not harm the others.
func (s *Server) share(total int64) int64 {
	const least = 64 << 10
	return max(least, total/max(s.counters.conns.Load(), 1))
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	if a == nil {
		return netip.AddrPort{}
	}
	p, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
