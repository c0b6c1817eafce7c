package bench

import (
	"context"
	"time"
)

// Repeat calls fn one after the other for so long, with a pause between two
// calls, and returns how long each call took. The first error ends it.
func Repeat(ctx context.Context, d, pause time.Duration, fn func() error) (Latency, error) {
	h := newHistogram()
	for end := time.Now().Add(d); ctx.Err() == nil; {
		began := time.Now()
		if began.After(end) {
			break
		}
		if err := fn(); err != nil {
			return latencyOf(h), err
		}
		record(h, int64(time.Since(began)), 1)
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	return latencyOf(h), ctx.Err()
}
