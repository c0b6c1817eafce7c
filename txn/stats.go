package txn

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counters since Open and gauges of this moment.
type Stats struct {
	Pending    int
	Committed  map[string]int64 // by real topic
	RolledBack map[string]int64
	Repeated   int64 // ends that came again
	Unknown    int64 // ends without a verdict
	Checks     int64 // sent
	Discarded  int64
	Carried    int64
	Lost       int64 // let go of: the half can be neither read nor stored again
	Refused    map[Refusal]int64
	// Waiting is how many halves each group has that no producer of it can be
	// asked about.
	Waiting map[string]int
	// Latency counts commits by the seconds from birth to commit: up to each of
	// LatencyBounds, and beyond.
	Latency    [7]int64
	LatencySum float64
}

// Refusal is a group and why its end was refused.
type Refusal struct {
	Group  string
	Reason Reason
}

// LatencyBounds are Apache's, in seconds.
var LatencyBounds = [6]float64{5, 60, 600, 3600, 12 * 3600, 24 * 3600}

// maxNames bounds the topics and groups that are counted apart; others count
// under "other".
const (
	maxNames   = 10_000
	otherName  = "other"
	tellPerSec = 10
)

type counters struct {
	repeated, unknown, checks, discarded, carried, lost atomic.Int64

	mu         sync.Mutex // guards what follows
	committed  map[string]int64
	rolledBack map[string]int64
	refusals   map[Refusal]int64
	latency    [7]int64
	latencySum float64
	second     int64
	told       int
}

func (s *counters) init() {
	s.committed, s.rolledBack, s.refusals = map[string]int64{}, map[string]int64{}, map[Refusal]int64{}
}

// label makes a name that came from a client fit to be shown.
func label(name string) string { return strings.ToValidUTF8(name, "?") }

func add[K comparable](m map[K]int64, key, other K) {
	if _, ok := m[key]; !ok && len(m) >= maxNames {
		key = other
	}
	m[key]++
}

// ended counts a settled transaction.
func (s *counters) ended(v Verdict, topic string, ms int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v != Commit {
		add(s.rolledBack, label(topic), otherName)
		return
	}
	add(s.committed, label(topic), otherName)
	seconds := float64(max(ms, 0)) / 1000
	i := 0
	for i < len(LatencyBounds) && seconds > LatencyBounds[i] {
		i++
	}
	s.latency[i]++
	s.latencySum += seconds
}

// refused counts a refusal and says whether to tell of it.
func (s *counters) refused(group string, why Reason, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	add(s.refusals, Refusal{label(group), why}, Refusal{otherName, why})
	if sec := now.Unix(); sec != s.second {
		s.second, s.told = sec, 0
	}
	s.told++
	return s.told <= tellPerSec
}

// Stats returns the numbers.
func (c *Coordinator) Stats() Stats {
	s := &c.stats
	s.mu.Lock()
	out := Stats{
		Committed: maps.Clone(s.committed), RolledBack: maps.Clone(s.rolledBack), Refused: maps.Clone(s.refusals),
		Latency: s.latency, LatencySum: s.latencySum,
	}
	s.mu.Unlock()
	out.Repeated, out.Unknown, out.Checks = s.repeated.Load(), s.unknown.Load(), s.checks.Load()
	out.Discarded, out.Carried, out.Lost = s.discarded.Load(), s.carried.Load(), s.lost.Load()
	out.Waiting = map[string]int{}
	c.mu.Lock()
	defer c.mu.Unlock()
	out.Pending = len(c.pending)
	for name, i := range c.groups.byName {
		if g := &c.groups.list[i]; g.without != 0 {
			out.Waiting[label(name)] += g.pending
		}
	}
	return out
}
