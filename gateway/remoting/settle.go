package gateway

import (
	"context"
	"fmt"
	"sync/atomic"
)

// owed counts the batches of requests that are done and wait for their fsync to
// be answered.
type owed struct {
	count atomic.Int64
	none  chan struct{} // gets something when count has become 0
}

func (o *owed) add() { o.count.Add(1) }

func (o *owed) done() {
	if o.count.Add(-1) == 0 {
		select {
		case o.none <- struct{}{}:
		default: // whoever waits looks again anyway
		}
	}
}

// Settle answers every request that waits: parked pulls and pops at once,
// questions to clients with what came of them, and sends when their fsync is
// done, for which it waits. Call it when no connection serves any more and
// before the connections are closed. The error is ctx's.
func (g *Gateway) Settle(ctx context.Context) error {
	g.broker.AnswerParked()
	g.Close()
	for g.owed.count.Load() > 0 {
		select {
		case <-g.owed.none:
		case <-ctx.Done():
			return fmt.Errorf("gateway: requests wait for their fsync still: %w", ctx.Err())
		}
	}
	return nil
}
