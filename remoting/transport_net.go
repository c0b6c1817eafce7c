package remoting

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// netTransport is the standard library: one goroutine for each connection,
// which reads, serves and writes in turn. While it does not read, the kernel's
// flow control holds the peer back.
type netTransport struct {
	s   *Server
	ln  net.Listener
	all sync.WaitGroup // the accept loop and every connection's goroutine
}

func newNetTransport(s *Server, ln net.Listener) (transport, error) {
	t := &netTransport{s: s, ln: ln}
	t.all.Add(1)
	go t.accept()
	return t, nil
}

func (t *netTransport) addr() net.Addr       { return t.ln.Addr() }
func (t *netTransport) stopAccepting() error { return t.ln.Close() }

func (t *netTransport) shutdown(context.Context) error {
	t.all.Wait()
	return nil
}

func (t *netTransport) accept() {
	defer t.all.Done()
	var pause time.Duration
	for {
		conn, err := t.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, as a rule: it passes when some are closed.
			t.s.counters.refused.Add(1)
			if t.s.o.Events.Accept != nil {
				t.s.o.Events.Accept(err)
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
			continue
		}
		pause = 0
		if n := t.s.o.ReadBuffer; n > 0 {
			if tc, ok := conn.(*net.TCPConn); ok {
				tc.SetReadBuffer(n)
			}
		}
		sock := &netSocket{conn: conn}
		c := t.s.accepted(sock, conn.RemoteAddr(), conn.LocalAddr())
		if c == nil {
			conn.Close()
			continue
		}
		t.all.Add(1)
		go t.serve(c, conn)
	}
}

const (
	smallRead = 4 << 10 // what an idle connection keeps
	largeRead = 64 << 10
)

func (t *netTransport) serve(c *Conn, conn net.Conn) {
	defer t.all.Done()
	t.s.connect(c)
	b := getBuf(smallRead)
	for {
		n, err := conn.Read(b[:cap(b)])
		if n > 0 && !c.feed(b[:n]) {
			break
		}
		if err != nil {
			if c.cause.Load() == 0 {
				c.kill(socketCause(err))
			}
			break
		}
		b = resize(b, n)
	}
	putBuf(b)
	conn.Close()
	c.finish()
}

// resize changes to a large buffer after a read that filled the small one, and
// back when little comes.
func resize(b []byte, n int) []byte {
	want := cap(b)
	switch {
	case n == cap(b) && cap(b) < largeRead:
		want = largeRead
	case n < smallRead && cap(b) > smallRead:
		want = smallRead
	}
	if want == cap(b) {
		return b
	}
	putBuf(b)
	return getBuf(want)
}

type netSocket struct{ conn net.Conn }

func (s *netSocket) write(b []byte) error { _, err := s.conn.Write(b); return err }
func (s *netSocket) abort()               { s.conn.Close() }
func (s *netSocket) pending() int         { return 0 }
func (s *netSocket) brake(bool) bool      { return false } // not reading is enough
