//go:build unix

package e2e

import (
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/harness"
)

// TestSuspendedServer stops the process itself while delayed messages become due: when it goes on, all of them come, in
// the order of their times, those that are not due yet no earlier than that.
func TestSuspendedServer(t *testing.T) {
	if harness.External() != "" {
		t.Skip("the server is not ours to stop")
	}
	t.Parallel()
	s := harness.Start(t, "--set", "messageDelayLevel=1s 2s 3s")
	w := harness.DialBroker(t, s.Broker)
	w.CreateTopic("suspended", 1)
	const count = 40
	began := time.Now()
	due := map[string]time.Time{}
	for _, i := range rand.New(rand.NewSource(began.UnixNano())).Perm(count) {
		at := began.Add(time.Second + time.Duration(i)*150*time.Millisecond) // the last ones after the server goes on
		p := message.Properties(nil).Append(message.PropTimerDeliverMs, strconv.FormatInt(at.UnixMilli(), 10))
		body := fmt.Sprint("at", i)
		if i%4 == 0 {
			at = time.Now().Add(2 * time.Second) // no earlier than that
			p = message.Properties(nil).Append(message.PropDelay, "2")
			body = fmt.Sprint("level", i)
		}
		due[body] = at
		w.Send("suspended", 0, p, []byte(body), false)
	}
	if err := syscall.Kill(s.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(began.Add(5 * time.Second)))
	if err := syscall.Kill(s.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	var came []string
	next, last := int64(0), time.Time{}
	for end := time.Now().Add(30 * time.Second); len(came) < count && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		next = w.Read("suspended", 0, next, func(_ int64, v message.View) {
			body, stored := string(v.Body()), time.UnixMilli(v.StoreTimestamp())
			came = append(came, body)
			if early := due[body].Truncate(time.Millisecond).Sub(stored); early > 0 {
				t.Errorf("%s comes %s early", body, early)
			}
			if body[0] != 'a' {
				return // levels are not told to the millisecond here
			}
			if due[body].Before(last) {
				t.Errorf("%s comes behind one that was due %s later", body, last.Sub(due[body]))
			}
			last = due[body]
		})
	}
	if slices.Sort(came); len(slices.Compact(came)) != count {
		t.Errorf("%d messages came, want %d once each: %s", len(came), count, came)
	}
}
