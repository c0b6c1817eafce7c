package broker

import (
	"fmt"
	"testing"
	"time"
)

func TestTraffic(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	var tr traffic
	key := trafficKey{TrafficPut, "t", ""}
	if _, known := tr.read(key, now); known {
		t.Error("a topic without messages is counted")
	}
	for range 3 * 360 { // three hours with 10 messages of 5 bytes in each 10 s
		tr.count(clock, key, 10, 50)
		now = now.Add(10 * time.Second)
		tr.sample(now)
	}
	got, _ := tr.read(key, now)
	for i, want := range [3][2]float64{{60, 60}, {3600, 3600}, {10800, 10800}} {
		if got.Seconds[i] != want[0] || got.Messages[i] != want[1] || got.Bytes[i] != 5*want[1] {
			t.Errorf("span %d: %v messages, %v bytes in %v s; want %v messages in %v s", i, got.Messages[i], got.Bytes[i], got.Seconds[i], want[1], want[0])
		}
	}
	for range 27 {
		now = now.Add(time.Hour)
		tr.sample(now)
	}
	if len(tr.counters) != 0 {
		t.Error("a topic that was idle for a day is still counted")
	}
	for i := range maxTraffic + 10 {
		tr.count(clock, trafficKey{TrafficPut, fmt.Sprint(i), ""}, 1, 1)
	}
	if len(tr.counters) != maxTraffic {
		t.Errorf("%d counters, the bound is %d", len(tr.counters), maxTraffic)
	}
}
