package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/test/harness"
)

// TestPopKilled pops and acknowledges from several connections while the server is killed over and over: a message whose
// acknowledgement was answered never comes again, and all of them are acknowledged in the end.
func TestPopKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	if harness.External() != "" {
		t.Skip("the server is not ours to kill")
	}
	const messages, members, kills = 3000, 4, 4
	s := harness.Start(t, "--set", "brokerName=broker-a")
	w := harness.DialBroker(t, s.Broker)
	w.CreateTopic("popkilled", 4)
	w.CreateGroup("popkilled_g")
	for i := range messages {
		w.Send("popkilled", i%4, nil, fmt.Append(nil, i), false)
	}
	book := &popBook{t: t, acked: map[string]bool{}}
	var running sync.WaitGroup
	for range members {
		running.Go(func() {
			for !book.done.Load() {
				book.consume(s.Broker)
			}
		})
	}
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	t.Logf("seed %d", seed)
	for range kills {
		time.Sleep(time.Duration(50+rng.Intn(250)) * time.Millisecond)
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for book.count() < messages && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	book.done.Store(true)
	running.Wait()
	// A kill can fall between an acknowledgement and its answer: then nobody knows.
	if n, unknown := book.count(), book.unknown(); n+unknown != messages || unknown > kills*members {
		t.Errorf("%d of %d messages were acknowledged, and of %d more the acknowledgement was not answered", n, messages, unknown)
	}
	t.Logf("%d hand-outs of %d messages, %d refused acknowledgements", book.given.Load(), messages, book.refused.Load())
}

// popInvisible is for how long what a test pops belongs to who popped it, in ms.
const popInvisible = 1500

// popFields ask for messages of any queue.
func popFields(group, topic string, most int) (f remoting.Fields) {
	f.Str("consumerGroup", group)
	f.Str("topic", topic)
	f.Int("queueId", -1)
	f.Int("maxMsgNums", int64(most))
	f.Int("invisibleTime", popInvisible)
	f.Int("pollTime", 200)
	f.Int("bornTime", time.Now().UnixMilli())
	f.Int("initMode", 0)
	return f
}

// popped takes the answer to a pop apart: the messages, and the handle of each.
func popped(ans *remoting.Answer) (views []message.View, handles []string, err error) {
	popTime, _ := ans.Get("popTime")
	revive, _ := ans.Get("reviveQid")
	starts, _ := ans.Get("startOffsetInfo")
	start := map[string]string{}
	for part := range strings.SplitSeq(starts, ";") {
		words := strings.Fields(part)
		start[words[1]] = words[2]
	}
	for rest := ans.Body; len(rest) > 0; {
		v, err := message.Parse(rest[:binary.BigEndian.Uint32(rest)])
		if err != nil {
			return nil, nil, err
		}
		rest = rest[len(v):]
		queue := fmt.Sprint(v.QueueID())
		views = append(views, v)
		handles = append(handles, fmt.Sprintf("%s %s %d %s 0 broker-a %s %d", start[queue], popTime, popInvisible, revive, queue, v.QueueOffset()))
	}
	return views, handles, nil
}

// ackFields acknowledge one message by its handle.
func ackFields(group, topic string, v message.View, handle string) (f remoting.Fields) {
	f.Str("consumerGroup", group)
	f.Str("topic", topic)
	f.Int("queueId", int64(v.QueueID()))
	f.Int("offset", int64(v.QueueOffset()))
	f.Str("extraInfo", handle)
	return f
}

// popBook knows which acknowledgements were answered.
type popBook struct {
	t              *testing.T
	done           atomic.Bool
	given, refused atomic.Int64

	mu         sync.Mutex // guards what follows
	acked      map[string]bool
	unanswered []string // whose acknowledgement was not answered; they may come again
}

// unknown counts the messages of which nobody was told that they are acknowledged, though it was asked for.
func (b *popBook) unknown() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.Sort(b.unanswered)
	for _, body := range slices.Compact(b.unanswered) {
		if !b.acked[body] {
			n++
		}
	}
	return n
}

func (b *popBook) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.acked)
}

// consume pops and acknowledges over one connection until it breaks.
func (b *popBook) consume(addr string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := remoting.Dial(ctx, addr, remoting.ClientOptions{})
	if err != nil {
		time.Sleep(20 * time.Millisecond) // the server is being started again
		return
	}
	defer c.Close()
	for !b.done.Load() {
		ans, err := c.Call(ctx, remoting.ReqPopMessage, popFields("popkilled_g", "popkilled", 8), nil)
		if err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond) // the work, so that kills fall into it
		if ans.Code == remoting.RespSuccess && !b.take(ctx, c, ans) {
			return
		}
	}
}

// take acknowledges each message of an answer and tells whether the connection still works.
func (b *popBook) take(ctx context.Context, c *remoting.Client, ans *remoting.Answer) bool {
	views, handles, err := popped(ans)
	if err != nil {
		b.t.Error(err)
		return false
	}
	for i, v := range views {
		b.given.Add(1)
		body := string(v.Body())
		b.mu.Lock()
		if b.acked[body] {
			b.t.Errorf("message %s was acknowledged and comes again", body)
		}
		b.mu.Unlock()
		ack, err := c.Call(ctx, remoting.ReqAckMessage, ackFields("popkilled_g", "popkilled", v, handles[i]), nil)
		if err != nil {
			b.mu.Lock()
			b.unanswered = append(b.unanswered, body)
			b.mu.Unlock()
			return false
		}
		if ack.Code != remoting.RespSuccess {
			b.refused.Add(1) // it came too late
			continue
		}
		b.mu.Lock()
		b.acked[body] = true
		b.mu.Unlock()
	}
	return true
}
