package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// ProduceOptions says what Produce sends. The zero value of a field means its
// default.
type ProduceOptions struct {
	Addr     string        `json:"addr"`     // a broker's HOST:PORT
	Topic    string        `json:"topic"`    // default "bench"; created if missing
	Group    string        `json:"group"`    // producer group, default "bench"
	Queues   int           `json:"queues"`   // queues to spread over, default 8
	Size     int           `json:"size"`     // bytes of a body, default 1024; at least 1
	Conns    int           `json:"conns"`    // connections, default 8
	InFlight int           `json:"inflight"` // requests in flight on each, default 16
	Batch    int           `json:"batch"`    // messages in a request, default 1
	Rate     float64       `json:"rate"`     // messages a second over all connections; 0 is as fast as answers come
	Warmup   time.Duration `json:"warmup_ns"`
	Duration time.Duration `json:"duration_ns"` // measured time, default 10 s
	Count    int64         `json:"count"`       // measured messages instead of a time, rounded up to whole batches
	NoKeys   bool          `json:"no_keys"`     // leaves KEYS out; then the read back only counts
	NoTags   bool          `json:"no_tags"`
	Txn      bool          `json:"txn"`         // half message, then its commit; one message is both
	Level    int           `json:"delay_level"` // property DELAY
	Delay    time.Duration `json:"delay_ns"`    // property TIMER_DELAY_MS

	NoVerify bool           `json:"no_verify"` // leaves the read back out
	PID      int            `json:"pid"`       // the server's process on this machine, 0 for none
	Timeout  time.Duration  `json:"timeout_ns"`
	Progress func(Progress) `json:"-"`
}

func (o *ProduceOptions) fill() error {
	o.Topic = cmp.Or(o.Topic, "bench")
	o.Group = cmp.Or(o.Group, "bench")
	o.Queues = cmp.Or(o.Queues, 8)
	o.Size = cmp.Or(o.Size, 1024)
	o.Conns = cmp.Or(o.Conns, 8)
	o.InFlight = cmp.Or(o.InFlight, 16)
	o.Batch = cmp.Or(o.Batch, 1)
	o.Timeout = cmp.Or(o.Timeout, 15*time.Second)
	if o.Count == 0 {
		o.Duration = cmp.Or(o.Duration, 10*time.Second)
	}
	switch {
	case o.Addr == "":
		return errors.New("bench: no address of a broker")
	case o.Size < 1 || o.Size > 32<<20:
		return fmt.Errorf("bench: a size of %d bytes: want 1 to 32 MiB", o.Size)
	case o.Conns < 1 || o.Conns > 4096:
		return fmt.Errorf("bench: %d connections: want 1 to 4096", o.Conns)
	case o.InFlight < 1 || o.InFlight > 1<<16:
		return fmt.Errorf("bench: %d requests in flight: want 1 to 65536", o.InFlight)
	case o.Batch < 1 || o.Batch*o.Size > 32<<20:
		return fmt.Errorf("bench: a batch of %d messages of %d bytes: want 1 or more, and at most 32 MiB together", o.Batch, o.Size)
	case o.Queues < 1 || o.Queues > 1<<16:
		return fmt.Errorf("bench: %d queues: want 1 to 65536", o.Queues)
	case o.Rate < 0 || o.Warmup < 0 || o.Duration < 0 || o.Count < 0 || o.Delay < 0 || o.Level < 0:
		return errors.New("bench: rate, warm-up, duration, count and delay cannot be negative")
	case o.Count > 0 && o.Duration > 0:
		return errors.New("bench: a count and a duration contradict each other; give one")
	case o.Batch > 1 && (o.Txn || o.Level > 0 || o.Delay > 0):
		return errors.New("bench: RocketMQ's batches hold neither transactions nor delayed messages")
	case o.Txn && (o.Level > 0 || o.Delay > 0):
		return errors.New("bench: a transactional message cannot be delayed")
	}
	return nil
}

// CodeCount counts the messages answered with one code other than success.
type CodeCount struct {
	Code     int    `json:"code"`
	Messages int64  `json:"messages"`
	Remark   string `json:"remark"` // the first one's
}

// ProduceResult is what Produce found.
type ProduceResult struct {
	Options ProduceOptions `json:"options"`
	Window
	Latency    Latency       `json:"latency"`           // from when a message was due (with a rate) or sent, to its answer
	Service    *Latency      `json:"service,omitempty"` // with a rate: from when it was really sent
	Unsent     int64         `json:"unsent"`            // due in the window, but the server was too slow to send them in time
	Sent       int64         `json:"sent"`              // messages of the whole run, warm-up included
	Acked      int64         `json:"acked"`
	Unanswered int64         `json:"unanswered"`
	Codes      []CodeCount   `json:"codes,omitempty"` // none if everything was accepted
	Verify     *Verification `json:"verify,omitempty"`
}

// Produce sends messages to one broker and measures it. When the run breaks
// off it returns what it has together with the error; so it does when the read
// back finds messages missing or twice (*VerifyError).
func Produce(ctx context.Context, o ProduceOptions) (*ProduceResult, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	ctl, err := dialControl(ctx, o.Addr, o.Timeout)
	if err != nil {
		return nil, err
	}
	defer ctl.close()
	if err := ctl.ensureTopic(o.Topic, o.Queues); err != nil {
		return nil, err
	}
	var before []int64
	if !o.NoVerify {
		if before, err = ctl.bounds(codeMaxOffset, o.Topic, o.Queues); err != nil {
			return nil, err
		}
	}
	run := &producing{
		addr: o.Addr, inflight: o.InFlight, timeout: o.Timeout,
		shape: shape{group: o.Group, topic: o.Topic, size: o.Size, batch: o.Batch, queues: o.Queues,
			keys: !o.NoKeys, tags: !o.NoTags, txn: o.Txn, delayLevel: o.Level, delay: o.Delay},
	}
	runID := uint32(time.Now().UnixNano() / 1000)
	senders, err := connectSenders(ctx, run, &o, runID)
	if err != nil {
		return nil, err
	}
	result, err := measureProduce(ctx, run, senders, &o)
	if err != nil || o.NoVerify {
		return result, err
	}
	result.Verify, err = verify(ctx, &o, ctl, senders, before, runID)
	return result, err
}

