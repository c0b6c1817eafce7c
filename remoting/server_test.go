package remoting

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	SetTransportLog(io.Discard)
	goleak.VerifyTestMain(m,
		// netpoll's pollers begin with the first use and never end; its pool
		// keeps a worker for a moment.
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		goleak.IgnoreAnyFunction("github.com/bytedance/gopkg/util/gopool.(*worker).run.func1"))
}

// onBoth runs a test over each transport.
func onBoth(t *testing.T, f func(t *testing.T, o ServerOptions)) {
	for _, tr := range []string{defaultTransport, TransportNet} {
		t.Run(tr, func(t *testing.T) { f(t, ServerOptions{Transport: tr}) })
	}
}

// handler makes a Handler of functions.
type handler struct {
	connected, closed func(*Conn)
	serve             func(*Conn, []Request)
}

func (h handler) Connected(c *Conn) {
	if h.connected != nil {
		h.connected(c)
	}
}

func (h handler) Closed(c *Conn) {
	if h.closed != nil {
		h.closed(c)
	}
}

func (h handler) Serve(c *Conn, frames []Request) { h.serve(c, frames) }

// echo answers with the fields and the body of the request.
func echo(c *Conn, frames []Request) {
	for i := range frames {
		r := &frames[i]
		w := c.Reply(r, RespSuccess)
		for _, f := range r.Fields {
			w.Bytes(string(f.Key), f.Value)
		}
		w.Body(r.Body).End()
	}
}

func listen(t testing.TB, h Handler, o ServerOptions) *Server {
	t.Helper()
	s, err := Listen("127.0.0.1:0", h, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

func dial(t testing.TB, s *Server, o ClientOptions) *Client {
	t.Helper()
	c, err := Dial(context.Background(), s.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-c.Done() })
	return c
}

// raw is a connection of which the test writes every byte.
func raw(t testing.TB, s *Server) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// readFrame reads one answer from a raw connection.
func readFrame(t testing.TB, c net.Conn) Request {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var n [4]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(n[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	var d Decoder
	var r Request
	if err := d.Decode(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// eventually waits for something that a server does on its own.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func requestFrame(code int, opaque int32, body string) []byte {
	return jsonFrame(fmt.Sprintf(`{"code":%d,"opaque":%d,"flag":0,"language":"JAVA","version":513,"extFields":{"k":"v"}}`, code, opaque), body)
}

func TestEcho(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: echo}, o)
		for _, encoding := range []byte{EncodingJSON, EncodingBinary} {
			c := dial(t, s, ClientOptions{Encoding: encoding})
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					for i := range 50 {
						body := bytes.Repeat([]byte{byte(g), byte(i)}, i*g*20)
						a, err := c.Do(within(t, 20*time.Second), 10, Fields{{"topic", "tö\"p"}}, body)
						if err != nil {
							t.Error(err)
							return
						}
						if v, _ := a.Get("topic"); v != "tö\"p" || !bytes.Equal(a.Body, body) || a.Version != Version || a.Language != LangJava {
							t.Errorf("got %+v", a)
							return
						}
					}
				})
			}
			wg.Wait()
		}
		st := s.Stats()
		if st.FramesIn != 800 || st.FramesOut != 800 || st.Connections != 2 || st.BytesIn == 0 || st.BytesOut == 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// The answer to a frame comes whatever pieces the frame arrives in, and in the
// frame's own encoding.
func TestFramesInPieces(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		o.BatchBytes = 1000
		s := listen(t, handler{serve: echo}, o)
		c := raw(t, s)
		rng := rand.New(rand.NewPCG(1, 2))
		var stream []byte
		var bodies []string
		for i := range 60 {
			body := strings.Repeat(string(rune('a'+i%26)), rng.IntN(5000))
			bodies = append(bodies, body)
			f := requestFrame(10, int32(i), body)
			if i%2 == 1 {
				var h header
				h.reset(EncodingBinary, 10, int32(i), 0)
				h.str("k", "v")
				f, _ = h.appendFrame(nil, []byte(body))
			}
			stream = append(stream, f...)
		}
		go func() {
			for len(stream) > 0 {
				n := min(len(stream), 1+rng.IntN(4000)*rng.IntN(2))
				c.Write(stream[:n])
				stream = stream[n:]
			}
		}()
		for i, body := range bodies {
			r := readFrame(t, c)
			if r.Opaque != int32(i) || string(r.Body) != body || r.Encoding != byte(i%2) || !r.IsResponse() {
				t.Fatalf("answer %d: opaque %d, encoding %d, %d bytes, want %d", i, r.Opaque, r.Encoding, len(r.Body), len(body))
			}
			if v, _ := r.Get("k"); string(v) != "v" {
				t.Fatalf("answer %d: k is %q", i, v)
			}
		}
	})
}

