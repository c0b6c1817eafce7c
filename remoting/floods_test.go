package remoting

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// floodSpec is one connection that floods.
type floodSpec struct {
	Code, Size int // of the frame and its body
	OneWay     bool
}

func (f floodSpec) frame() []byte {
	body := string(make([]byte, f.Size))
	if f.OneWay {
		return jsonFrame(fmt.Sprintf(`{"code":%d,"opaque":1,"flag":2}`, f.Code), body)
	}
	return requestFrame(f.Code, 1, body)
}

// floodOrder is what the flooding process is told.
type floodOrder struct {
	Addr   string
	For    time.Duration
	Floods []floodSpec
}

const floodVariable = "MERLIN_FLOOD"

// TestFloodingProcess is no test but the process that floods: in the server's
// own process the flooding goroutines would stand in the same run queue as the
// server's, which no real client does.
func TestFloodingProcess(t *testing.T) {
	text := os.Getenv(floodVariable)
	if text == "" {
		t.Skip("started by the tests that flood")
	}
	var order floodOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(order.For)
	sent := make(chan int64, len(order.Floods))
	for _, f := range order.Floods {
		c, err := net.Dial("tcp", order.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() { sent <- flood(c, f.frame(), until) }()
	}
	var n int64
	for range order.Floods {
		n += <-sent
	}
	fmt.Println(n>>20, "MiB sent")
}

// startFloods begins to flood a server from another process and returns when it
// is connected. The function that it returns waits for the end and tells it.
func startFloods(t *testing.T, s *Server, d time.Duration, floods ...floodSpec) (wait func() string) {
	t.Helper()
	text, err := json.Marshal(floodOrder{s.Addr().String(), d, floods})
	if err != nil {
		t.Fatal(err)
	}
	before := s.Stats().Accepted
	cmd := exec.Command(os.Args[0], "-test.run=^TestFloodingProcess$")
	cmd.Env = append(os.Environ(), floodVariable+"="+string(text))
	said := make(chan string, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("the flooding process: %v", err)
		}
		said <- string(out)
	}()
	eventually(t, "the floods have begun", func() bool { return s.Stats().Accepted-before >= int64(len(floods)) })
	return func() string { return <-said }
}

// Many clients that flood at a time share one bound, and leave another client
// its turn.
func TestManyFloodsTogether(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: pulls}, o)
		h := watchHeap()
		var floods []floodSpec
		for i := range 20 {
			floods = append(floods, floodSpec{Code: []int{ReqPullMessage, ReqQueryMessage, ReqSendMessage}[i%3], Size: i * 1000})
		}
		wait := startFloods(t, s, 900*time.Millisecond, floods...)
		others(t, s, 600*time.Millisecond)
		said := wait()
		grown := h.grown()
		t.Logf("heap grew %d MiB, closed %v; %s", grown>>20, s.Stats().Closed, said)
		if grown > 3*mayGrow {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
	})
}
