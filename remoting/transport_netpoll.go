//go:build !windows

package remoting

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cloudwego/netpoll"
)

const defaultTransport = TransportNetpoll

// SetTransportLog says where netpoll writes its own log lines, which for one
// process is one place and by default stderr. They are about connections that
// break and cost a line for each; call it once, before the first Listen.
func SetTransportLog(w io.Writer) { netpoll.SetLoggerOutput(w) }

// netpollTransport runs connections on netpoll. What it has to know about it:
// the poller goes on reading while a connection's handler runs, so input that
// nobody has taken is bounded by Conn.overload and the watchdog; a handler that
// leaves input unread is called again at once, so feed always takes everything;
// Flush waits until the kernel has every byte, or the connection has ended; and
// a connection that is closed while its handler runs is still read from, so it
// is ended by a shutdown of its socket, which the kernel honours at once.
type netpollTransport struct {
	s    *Server
	ln   *fdListener
	loop netpoll.EventLoop
	done chan struct{} // closed when Serve has returned
	err  error         // what it returned
	all  sync.WaitGroup
}

// connContext carries our connection through netpoll's callbacks.
type connContext struct {
	context.Context
	c *Conn
}

func newNetpollTransport(s *Server, ln net.Listener) (transport, error) {
	fl, err := newFDListener(s, ln)
	if err != nil {
		return nil, err
	}
	t := &netpollTransport{s: s, ln: fl, done: make(chan struct{})}
	t.loop, err = netpoll.NewEventLoop(t.onRequest,
		netpoll.WithOnPrepare(t.onPrepare), netpoll.WithOnConnect(t.onConnect))
	if err != nil {
		return nil, err
	}
	if err := netpollWorkers.join(); err != nil {
		netpollWorkers.leave()
		return nil, err
	}
	go func() {
		t.err = t.loop.Serve(fl)
		close(t.done)
	}()
	select { // until netpoll knows of the listener, Shutdown would miss it
	case <-fl.known:
		return t, nil
	case <-t.done:
		netpollWorkers.leave()
		return nil, t.err
	}
}

func (t *netpollTransport) addr() net.Addr { return t.ln.Addr() }

func (t *netpollTransport) stopAccepting() error { return t.ln.stop() }

// shutdown ends netpoll's loop. Its own waiting is not needed, because every
// connection has ended, and not reliable, because it can remember one that
// broke while it was being accepted.
func (t *netpollTransport) shutdown(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	t.loop.Shutdown(ctx)
	<-t.done
	t.all.Wait()
	netpollWorkers.leave()
	t.ln.release()
	return nil
}

// onPrepare runs on the poller before the connection is registered there.
func (t *netpollTransport) onPrepare(nc netpoll.Connection) context.Context {
	sock := &netpollSocket{conn: nc, fd: nc.(netpoll.Conn).Fd()}
	sock.input = nc.Reader()
	c := t.s.accepted(sock, nc.RemoteAddr(), nc.LocalAddr())
	if c == nil {
		nc.Close()
		return context.Background()
	}
	t.all.Add(1)
	// It runs when the handler has left for good, before netpoll's own callback
	// that closes the descriptor and frees the buffers.
	nc.AddCloseCallback(func(netpoll.Connection) error {
		sock.close()
		c.finish()
		t.all.Done()
		return nil
	})
	return &connContext{context.Background(), c}
}

func (t *netpollTransport) onConnect(ctx context.Context, nc netpoll.Connection) context.Context {
	if cc, ok := ctx.(*connContext); ok {
		t.s.connect(cc.c)
	}
	return ctx
}

// onRequest takes everything that has arrived, in pieces of a batch.
func (t *netpollTransport) onRequest(ctx context.Context, nc netpoll.Connection) error {
	cc, ok := ctx.(*connContext)
	if !ok {
		return nc.Close()
	}
	r := nc.Reader()
	for n := r.Len(); n > 0; n = r.Len() {
		b, err := r.Next(min(n, t.s.o.BatchBytes))
		if err != nil {
			cc.c.kill(CauseError, err)
			return nc.Close()
		}
		ok := cc.c.feed(b)
		r.Release()
		if !ok {
			return nc.Close()
		}
	}
	return nil
}

type netpollSocket struct {
	conn  netpoll.Connection
	input netpoll.Reader

	mu     sync.Mutex // guards what follows
	fd     int
	closed bool // the descriptor may be somebody else's by now
}

func (s *netpollSocket) write(b []byte) error {
	w := s.conn.Writer()
	_, err := w.WriteBinary(b)
	if err == nil {
		err = w.Flush()
	}
	if errors.Is(err, netpoll.ErrConnClosed) {
		return ErrClosed // netpoll has seen the peer leave, or us
	}
	return err
}

func (s *netpollSocket) pending() int { return s.input.Len() }

