package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
	"github.com/merlinmq/merlin/store"
)

// running is a command that serves, in this process.
type running struct {
	t      *testing.T
	lines  []string          // what it printed up to ready
	addr   map[string]string // of namesrv, broker and http
	stderr *safeBuffer
	cancel context.CancelFunc
	done   chan int // its exit code
}

// safeBuffer keeps what several goroutines write.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// begin runs a command line in the background, as a shell would; change, where
// it is not nil, changes its streams.
func begin(t *testing.T, change func(*streams), args ...string) (r *running, stdout io.Reader) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	r = &running{t: t, addr: map[string]string{}, stderr: &safeBuffer{}, cancel: cancel, done: make(chan int, 1)}
	s := streams{in: strings.NewReader(""), out: in, err: r.stderr, env: func(string) string { return "" }}
	if change != nil {
		change(&s)
	}
	go func() {
		code := run(ctx, args, s)
		in.Close()
		r.done <- code
	}()
	return r, out
}

// serving is begin for what says that it is ready. It ends with the test.
func serving(t *testing.T, args ...string) *running {
	t.Helper()
	r, out := begin(t, nil, args...)
	t.Cleanup(func() { r.stop() })
	in := bufio.NewScanner(out)
	for in.Scan() {
		r.lines = append(r.lines, in.Text())
		if what, addr, ok := strings.Cut(in.Text(), " listening on "); ok {
			r.addr[what] = addr
		}
		if in.Text() == "ready" || in.Text() == `{"event":"ready"}` {
			go io.Copy(io.Discard, out) // ends with the command, which closes it
			return r
		}
	}
	t.Fatalf("%s ended before it was ready: %d\n%s\n%s", args, <-r.done, strings.Join(r.lines, "\n"), r.stderr)
	return nil
}

// stop ends the command as SIGTERM does and waits for it.
func (r *running) stop() {
	r.t.Helper()
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	select {
	case code := <-r.done:
		if code != exitOK {
			r.t.Errorf("it ended with %d\n%s", code, r.stderr)
		}
	case <-time.After(time.Minute):
		r.t.Fatalf("it has not ended in a minute\n%s", r.stderr)
	}
}

// smallServer are the flags of a server in a test: a new folder, free ports, small files.
func smallServer(t *testing.T, more ...string) []string {
	return append([]string{"--data", t.TempDir(), "--http-listen", "", "--set", "mappedFileSizeCommitLog=4m", "--set", "maxHashSlotNum=1000",
		"--set", "maxIndexNum=4000", "--set", "brokerName=b"}, more...)
}

func dialTo(t *testing.T, addr string) *remoting.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := remoting.Dial(ctx, addr, remoting.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a request and returns the answer's fields and body.
func ask(t *testing.T, c *remoting.Client, code int, text string, fields ...string) *remoting.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var f remoting.Fields
	for i := 0; i+1 < len(fields); i += 2 {
		f.Str(fields[i], fields[i+1])
	}
	a, err := c.Do(ctx, code, f, []byte(text))
	if err != nil {
		t.Fatalf("%s: %v", remoting.CodeName(code), err)
	}
	return a
}

// sendFields are the header fields of a plain send.
var sendFields = []string{"producerGroup", "p", "defaultTopic", "TBW102", "defaultTopicQueueNums", "4", "queueId", "0", "sysFlag", "0",
	"bornTimestamp", "1700000000000", "flag", "0", "properties", "", "reconsumeTimes", "0", "unitMode", "false", "batch", "false"}

// TestToldAddressIsListenedOn: a broker that listens on one address tells that
// one, whatever address of the machine the name server was dialled at; one that
// listens on all of them tells each client the host that it dialled.
func TestToldAddressIsListenedOn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs 127.0.0.2")
	}
	for _, c := range []struct{ listen, dial, want string }{
		{"127.0.0.2:0", "127.0.0.1", "127.0.0.2"},
		{"localhost:0", "127.0.0.2", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.1", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.2", "127.0.0.2"},
	} {
		t.Run(c.listen+" dialled "+c.dial, func(t *testing.T) {
			r := serving(t, append([]string{"server", "--namesrv-listen", "0.0.0.0:0", "--broker-listen", c.listen}, smallServer(t)...)...)
			names := netip.MustParseAddrPort(r.addr["namesrv"]).Port()
			a := ask(t, dialTo(t, netip.AddrPortFrom(netip.MustParseAddr(c.dial), names).String()), remoting.ReqGetRouteInfoByTopic, "", "topic", "TBW102")
			var route body.RouteData
			if err := body.Decode(a.Body, &route); err != nil || len(route.BrokerDatas) != 1 {
				t.Fatalf("route %s: %v", a.Body, err)
			}
			port := netip.MustParseAddrPort(r.addr["broker"]).Port()
			want := netip.AddrPortFrom(netip.MustParseAddr(c.want), port)
			if got := route.BrokerDatas[0].BrokerAddrs[0]; got != want.String() {
				t.Fatalf("told %s, want %s", got, want)
			}
			sent := ask(t, dialTo(t, want.String()), remoting.ReqSendMessage, "hello", append(sendFields, "topic", "t")...)
			id, _ := sent.Get("msgId")
			if host, _, err := message.ParseOffsetID(id); err != nil || host != want {
				t.Errorf("the message id names %s, %v; want %s", host, err, want)
			}
		})
	}
}

