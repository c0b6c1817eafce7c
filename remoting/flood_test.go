package remoting

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// heap watches how far the live and the garbage heap grow together.
type heap struct {
	base, peak uint64
	stop, done chan struct{}
}

func watchHeap() *heap {
	runtime.GC()
	runtime.GC()
	h := &heap{stop: make(chan struct{}), done: make(chan struct{})}
	h.base = heapNow()
	go func() {
		defer close(h.done)
		for {
			select {
			case <-h.stop:
				return
			case <-time.After(5 * time.Millisecond):
				h.peak = max(h.peak, heapNow())
			}
		}
	}()
	return h
}

func heapNow() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func (h *heap) grown() uint64 {
	close(h.stop)
	<-h.done
	return max(h.peak, h.base) - h.base
}

const mayGrow = 100 << 20 // what one flood may cost

// others measures what another client sees meanwhile, beside what a client of
// a server sees that nobody floods: the machine has other work, and the
// difference is ours.
func others(t *testing.T, s *Server, d time.Duration) {
	t.Helper()
	quiet := listen(t, handler{serve: echo}, ServerOptions{Transport: TransportNet})
	control := make(chan time.Duration, 1)
	end := time.Now().Add(d)
	go func() { control <- slow(t, quiet, end) }()
	waited, fair := slow(t, s, end), <-control
	t.Logf("another client waited %s, one of a quiet server %s", waited, fair)
	if waited > 100*time.Millisecond+3*fair {
		t.Errorf("another client waited %s, where a client of a quiet server waited %s", waited, fair)
	}
}

// slow returns what 95 of 100 calls are faster than.
func slow(t *testing.T, s *Server, end time.Time) time.Duration {
	c, err := Dial(context.Background(), s.Addr().String(), ClientOptions{})
	if err != nil {
		t.Error(err)
		return 0
	}
	defer func() { c.Close(); <-c.Done() }()
	var took []time.Duration
	for first := true; first || time.Now().Before(end); first = false {
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		_, err := c.Do(ctx, 1, nil, []byte("x"))
		cancel()
		if err != nil {
			t.Errorf("another client: %v", err)
			return 0
		}
		took = append(took, time.Since(start))
		time.Sleep(2 * time.Millisecond)
	}
	slices.Sort(took)
	return took[len(took)*95/100]
}

// pulls answers code 11 with 256 KB, as a pull does, and everything else as
// echo. Code 12 is answered from elsewhere.
func pulls(c *Conn, frames []Request) {
	for i := range frames {
		r := &frames[i]
		switch r.Code {
		case ReqPullMessage:
			w := c.Reply(r, 0)
			w.SetBody(append(w.BodyBuffer(), big...))
			w.Str("nextBeginOffset", "1").End()
		case ReqQueryMessage:
			t := r.Ticket()
			c.AnswerLater(t, Response{Body: big})
		default:
			c.Answer(r, Response{Body: r.Body[:min(len(r.Body), 10)]})
		}
	}
}

var big = make([]byte, 256<<10)

// flood writes the frame again and again until the connection ends or the
// deadline comes, and never reads.
func flood(c net.Conn, frame []byte, until time.Time) (sent int64) {
	many := frame
	for len(many) < 64<<10 {
		many = append(many, frame...)
	}
	c.SetWriteDeadline(until)
	for {
		n, err := c.Write(many)
		sent += int64(n)
		if err != nil {
			return sent
		}
	}
}

func TestFloods(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec floodSpec
	}{
		{"pulls that are never read", floodSpec{Code: ReqPullMessage}},
		{"late answers that are never read", floodSpec{Code: ReqQueryMessage}},
		{"large sends", floodSpec{Code: ReqSendMessage, Size: 1 << 20}},
		{"small sends", floodSpec{Code: ReqSendMessage, Size: 1}},
		{"one-way sends", floodSpec{Code: ReqSendMessage, Size: 100 << 10, OneWay: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, o ServerOptions) {
				s := listen(t, handler{serve: pulls}, o)
				h := watchHeap()
				wait := startFloods(t, s, 1200*time.Millisecond, tt.spec)
				others(t, s, time.Second)
				said := wait()
				grown := h.grown()
				st := s.Stats()
				t.Logf("heap grew %d MiB, busy %d, closed %v; %s", grown>>20, st.Busy, st.Closed, said)
				if grown > mayGrow {
					t.Errorf("the heap grew by %d MiB", grown>>20)
				}
				eventually(t, "nothing is held any more", func() bool {
					st := s.Stats()
					return st.InputBytes == 0 && st.OutputBytes == 0 && st.Connections == 0
				})
			})
		})
	}
}

