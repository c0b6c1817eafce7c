package bench

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/merlinmq/merlin/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProduceReadsBackWhatItSent(t *testing.T) {
	tests := map[string]ProduceOptions{
		"plain":       {Count: 1000},
		"batch":       {Count: 1000, Batch: 10, Queues: 12},
		"transaction": {Count: 300, Txn: true},
		"no keys":     {Count: 300, NoKeys: true, NoTags: true},
		"one by one":  {Count: 50, Conns: 1, InFlight: 1},
		"few":         {Count: 3, Conns: 8},
		"paced":       {Duration: 300 * time.Millisecond, Rate: 2000},
		"warm":        {Duration: 100 * time.Millisecond, Warmup: 100 * time.Millisecond},
	}
	for name, o := range tests {
		t.Run(name, func(t *testing.T) {
			b := newFakeBroker(t)
			o.Addr, o.Size = b.addr(), 100
			r, err := Produce(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			if o.Count > 0 && r.Sent != o.Count {
				t.Errorf("sent %d messages, want %d", r.Sent, o.Count)
			}
			if o.Count > 0 && (r.Messages != o.Count || r.Latency.Count != o.Count) {
				t.Errorf("measured %d messages and %d latencies, want %d", r.Messages, r.Latency.Count, o.Count)
			}
			if r.Acked != r.Sent || r.Verify.Found != r.Acked || r.Verify.Missing+r.Verify.Twice+r.Verify.Damaged+r.Verify.Unacked+r.Verify.Foreign != 0 {
				t.Errorf("sent %d acked %d verify %+v", r.Sent, r.Acked, r.Verify)
			}
			if o.Warmup > 0 && (r.Messages >= r.Acked || r.Latency.Count >= r.Acked) {
				t.Errorf("measured %d messages and %d latencies of %d: the warm-up is in them", r.Messages, r.Latency.Count, r.Acked)
			}
			if o.Rate > 0 {
				if due := int64(o.Rate * o.Duration.Seconds()); r.Sent < due-8 || r.Latency.Count < due-8 || r.Latency.Count > due+8 {
					t.Errorf("sent %d messages and measured %d latencies, due were %d", r.Sent, r.Latency.Count, due)
				}
				if r.Service == nil || r.Service.Count != r.Latency.Count {
					t.Errorf("service %+v", r.Service)
				}
			}
		})
	}
}

func TestReadBackFindsLies(t *testing.T) {
	tests := map[string]struct {
		lie  func(n int, m *message.Message) int
		want Verification
	}{
		"lost": {func(n int, _ *message.Message) int {
			if n == 100 {
				return 0
			}
			return 1
		}, Verification{Missing: 1}},
		"twice": {func(n int, _ *message.Message) int {
			if n == 100 {
				return 2
			}
			return 1
		}, Verification{Twice: 1}},
		"cut body": {func(n int, m *message.Message) int {
			if n == 100 {
				m.Body = m.Body[:50]
			}
			return 1
		}, Verification{Damaged: 1}},
		"foreign": {func(n int, m *message.Message) int {
			if n == 100 {
				other := *m
				other.Properties = m.Properties.Set(message.PropKeys, "somebody else's")
				*m = other
			}
			return 1
		}, Verification{Missing: 1, Foreign: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newFakeBroker(t)
			lied := false
			b.onStore = func(n int, m *message.Message) int {
				if lied {
					return 1
				}
				copies := tt.lie(n, m)
				lied = n >= 100
				return copies
			}
			r, err := Produce(context.Background(), ProduceOptions{Addr: b.addr(), Count: 200, Size: 100, Timeout: 300 * time.Millisecond})
			var lie *VerifyError
			if !errors.As(err, &lie) {
				t.Fatalf("error %v", err)
			}
			got := Verification{Missing: r.Verify.Missing, Twice: r.Verify.Twice, Damaged: r.Verify.Damaged, Foreign: r.Verify.Foreign}
			if got != tt.want {
				t.Fatalf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	b := newFakeBroker(t)
	b.onSend = func(n int) int {
		switch n % 10 {
		case 0:
			return 2
		case 5:
			return flushDiskTimeout
		}
		return ok
	}
	r, err := Produce(context.Background(), ProduceOptions{Addr: b.addr(), Count: 200, Size: 10, NoVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Codes) != 2 || r.Codes[0].Code != 2 || r.Codes[0].Messages != 20 || r.Codes[1].Code != flushDiskTimeout || r.Codes[0].Remark != "a remark" {
		t.Fatalf("codes %+v", r.Codes)
	}
	// In this fake code 10 stores nothing, but a broker that says it has.
	if r.Acked != 180 {
		t.Fatalf("%d acknowledged, want 180", r.Acked)
	}
}

func TestAllRefusedEndsTheRun(t *testing.T) {
	b := newFakeBroker(t)
	b.onSend = func(int) int { return 16 }
	for _, o := range []ProduceOptions{{Duration: time.Minute}, {Count: 20}} {
		o.Addr = b.addr()
		_, err := Produce(context.Background(), o)
		var refused *ServerError
		if !errors.As(err, &refused) || refused.Code != 16 {
			t.Fatalf("error %v", err)
		}
	}
}

// A server that stands still for 300 ms delays every message that is due
// meanwhile, not just those in flight: with a rate all of them must show it.
func TestRateCountsCoordinatedOmission(t *testing.T) {
	b := newFakeBroker(t)
	b.delay = func(n int) time.Duration {
		if n == 300 {
			return 300 * time.Millisecond
		}
		return 0
	}
	r, err := Produce(context.Background(), ProduceOptions{Addr: b.addr(), Rate: 1000, Duration: time.Second, Conns: 1, InFlight: 4, Size: 10})
	if err != nil {
		t.Fatal(err)
	}
	if r.Latency.Count != 1000 {
		t.Errorf("%d latencies of 1000 messages due in the window", r.Latency.Count)
	}
	// About 300 of 1000 were due in the pause; at most 4 were in flight.
	if r.Latency.P90 < 100_000 {
		t.Errorf("p90 %d µs hides a pause of 300 ms", r.Latency.P90)
	}
	if r.Latency.Max < 290_000 {
		t.Errorf("max %d µs", r.Latency.Max)
	}
	if r.Service.P90 >= r.Latency.P90 {
		t.Errorf("the service's p90 of %d µs must not have what waited unsent in it (%d µs)", r.Service.P90, r.Latency.P90)
	}
}

func TestServerThatBreaks(t *testing.T) {
	t.Run("unreachable", func(t *testing.T) {
		_, err := Produce(context.Background(), ProduceOptions{Addr: "127.0.0.1:1"})
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Fatalf("error %v", err)
		}
	})
	t.Run("closes", func(t *testing.T) {
		b := newFakeBroker(t)
		b.delay = func(n int) time.Duration {
			if n == 50 {
				for _, c := range b.conns {
					c.Close()
				}
			}
			return 0
		}
		r, err := Produce(context.Background(), ProduceOptions{Addr: b.addr(), Duration: time.Minute, Size: 10})
		if err == nil || r == nil || r.Unanswered == 0 {
			t.Fatalf("error %v, result %+v", err, r)
		}
	})
	t.Run("falls silent", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = Produce(context.Background(), ProduceOptions{Addr: l.Addr().String(), Duration: time.Minute, Timeout: 200 * time.Millisecond})
		if err == nil {
			t.Fatal("a silent server was measured")
		}
	})
}

func TestStopped(t *testing.T) {
	b := newFakeBroker(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.onSend = func(n int) int {
		if n == 500 {
			cancel()
		}
		return ok
	}
	r, err := Produce(ctx, ProduceOptions{Addr: b.addr(), Duration: time.Hour, Size: 10})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if r.Acked == 0 || r.Acked != r.Sent {
		t.Fatalf("acked %d of %d: what is in flight must be waited for", r.Acked, r.Sent)
	}
}

func TestConsumeReadsEverythingOnce(t *testing.T) {
	b := newFakeBroker(t)
	if _, err := Produce(context.Background(), ProduceOptions{Addr: b.addr(), Count: 3000, Size: 50, NoVerify: true}); err != nil {
		t.Fatal(err)
	}
	for _, conns := range []int{1, 3, 20} {
		r, err := Consume(context.Background(), ConsumeOptions{Addr: b.addr(), Conns: conns, InFlight: 2})
		if err != nil {
			t.Fatal(err)
		}
		if r.Available != 3000 || r.Messages != 3000 || r.Pulls < 3000/32 || r.MBPerSec == 0 {
			t.Errorf("%d connections: %+v", conns, r)
		}
	}
	if r, err := Consume(context.Background(), ConsumeOptions{Addr: b.addr(), Last: 800}); err != nil || r.Available != 800 || r.Messages != 800 {
		t.Fatalf("the newest 800: %+v %v", r, err)
	}
	r, err := Consume(context.Background(), ConsumeOptions{Addr: b.addr(), Duration: 200 * time.Millisecond, Warmup: 50 * time.Millisecond})
	if err != nil || r.Messages == 0 || r.Seconds < 0.15 {
		t.Fatalf("over and over: %+v %v", r, err)
	}
	// 3,000 messages at 4,000 a second; a piece that ends within a pull must not slow it down, nor a slow machine fail it.
	r, err = Consume(context.Background(), ConsumeOptions{Addr: b.addr(), Conns: 3, InFlight: 2, Rate: 4000})
	if err != nil || r.Messages != 3000 || r.Seconds < 0.7 || r.Latency.Count != r.Pulls {
		t.Fatalf("at a rate: %+v %v", r, err)
	}
	if _, err := Consume(context.Background(), ConsumeOptions{Addr: b.addr(), Topic: "nothing"}); err == nil {
		t.Fatal("an unknown topic was read")
	}
}

func TestNull(t *testing.T) {
	n, err := ListenNull("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := ProduceOptions{Addr: n.Addr(), Count: 5000, NoVerify: true, Batch: 2}
	if runtime.GOOS == "linux" {
		o.PID = os.Getpid()
	}
	r, err := Produce(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Acked != 5000 || (o.PID != 0 && (r.Server == nil || r.Server.RssAnon == 0)) {
		t.Errorf("%+v", r)
	}
	o.NoVerify = false
	if _, err = Produce(context.Background(), o); err == nil || !strings.Contains(err.Error(), "--no-verify") {
		t.Errorf("reading back from a server that stores nothing: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if n.Answered() < 2500 { // it is counted behind the answer
		t.Errorf("%d answered", n.Answered())
	}
}

func TestCompareTakesTurns(t *testing.T) {
	a, b := newFakeBroker(t), newFakeBroker(t)
	var turns []string
	c, err := Compare(context.Background(), CompareOptions{
		A: Side{Name: "a", Addr: a.addr()}, B: Side{Name: "b", Addr: b.addr()}, Rounds: 2, Pause: time.Millisecond, Consume: true,
		Produce: ProduceOptions{Count: 200, Size: 10},
		Ran: func(side string, _ int, made *ProduceResult, _ *ConsumeResult) {
			if made != nil {
				turns = append(turns, side)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(turns, ""); got != "abab" {
		t.Errorf("turns %s", got)
	}
	if c.Produce.Ratio <= 0 || c.Consume == nil || c.Consume.Ratio <= 0 || len(c.RoundsB) != 2 {
		t.Errorf("%+v", c)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	bad := map[string]ProduceOptions{
		"no address":        {},
		"negative rate":     {Addr: "x", Rate: -1},
		"count and time":    {Addr: "x", Count: 1, Duration: 1},
		"batch transaction": {Addr: "x", Batch: 2, Txn: true},
		"delayed half":      {Addr: "x", Delay: 1, Txn: true},
		"connections":       {Addr: "x", Conns: 5000},
		"size":              {Addr: "x", Size: 1 << 30},
		"batch size":        {Addr: "x", Size: 1 << 20, Batch: 100},
	}
	for name, o := range bad {
		if _, err := Produce(context.Background(), o); err == nil || !strings.HasPrefix(err.Error(), "bench: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for name, o := range map[string]ConsumeOptions{"no address": {}, "pull": {Addr: "x", Pull: -1}, "warm-up": {Addr: "x", Warmup: 1}} {
		if _, err := Consume(context.Background(), o); err == nil || !strings.HasPrefix(err.Error(), "bench: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// With a filter, what counts is what the server looked at.
func TestConsumeCountsWhatIsScanned(t *testing.T) {
	b := newFakeBroker(t)
	if _, err := Produce(context.Background(), ProduceOptions{Addr: b.addr(), Count: 3000, Size: 50, NoVerify: true, Queues: 3}); err != nil {
		t.Fatal(err)
	}
	r, err := Consume(context.Background(), ConsumeOptions{Addr: b.addr(), Conns: 2, SQL: `KEYS ENDSWITH "9'`})
	if err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	for _, q := range b.queues {
		want += int64(len(q) / 10)
	}
	if r.Messages != 3000 || r.Scanned != 3000 || r.Matched != want || b.filtered != `KEYS ENDSWITH "9'` {
		t.Errorf("%+v, filtered by %s; want %d matched", r, b.filtered, want)
	}
}
