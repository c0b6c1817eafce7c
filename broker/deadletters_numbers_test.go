package broker

import (
	"cmp"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// TestNumbersOfARedrive: MERLIN_DEADLETTERS=1000000 dead letters are sent again
// at MERLIN_RATE=20000 a second; 0 is as fast as it goes. Wanted: the rate is
// kept, and the heap does not grow with their number.
func TestNumbersOfARedrive(t *testing.T) {
	n := asked(t, "MERLIN_DEADLETTERS")
	rate, err := strconv.Atoi(cmp.Or(os.Getenv("MERLIN_RATE"), "20000"))
	if err != nil {
		t.Fatal(err)
	}
	b := openBroker(t, t.TempDir(), bigFiles)
	redriveTopics(t, b)
	began := time.Now()
	die(t, b, "g", "orders", n, nil)
	t.Logf("%d died in %v", n, time.Since(began))
	before := heapInUse()
	began = time.Now()
	if _, err := b.Redrive(RedriveSpec{ID: "x", Group: "g", Rate: rate}); err != nil {
		t.Fatal(err)
	}
	most := uint64(0)
	for s := must(b.Redrives("x"))[0]; s.State != RedriveDone; s = must(b.Redrives("x"))[0] {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapInuse)
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(began)
	t.Logf("%d were sent again in %v: %.0f a second, %d asked for", n, took, float64(n)/took.Seconds(), rate)
	t.Logf("heap: %d MB before, %d MB at most meanwhile, %d MB after", before>>20, most>>20, heapInUse()>>20)
	if s := must(b.Redrives("x"))[0]; s.Sent != int64(n) || s.Failed+s.Gone+s.Skipped != 0 {
		t.Errorf("%+v", s)
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if got := int(b.store.QueueMax("orders", 0) + b.store.QueueMax("orders", 1)); got != n {
		t.Errorf("%d messages in the topic", got)
	}
	began = time.Now()
	count, from := 0, b.store.QueueMin("%DLQ%g", 0)
	for {
		page, err := b.RedriveResults("x", from, 0)
		if err != nil {
			t.Fatal(err)
		}
		count += len(page.Results)
		if from = page.Next; !page.More {
			break
		}
	}
	t.Logf("%d results were read in %v", count, time.Since(began))
	if count != n {
		t.Errorf("%d results", count)
	}
}
