package remoting

import (
	"sync/atomic"
	"testing"
	"time"
)

// What a peer sent before it left is served, though nobody takes the answers:
// the commits of a consumer that stops come right before its end.
func TestWhatWasSentBeforeLeavingIsServed(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		var requests, commits atomic.Int64
		serving, left := make(chan struct{}, 1), make(chan struct{})
		s := listen(t, handler{serve: func(c *Conn, frames []Request) {
			for i := range frames {
				if frames[i].OneWay() {
					commits.Add(1)
					continue
				}
				if requests.Add(1) == 1 {
					serving <- struct{}{}
					<-left
				}
				c.Answer(&frames[i], Response{Body: frames[i].Body})
				c.flush() // an answer that meets a closed socket, between two frames
			}
		}}, o)
		c := raw(t, s)
		const rounds, each = 20, 50
		c.Write(requestFrame(1, 1, "first"))
		<-serving
		var all []byte
		for range rounds {
			all = append(all, requestFrame(1, 2, "more")...)
			for range each {
				all = append(all, jsonFrame(`{"code":15,"opaque":1,"flag":2}`, "commit")...)
			}
		}
		c.Write(all)
		c.Close()
		time.Sleep(20 * time.Millisecond) // the end reaches the server's kernel
		close(left)
		eventually(t, "the connection is gone", func() bool { return s.Stats().Connections == 0 })
		if n := commits.Load(); n != rounds*each || requests.Load() != rounds+1 {
			t.Errorf("%d of %d commits were served, and %d of %d requests", n, rounds*each, requests.Load(), rounds+1)
		}
		if st := s.Stats(); st.Closed[CausePeer] != 1 || st.OutputBytes != 0 || st.InputBytes != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}