func connectSenders(ctx context.Context, run *producing, o *ProduceOptions, runID uint32) ([]*sender, error) {
	senders := make([]*sender, 0, o.Conns)
	for i := range o.Conns {
		conn, err := dial(ctx, o.Addr, o.Timeout)
		if err != nil {
			for _, s := range senders {
				s.conn.Close()
			}
			return nil, fmt.Errorf("connection %d of %d: %w", i+1, o.Conns, err)
		}
		s := newSender(run, conn, newIdentity(localIP(conn), os.Getpid(), runID, i), i)
		if o.Count > 0 {
			requests := (o.Count + int64(o.Batch) - 1) / int64(o.Batch)
			s.quota = requests / int64(o.Conns)
			if int64(i) < requests%int64(o.Conns) {
				s.quota++
			}
			s.quota *= int64(o.Batch)
		}
		if o.Rate > 0 {
			s.pace.interval = 1e9 * float64(o.Conns*o.Batch) / o.Rate
			s.pace.next = s.pace.interval * float64(i) / float64(o.Conns)
		}
		senders = append(senders, s)
	}
	return senders, nil
}

func localIP(conn net.Conn) [4]byte {
	if a, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil && a.Addr().Unmap().Is4() {
		return a.Addr().Unmap().As4()
	}
	return [4]byte{127, 0, 0, 1}
}

// measureProduce runs the connections and takes the window.
func measureProduce(ctx context.Context, run *producing, senders []*sender, o *ProduceOptions) (*ProduceResult, error) {
	run.from, run.to = int64(o.Warmup), math.MaxInt64
	if o.Count == 0 {
		run.to = run.from + int64(o.Duration)
	}
	m := &meter{pid: o.PID, progress: o.Progress}
	for _, s := range senders {
		m.counts = append(m.counts, &s.counters)
	}
	run.clock = clock{time.Now()}
	m.clock = run.clock
	// Without a warm-up the first reading comes before the first message.
	var err error
	if o.Warmup == 0 {
		err = m.begin()
	}

	// A run that is told to stop, or has lost a connection, still waits for
	// what is in flight: that is what the read back compares with.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { run.stop.Store(true) })
	defer stop()
	var ended sync.WaitGroup
	for _, s := range senders {
		ended.Go(func() {
			defer s.conn.Close()
			if s.err = s.loop(); s.err != nil {
				s.lost = s.unanswered()
				cancel(s.err)
			}
		})
	}
	done := make(chan struct{})
	go func() { ended.Wait(); close(done) }()

	if o.Warmup > 0 {
		m.waitUntil(ctx, done, "warm up", run.from, 0)
		err = m.begin()
	}
	if o.Count > 0 {
		m.waitUntil(ctx, done, "measure", 0, o.Count)
	} else {
		m.waitUntil(ctx, done, "measure", run.to, 0)
	}
	result := &ProduceResult{Options: *o}
	var endErr error
	result.Window, endErr = m.end(o.Size)
	run.read.Store(true)
	if err != nil {
		cancel(err)
	}
	finish := time.AfterFunc(o.Timeout, func() { run.stop.Store(true) })
	m.waitUntil(context.WithoutCancel(ctx), done, "finish", 0, 0)
	finish.Stop()
	<-done
	result.collect(senders, run)
	for i, s := range senders {
		if s.err != nil {
			return result, fmt.Errorf("bench: connection %d to %s broke after %d messages: %w", i+1, o.Addr, s.seq, s.err)
		}
	}
	if ctx.Err() != nil {
		return result, fmt.Errorf("bench: stopped: %w", context.Cause(ctx))
	}
	if result.Acked == 0 && len(result.Codes) > 0 {
		c := result.Codes[0]
		return result, &ServerError{Addr: o.Addr, Did: fmt.Sprintf("sending to topic %s (%d messages, none accepted)", o.Topic, result.Sent), Code: c.Code, Remark: c.Remark}
	}
	return result, cmp.Or(err, endErr)
}

// collect adds up what the connections know once they have ended.
func (r *ProduceResult) collect(senders []*sender, run *producing) {
	latency, service := newHistogram(), newHistogram()
	codes := map[int]*CodeCount{}
	for _, s := range senders {
		latency.Merge(s.latency)
		service.Merge(s.service)
		r.Sent += int64(s.seq)
		r.Acked += s.counters.answered.Load()
		r.Unanswered += s.lost
		if s.pace.interval > 0 && s.quota < 0 && int64(s.pace.next) < run.to {
			r.Unsent += int64((float64(run.to)-s.pace.next)/s.pace.interval) * int64(run.shape.batch)
		}
		for code, c := range s.codes {
			if codes[code] == nil {
				codes[code] = &CodeCount{Code: code, Remark: c.Remark}
			}
			codes[code].Messages += c.Messages
		}
	}
	r.Latency = latencyOf(latency)
	if r.Options.Rate > 0 {
		l := latencyOf(service)
		r.Service = &l
	}
	for _, c := range codes {
		r.Codes = append(r.Codes, *c)
	}
	slices.SortFunc(r.Codes, func(a, b CodeCount) int { return cmp.Compare(a.Code, b.Code) })
}
