package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/store"
)

// TestStopAnswersHeldPulls: a pull that waits when the server is asked to end is
// answered before its connection closes.
func TestStopAnswersHeldPulls(t *testing.T) {
	r := serving(t, append([]string{"server", "--namesrv-listen", "127.0.0.1:0", "--broker-listen", "127.0.0.1:0"},
		smallServer(t, "--http-listen", "127.0.0.1:0")...)...)
	c := dialTo(t, r.addr["broker"])
	ask(t, c, remoting.ReqSendMessage, "hello", append(sendFields, "topic", "t")...)
	var pull remoting.Fields
	for _, p := range [][2]string{{"consumerGroup", "g"}, {"topic", "t"}, {"queueId", "1"}, {"queueOffset", "0"}, {"maxMsgNums", "32"}, {"sysFlag", "6"},
		{"commitOffset", "0"}, {"suspendTimeoutMillis", "30000"}, {"subscription", "*"}, {"subVersion", "1"}, {"expressionType", "TAG"}} {
		pull.Str(p[0], p[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answered := make(chan int, 1) // the answer's code, -1 without one
	go func() {
		a, err := c.Call(ctx, remoting.ReqPullMessage, pull, nil)
		if err != nil {
			answered <- -1
			return
		}
		answered <- a.Code
	}()
	for !strings.Contains(get(t, "http://"+r.addr["http"]+"/metrics"), "\nmerlin_parked_pulls 1\n") {
		if ctx.Err() != nil {
			t.Fatal("the pull does not wait at the broker")
		}
		time.Sleep(time.Millisecond)
	}
	r.stop()
	if code := <-answered; code != remoting.RespPullNotFound {
		t.Errorf("the pull was answered %d, want %d", code, remoting.RespPullNotFound)
	}
}

// get returns what a page of the server says.
func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestStopAnswersStoredSends: a server that is asked to end while sends wait for
// their fsync answers each that it has stored, so that none is sent again.
func TestStopAnswersStoredSends(t *testing.T) {
	dir := t.TempDir()
	r := serving(t, append([]string{"server", "--namesrv-listen", "127.0.0.1:0", "--broker-listen", "127.0.0.1:0", "--set", "flushDiskType=SYNC_FLUSH"},
		append(smallServer(t), "--data", dir)...)...)
	var send remoting.Fields
	for i, all := 0, append(sendFields, "topic", "t"); i+1 < len(all); i += 2 {
		send.Str(all[i], all[i+1])
	}
	var answered atomic.Int64
	var senders sync.WaitGroup
	enough := make(chan struct{})
	for range 4 {
		c := dialTo(t, r.addr["broker"])
		for range 16 {
			senders.Go(func() {
				for {
					a, err := c.Call(context.Background(), remoting.ReqSendMessage, send, []byte("hello"))
					if err != nil {
						return
					}
					if id, _ := a.Get("msgId"); id != "" && answered.Add(1) == 1000 {
						close(enough)
					}
				}
			})
		}
	}
	<-enough
	r.stop()
	senders.Wait()
	s, err := store.Open(dir, store.Options{SegmentSize: 4 << 20, IndexSlots: 1000, IndexItems: 4000})
	if err != nil {
		t.Fatal(err)
	}
	if stored := int64(s.QueueMax("t", 0)); stored != answered.Load() {
		t.Errorf("%d sends were stored and %d answered", stored, answered.Load())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
