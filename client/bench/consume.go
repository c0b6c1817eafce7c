package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"time"
)

// pullGroup reads without leaving a group behind: Apache's brokers have it
// for their own tools from the start.
const pullGroup = "TOOLS_CONSUMER"

// ConsumeOptions says what Consume reads. The zero value of a field means its
// default.
type ConsumeOptions struct {
	Addr     string        `json:"addr"`
	Topic    string        `json:"topic"`          // default "bench"
	Conns    int           `json:"conns"`          // default 8
	InFlight int           `json:"inflight"`       // pulls in flight on each, default 1
	Pull     int           `json:"pull"`           // messages asked for at a time, default 32
	Rate     float64       `json:"rate,omitempty"` // messages a second over all connections; 0 is as fast as answers come
	Last     int64         `json:"last,omitempty"` // only the newest so many messages, 0 for all
	SQL      string        `json:"sql,omitempty"`  // filters by it; then messages are those that the server scanned
	Warmup   time.Duration `json:"warmup_ns"`
	Duration time.Duration `json:"duration_ns"` // reads over and over for that long; 0 reads everything once

	PID      int            `json:"pid"`
	Timeout  time.Duration  `json:"timeout_ns"`
	Progress func(Progress) `json:"-"`
}

func (o *ConsumeOptions) fill() error {
	o.Topic = cmp.Or(o.Topic, "bench")
	o.Conns = cmp.Or(o.Conns, 8)
	o.InFlight = cmp.Or(o.InFlight, 1)
	o.Pull = cmp.Or(o.Pull, 32)
	o.Timeout = cmp.Or(o.Timeout, 15*time.Second)
	switch {
	case o.Addr == "":
		return errors.New("bench: no address of a broker")
	case o.Conns < 1 || o.Conns > 4096:
		return fmt.Errorf("bench: %d connections: want 1 to 4096", o.Conns)
	case o.InFlight < 1 || o.InFlight > 1<<12:
		return fmt.Errorf("bench: %d pulls in flight: want 1 to 4096", o.InFlight)
	case o.Pull < 1 || o.Pull > 1<<12:
		return fmt.Errorf("bench: pulls of %d messages: want 1 to 4096", o.Pull)
	case o.Warmup < 0 || o.Duration < 0 || o.Last < 0 || o.Rate < 0:
		return errors.New("bench: warm-up, duration, rate and the number of messages cannot be negative")
	case o.Warmup > 0 && o.Duration == 0:
		return errors.New("bench: a warm-up needs a duration: reading everything once has no measured part of its own")
	}
	return nil
}

// ConsumeResult is what Consume found.
type ConsumeResult struct {
	Options   ConsumeOptions `json:"options"`
	Available int64          `json:"available"` // messages to be read, as the topic was at the start
	Window
	Latency Latency `json:"latency"` // of a pull; with a rate from when it was due
	Pulls   int64   `json:"pulls"`   // the whole run's
	Empty   int64   `json:"empty_pulls"`
	Skipped int64   `json:"skipped"`           // offsets that were gone when they were asked for
	Matched int64   `json:"matched,omitempty"` // with SQL: messages that came, the whole run's
	Scanned int64   `json:"scanned,omitempty"` // with SQL: messages that were looked at, the whole run's
}