func TestOneWayGetsNoAnswer(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: func(c *Conn, frames []Request) {
			for i := range frames {
				if frames[i].Code == 99 {
					c.AnswerLater(frames[i].Ticket(), Response{Code: 5})
					continue
				}
				c.Answer(&frames[i], Response{Code: RespSuccess})
			}
		}}, o)
		c := raw(t, s)
		c.Write(jsonFrame(`{"code":1,"opaque":1,"flag":2}`, ""))
		c.Write(jsonFrame(`{"code":99,"opaque":2,"flag":2}`, ""))
		c.Write(jsonFrame(`{"code":1,"opaque":3,"flag":0}`, ""))
		if r := readFrame(t, c); r.Opaque != 3 {
			t.Fatalf("answered %d", r.Opaque)
		}
	})
}

// The body may be written before the fields are known, and the header is put in
// front of it.
func TestBodyFirst(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		fill := func(w *Writer, r *Request) {
			n, _ := r.Int32("n")
			b := w.BodyBuffer()
			for i := range n {
				b = append(b, byte(i))
			}
			w.SetBody(b)
			w.Code(RespPullNotFound).Str("pad", strings.Repeat("x", int(n)%700)).Int("next", int64(n)).Remark("re").End()
		}
		s := listen(t, handler{serve: func(c *Conn, frames []Request) {
			for i := range frames {
				r := &frames[i]
				if r.Code == 2 {
					fill(c.Later(r.Ticket(), 0), r)
				} else {
					fill(c.Reply(r, 0), r)
				}
			}
		}}, o)
		for _, encoding := range []byte{EncodingJSON, EncodingBinary} {
			c := dial(t, s, ClientOptions{Encoding: encoding})
			var wg sync.WaitGroup
			for _, n := range []int{0, 1, 5000, 699, 100_000, 3, 300_000, 12} {
				for code := 1; code <= 2; code++ {
					wg.Go(func() {
						a, err := c.Call(within(t, 20*time.Second), code, Fields{{"n", fmt.Sprint(n)}}, nil)
						if err != nil {
							t.Error(err)
							return
						}
						if next, _ := a.Get("next"); a.Code != RespPullNotFound || next != fmt.Sprint(n) || len(a.Body) != n || a.Remark != "re" {
							t.Errorf("n=%d: code %d, next %s, %d bytes, remark %q", n, a.Code, next, len(a.Body), a.Remark)
						}
						for i, b := range a.Body {
							if b != byte(i) {
								t.Errorf("n=%d: byte %d is %d", n, i, b)
								return
							}
						}
					})
				}
			}
			wg.Wait()
		}
	})
}

func TestAnswerTooLarge(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		o.MaxFrame = 1 << 20
		errs := make(chan error, 2)
		s := listen(t, handler{serve: func(c *Conn, frames []Request) {
			for i := range frames {
				w := c.Reply(&frames[i], 0)
				if frames[i].Code == 1 {
					w.Body(make([]byte, 2<<20))
				} else {
					w.SetBody(append(w.BodyBuffer(), make([]byte, 2<<20)...))
				}
				errs <- w.Str("k", "v").End()
			}
		}}, o)
		c := dial(t, s, ClientOptions{})
		for code := 1; code <= 2; code++ {
			a, err := c.Call(within(t, 10*time.Second), code, nil, nil)
			if err != nil || a.Code != RespSystemError || !strings.Contains(a.Remark, "larger than a frame") {
				t.Errorf("%+v, %v", a, err)
			}
			if err := <-errs; !errors.Is(err, ErrTooLarge) {
				t.Errorf("End said %v", err)
			}
		}
	})
}

