package bench

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"
)

func TestNextAnswer(t *testing.T) {
	long := `{"code":0,"extFields":{"a":"b"},"flag":1,"opaque":7}`
	tests := []struct {
		name         string
		in           []byte
		used         int
		code, opaque int
		bad          bool
	}{
		{"empty", nil, 0, 0, 0, false},
		{"half a length", []byte{0, 0}, 0, 0, 0, false},
		{"half a frame", nullFrame(long)[:20], 0, 0, 0, false},
		{"whole", nullFrame(long), len(nullFrame(long)), 0, 7, false},
		{"two", append(nullFrame(long), nullFrame(long)...), len(nullFrame(long)), 0, 7, false},
		{"negative code", nullFrame(`{"code":-1000,"opaque":1}`), len(nullFrame(`{"code":-1000,"opaque":1}`)), -1000, 1, false},
		{"blanks", nullFrame(`{ "opaque": 12 , "code": 17 }`), len(nullFrame(`{ "opaque": 12 , "code": 17 }`)), 17, 12, false},
		{"a remark that quotes", nullFrame(`{"code":1,"opaque":2,"remark":"x \"opaque\":9 \"code\":8"}`), len(nullFrame(`{"code":1,"opaque":2,"remark":"x \"opaque\":9 \"code\":8"}`)), 1, 2, false},
		{"no opaque", nullFrame(`{"code":1}`), 0, 0, 0, true},
		{"length 0", make([]byte, 8), 0, 0, 0, true},
		{"length too large", []byte{0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, 0, 0, 0, true},
		{"header longer than frame", []byte{0, 0, 0, 6, 0, 0, 0, 9, 1, 2}, 0, 0, 0, true},
		{"short binary header", []byte{0, 0, 0, 8, 1, 0, 0, 4, 1, 2, 3, 4}, 0, 0, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var a answer
			used, err := nextAnswer(tt.in, &a)
			if tt.bad != errors.Is(err, errFrame) || (!tt.bad && err != nil) {
				t.Fatalf("error %v", err)
			}
			if used != tt.used || (used > 0 && (a.code != tt.code || int(a.opaque) != tt.opaque)) {
				t.Fatalf("used %d of %d: code %d opaque %d", used, len(tt.in), a.code, a.opaque)
			}
		})
	}
}

// binaryFrame is a frame with a ROCKETMQ header.
func binaryFrame(code int16, opaque int32, remark string, fields ...string) []byte {
	h := binary.BigEndian.AppendUint16(nil, uint16(code))
	h = append(h, 0)
	h = binary.BigEndian.AppendUint16(h, 513)
	h = binary.BigEndian.AppendUint32(h, uint32(opaque))
	h = binary.BigEndian.AppendUint32(h, 1)
	h = binary.BigEndian.AppendUint32(h, uint32(len(remark)))
	h = append(h, remark...)
	var ext []byte
	for i := 0; i < len(fields); i += 2 {
		ext = binary.BigEndian.AppendUint16(ext, uint16(len(fields[i])))
		ext = append(ext, fields[i]...)
		ext = binary.BigEndian.AppendUint32(ext, uint32(len(fields[i+1])))
		ext = append(ext, fields[i+1]...)
	}
	h = binary.BigEndian.AppendUint32(h, uint32(len(ext)))
	h = append(h, ext...)
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(h)))
	b = binary.BigEndian.AppendUint32(b, 1<<24|uint32(len(h)))
	return append(b, h...)
}

func TestAnswerFields(t *testing.T) {
	for name, in := range map[string][]byte{
		"json":   nullFrame(`{"code":2,"extFields":{"offset":"-17","msgId":"ABC"},"opaque":9,"remark":"too \"busy\""}`),
		"binary": binaryFrame(2, 9, `too "busy"`, "x", "1", "offset", "-17", "msgId", "ABC"),
	} {
		t.Run(name, func(t *testing.T) {
			var a answer
			if used, err := nextAnswer(in, &a); err != nil || used != len(in) {
				t.Fatal(used, err)
			}
			if a.code != 2 || a.opaque != 9 {
				t.Errorf("code %d opaque %d", a.code, a.opaque)
			}
			if v, found := a.int(`"offset":`); !found || v != -17 {
				t.Errorf("offset %d %v", v, found)
			}
			if v, found := a.text(`"msgId":`); !found || string(v) != "ABC" {
				t.Errorf("msgId %q %v", v, found)
			}
			if _, found := a.int(`"nothing":`); found {
				t.Error("found what is not there")
			}
			if a.remark() != `too "busy"` {
				t.Errorf("remark %q", a.remark())
			}
		})
	}
}