// A handler that hangs must not let its client fill the memory.
func TestFloodOfAStuckHandler(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		leave := make(chan struct{})
		// Bounds that a flood on the slowest machine reaches.
		o.InputSoft, o.InputHard = 1<<20, 4<<20
		s := listen(t, handler{serve: func(c *Conn, frames []Request) {
			if frames[0].Code == ReqSendMessage {
				<-leave
			}
			pulls(c, frames)
		}}, o)
		h := watchHeap()
		wait := startFloods(t, s, 700*time.Millisecond, floodSpec{Code: ReqSendMessage, Size: 1000})
		others(t, s, 500*time.Millisecond)
		said := wait()
		grown := h.grown()
		close(leave)
		t.Logf("heap grew %d MiB, closed %v; %s", grown>>20, s.Stats().Closed, said)
		if grown > mayGrow {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		if st := s.Stats(); o.Transport == TransportNetpoll && st.Braked == 0 && st.Closed[CauseInput] == 0 {
			t.Errorf("the flooder was neither held back nor closed: %+v", st)
		}
	})
}

// A peer that takes nothing for WriteTimeout is closed.
func TestStalledReaderIsClosed(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		o.WriteTimeout = 200 * time.Millisecond
		s := listen(t, handler{serve: pulls}, o)
		for _, code := range []int{ReqPullMessage, ReqQueryMessage} {
			before := s.Stats().Closed[CauseStalled] + s.Stats().Closed[CauseOutput]
			c := raw(t, s)
			for range 100 {
				c.Write(requestFrame(code, 1, ""))
			}
			eventually(t, "the stalled reader is closed", func() bool {
				st := s.Stats()
				return st.Closed[CauseStalled]+st.Closed[CauseOutput] == before+1
			})
		}
	})
}

// A slow reader gets everything as long as it reads.
func TestSlowReaderGetsEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: pulls}, o)
		c := raw(t, s)
		const pulls = 100
		go func() {
			for i := range pulls {
				code := ReqPullMessage
				if i%10 == 9 {
					code = ReqQueryMessage
				}
				c.Write(requestFrame(code, int32(i), ""))
			}
		}()
		time.Sleep(50 * time.Millisecond)
		seen := map[int32]bool{}
		for i := range pulls {
			if r := readFrame(t, c); len(r.Body) != len(big) {
				t.Fatalf("answer %d has %d bytes", i, len(r.Body))
			} else {
				seen[r.Opaque] = true
			}
			time.Sleep(time.Millisecond)
		}
		if len(seen) != pulls {
			t.Errorf("%d different answers", len(seen))
		}
	})
}

// Past the soft bound requests are rejected with the reason, and served again
// when the backlog is gone.
func TestBusyPastTheSoftBound(t *testing.T) {
	if defaultTransport == TransportNet {
		t.Skip("net holds the peer back instead")
	}
	leave := make(chan struct{})
	var first atomic.Bool
	o := ServerOptions{Transport: TransportNetpoll, InputSoft: 1 << 20, InputHard: 64 << 20, BatchBytes: 64 << 10, noBrake: true}
	s := listen(t, handler{serve: func(c *Conn, frames []Request) {
		if first.CompareAndSwap(false, true) {
			<-leave
		}
		pulls(c, frames)
	}}, o)
	c := raw(t, s)
	const frames = 400
	go func() {
		for i := range frames {
			c.Write(requestFrame(ReqSendMessage, int32(i), string(make([]byte, 10_000+i*10))))
		}
	}()
	eventually(t, "a backlog", func() bool { return s.Stats().InputBytes > 3<<20 })
	close(leave)
	codes := map[int]int{}
	for range frames {
		r := readFrame(t, c)
		codes[r.Code]++
		if r.Code == RespSystemBusy && len(r.Remark) < 20 {
			t.Fatalf("remark %q", r.Remark)
		}
	}
	if codes[RespSystemBusy] == 0 || codes[RespSuccess] < 50 || codes[RespSystemBusy]+codes[RespSuccess] != frames {
		t.Errorf("answered %v", codes)
	}
	c.Write(requestFrame(ReqSendMessage, 1, "x"))
	if r := readFrame(t, c); r.Code != RespSuccess {
		t.Errorf("after the backlog: %d %s", r.Code, r.Remark)
	}
	if n := s.Stats().Busy; n != int64(codes[RespSystemBusy]) {
		t.Errorf("%d counted, %d seen", n, codes[RespSystemBusy])
	}
}

// Frames that never end cost what they have sent, and that is bounded.
func TestFramesThatNeverEnd(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: echo}, o)
		h := watchHeap()
		for i := range 200 {
			c := raw(t, s)
			f := frameOf(0, `{"code":10,"opaque":1}`, "")
			binary.BigEndian.PutUint32(f, 15<<20)
			if i%2 == 0 {
				f = append(f, make([]byte, 1<<20)...)
			} else {
				f = f[:1+i%len(f)]
			}
			go c.Write(f)
		}
		others(t, s, 500*time.Millisecond)
		eventually(t, "the bound is kept", func() bool { return s.Stats().InputBytes <= s.o.TotalInputHard })
		grown := h.grown()
		t.Logf("heap grew %d MiB, held %d MiB, closed %v", grown>>20, s.Stats().InputBytes>>20, s.Stats().Closed)
		if grown > 3*uint64(s.o.TotalInputHard) {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
		// They do not keep anybody running either.
		n := s.active.Load()
		eventually(t, "nobody runs", func() bool { n = s.active.Load(); return n == 0 })
	})
}

