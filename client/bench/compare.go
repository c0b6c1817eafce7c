package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Side is one server of a comparison.
type Side struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
	PID  int    `json:"pid"`
}

// CompareOptions says what Compare does. The sides take turns, A B A B …, so
// that a machine whose speed drifts treats both alike.
type CompareOptions struct {
	A, B    Side
	Rounds  int            // pairs, default 3
	Pause   time.Duration  // between two runs, for the kernel to write back; default 2 s
	Produce ProduceOptions // Addr and PID are the side's; its Warmup is each side's first, later ones get Settle
	Settle  time.Duration  // warm-up of rounds after the first, default 2 s
	Consume bool           // reads back what each produce sent, as a second measurement
	Pull    ConsumeOptions // likewise

	Progress func(side string, round int, p Progress)
	// Ran is told every finished run: exactly one of the results is set.
	Ran func(side string, round int, produced *ProduceResult, consumed *ConsumeResult)
}

// Round is what one side did in one round.
type Round struct {
	Produce *ProduceResult `json:"produce,omitempty"`
	Consume *ConsumeResult `json:"consume,omitempty"`
}

// Figures are one side's medians over the rounds.
type Figures struct {
	PerSecond   float64 `json:"messages_per_second"`
	Lowest      float64 `json:"lowest"`
	Highest     float64 `json:"highest"`
	CPUPerMsg   float64 `json:"cpu_us_per_message"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	P999        float64 `json:"p999_us"`
	RssAnonPeak float64 `json:"rss_anon_peak_bytes"`
}

// Versus holds both sides of one kind of run and the medians of the rounds'
// own ratios A to B.
type Versus struct {
	A           Figures `json:"a"`
	B           Figures `json:"b"`
	Ratio       float64 `json:"ratio"`      // messages a second
	RatioLow    float64 `json:"ratio_low"`  // the worst round's
	RatioHigh   float64 `json:"ratio_high"` // the best round's
	RatioCPU    float64 `json:"ratio_cpu,omitempty"`
	RatioP99    float64 `json:"ratio_p99"`
	RatioMemory float64 `json:"ratio_memory,omitempty"`
}

// Comparison is what Compare found.
type Comparison struct {
	A       Side    `json:"a"`
	B       Side    `json:"b"`
	RoundsA []Round `json:"rounds_a"`
	RoundsB []Round `json:"rounds_b"`
	Produce Versus  `json:"produce"`
	Consume *Versus `json:"consume,omitempty"`
}

// Compare measures two servers in turns. On an error it returns the rounds
// that were finished.
func Compare(ctx context.Context, o CompareOptions) (*Comparison, error) {
	o.Rounds = cmp.Or(o.Rounds, 3)
	o.Pause = cmp.Or(o.Pause, 2*time.Second)
	o.Settle = cmp.Or(o.Settle, 2*time.Second)
	if o.A.Addr == "" || o.B.Addr == "" {
		return nil, errors.New("bench: a comparison needs two addresses")
	}
	if o.Rounds < 1 {
		return nil, fmt.Errorf("bench: %d rounds: want 1 or more", o.Rounds)
	}
	o.A.Name, o.B.Name = cmp.Or(o.A.Name, o.A.Addr), cmp.Or(o.B.Name, o.B.Addr)
	c := &Comparison{A: o.A, B: o.B}
	for round := 1; round <= o.Rounds; round++ {
		for _, side := range []Side{o.A, o.B} {
			r, err := o.run(ctx, side, round)
			if err != nil {
				return c, fmt.Errorf("round %d, %s: %w", round, side.Name, err)
			}
			if side == o.A {
				c.RoundsA = append(c.RoundsA, r)
			} else {
				c.RoundsB = append(c.RoundsB, r)
			}
			select {
			case <-time.After(o.Pause):
			case <-ctx.Done():
				return c, ctx.Err()
			}
		}
	}
	c.Produce = versus(c.RoundsA, c.RoundsB, func(r Round) (Window, Latency) { return r.Produce.Window, r.Produce.Latency })
	if o.Consume {
		v := versus(c.RoundsA, c.RoundsB, func(r Round) (Window, Latency) { return r.Consume.Window, r.Consume.Latency })
		c.Consume = &v
	}
	return c, nil
}

func (o *CompareOptions) run(ctx context.Context, side Side, round int) (r Round, err error) {
	p := o.Produce
	p.Addr, p.PID = side.Addr, side.PID
	if round > 1 {
		p.Warmup = min(p.Warmup, o.Settle)
	}
	if o.Progress != nil {
		p.Progress = func(now Progress) { o.Progress(side.Name, round, now) }
	}
	if r.Produce, err = Produce(ctx, p); err != nil {
		return r, err
	}
	if o.Ran != nil {
		o.Ran(side.Name, round, r.Produce, nil)
	}
	if !o.Consume {
		return r, nil
	}
	q := o.Pull
	q.Addr, q.PID, q.Topic, q.Progress = side.Addr, side.PID, p.Topic, p.Progress
	q.Last = r.Produce.Sent
	if round > 1 {
		q.Warmup = min(q.Warmup, o.Settle)
	}
	if r.Consume, err = Consume(ctx, q); err != nil {
		return r, err
	}
	if o.Ran != nil {
		o.Ran(side.Name, round, nil, r.Consume)
	}
	return r, nil
}

func versus(as, bs []Round, of func(Round) (Window, Latency)) Versus {
	a, b := figures(as, of), figures(bs, of)
	ratios := make([]float64, len(as))
	for i := range as {
		wa, _ := of(as[i])
		wb, _ := of(bs[i])
		ratios[i] = ratio(wa.PerSecond, wb.PerSecond)
	}
	return Versus{
		A: a, B: b,
		Ratio: median(ratios), RatioLow: slices.Min(ratios), RatioHigh: slices.Max(ratios),
		RatioCPU: ratio(a.CPUPerMsg, b.CPUPerMsg), RatioP99: ratio(a.P99, b.P99), RatioMemory: ratio(a.RssAnonPeak, b.RssAnonPeak),
	}
}

func figures(rounds []Round, of func(Round) (Window, Latency)) Figures {
	var rate, cpu, p50, p99, p999, rss []float64
	for _, r := range rounds {
		w, l := of(r)
		rate = append(rate, w.PerSecond)
		p50, p99, p999 = append(p50, float64(l.P50)), append(p99, float64(l.P99)), append(p999, float64(l.P999))
		if w.Server != nil {
			cpu, rss = append(cpu, w.Server.CPUPerMsg), append(rss, float64(w.Server.RssAnonPeak))
		}
	}
	return Figures{PerSecond: median(rate), Lowest: slices.Min(rate), Highest: slices.Max(rate),
		CPUPerMsg: median(cpu), P50: median(p50), P99: median(p99), P999: median(p999), RssAnonPeak: median(rss)}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// median returns the middle value, the mean of the two middle ones, or 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
