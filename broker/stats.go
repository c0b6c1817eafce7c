package broker

import (
	"sync/atomic"
	"time"
)

// Stats counts what a broker did. The counters only grow.
type Stats struct {
	since      time.Time
	PulledMsgs atomic.Int64
	PulledByte atomic.Int64
}

func newStats(now time.Time) *Stats { return &Stats{since: now} }

func (s *Stats) pulled(_ *PullRequest, messages, bytes int) {
	s.PulledMsgs.Add(int64(messages))
	s.PulledByte.Add(int64(bytes))
}

// Stats returns the counters.
func (b *Broker) Stats() *Stats { return b.stats }
