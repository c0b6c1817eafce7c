package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/test/harness"
)

// What one client that floods may cost: memory of the server, and time of another client.
const (
	floodMemory = 100 << 20
	floodWait   = 100 * time.Millisecond
	floodFor    = 4 * time.Second
)

const floodVariable = "MERLIN_E2E_FLOOD"

// TestFloodingClient is no test but the process of a client that sends one frame again and again and never reads an answer. It has a process
// of its own, so that the client that is measured shares no Go scheduler with it.
func TestFloodingClient(t *testing.T) {
	kind, addr, _ := strings.Cut(os.Getenv(floodVariable), " ")
	if kind == "" {
		t.Skip("started by TestFloods")
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	frame := floodFrame(kind)
	many := bytes.Repeat(frame, max(1, 64<<10/len(frame)))
	if err := c.SetWriteDeadline(time.Now().Add(floodFor)); err != nil {
		t.Fatal(err)
	}
	sent, closed := 0, false
	for end := time.Now().Add(floodFor); !closed && time.Now().Before(end); {
		n, err := c.Write(many)
		sent, closed = sent+n, err != nil
	}
	fmt.Printf("%d MiB sent\n", sent>>20)
	time.Sleep(time.Second) // connected and not reading, unless the server has closed it
}

func floodFrame(kind string) []byte {
	header, body := `{"code":310,"opaque":1,"extFields":{"a":"flood","b":"flood","c":"TBW102","d":"4","e":"1","f":"0","g":"0","h":"0","i":"","j":"0","k":"false"}}`, 1<<20
	if kind == "pulls" {
		header, body = `{"code":11,"opaque":1,"extFields":{"consumerGroup":"flood","topic":"flood","queueId":"0","queueOffset":"0","maxMsgNums":"32",`+
			`"sysFlag":"4","commitOffset":"0","suspendTimeoutMillis":"0","subscription":"*","subVersion":"0","expressionType":"TAG"}}`, 0
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+body))
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(header))), header...)
	return append(b, make([]byte, body)...)
}

// TestFloods floods a server with messages of 1 MB, then one with pulls by 32 of messages of 1 KB, from one client that never reads. Memory is
// bounded and another client goes on being served. How long that one may take counts from what a client of a server takes that nobody
// floods: the machine has other work.
func TestFloods(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	if harness.External() != "" {
		t.Skip("the server's memory is not ours to see")
	}
	for _, kind := range []string{"sends", "pulls"} {
		t.Run(kind, func(t *testing.T) {
			s, quiet := harness.Start(t), harness.Start(t)
			w := harness.DialBroker(t, s.Broker)
			for range 64 {
				w.Send("flood", 0, nil, make([]byte, 1024), false)
			}
			fair, other := sendUntil(quiet.Broker, time.Now().Add(time.Second)), took{}
			if other = sendUntil(s.Broker, time.Now().Add(time.Second)); fair.err != nil || other.err != nil {
				t.Fatal(fair.err, other.err)
			}
			before, err := anonymous(s.PID())
			if err != nil {
				t.Fatal(err)
			}
			flood := exec.Command(os.Args[0], "-test.run=^TestFloodingClient$")
			flood.Env = append(os.Environ(), floodVariable+"="+kind+" "+s.Broker)
			said := make(chan string, 1)
			go func() {
				out, err := flood.CombinedOutput()
				if err != nil {
					out = fmt.Appendf(out, "%v", err)
				}
				said <- string(out)
			}()
			end := time.Now().Add(floodFor + time.Second)
			control := make(chan took, 1)
			go func() { control <- sendUntil(quiet.Broker, end) }()
			peak := make(chan int64, 1)
			go func() { peak <- highest(s.PID(), end) }()
			other, fair = sendUntil(s.Broker, end), <-control
			grown, flooded := <-peak-before, <-said
			t.Logf("flood of %s, %s: RssAnon grew by %d MiB; another client took %s; of a quiet server %s", kind, firstLine(flooded), grown>>20, other, fair)
			if !strings.Contains(flooded, "MiB sent") {
				t.Fatalf("the flooding process: %s", flooded)
			}
			if other.err != nil || fair.err != nil {
				t.Fatalf("another client: %v; one of a quiet server: %v", other.err, fair.err)
			}
			if grown > floodMemory {
				t.Errorf("one client cost %d MiB, %d are allowed", grown>>20, floodMemory>>20)
			}
			if got, allowed := other.at(95), floodWait+3*fair.at(95); got > allowed {
				t.Errorf("95 of 100 sends of another client took up to %s, %s is allowed", got, allowed)
			}
		})
	}
}

// took is how long the sends of a client took, the shortest first, or why one failed.
type took struct {
	times []time.Duration
	err   error
}

func (r took) at(percent int) time.Duration {
	if len(r.times) == 0 {
		return 0
	}
	return r.times[(len(r.times)-1)*percent/100]
}

func (r took) String() string {
	return fmt.Sprintf("p50 %.1f, p95 %.1f, p99 %.1f, worst %.1f ms in %d sends", ms(r.at(50)), ms(r.at(95)), ms(r.at(99)), ms(r.at(100)), len(r.times))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// sendUntil sends small messages, one every 5 ms at most.
func sendUntil(addr string, end time.Time) (r took) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := remoting.Dial(ctx, addr, remoting.ClientOptions{})
	if err != nil {
		return took{err: err}
	}
	defer func() { c.Close(); <-c.Done() }()
	for time.Now().Before(end) || r.times == nil {
		start := time.Now()
		ans, err := c.Call(ctx, remoting.ReqSendMessageV2, harness.SendFields("other", 0, 4, nil), []byte("x"))
		if err == nil && ans.Code != remoting.RespSuccess {
			err = fmt.Errorf("%s: %s", remoting.ResponseName(ans.Code), ans.Remark)
		}
		if err != nil {
			return took{err: err}
		}
		r.times = append(r.times, time.Since(start))
		time.Sleep(5 * time.Millisecond)
	}
	slices.Sort(r.times)
	return r
}

// highest returns the most anonymous memory that the process has until then; more than any bound allows if it cannot be read.
func highest(pid int, end time.Time) (most int64) {
	for time.Now().Before(end) {
		n, err := anonymous(pid)
		if err != nil {
			return 1 << 62
		}
		most = max(most, n)
		time.Sleep(10 * time.Millisecond)
	}
	return most
}

// anonymous returns the process's RssAnon in bytes: its memory without the files that it has mapped.
func anonymous(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(status), "RssAnon:")
	number := strings.Fields(rest)
	if !found || len(number) == 0 {
		return 0, fmt.Errorf("the status of process %d has no RssAnon", pid)
	}
	kib, err := strconv.ParseInt(number[0], 10, 64)
	return kib << 10, err
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
