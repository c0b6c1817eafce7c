package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// TestWithin: the answer is given once, by what comes first.
func TestWithin(t *testing.T) {
	for _, c := range []struct {
		after time.Duration // when the fsync is done
		err   error
		want  error
	}{
		{after: 0}, {after: 4 * time.Second}, {after: 6 * time.Second, want: errFlushTimeout},
		{after: time.Second, err: errors.ErrUnsupported, want: errors.ErrUnsupported},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got []error
			done := within(5*time.Second, func(err error) { got = append(got, err) })
			time.Sleep(c.after)
			done(c.err)
			time.Sleep(time.Minute)
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("done after %s with %v: answered %v, want %v", c.after, c.err, got, c.want)
			}
		})
	}
}

// TestSendThatWaitsTooLong: a send whose fsync takes longer than
// syncFlushTimeout is answered FLUSH_DISK_TIMEOUT with where it is stored, and
// is there. The end of a transaction is a success then, as with Apache's broker.
func TestSendThatWaitsTooLong(t *testing.T) {
	var slow atomic.Bool
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	fsys := vfs.NewFaulty(vfs.OS)
	fsys.Hook(func(op vfs.Op) {
		if slow.Load() && (op.Kind == vfs.KindSync || op.Kind == vfs.KindMapSync) && filepath.Base(filepath.Dir(op.Name)) == "commitlog" {
			<-release
		}
	})
	s := startWith(t, nil, func(o *broker.Options) { o.FS, o.Settings.SyncFlush = fsys, true })
	t.Cleanup(let) // before the server is closed, which waits for the fsync
	p := dial(t, s.addr, nil)
	p.send("t", "in time")
	half := p.ok(remoting.ReqSendMessage, "half", f("producerGroup", "p", "topic", "t", "defaultTopic", "TBW102", "defaultTopicQueueNums", "4", "queueId", "0", "sysFlag", "4",
		"bornTimestamp", "1700000000000", "flag", "0", "properties", "TRAN_MSG\x01true\x02PGROUP\x01p\x02UNIQ_KEY\x01U\x02", "reconsumeTimes", "0", "unitMode", "false", "batch", "false")...)
	_, place, err := message.ParseOffsetID(field(half, "msgId"))
	if err != nil {
		t.Fatal(err)
	}
	s.broker.Settings().SyncFlushTimeoutMs.Store(1)
	slow.Store(true)
	a := p.call(remoting.ReqSendMessage, "late", sendFields("t")...)
	if a.Code != remoting.RespFlushDiskTimeout || field(a, "queueOffset") != "1" || field(a, "msgId") == "" || field(a, "MSG_REGION") == "" {
		t.Errorf("code %d %q, fields %v; want FLUSH_DISK_TIMEOUT and where it is stored", a.Code, a.Remark, a.Fields)
	}
	a = p.call(remoting.ReqEndTransaction, "", "producerGroup", "p", "tranStateTableOffset", field(half, "queueOffset"), "commitLogOffset", fmt.Sprint(place),
		"commitOrRollback", "8", "fromTransactionCheck", "false", "msgId", "U", "transactionId", "U")
	if a.Code != remoting.RespSuccess {
		t.Errorf("the end of a transaction: code %d %q, want a success", a.Code, a.Remark)
	}
	slow.Store(false)
	let()
	s.broker.Settings().SyncFlushTimeoutMs.Store(60_000)
	p.send("t", "after it")
	if a := p.ok(remoting.ReqGetMaxOffset, "", "topic", "t", "queueId", "0"); field(a, "offset") == "0" {
		t.Error("nothing is stored")
	}
	if err := s.broker.Store().WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if end := s.broker.Store().QueueMax("t", 0); end != 4 {
		t.Errorf("the queue ends at %d, want 4", end)
	}
}

