package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PopOptions says how Pop consumes a topic. The zero value of a field means its
// default.
type PopOptions struct {
	Addr      string        `json:"addr"`
	Topic     string        `json:"topic"`        // default "bench"
	Group     string        `json:"group"`        // default a new one, which is deleted in the end
	Conns     int           `json:"conns"`        // default 8
	InFlight  int           `json:"inflight"`     // pops in flight on each, default 4
	Batch     int           `json:"batch"`        // messages asked for at a time, 1 to 32, default 32
	AckEach   bool          `json:"ack_each"`     // acknowledges every message by itself, as Java's push consumer does; else a pop's in one request
	Invisible time.Duration `json:"invisible_ns"` // default 1 min

	PID      int            `json:"pid"`
	Timeout  time.Duration  `json:"timeout_ns"`
	Progress func(Progress) `json:"-"`
}

func (o *PopOptions) fill() error {
	o.Topic = cmp.Or(o.Topic, "bench")
	o.Conns = cmp.Or(o.Conns, 8)
	o.InFlight = cmp.Or(o.InFlight, 4)
	o.Batch = cmp.Or(o.Batch, 32)
	o.Invisible = cmp.Or(o.Invisible, time.Minute)
	o.Timeout = cmp.Or(o.Timeout, 15*time.Second)
	switch {
	case o.Addr == "":
		return errors.New("bench: no address of a broker")
	case o.Conns < 1 || o.Conns > 4096:
		return fmt.Errorf("bench: %d connections: want 1 to 4096", o.Conns)
	case o.InFlight < 1 || o.InFlight > 1<<12:
		return fmt.Errorf("bench: %d pops in flight: want 1 to 4096", o.InFlight)
	case o.Batch < 1 || o.Batch > 32:
		return fmt.Errorf("bench: pops of %d messages: want 1 to 32", o.Batch)
	case o.Invisible < time.Second:
		return errors.New("bench: an invisible time below a second would measure messages that come again")
	}
	return nil
}

// PopResult is what Pop found.
type PopResult struct {
	Options   PopOptions `json:"options"`
	Available int64      `json:"available"` // messages in the topic at the start
	Window               // messages that were popped and acknowledged
	Latency   Latency    `json:"latency"` // of a pop and its acknowledgement together
	Pops      int64      `json:"pops"`
	Empty     int64      `json:"empty_pops"`
	Twice     int64      `json:"twice"` // messages that came again
}

// Pop consumes all that a topic holds once: it pops, acknowledges what it got,
// and measures both together.
func Pop(ctx context.Context, o PopOptions) (*PopResult, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	ctl, err := dialControl(ctx, o.Addr, o.Timeout)
	if err != nil {
		return nil, err
	}
	defer ctl.close()
	if o.Group == "" {
		o.Group = fmt.Sprintf("bench-pop-%08x", rand.Uint32())
		defer ctl.deleteGroup(o.Group)
	}
	run := &popping{PopOptions: o, all: make(chan struct{}), result: PopResult{Options: o}}
	if run.broker, err = ctl.brokerName(); err != nil {
		return nil, err
	}
	if err := ctl.createGroup(o.Group); err != nil {
		return nil, err
	}
	queues, err := ctl.queuesOf(o.Topic)
	if err != nil {
		return nil, err
	}
	if run.first, err = ctl.bounds(codeMinOffset, o.Topic, queues); err != nil {
		return nil, err
	}
	to, err := ctl.bounds(codeMaxOffset, o.Topic, queues)
	if err != nil {
		return nil, err
	}
	for q, from := range run.first {
		run.result.Available += to[q] - from
		run.seen = append(run.seen, make([]atomic.Uint64, (to[q]-from+63)/64))
	}
	if run.result.Available == 0 {
		return nil, fmt.Errorf("bench: topic %s at %s holds no message; run 'merlin bench produce' first", o.Topic, o.Addr)
	}
	run.left.Store(run.result.Available)
	err = run.measure(ctx)
	return &run.result, err
}

// popping is what the connections of one run share.
type popping struct {
	PopOptions
	broker string
	first  []int64           // of each queue
	seen   [][]atomic.Uint64 // bits of the messages that came, by queue
	clock  clock
	stop   atomic.Bool
	left   atomic.Int64  // messages that are not acknowledged yet
	all    chan struct{} // closed when there are none
	result PopResult
}

// mark notes that a message came and tells whether it had not before.
func (r *popping) mark(queue int, offset int64) bool {
	if queue < 0 || queue >= len(r.first) {
		return true
	}
	i := offset - r.first[queue]
	if i < 0 || i/64 >= int64(len(r.seen[queue])) {
		return true // sent meanwhile
	}
	bit := uint64(1) << (i % 64)
	return r.seen[queue][i/64].Or(bit)&bit == 0
}

