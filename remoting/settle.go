package remoting

import (
	"context"
	"fmt"
)

// StopServing accepts nothing and serves nothing from now on, and returns when
// the requests under way have been served, or with ctx's error. It comes before
// Shutdown, once: in between the handler can give the answers that it owes,
// which go out as always, and nobody can come to owe more. What a peer still
// sends is dropped; nothing was done about it, so it may be sent elsewhere.
func (s *Server) StopServing(ctx context.Context) error {
	err := s.StopAccepting()
	s.quiet.Store(true)
	for _, c := range s.list() {
		for c.feeding.Load() {
			select {
			case <-s.served:
			case <-ctx.Done():
				return fmt.Errorf("remoting: a request of %s was still being served: %w", c.remote, ctx.Err())
			}
		}
	}
	return err
}

// fed notes that a connection is not being fed any more.
func (c *Conn) fed() {
	c.feeding.Store(false)
	if c.server.quiet.Load() {
		select {
		case c.server.served <- struct{}{}:
		default: // whoever waits looks again anyway
		}
	}
}