func (s *netpollSocket) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		brake(s.fd, false) // or the peer would never hear of it
		syscall.Shutdown(s.fd, syscall.SHUT_RDWR)
	}
}

func (s *netpollSocket) brake(on bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && brake(s.fd, on) == nil
}

func (s *netpollSocket) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

// fdListener is a listener as netpoll wants it. netpoll's own one closes its
// descriptor twice, and the second time it may be somebody's file.
type fdListener struct {
	s     *Server
	ln    net.Listener
	fd    int
	known chan struct{} // closed when netpoll asks for the descriptor
	once  sync.Once
	spare *os.File // a descriptor kept for the moment when there are no others

	mu      sync.Mutex // guards stopped, and the descriptor's life
	stopped bool
	paused  time.Time
}

type filer interface {
	SyscallConn() (syscall.RawConn, error)
}

func newFDListener(s *Server, ln net.Listener) (*fdListener, error) {
	raw, err := ln.(filer).SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &fdListener{s: s, ln: ln, known: make(chan struct{})}
	if err := raw.Control(func(fd uintptr) { l.fd = int(fd) }); err != nil {
		return nil, err
	}
	if n := s.o.ReadBuffer; n > 0 {
		// Accepted sockets inherit it, window scaling included.
		if err := syscall.SetsockoptInt(l.fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, n); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	l.spare, err = os.Open(os.DevNull)
	return l, err
}

func (l *fdListener) Addr() net.Addr { return l.ln.Addr() }

// Fd is called by netpoll when it begins to serve.
func (l *fdListener) Fd() int {
	l.once.Do(func() { close(l.known) })
	return l.fd
}

// Accept is called by the poller when a connection waits. Nil without an error
// means that there is none after all.
func (l *fdListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fd, sa, err := accept(l.fd)
	if err == nil && (l.stopped || l.s.full()) {
		// Netpoll cannot refuse one without a line in its log.
		syscall.Close(fd)
		l.s.counters.refused.Add(1)
		return nil, nil
	}
	switch err {
	case nil:
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		return &fdConn{fd: fd, remote: tcpAddr(sa), local: localAddr(fd)}, nil
	case syscall.EAGAIN, syscall.EINTR, syscall.ECONNABORTED:
		return nil, nil
	case syscall.EMFILE, syscall.ENFILE:
		l.refuse(err)
		return nil, nil
	}
	if l.s.o.Events.Accept != nil {
		l.s.o.Events.Accept(err)
	}
	return nil, nil
}

// refuse takes the waiting connection with the spare descriptor and closes it:
// the poller would call again without end as long as it waits.
func (l *fdListener) refuse(err error) {
	l.s.counters.refused.Add(1)
	if l.spare != nil {
		l.spare.Close()
	}
	if fd, _, e := accept(l.fd); e == nil {
		syscall.Close(fd)
	} else {
		time.Sleep(time.Millisecond)
	}
	l.spare, _ = os.Open(os.DevNull)
	if now := time.Now(); l.s.o.Events.Accept != nil && now.Sub(l.paused) > time.Second {
		l.paused = now
		l.s.o.Events.Accept(err)
	}
}

// stop refuses connections from now on. The descriptor stays until release,
// because netpoll's poller still knows it.
func (l *fdListener) stop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	// Where the system does not take it, Accept turns connections away.
	if err := syscall.Shutdown(l.fd, syscall.SHUT_RD); err != nil && err != syscall.ENOTCONN {
		return os.NewSyscallError("shutdown", err)
	}
	return nil
}

// Close is called by netpoll when it has forgotten the descriptor.
func (l *fdListener) Close() error { return nil }

func (l *fdListener) release() {
	l.ln.Close()
	if l.spare != nil {
		l.spare.Close()
	}
}

// fdConn carries an accepted descriptor to netpoll, which takes only that and
// the addresses from it.
type fdConn struct {
	net.Conn
	fd            int
	remote, local net.Addr
}

func (c *fdConn) Fd() int              { return c.fd }
func (c *fdConn) RemoteAddr() net.Addr { return c.remote }
func (c *fdConn) LocalAddr() net.Addr  { return c.local }

func accept(ln int) (int, syscall.Sockaddr, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, sa, err := syscall.Accept(ln)
	if err == nil {
		syscall.CloseOnExec(fd)
		err = syscall.SetNonblock(fd, true)
	}
	return fd, sa, err
}

func localAddr(fd int) net.Addr {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return &net.TCPAddr{}
	}
	return tcpAddr(sa)
}

func tcpAddr(sa syscall.Sockaddr) net.Addr {
	switch a := sa.(type) {
	case *syscall.SockaddrInet4:
		return &net.TCPAddr{IP: append(net.IP(nil), a.Addr[:]...), Port: a.Port}
	case *syscall.SockaddrInet6:
		return &net.TCPAddr{IP: append(net.IP(nil), a.Addr[:]...), Port: a.Port}
	}
	return &net.TCPAddr{}
}