func TestServerCallsClient(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		conns := make(chan *Conn, 1)
		s := listen(t, handler{connected: func(c *Conn) { conns <- c }, serve: echo}, o)
		oneWay := make(chan string, 1)
		dial(t, s, ClientOptions{Handler: func(c *Client, r *Request) {
			switch r.Code {
			case ReqNotifyConsumerIDsChanged:
				oneWay <- r.StringOr("consumerGroup", "")
			case ReqGetConsumerRunningInfo:
				c.Reply(r.Ticket(), Response{Code: 7, Remark: "r", Body: bytes.Clone(r.Body)})
			}
		}})
		c := <-conns
		if err := c.OneWay(ReqNotifyConsumerIDsChanged, Fields{{"consumerGroup", "g"}}, nil); err != nil {
			t.Fatal(err)
		}
		if g := <-oneWay; g != "g" {
			t.Errorf("group %q", g)
		}
		a, err := c.Call(within(t, 10*time.Second), ReqGetConsumerRunningInfo, nil, []byte("ask"))
		if err != nil || a.Code != 7 || a.Remark != "r" || string(a.Body) != "ask" {
			t.Errorf("%+v, %v", a, err)
		}
		// Nobody answers this one.
		if _, err := c.Call(within(t, 20*time.Millisecond), 12345, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("call without answer: %v", err)
		}
		done := make(chan error, 1)
		go func() { _, err := c.Call(within(t, 10*time.Second), 12345, nil, nil); done <- err }()
		eventually(t, "the call is out", func() bool { return s.Stats().FramesOut >= 4 })
		c.Close()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("call on a closed connection: %v", err)
		}
		eventually(t, "closed by us", func() bool { return s.Stats().Closed[CauseLocal] == 1 })
	})
}

func TestConnIsDescribed(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		type seen struct{ remote, local netip.AddrPort }
		got := make(chan seen, 1)
		closed := make(chan any, 1)
		s := listen(t, handler{
			connected: func(c *Conn) {
				if c.State() != nil {
					t.Error("a fresh connection has a state")
				}
				c.SetState(42)
				got <- seen{c.RemoteAddr(), c.LocalAddr()}
			},
			serve:  echo,
			closed: func(c *Conn) { closed <- c.State() },
		}, o)
		c := dial(t, s, ClientOptions{})
		g := <-got
		if g.remote != c.LocalAddr() || g.local != c.RemoteAddr() {
			t.Errorf("server sees %v, client %v -> %v", g, c.LocalAddr(), c.RemoteAddr())
		}
		c.Close()
		if v := <-closed; v != 42 {
			t.Errorf("state %v", v)
		}
		eventually(t, "the peer's leaving is counted", func() bool { return s.Stats().Closed[CausePeer] == 1 })
	})
}

func TestPanicInHandler(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		var told atomic.Int32
		o.Events.Panic = func(_ netip.AddrPort, v any, stack []byte) {
			if v == "boom" && strings.Contains(string(stack), "server_test.go") {
				told.Add(1)
			}
		}
		s := listen(t, handler{serve: func(c *Conn, frames []Request) {
			for i := range frames {
				if frames[i].Code == 666 {
					w := c.Reply(&frames[i], 0)
					w.SetBody(append(w.BodyBuffer(), "half an answer"...))
					frames[i].settled = false // as if it had failed before Reply
					panic("boom")
				}
				c.Answer(&frames[i], Response{Code: 0})
			}
		}}, o)
		c := raw(t, s)
		var all []byte
		for i := range 6 {
			code := 1
			if i%2 == 1 {
				code = 666
			}
			all = append(all, requestFrame(code, int32(i), "b")...)
		}
		c.Write(all)
		for i := range 6 {
			r := readFrame(t, c)
			want := RespSuccess
			if i%2 == 1 {
				want = RespSystemError
			}
			if r.Opaque != int32(i) || r.Code != want || i%2 == 1 && !strings.Contains(string(r.Remark), "boom") {
				t.Fatalf("answer %d is %d to %d: %s", i, r.Code, r.Opaque, r.Remark)
			}
		}
		if n := s.Stats().Panics; n != 3 || told.Load() != 3 {
			t.Errorf("%d panics counted, %d told", n, told.Load())
		}
	})
}