// TestLoneSendThatWaitsTooLong: a connection that does nothing but send has its
// fsyncs on its own goroutine; one that takes too long is answered in time all
// the same, and once.
func TestLoneSendThatWaitsTooLong(t *testing.T) {
	var slow atomic.Bool
	var held atomic.Int32
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	fsys := vfs.NewFaulty(vfs.OS)
	fsys.Hook(func(op vfs.Op) {
		if slow.Load() && op.Kind == vfs.KindSync && filepath.Base(filepath.Dir(op.Name)) == "commitlog" {
			held.Add(1)
			<-release
		}
	})
	s := startWith(t, nil, func(o *broker.Options) { o.FS, o.Settings.SyncFlush = fsys, true })
	t.Cleanup(let)
	p := dial(t, s.addr, nil)
	for i := range 3 {
		p.send("t", fmt.Sprint("in time ", i))
		if err := s.broker.Store().WaitVisible(); err != nil {
			t.Fatal(err)
		}
		if end := s.broker.Store().QueueMax("t", 0); end != message.Offset(i+1) {
			t.Fatalf("the queue ends at %d, want %d", end, i+1)
		}
	}
	s.broker.Settings().SyncFlushTimeoutMs.Store(1)
	slow.Store(true)
	a := p.call(remoting.ReqSendMessage, "late", sendFields("t")...)
	if a.Code != remoting.RespFlushDiskTimeout || field(a, "queueOffset") != "3" || field(a, "msgId") == "" || field(a, "MSG_REGION") == "" {
		t.Errorf("code %d %q, fields %v; want FLUSH_DISK_TIMEOUT and where it is stored", a.Code, a.Remark, a.Fields)
	}
	if held.Load() != 1 {
		t.Errorf("%d fsyncs are under way, want 1", held.Load())
	}
	slow.Store(false)
	let()
	s.broker.Settings().SyncFlushTimeoutMs.Store(60_000)
	if a := p.call(remoting.ReqSendMessage, "after it", sendFields("t")...); a.Code != remoting.RespSuccess || field(a, "queueOffset") != "4" {
		t.Errorf("the next send: code %d %q, fields %v; want a success at 4", a.Code, a.Remark, a.Fields)
	}
}

// sendFields are the fields of a plain send to queue 0.
func sendFields(topic string) []string {
	return []string{
		"producerGroup", "p", "topic", topic, "defaultTopic", "TBW102", "defaultTopicQueueNums", "4", "queueId", "0", "sysFlag", "0",
		"bornTimestamp", fmt.Sprint(time.Now().UnixMilli()), "flag", "0", "properties", "", "reconsumeTimes", "0", "unitMode", "false", "batch", "false",
	}
}

// TestQueryByUniqueKeyGivesTheBrokersMost: defaultQueryMaxNum goes before the
// maxNum of a query by unique key, and only of such a one.
func TestQueryByUniqueKeyGivesTheBrokersMost(t *testing.T) {
	s := start(t, nil)
	p := dial(t, s.addr, nil)
	for range 5 {
		p.send("t", "x", "properties", "UNIQ_KEY\x01u\x02KEYS\x01k")
	}
	if err := s.broker.Store().WaitVisible(); err != nil {
		t.Fatal(err)
	}
	s.broker.Settings().QueryMax.Store(2)
	for _, c := range []struct {
		key, unique string
		want        int
	}{{"u", "true", 2}, {"k", "false", 3}} {
		a := p.ok(remoting.ReqQueryMessage, "", "topic", "t", "key", c.key, "maxNum", "3", "beginTimestamp", "0",
			"endTimestamp", "9223372036854775807", "_UNIQUE_KEY_QUERY", c.unique)
		got := 0
		for rest := a.Body; len(rest) > 0; got++ {
			v, err := message.Parse(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[len(v):]
		}
		if got != c.want {
			t.Errorf("the key %s: %d messages, want %d", c.key, got, c.want)
		}
	}
}

// TestFirstConnectionKnowsThePort: a client that dials before anybody is served
// gets message ids with the broker's port, by which the messages are found.
func TestFirstConnectionKnowsThePort(t *testing.T) {
	b := openTestBroker(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := dial(t, ln.Addr().String(), nil)
	at := netip.MustParseAddrPort(ln.Addr().String())
	srv, err := remoting.Serve(ln, New(Options{Broker: b, Port: at.Port()}), remoting.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p.send("t", "hello")
	v, err := b.Store().Record(0)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.StoreHost(); got != at {
		t.Errorf("the message was stored at %s, want %s", got, at)
	}
}
