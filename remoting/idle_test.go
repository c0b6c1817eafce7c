package remoting

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// idleConns is how many connections do nothing, as far as descriptors allow:
// both ends are in this process.
func idleConns(t *testing.T) int {
	if raceEnabled || testing.Short() {
		return 1000
	}
	const want, others = 5000, 1000
	n := min(want, (descriptors()-others)/2)
	if n < want {
		t.Logf("this process may have %d descriptors: %d connections instead of %d", descriptors(), n, want)
	}
	return n
}

// dialMany opens connections of which each has been served once. They end with
// a reset, so that their ports are free at once.
func dialMany(t *testing.T, s *Server, n int) {
	t.Helper()
	all := make([]net.Conn, 0, n)
	t.Cleanup(func() {
		for _, c := range all {
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	})
	one := requestFrame(1, 1, "x")
	for range n {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		c.Write(one)
	}
	for _, c := range all {
		if r := readFrame(t, c); r.Opaque != 1 {
			t.Fatal(r)
		}
	}
}

// Thousands of connections that do nothing, hundreds with a frame that never
// ends, and random bytes, all at a time, change nothing for anybody else.
func TestManyIdleConnections(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: echo}, o)
		conns := idleConns(t)
		h := watchHeap()
		dialMany(t, s, conns)
		if n := s.Stats().Connections; n != int64(conns) {
			t.Errorf("%d connections", n)
		}
		grown := h.grown()
		t.Logf("%d connections: the heap grew by %d bytes for each, both ends together", conns, grown/uint64(conns))
		if grown > uint64(conns)*32<<10 {
			t.Errorf("%d KiB for each of the connections", grown/uint64(conns)>>10)
		}
		for range 200 {
			f := frameOf(0, `{"code":10,"opaque":1}`, "")
			binary.BigEndian.PutUint32(f, 15<<20)
			raw(t, s).Write(append(f, make([]byte, 10<<10)...))
		}
		stop := make(chan struct{})
		defer close(stop)
		go randomBytes(s.Addr().String(), stop)
		others(t, s, time.Second)
		if st := s.Stats(); st.Connections < int64(conns)+200 || st.Closed[CauseFraming]+st.BadFrames == 0 || st.Panics != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

// randomBytes connects again and again and sends rubbish.
func randomBytes(addr string, stop chan struct{}) {
	rng := rand.New(rand.NewPCG(5, 6))
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		b := make([]byte, 1+rng.IntN(3000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		c.Write(b)
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