// Consume pulls what a topic holds from one broker and measures it.
func Consume(ctx context.Context, o ConsumeOptions) (*ConsumeResult, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	ctl, err := dialControl(ctx, o.Addr, o.Timeout)
	if err != nil {
		return nil, err
	}
	defer ctl.close()
	queues, err := ctl.queuesOf(o.Topic)
	if err != nil {
		return nil, err
	}
	from, err := ctl.bounds(codeMinOffset, o.Topic, queues)
	if err != nil {
		return nil, err
	}
	to, err := ctl.bounds(codeMaxOffset, o.Topic, queues)
	if err != nil {
		return nil, err
	}
	result := &ConsumeResult{Options: o}
	for q := range from {
		if o.Last > 0 {
			from[q] = max(from[q], to[q]-(o.Last+int64(len(from))-1)/int64(len(from)))
		}
		result.Available += to[q] - from[q]
	}
	if result.Available == 0 {
		return nil, fmt.Errorf("bench: topic %s at %s holds no message; run 'merlin bench produce' first", o.Topic, o.Addr)
	}
	run := &pulling{
		addr: o.Addr, group: pullGroup, topic: o.Topic, pull: o.Pull, inflight: o.InFlight, rate: o.Rate / float64(o.Conns), timeout: o.Timeout,
		work: newSpans(from, to, o.Conns*o.InFlight, o.Pull, o.Duration > 0),
		from: int64(o.Warmup), to: math.MaxInt64,
	}
	if o.Duration > 0 {
		run.to = run.from + int64(o.Duration)
	}
	if o.SQL != "" {
		run.group, run.sql = filterGroup, true
		stop, err := ctl.subscribe(ctx, o.Topic, o.SQL)
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	m := &meter{pid: o.PID, progress: o.Progress}
	pullers, err := runPullers(ctx, run, m, o.Conns, func(ctx context.Context, done <-chan struct{}) error {
		if o.Warmup > 0 {
			m.waitUntil(ctx, done, "warm up", run.from, 0)
			if err := m.begin(); err != nil {
				return err
			}
		}
		if o.Duration > 0 {
			m.waitUntil(ctx, done, "measure", run.to, 0)
		} else {
			m.waitUntil(ctx, done, "measure", 0, result.Available)
		}
		w, err := m.end(0)
		result.Window = w
		return err
	})
	latency := newHistogram()
	var bytes, messages int64
	for _, p := range pullers {
		latency.Merge(p.latency)
		bytes += p.bytes
		messages += p.counters.answered.Load()
		result.Pulls += p.pulls
		result.Empty += p.empty
		result.Skipped += p.skipped
		result.Matched += p.matched
	}
	if result.Scanned = messages; o.SQL == "" {
		result.Matched, result.Scanned = 0, 0
	}
	if messages > 0 {
		result.MBPerSec = result.PerSecond * float64(bytes) / float64(messages) / 1e6
	}
	result.Latency = latencyOf(latency)
	return result, err
}

// runPullers connects, starts the connections and returns them when all have
// ended. watch runs meanwhile.
func runPullers(ctx context.Context, run *pulling, m *meter, conns int, watch func(context.Context, <-chan struct{}) error) ([]*puller, error) {
	pullers := make([]*puller, 0, conns)
	for range conns {
		var conn net.Conn
		conn, err := dial(ctx, run.addr, run.timeout)
		if err != nil {
			for _, p := range pullers {
				p.conn.Close()
			}
			return nil, err
		}
		p := newPuller(run, conn)
		p.pace.next = p.pace.interval * float64(run.pull*len(pullers)) / float64(conns)
		pullers = append(pullers, p)
		m.counts = append(m.counts, &p.counters)
	}
	run.clock = clock{time.Now()}
	m.clock = run.clock
	// Without a warm-up the first reading comes before the first message.
	if run.from == 0 {
		if err := m.begin(); err != nil {
			for _, p := range pullers {
				p.conn.Close()
			}
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { run.stop.Store(true) })()
	var ended sync.WaitGroup
	for _, p := range pullers {
		ended.Go(func() {
			defer p.conn.Close()
			if p.err = p.loop(); p.err != nil {
				cancel(p.err)
			}
		})
	}
	done := make(chan struct{})
	go func() { ended.Wait(); close(done) }()
	watchErr := watch(ctx, done)
	// A timed read goes on until its end has been read, any other to its end.
	if run.to != math.MaxInt64 {
		run.stop.Store(true)
	}
	if watchErr != nil {
		cancel(watchErr)
	}
	<-done
	for i, p := range pullers {
		if p.err != nil {
			return pullers, fmt.Errorf("bench: connection %d to %s: %w", i+1, run.addr, p.err)
		}
	}
	if ctx.Err() != nil {
		return pullers, fmt.Errorf("bench: stopped: %w", context.Cause(ctx))
	}
	return pullers, watchErr
}
