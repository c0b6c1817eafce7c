package broker

import (
	"testing"

	"github.com/merlinmq/merlin/message"
)

// What was popped is remembered like what was pulled: a range for each run.
func TestPopsAreRemembered(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	for range 5 {
		mustSend(t, b, request("orders", "x", ""))
	}
	r := popRequest("g")
	r.ClientID = "client-1"
	var got int
	for range 8 {
		got += len(popOnce(t, b, r))
	}
	if got != 5 {
		t.Fatalf("%d popped", got)
	}
	remembered := message.Offset(0)
	for queue := range int32(8) {
		last, ranges, known := b.pulls.of("g", "orders", queue)
		if !known {
			continue
		}
		for _, p := range ranges {
			if p.Client != "client-1" {
				t.Errorf("queue %d: %+v", queue, p)
			}
			remembered += p.To - p.From
		}
		if last.Client != "client-1" || last.GivenAt.IsZero() || last.Given != ranges[len(ranges)-1].To {
			t.Errorf("queue %d: last %+v of %+v", queue, last, ranges)
		}
	}
	if remembered != 5 {
		t.Errorf("%d of 5 are remembered", remembered)
	}
}
