package gateway

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/remoting"
)

// TestSettleAnswersWhatWaits: before the connections end, a pull and a pop that
// wait are answered, and a stored send gets the answer of its fsync.
func TestSettleAnswersWhatWaits(t *testing.T) {
	var slow atomic.Bool
	reached, release := make(chan struct{}), make(chan struct{})
	at, let := sync.OnceFunc(func() { close(reached) }), sync.OnceFunc(func() { close(release) })
	fsys := vfs.NewFaulty(vfs.OS)
	fsys.Hook(func(op vfs.Op) {
		if slow.Load() && (op.Kind == vfs.KindSync || op.Kind == vfs.KindMapSync) && filepath.Base(filepath.Dir(op.Name)) == "commitlog" {
			at()
			<-release
		}
	})
	s := startWith(t, nil, func(o *broker.Options) {
		o.FS, o.Settings.SyncFlush = fsys, true
		o.Settings.SyncFlushTimeoutMs.Store(0)
	})
	t.Cleanup(let) // before the server is closed, which waits for the fsync
	dial(t, s.addr, nil).send("quiet", "makes the topic")
	slow.Store(true)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answers := make(chan [2]int, 3) // the request's code and the answer's, 0 for none
	ask := func(code int, fields ...string) {
		p := dial(t, s.addr, nil)
		// Else the send's own goroutine does its fsync, and is being served still.
		p.ok(remoting.ReqGetMaxOffset, "", "topic", "quiet", "queueId", "0")
		var list remoting.Fields
		for i := 0; i+1 < len(fields); i += 2 {
			list.Str(fields[i], fields[i+1])
		}
		go func() {
			got := [2]int{code}
			if a, err := p.c.Call(ctx, code, list, []byte("hello")); err == nil {
				got[1] = a.Code
			}
			answers <- got
		}()
	}
	ask(remoting.ReqSendMessage, "producerGroup", "p", "topic", "t", "defaultTopic", "TBW102", "defaultTopicQueueNums", "4", "queueId", "0", "sysFlag", "0",
		"bornTimestamp", "1700000000000", "flag", "0", "properties", "", "reconsumeTimes", "0", "unitMode", "false", "batch", "false")
	ask(remoting.ReqPullMessage, "consumerGroup", "g", "topic", "quiet", "queueId", "1", "queueOffset", "0", "maxMsgNums", "32", "sysFlag", "6",
		"commitOffset", "0", "suspendTimeoutMillis", "30000", "subscription", "*", "subVersion", "1", "expressionType", "TAG")
	ask(remoting.ReqPopMessage, "consumerGroup", "g", "topic", "quiet", "queueId", "2", "maxMsgNums", "1", "invisibleTime", "60000", "pollTime", "30000",
		"bornTime", "1700000000000", "initMode", "0", "order", "false")
	<-reached
	for parked := false; !parked; time.Sleep(time.Millisecond) {
		pops, err := s.broker.Popping("g", "quiet", 2)
		if ctx.Err() != nil {
			t.Fatalf("%d pulls and %d pops wait, %v; want 1 of each", s.broker.Holds(), pops, err)
		}
		parked = s.broker.Holds() == 1 && pops == 1
	}

	if err := s.port.StopServing(ctx); err != nil {
		t.Fatal(err)
	}
	over, end := context.WithCancel(ctx)
	end()
	if err := s.gateway.Settle(over); !errors.Is(err, context.Canceled) {
		t.Errorf("settled with %v although a send waits for its fsync", err)
	}
	let()
	if err := s.gateway.Settle(ctx); err != nil {
		t.Error(err)
	}
	if err := s.port.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	want := map[int]int{
		remoting.ReqSendMessage: remoting.RespSuccess, remoting.ReqPullMessage: remoting.RespPullNotFound, remoting.ReqPopMessage: remoting.RespPollingTimeout,
	}
	for range want {
		got := <-answers
		if got[1] != want[got[0]] {
			t.Errorf("%s was answered %d, want %d", remoting.CodeName(got[0]), got[1], want[got[0]])
		}
	}
}
