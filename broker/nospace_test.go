package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// TestEveryRefusalForLackOfRoomSaysHowMuchIsNeeded: also those of writes that
// are no sends and meet the full disk first.
func TestEveryRefusalForLackOfRoomSaysHowMuchIsNeeded(t *testing.T) {
	const attempts = 40
	body := strings.Repeat("x", 200<<10)
	for _, c := range []struct {
		name string
		prep func(t *testing.T, b *Broker) func() error
	}{
		{"a retry", func(t *testing.T, b *Broker) func() error {
			mustSend(t, b, request("orders", body, ""))
			r := &SendBackRequest{Group: "g", MaxReconsumeTimes: -1, StoreHost: testAddr}
			return func() error { return b.SendBack(r) }
		}},
		{"the end of a transaction", func(t *testing.T, b *Broker) func() error {
			var halves []TransactionEnd
			for i := range attempts {
				p := strings.ReplaceAll(halfProps, "K1", fmt.Sprint("K", i)) + props("fill", strings.Repeat("x", 30_000))
				halves = append(halves, sendHalf(t, b, "orders", p))
			}
			return func() error {
				e := halves[0]
				halves = halves[1:]
				e.Verdict = TransactionCommit
				return end(b, e)
			}
		}},
		{"a delay", func(t *testing.T, b *Broker) func() error {
			log := &delayLog{b: b}
			m := message.Message{Topic: "orders", Body: []byte(body)}
			return func() error { return b.delayRefusal(log.Append([]message.Message{m})) }
		}},
		{"any", func(t *testing.T, b *Broker) func() error {
			return func() error { return b.storeRefusal(fmt.Errorf("x: %w", store.ErrNoSpace)) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			faulty := vfs.NewFaulty(vfs.NewMem())
			b := openBrokerOn(t, t.TempDir(), faulty, func(s *Settings) {
				s.SegmentSize, s.QueueFileEntries, s.NoIndex = 1<<18, 100, true
				s.DiskWarning.Store(100)
			})
			defer b.Close()
			act := c.prep(t, b)
			faulty.SetBudget(1)
			err := act()
			for n := 1; n < attempts && err == nil; n++ { // what is reserved of the disk already
				err = act()
			}
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Kind != KindDiskFull || !strings.Contains(refusal.Text, " are free and the log wants ") {
				t.Errorf("refused with %v", err)
			}
		})
	}
}
