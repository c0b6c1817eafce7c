package broker

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// asked returns the size of a measurement, which is made only when a variable
// says so: go test ./broker -run Numbers -v -timeout 30m.
func asked(t *testing.T, variable string) int {
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil || n <= 0 {
		t.Skipf("measures only with %s=N", variable)
	}
	return n
}

// sendMany sends timed messages in groups of 64 and returns how long each group took.
func sendMany(t *testing.T, s *Sender, n int, due func(i int) int64) []time.Duration {
	t.Helper()
	took := make([]time.Duration, 0, n/64+1)
	for i := 0; i < n; {
		began := time.Now()
		s.Reset()
		for range min(64, n-i) {
			s.Add(request("many", "a body of a few bytes", props(message.PropTimerDeliverMs, strconv.FormatInt(due(i), 10))))
			i++
		}
		for _, r := range s.Commit() {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		took = append(took, time.Since(began))
	}
	return took
}

func percentile(list []time.Duration, p float64) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[min(len(list)-1, int(p*float64(len(list))))]
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func bigFiles(s *Settings) {
	quickLevels(s)
	s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = 1<<30, 300_000, 5_000_000, 20_000_000
}

// TestNumbersOfPending: MERLIN_PENDING=5000000 messages wait, a month ahead.
// Wanted: the last send costs at most 1.5 times the first, the heap grows by
// less than 300 MB, a restart takes less than 3 s.
func TestNumbersOfPending(t *testing.T) {
	n := asked(t, "MERLIN_PENDING")
	dir := t.TempDir()
	s := DefaultSettings()
	bigFiles(s)
	b, err := Open(dir, Options{Settings: s, StoreHost: testAddr})
	if err != nil {
		t.Fatal(err)
	}
	before := heapInUse()
	base := time.Now().Add(30 * 24 * time.Hour).UnixMilli()
	took := sendMany(t, b.NewSender(), n, func(i int) int64 { return base + int64(i*7919%10_000_000) })
	began := time.Now()
	if err := b.Delays().Settle(); err != nil {
		t.Fatal(err)
	}
	indexed := time.Since(began)
	tenth := len(took) / 10
	t.Logf("a send in the first tenth: median %v, in the last: %v; the index was %v behind", percentile(took[:tenth], 0.5)/64, percentile(took[len(took)-tenth:], 0.5)/64, indexed)
	t.Logf("%d wait: the heap grew by %d MB", b.Delays().Stats().Timed["many"], (int64(heapInUse())-int64(before))>>20)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if b, err = Open(dir, Options{Settings: s, StoreHost: testAddr}); err != nil {
		t.Fatal(err)
	}
	t.Logf("a restart took %v", time.Since(began))
	if got := b.Delays().Stats().Timed["many"]; got != int64(n) {
		t.Errorf("%d of %d wait after the restart", got, n)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNumbersOfABurst: MERLIN_BURST=200000 messages are due in one second.
// Wanted: all are delivered, and the p99 of live sends is at most doubled.
func TestNumbersOfABurst(t *testing.T) {
	n := asked(t, "MERLIN_BURST")
	b := openBroker(t, t.TempDir(), bigFiles)
	lead := 5*time.Second + time.Duration(n)*100*time.Microsecond
	due := time.Now().Add(lead).UnixMilli()
	sendMany(t, b.NewSender(), n, func(i int) int64 { return due + int64(i%1000) })
	if err := b.Delays().Settle(); err != nil {
		t.Fatal(err)
	}
	live := func(until func() bool) []time.Duration {
		s := b.NewSender()
		var took []time.Duration
		for !until() {
			began := time.Now()
			s.Reset()
			s.Add(request("live", "a body", ""))
			if err := s.Commit()[0].Err; err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
			time.Sleep(100 * time.Microsecond)
		}
		return took
	}
	quiet := live(func() bool { return time.Now().UnixMilli() >= due-200 })
	waits := func() bool { return b.Delays().Stats().Timed["many"] == 0 }
	checked := time.Now()
	busy := live(func() bool {
		if time.Since(checked) < 20*time.Millisecond {
			return false
		}
		checked = time.Now()
		return waits()
	})
	t.Logf("%d messages came within %v of the first one's time", n, time.Since(time.UnixMilli(due)))
	t.Logf("live sends: p99 %v before, %v meanwhile; p50 %v and %v", percentile(quiet, 0.99), percentile(busy, 0.99), percentile(quiet, 0.5), percentile(busy, 0.5))
	st := b.Delays().Stats()
	t.Logf("lateness: %v ms on average, buckets %s", st.LateMs/max(1, int64(n)), fmt.Sprint(st.Late))
	if st.Lost > 0 {
		t.Errorf("%d were lost", st.Lost)
	}
}
