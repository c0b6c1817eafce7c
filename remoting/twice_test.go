//go:build !windows

package remoting

import (
	"context"
	"testing"
)

// TestShutdownTwice: the second call ends nothing that other servers of the
// process still need, and leaves the count of them right.
func TestShutdownTwice(t *testing.T) {
	servers := func() int {
		netpollWorkers.mu.Lock()
		defer netpollWorkers.mu.Unlock()
		return netpollWorkers.servers
	}
	before := servers()
	s, err := Listen("127.0.0.1:0", handler{}, ServerOptions{Transport: TransportNetpoll})
	if err != nil {
		t.Fatal(err)
	}
	if n := servers(); n != before+1 {
		t.Fatalf("%d servers share the workers, want %d", n, before+1)
	}
	for range 2 {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := servers(); n != before {
			t.Errorf("%d servers share the workers, want %d", n, before)
		}
	}
}