func TestRandomBytes(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: echo}, o)
		rng := rand.New(rand.NewPCG(3, 4))
		for i := range 150 {
			c := raw(t, s)
			b := make([]byte, rng.IntN(3000))
			for j := range b {
				b[j] = byte(rng.Uint32())
			}
			if i%2 == 0 && len(b) > 8 { // a frame around rubbish
				binary.BigEndian.PutUint32(b, uint32(len(b)-4))
				binary.BigEndian.PutUint32(b[4:], uint32(rng.IntN(len(b)))|uint32(i/2%3)<<24)
			}
			c.Write(b)
		}
		others(t, s, 200*time.Millisecond)
		if st := s.Stats(); st.Closed[CauseFraming] == 0 || st.BadFrames == 0 || st.Panics != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// A bad header costs its frame, a bad length the connection.
func TestBadFrames(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: echo}, o)
		c := raw(t, s)
		c.Write(jsonFrame(`{"code":10,"opaque":5,"flag":x}`, "body"))
		c.Write(jsonFrame(`rubbish`, ""))
		c.Write(requestFrame(1, 6, ""))
		if r := readFrame(t, c); r.Opaque != 5 || r.Code != RespSystemError || len(r.Remark) < 20 {
			t.Fatalf("answer %d to %d: %s", r.Code, r.Opaque, r.Remark)
		}
		if r := readFrame(t, c); r.Opaque != 6 || r.Code != RespSuccess {
			t.Fatalf("answer %d to %d", r.Code, r.Opaque)
		}
		if st := s.Stats(); st.BadFrames != 2 || st.Unanswered != 1 {
			t.Errorf("stats %+v", st)
		}
		for _, bad := range [][]byte{{0, 0, 0, 1}, {1, 0, 0, 1}, {0x16, 3, 1, 0}, {0, 0, 0, 6, 0, 0, 0, 9, 'x', 'y'}} {
			c := raw(t, s)
			c.Write(requestFrame(1, 7, ""))
			if r := readFrame(t, c); r.Opaque != 7 {
				t.Fatal(r)
			}
			c.Write(append(requestFrame(1, 8, ""), bad...))
			if r := readFrame(t, c); r.Opaque != 8 { // what was whole before it is served
				t.Fatal(r)
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("the connection lives after %x", bad)
			}
		}
		eventually(t, "they are counted", func() bool { return s.Stats().Closed[CauseFraming] == 4 })
	})
}

// Shutdown in the middle of a flood ends in time.
func TestShutdownUnderLoad(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s, err := Listen("127.0.0.1:0", handler{serve: pulls}, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 9 {
			c := raw(t, s)
			frame := requestFrame([]int{ReqPullMessage, ReqQueryMessage, ReqSendMessage}[i%3], 1, "x")
			go flood(c, frame, time.Now().Add(10*time.Second))
			if i%2 == 0 {
				go io.Copy(io.Discard, c)
			}
		}
		time.Sleep(50 * time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		err = s.Shutdown(ctx)
		if took := time.Since(start); took > 5*time.Second || s.Stats().Connections != 0 {
			t.Errorf("took %s, %v, %d connections left", took, err, s.Stats().Connections)
		}
	})
}

// Past the soft bound netpoll's peer is kept from sending, so that nothing is
// rejected and everything comes in the end.
func TestBrake(t *testing.T) {
	if !canBrake || defaultTransport != TransportNetpoll {
		t.Skip("this system has no brake")
	}
	leave := make(chan struct{})
	var first atomic.Bool
	o := ServerOptions{Transport: TransportNetpoll, InputSoft: 1 << 20, InputHard: 32 << 20}
	s := listen(t, handler{serve: func(c *Conn, frames []Request) {
		if first.CompareAndSwap(false, true) {
			<-leave
		}
		pulls(c, frames)
	}}, o)
	c := raw(t, s)
	const frames, size = 300, 200_000
	go func() {
		f := requestFrame(ReqSendMessage, 1, string(make([]byte, size)))
		for range frames {
			c.Write(f)
			time.Sleep(time.Millisecond) // 200 MB a second: whoever watches must get a processor now and then
		}
	}()
	eventually(t, "the brake", func() bool { return s.Stats().Braked > 0 })
	time.Sleep(100 * time.Millisecond)
	if n := s.Stats().InputBytes; n > 16<<20 {
		t.Errorf("%d bytes came in spite of it", n)
	}
	close(leave)
	for i := range frames {
		if r := readFrame(t, c); r.Code != RespSuccess {
			t.Fatalf("answer %d is %d: %s", i, r.Code, r.Remark)
		}
	}
	if st := s.Stats(); st.Busy != 0 || st.Closed[CauseInput] != 0 {
		t.Errorf("stats %+v", st)
	}
	eventually(t, "the brake is off", func() bool { return s.braked.Load() == 0 })
}