// TestNameServerKeepsSettings: KV settings of a name server alone survive a
// restart. It makes its folder when there is something to keep, and may share it
// with a broker.
func TestNameServerKeepsSettings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	names := []string{"nameserver", "--namesrv-listen", "127.0.0.1:0", "--http-listen", "", "--data", dir}
	r := serving(t, names...)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data folder of a name server that stores nothing: %v", err)
	}
	key := []string{"namespace", "ns", "key", "color"}
	ask(t, dialTo(t, r.addr["namesrv"]), remoting.ReqPutKVConfig, "", append(key, "value", "red")...)
	r.stop()
	serving(t, append([]string{"broker", "--broker-listen", "127.0.0.1:0"}, append(smallServer(t), "--data", dir)...)...)
	r = serving(t, names...)
	a := ask(t, dialTo(t, r.addr["namesrv"]), remoting.ReqGetKVConfig, "", key...)
	if v, _ := a.Get("value"); v != "red" {
		t.Errorf("after a restart the setting is %q, want red", v)
	}
}

// TestStartLines: what a server says at its start, plain and with --json.
func TestStartLines(t *testing.T) {
	flags := []string{"--namesrv-listen", "127.0.0.1:0", "--broker-listen", "127.0.0.1:0", "--data", t.TempDir(), "--http-listen", "127.0.0.1:0",
		"--set", "mappedFileSizeCommitLog=4m", "--set", "listenPort=1"}
	r := serving(t, append([]string{"server"}, flags...)...)
	want := []string{"--set: mappedFileSizeCommitLog=4m: used", "--set: listenPort=1: ignored because --broker-listen is given",
		"http listening on " + r.addr["http"], "namesrv listening on " + r.addr["namesrv"], "broker listening on " + r.addr["broker"], "ready"}
	if !slices.Equal(r.lines, want) {
		t.Errorf("plain:\n%s\nwant\n%s", strings.Join(r.lines, "\n"), strings.Join(want, "\n"))
	}
	r.stop()
	r = serving(t, append([]string{"server", "--json"}, flags...)...)
	var got []map[string]any
	for _, line := range r.lines {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if at, ok := object["address"]; ok {
			if p, err := netip.ParseAddrPort(fmt.Sprint(at)); err != nil || p.Port() == 0 {
				t.Errorf("%s: no address", line)
			}
			object["address"] = "some"
		}
		got = append(got, object)
	}
	listening := func(what string) map[string]any {
		return map[string]any{"event": "listening", "what": what, "address": "some"}
	}
	objects := []map[string]any{
		{"event": "setting", "key": "mappedFileSizeCommitLog", "value": "4m", "source": "--set", "verdict": "used", "text": "used"},
		{"event": "setting", "key": "listenPort", "value": "1", "source": "--set", "verdict": "ignored", "text": "ignored because --broker-listen is given"},
		listening("http"), listening("namesrv"), listening("broker"), {"event": "ready"},
	}
	if !reflect.DeepEqual(got, objects) {
		t.Errorf("with --json:\n%v\nwant\n%v", got, objects)
	}
}

// TestRecoveryIsShown: a recovery that takes over two seconds has a bar on a
// terminal and nothing elsewhere; /readyz knows in any case.
func TestRecoveryIsShown(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var errs bytes.Buffer
			s := &server{app: &app{streams: streams{err: &errs, errTerminal: terminal}}, http: &httpServer{}}
			told := 0
			o := broker.Options{Events: broker.Events{Store: store.Events{Recovered: func(store.Recovery) { told++ }}}}
			done := s.showRecovery(&o)
			o.Progress(1<<20, 8<<20)
			if errs.Len() > 0 {
				t.Errorf("shown at once: %q", errs.String())
			}
			time.Sleep(3 * time.Second)
			o.Progress(4<<20, 8<<20)
			if shown := strings.Contains(errs.String(), "recovering the log"); shown != terminal {
				t.Errorf("on a terminal: %t, shown: %q", terminal, errs.String())
			}
			if s.http.recovered.Load() != 4<<20 || s.http.recoverGoal.Load() != 8<<20 || *s.http.stage.Load() != "recovering the log" {
				t.Error("/readyz does not know")
			}
			o.Events.Store.Recovered(store.Recovery{})
			done()
			if told != 1 {
				t.Errorf("told %d times that the log was recovered", told)
			}
		})
	}
}