func FuzzNextAnswer(f *testing.F) {
	f.Add(nullFrame(`{"code":0,"extFields":{"msgId":"A"},"opaque":7}`))
	f.Add(binaryFrame(0, 7, "r", "msgId", "A"))
	f.Add(binaryFrame(0, 7, "")[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		var a answer
		used, err := nextAnswer(b, &a)
		if used < 0 || used > len(b) || (err != nil && used != 0) {
			t.Fatalf("used %d of %d, error %v", used, len(b), err)
		}
		if used > 0 {
			a.int(`"offset":`)
			a.text(`"msgId":`)
			a.remark()
		}
	})
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 1 1 0 -1 4194560 10 0 0 0 1234 66 0 0 20 0 9 0 100 0 0"
	for _, name := range []string{"java", "a b", "x) S 1 (y", "))"} {
		cpu, err := parseStat([]byte("42 (" + name + ")" + rest))
		if err != nil || cpu != 13*time.Second {
			t.Errorf("%s: %v %v, want 13 s", name, cpu, err)
		}
	}
	for _, bad := range []string{"", "42 (x)", "42 (x) S 1 2", "42 (x) S 1 1 1 0 -1 4194560 10 0 0 0 a b 0 0"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestParseStatus(t *testing.T) {
	rss, err := parseStatus([]byte("Name:\tx\nRssAnon:\t    2048 kB\nRssFile:\t 7 kB\n"))
	if err != nil || rss != 2<<20 {
		t.Fatalf("%d %v, want 2 MiB", rss, err)
	}
	for _, bad := range []string{"", "RssAnon:", "RssAnon:\tx kB"} {
		if _, err := parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestLatencyPercentiles(t *testing.T) {
	h := newHistogram()
	for us := int64(1); us <= 10000; us++ {
		record(h, us*1000, 1)
	}
	l := latencyOf(h)
	near := func(name string, got int64, want float64) {
		if d := float64(got) - want; d > want/500+1 || d < -want/500-1 {
			t.Errorf("%s is %d µs, want %.0f within 0.2 %%", name, got, want)
		}
	}
	near("p50", l.P50, 5000)
	near("p90", l.P90, 9000)
	near("p99", l.P99, 9900)
	near("p99.9", l.P999, 9990)
	near("max", l.Max, 10000)
	if l.Count != 10000 || l.Min != 1 {
		t.Errorf("count %d min %d", l.Count, l.Min)
	}
	record(h, -5, 1)
	record(h, int64(time.Hour), 1)
	if l = latencyOf(h); l.Count != 10002 || l.Max < longest {
		t.Errorf("values outside the bounds are lost: count %d max %d", l.Count, l.Max)
	}
}

func TestLedger(t *testing.T) {
	var l ledger
	l.add(3, 1)
	l.add(60, 10)
	for seq := range uint64(100) {
		if want := seq == 3 || 60 <= seq && seq < 70; l.has(seq) != want {
			t.Errorf("has(%d) is %v", seq, !want)
		}
	}
	m := newLedger(1000)
	var again sync.Map
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for seq := range uint64(1000) {
				if !m.mark(seq) {
					if _, twice := again.LoadOrStore(seq, true); twice {
						t.Errorf("%d was new twice", seq)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestSpansCoverEveryOffsetOnce(t *testing.T) {
	from, to := []int64{0, 10, 5, 7}, []int64{100000, 4000, 5, 39}
	s := newSpans(from, to, 4, 32, false)
	seen := map[[2]int64]bool{}
	for {
		p, found := s.take()
		if !found {
			break
		}
		if p.to != to[p.queue] && (p.to-p.from)%32 != 0 {
			t.Errorf("piece %v is no whole pulls", p)
		}
		for o := p.from; o < p.to; o++ {
			if k := [2]int64{int64(p.queue), o}; seen[k] {
				t.Fatalf("offset %v twice", k)
			} else {
				seen[k] = true
			}
		}
	}
	if want := 100000 + 3990 + 32; len(seen) != want {
		t.Fatalf("%d offsets, want %d", len(seen), want)
	}
	cyclic := newSpans(from, to, 4, 32, true)
	for range 10 * len(s.list) {
		if _, found := cyclic.take(); !found {
			t.Fatal("a cyclic list ended")
		}
	}
	if _, found := newSpans([]int64{1}, []int64{1}, 1, 32, true).take(); found {
		t.Fatal("work in empty queues")
	}
}

func TestVersus(t *testing.T) {
	side := func(rates ...float64) (rounds []Round) {
		for _, r := range rates {
			rounds = append(rounds, Round{Produce: &ProduceResult{Window: Window{PerSecond: r, Server: &Process{CPUPerMsg: 100 / r}}, Latency: Latency{P99: int64(r)}}})
		}
		return rounds
	}
	v := versus(side(40, 20, 90), side(10, 10, 30), func(r Round) (Window, Latency) { return r.Produce.Window, r.Produce.Latency })
	if v.Ratio != 3 || v.RatioLow != 2 || v.RatioHigh != 4 || v.A.PerSecond != 40 || v.B.Highest != 30 || v.RatioCPU != 0.25 {
		t.Fatalf("%+v", v)
	}
	if median([]float64{4, 1}) != 2.5 || median(nil) != 0 {
		t.Fatal("median")
	}
}