func TestShutdown(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		entered, leave := make(chan struct{}), make(chan struct{})
		s, err := Listen("127.0.0.1:0", handler{serve: func(c *Conn, frames []Request) {
			close(entered)
			<-leave
			echo(c, frames)
		}}, o)
		if err != nil {
			t.Fatal(err)
		}
		idle := dial(t, s, ClientOptions{})
		c := dial(t, s, ClientOptions{})
		answer := make(chan error, 1)
		go func() { _, err := c.Do(within(t, 10*time.Second), 1, nil, nil); answer <- err }()
		<-entered
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(within(t, 10*time.Second)) }()
		<-idle.Done()
		select {
		case err := <-done:
			t.Fatalf("did not wait for the handler: %v", err)
		case <-time.After(30 * time.Millisecond):
		}
		close(leave)
		if err := <-answer; err != nil {
			t.Errorf("the answer of the running request: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("second shutdown: %v", err)
		}
		if _, err := Dial(within(t, time.Second), s.Addr().String(), ClientOptions{}); err == nil {
			t.Error("somebody still accepts")
		}
		if st := s.Stats(); st.Closed[CauseShutdown] != 2 || st.Connections != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestShutdownCutsOff(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		entered, leave := make(chan struct{}), make(chan struct{})
		s, err := Listen("127.0.0.1:0", handler{serve: func(c *Conn, frames []Request) { close(entered); <-leave }}, o)
		if err != nil {
			t.Fatal(err)
		}
		c := raw(t, s)
		c.Write(requestFrame(1, 1, ""))
		<-entered
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown with a stuck handler: %v", err)
		}
		close(leave)
		if err := s.Shutdown(within(t, 10*time.Second)); err != nil {
			t.Errorf("shutdown after it: %v", err)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		o.IdleTimeout = time.Second
		s := listen(t, handler{serve: echo}, o)
		idle, half := raw(t, s), raw(t, s)
		half.Write(requestFrame(1, 1, "body")[:20])
		busy := dial(t, s, ClientOptions{})
		eventually(t, "two idle ones are closed", func() bool {
			if _, err := busy.Do(within(t, 5*time.Second), 1, nil, nil); err != nil {
				t.Fatalf("a busy connection was closed: %v", err)
			}
			return s.Stats().Closed[CauseIdle] == 2
		})
		for _, c := range []net.Conn{idle, half} {
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("an idle connection lives: %v", err)
			}
		}
		eventually(t, "nothing is held", func() bool { return s.Stats().InputBytes == 0 })
	})
}

func TestMaxConns(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		o.MaxConns = 1
		s := listen(t, handler{serve: echo}, o)
		c := dial(t, s, ClientOptions{})
		if _, err := c.Do(within(t, 5*time.Second), 1, nil, nil); err != nil {
			t.Fatal(err)
		}
		refused := raw(t, s)
		refused.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := refused.Read(make([]byte, 1)); err == nil {
			t.Error("a second connection was served")
		}
		if _, err := c.Do(within(t, 5*time.Second), 1, nil, nil); err != nil {
			t.Errorf("the first connection suffered: %v", err)
		}
		c.Close()
		eventually(t, "there is room again", func() bool {
			c, err := Dial(context.Background(), s.Addr().String(), ClientOptions{})
			if err != nil {
				return false
			}
			defer func() { c.Close(); <-c.Done() }()
			_, err = c.Do(within(t, 5*time.Second), 1, nil, nil)
			return err == nil
		})
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []ServerOptions{
		{Transport: "carrier pigeon"},
		{MaxFrame: 10},
		{InputSoft: 10, InputHard: 5},
		{BatchBytes: -1},
	} {
		if s, err := Listen("127.0.0.1:0", handler{serve: echo}, o); err == nil {
			s.Shutdown(context.Background())
			t.Errorf("%+v was taken", o)
		}
	}
	if _, err := Listen("256.0.0.1:1", handler{serve: echo}, ServerOptions{}); err == nil || !strings.Contains(err.Error(), "256.0.0.1:1") {
		t.Errorf("listening nowhere: %v", err)
	}
}