func (r *popping) measure(ctx context.Context) error {
	poppers := make([]*popper, 0, r.Conns)
	m := &meter{pid: r.PID, progress: r.Progress}
	closeAll := func() {
		for _, p := range poppers {
			p.conn.Close()
		}
	}
	defer closeAll()
	for range r.Conns {
		conn, err := dial(ctx, r.Addr, r.Timeout)
		if err != nil {
			return err
		}
		p := newPopper(r, conn)
		poppers = append(poppers, p)
		m.counts = append(m.counts, &p.counters)
	}
	r.clock = clock{time.Now()}
	m.clock = r.clock
	if err := m.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var ended sync.WaitGroup
	for _, p := range poppers {
		ended.Go(func() {
			if err := p.loop(); err != nil && !r.stop.Load() {
				cancel(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { ended.Wait(); close(done) }()
	m.waitUntil(ctx, r.all, "measure", 0, r.result.Available)
	w, err := m.end(0)
	r.stop.Store(true)
	closeAll() // pops that wait for more need not be answered
	<-done
	r.result.Window = w
	latency := newHistogram()
	var bytes int64
	for _, p := range poppers {
		latency.Merge(p.latency)
		bytes += p.bytes
		r.result.Pops += p.pops
		r.result.Empty += p.empty
		r.result.Twice += p.twice
	}
	r.result.Latency = latencyOf(latency)
	if w.Messages > 0 {
		r.result.MBPerSec = w.PerSecond * float64(bytes) / float64(w.Messages) / 1e6
	}
	if ctx.Err() != nil {
		return fmt.Errorf("bench: %s messages of %d were acknowledged: %w", fmt.Sprint(w.Messages), r.result.Available, context.Cause(ctx))
	}
	return err
}

// brokerName asks the broker for its name, which acknowledgements carry.
func (c *control) brokerName() (string, error) {
	a, err := c.call(func(w *requestWriter, opaque int32) []byte {
		w.begin(nil, codeBrokerConfig)
		b, _ := w.end(opaque, nil)
		return b
	})
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(a.body)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "brokerName="); found {
			return name, nil
		}
	}
	return "", &ServerError{Addr: c.addr, Did: "asking for the broker's name", Code: a.code, Remark: a.remark()}
}

func (c *control) createGroup(group string) error {
	body := fmt.Sprintf(`{"groupName":%q,"consumeEnable":true,"consumeFromMinEnable":true,"consumeBroadcastEnable":true,"retryQueueNums":1,"retryMaxTimes":16,"brokerId":0,"whichBrokerWhenConsumeSlowly":1}`, group)
	a, err := c.call(func(w *requestWriter, opaque int32) []byte {
		w.begin(nil, codeCreateGroup)
		b, _ := w.end(opaque, []byte(body))
		return b
	})
	if err == nil && a.code != ok {
		err = &ServerError{Addr: c.addr, Did: "creating the group " + group, Code: a.code, Remark: a.remark()}
	}
	return err
}

// deleteGroup tidies up; that it fails does not spoil a measurement.
func (c *control) deleteGroup(group string) {
	_, _ = c.call(func(w *requestWriter, opaque int32) []byte {
		w.begin(nil, codeDeleteGroup)
		w.text("groupName", group)
		w.text("cleanOffset", "true")
		b, _ := w.end(opaque, nil)
		return b
	})
}

// PopVersus is what ComparePop found: the rounds of both servers and the median
// of the rounds' own ratios of messages a second.
type PopVersus struct {
	A         []*PopResult `json:"a"`
	B         []*PopResult `json:"b"`
	Ratio     float64      `json:"ratio"`
	RatioLow  float64      `json:"ratio_low"`
	RatioHigh float64      `json:"ratio_high"`
}

// ComparePop runs Pop against two servers in turns, with a pause after each
// run. ran is told every finished one.
func ComparePop(ctx context.Context, a, b PopOptions, rounds int, pause time.Duration, ran func(side, round int, r *PopResult)) (*PopVersus, error) {
	v := &PopVersus{}
	var ratios []float64
	for round := range rounds {
		for side, o := range []PopOptions{a, b} {
			r, err := Pop(ctx, o)
			if err != nil {
				return v, err
			}
			ran(side, round+1, r)
			if side == 0 {
				v.A = append(v.A, r)
			} else {
				v.B = append(v.B, r)
				ratios = append(ratios, v.A[round].PerSecond/r.PerSecond)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return v, context.Cause(ctx)
			}
		}
	}
	if len(ratios) > 0 {
		v.Ratio, v.RatioLow, v.RatioHigh = median(ratios), slices.Min(ratios), slices.Max(ratios)
	}
	return v, nil
}
