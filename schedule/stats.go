package schedule

import (
	"sync/atomic"

	"github.com/merlinmq/merlin/message"
)

// LateBounds are the upper bounds of the lateness histogram in ms.
var LateBounds = [...]int64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 60_000}

type stats struct {
	lost    atomic.Int64
	buckets [len(LateBounds) + 1]atomic.Int64
	lateMs  atomic.Int64
}

// late notes a delivery so many ms after its time.
func (s *stats) late(ms int64) {
	ms = max(ms, 0)
	i := 0
	for i < len(LateBounds) && ms > LateBounds[i] {
		i++
	}
	s.buckets[i].Add(1)
	s.lateMs.Add(ms)
}

// Stats are counters since Open and gauges of this moment.
type Stats struct {
	Timed     map[string]int64 // timed messages that wait, by real topic
	Levels    map[int]int64    // level messages that wait, by level
	Schedules int              // recurring messages
	InMemory  int              // timed messages in memory, bounded
	Lost      int64            // records that could not be delivered
	Unindexed int64            // timed messages that have no row yet

	// Late counts deliveries: Late[i] those at most LateBounds[i] ms after their
	// time and more than the bound before; the last those above all bounds.
	Late   [len(LateBounds) + 1]int64
	LateMs int64 // sum
}

// Stats returns the service's numbers.
func (s *Service) Stats() Stats {
	st := Stats{Timed: make(map[string]int64), Levels: make(map[int]int64), Lost: s.stats.lost.Load(), LateMs: s.stats.lateMs.Load()}
	for i := range s.stats.buckets {
		st.Late[i] = s.stats.buckets[i].Load()
	}
	s.rowMu.Lock()
	for topic, n := range s.rows.byTopic {
		st.Timed[topic] = n
	}
	indexed := s.indexed
	s.rowMu.Unlock()
	_, end := s.log.Bounds(message.TopicTimer, 0)
	st.Unindexed = int64(max(0, end-indexed))
	for _, l := range s.levels {
		if _, end := s.log.Bounds(message.TopicSchedule, l.queue); end > s.levelNext(l) {
			st.Levels[l.number] = int64(end - s.levelNext(l))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, n := range s.awayBy {
		if st.Timed[topic] -= n; st.Timed[topic] <= 0 {
			delete(st.Timed, topic)
		}
	}
	st.Schedules, st.InMemory = len(s.schedules.byName), s.due.Len()
	return st
}
