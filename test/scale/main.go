// Command scale measures what many queues and a long log cost a running
// merlin: it prints the numbers of docs/benchmarks.md, one a line.
//
//	go run ./test/scale -merlin ./merlin -data /tmp/scale -topics 20000 -queues 8
//	go run ./test/scale -merlin ./merlin -data /tmp/log -log 4294967296
//
// The first sends one message to each queue, stops the server and starts it
// again; the second writes so many bytes, ends the server by SIGKILL and
// starts it again.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/merlinmq/merlin/remoting"
)

func main() {
	var (
		bin    = flag.String("merlin", "merlin", "the binary")
		data   = flag.String("data", "", "an empty data folder")
		topics = flag.Int("topics", 20000, "topics")
		queues = flag.Int("queues", 8, "queues of each")
		log    = flag.Int64("log", 0, "bytes of messages, in place of many queues")
	)
	flag.Parse()
	var err error
	if *log > 0 {
		err = longLog(*bin, *data, *log)
	} else {
		err = manyQueues(*bin, *data, *topics, *queues)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// server is a running merlin.
type server struct {
	cmd    *exec.Cmd
	broker string
	took   time.Duration // from its start to ready
}

func start(bin, data string) (*server, error) {
	if data == "" {
		return nil, fmt.Errorf("-data names no folder")
	}
	began := time.Now()
	cmd := exec.Command(bin, "server", "--data", data, "--namesrv-listen", "127.0.0.1:0", "--broker-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	in := bufio.NewScanner(out)
	for in.Scan() {
		if addr, ok := strings.CutPrefix(in.Text(), "broker listening on "); ok {
			s.broker = addr
		}
		if in.Text() == "ready" {
			s.took = time.Since(began)
			return s, nil
		}
	}
	return nil, fmt.Errorf("the server ended before it was ready: %w", cmd.Wait())
}

// end ends it and returns how long that took and its peak memory in MiB.
func (s *server) end(sig os.Signal) (time.Duration, int64) {
	began := time.Now()
	_ = s.cmd.Process.Signal(sig) // Wait tells
	_ = s.cmd.Wait()              // killed is how it should end
	peak := int64(0)
	if u, ok := s.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = u.Maxrss >> 10
	}
	return time.Since(began), peak
}

// memory returns the resident memory of now in MiB.
func (s *server) memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize()) >> 20
}

func (s *server) files() int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid)) // 0 where there is no /proc
	return len(list)
}

// send sends n messages over eight connections, eight at a time on each.
func (s *server) send(n int, topic func(i int) (string, int), size int) (time.Duration, error) {
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	body := make([]byte, size)
	for range 8 {
		c, err := remoting.Dial(context.Background(), s.broker, remoting.ClientOptions{})
		if err != nil {
			return 0, err
		}
		defer c.Close()
		for range 8 {
			wg.Go(func() {
				for failed.Load() == nil {
					i := int(next.Add(1)) - 1
					if i >= n {
						return
					}
					name, queue := topic(i)
					var f remoting.Fields
					f.Str("a", "scale")
					f.Str("b", name)
					f.Str("c", "TBW102")
					f.Int("d", 8)
					f.Int("e", int64(queue))
					f.Int("f", 0)
					f.Int("g", time.Now().UnixMilli())
					f.Int("h", 0)
					f.Str("i", "")
					f.Int("j", 0)
					f.Str("k", "false")
					if _, err := c.Do(context.Background(), remoting.ReqSendMessageV2, f, body); err != nil {
						failed.CompareAndSwap(nil, &err)
					}
				}
			})
		}
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return time.Since(began), nil
}

func manyQueues(bin, data string, topics, queues int) error {
	s, err := start(bin, data)
	if err != nil {
		return err
	}
	n := topics * queues
	took, err := s.send(n, func(i int) (string, int) { return fmt.Sprintf("topic-%d", i/queues), i % queues }, 100)
	if err != nil {
		return err
	}
	fmt.Printf("%d messages, one to each queue of %d topics, topics created on the way: %v\n", n, topics, took)
	few, err := s.send(50_000, func(i int) (string, int) { return fmt.Sprintf("topic-%d", i%10), i % queues }, 100)
	if err != nil {
		return err
	}
	many, err := s.send(50_000, func(i int) (string, int) { return fmt.Sprintf("topic-%d", i*7919%topics), i % queues }, 100)
	if err != nil {
		return err
	}
	fmt.Printf("50,000 messages: to 10 topics %v, to all topics %v\n", few, many)
	fmt.Printf("open files %d, memory %d MiB\n", s.files(), s.memory())
	stop, peak := s.end(syscall.SIGTERM)
	fmt.Printf("clean stop %v, peak memory %d MiB\n", stop, peak)
	if s, err = start(bin, data); err != nil {
		return err
	}
	fmt.Printf("start after it %v, memory %d MiB, open files %d\n", s.took, s.memory(), s.files())
	stop, peak = s.end(syscall.SIGKILL)
	fmt.Printf("kill -9 %v, peak memory %d MiB\n", stop, peak)
	if s, err = start(bin, data); err != nil {
		return err
	}
	fmt.Printf("start after kill -9 %v, memory %d MiB\n", s.took, s.memory())
	stop, _ = s.end(syscall.SIGTERM)
	fmt.Printf("clean stop %v\n", stop)
	return nil
}

func longLog(bin, data string, size int64) error {
	s, err := start(bin, data)
	if err != nil {
		return err
	}
	took, err := s.send(int(size/(16<<10)), func(i int) (string, int) { return "log", i % 8 }, 16<<10)
	if err != nil {
		return err
	}
	fmt.Printf("%d MiB in messages of 16 KiB: %v\n", size>>20, took)
	s.end(syscall.SIGKILL)
	if s, err = start(bin, data); err != nil {
		return err
	}
	fmt.Printf("start after kill -9: %v\n", s.took)
	stop, _ := s.end(syscall.SIGTERM)
	if s, err = start(bin, data); err != nil {
		return err
	}
	fmt.Printf("clean stop %v, start after it %v\n", stop, s.took)
	s.end(syscall.SIGTERM)
	return nil
}
