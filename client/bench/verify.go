package bench

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/merlinmq/merlin/message"
)

// Verification compares what a server holds with what it acknowledged.
type Verification struct {
	Acked     int64   `json:"acked"`   // messages acknowledged by the server
	Found     int64   `json:"found"`   // of these, read back
	Missing   int64   `json:"missing"` // acknowledged and not there
	Twice     int64   `json:"twice"`   // copies beyond the first
	Unacked   int64   `json:"unacked"` // there without an acknowledgement: allowed
	Foreign   int64   `json:"foreign"` // messages of others that arrived meanwhile
	Damaged   int64   `json:"damaged"` // body or record not as sent
	Seconds   float64 `json:"seconds"` // the read back took
	PerSecond float64 `json:"per_second"`

	Late  *Latency `json:"late,omitempty"` // delayed messages: stored for delivery this long after their time
	Early int64    `json:"early"`          // delayed messages before their time
}

// VerifyError says that a server does not hold what it acknowledged.
type VerifyError struct {
	Addr, Topic string
	V           Verification
}

// Error implements error.
func (e *VerifyError) Error() string {
	return fmt.Sprintf("bench: %s does not hold what it acknowledged on topic %s: of %d messages %d are missing, %d copies too many, %d damaged, %d before their time",
		e.Addr, e.Topic, e.V.Acked, e.V.Missing, e.V.Twice, e.V.Damaged, e.V.Early)
}

// reader collects what comes back. Its methods are safe for concurrent use.
type reader struct {
	o       *ProduceOptions
	prefix  string
	seen    []*ledger // by connection
	limits  []uint64
	acked   []*ledger
	found   atomic.Int64
	unacked atomic.Int64
	twice   atomic.Int64
	foreign atomic.Int64
	damaged atomic.Int64
	early   atomic.Int64

	mu   sync.Mutex // guards late
	late *hdrhistogram.Histogram
}

func (r *reader) record(_ int, b []byte) {
	v, err := message.Parse(b)
	if err != nil || v.VerifyBody() != nil {
		r.damaged.Add(1)
		return
	}
	key, _ := v.Properties().Get(message.PropKeys)
	conn, seq, mine := parseKey(key, r.prefix)
	if r.o.NoKeys {
		r.found.Add(1)
		return
	}
	if !mine || conn >= len(r.seen) || seq >= r.limits[conn] {
		r.foreign.Add(1)
		return
	}
	if v.BodySize() != r.o.Size {
		r.damaged.Add(1)
	}
	if r.seen[conn].mark(seq) {
		r.twice.Add(1)
		return
	}
	if r.acked[conn].has(seq) {
		r.found.Add(1)
	} else {
		r.unacked.Add(1)
	}
	if r.o.Delay > 0 {
		late := v.StoreTimestamp() - v.BornTimestamp() - r.o.Delay.Milliseconds()
		if late < 0 {
			r.early.Add(1)
		}
		r.mu.Lock()
		record(r.late, late*1e6, 1)
		r.mu.Unlock()
	}
}

// levels are the times that Apache's delay levels stand for by default.
var levels = [...]time.Duration{0, time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute, 6 * time.Minute, 7 * time.Minute,
	8 * time.Minute, 9 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour}

// verify reads the queues from where they ended before the run, and compares
// key by key with what was acknowledged.
func verify(ctx context.Context, o *ProduceOptions, ctl *control, senders []*sender, before []int64, runID uint32) (*Verification, error) {
	r := &reader{o: o, prefix: keyPrefix(runID), late: newHistogram()}
	v := &Verification{}
	for _, s := range senders {
		r.acked = append(r.acked, &s.acked)
		r.limits = append(r.limits, s.seq)
		r.seen = append(r.seen, newLedger(s.seq))
		v.Acked += s.counters.answered.Load()
	}
	start := time.Now()
	patience := o.Timeout + o.Delay
	if o.Level > 0 && o.Level < len(levels) {
		patience += levels[o.Level]
	}
	after, err := settle(ctx, o, ctl, before, v.Acked, patience)
	if err != nil {
		return v, err
	}
	readers := max(1, min(o.Conns, 8))
	run := &pulling{addr: o.Addr, group: pullGroup, topic: o.Topic, pull: 32, inflight: 2, timeout: o.Timeout,
		work: newSpans(before, after, readers*2, 32, false), to: math.MaxInt64, each: r.record}
	m := &meter{progress: o.Progress}
	_, err = runPullers(ctx, run, m, readers, func(ctx context.Context, done <-chan struct{}) error {
		m.waitUntil(ctx, done, "read back", 0, v.Acked)
		return nil
	})
	v.Seconds = time.Since(start).Seconds()
	v.Found, v.Twice, v.Unacked = r.found.Load(), r.twice.Load(), r.unacked.Load()
	v.Foreign, v.Damaged, v.Early = r.foreign.Load(), r.damaged.Load(), r.early.Load()
	v.PerSecond = float64(v.Found) / v.Seconds
	v.Missing = max(0, v.Acked-v.Found)
	if o.NoKeys { // without keys nobody can tell whose a message is
		v.Foreign = max(0, v.Found-v.Acked)
		v.Found -= v.Foreign
	}
	if o.Delay > 0 {
		l := latencyOf(r.late)
		v.Late = &l
	}
	if err != nil {
		return v, err
	}
	if v.Missing+v.Twice+v.Damaged+v.Early > 0 {
		return v, &VerifyError{Addr: o.Addr, Topic: o.Topic, V: *v}
	}
	return v, nil
}

// settle waits until the queues have grown by what was acknowledged, or have
// not grown at all for as long as patience: some servers show an
// acknowledged message a moment later, and delayed ones take their time.
func settle(ctx context.Context, o *ProduceOptions, ctl *control, before []int64, acked int64, patience time.Duration) ([]int64, error) {
	last, grew := int64(-1), time.Now()
	for {
		after, err := ctl.bounds(codeMaxOffset, o.Topic, o.Queues)
		if err != nil {
			return nil, err
		}
		var n int64
		for q := range after {
			n += after[q] - before[q]
		}
		if n > last {
			last, grew = n, time.Now()
		}
		if n >= acked || time.Since(grew) > patience {
			return after, nil
		}
		if o.Progress != nil {
			o.Progress(Progress{Phase: "wait", Done: n, Total: acked, Spent: time.Since(grew)})
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("bench: stopped before the read back: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
