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
	var f remoting.Fields
	for _, x := range [][2]string{{"topic", "popkilled"}, {"defaultTopic", "TBW102"}, {"readQueueNums", "4"}, {"writeQueueNums", "4"}, {"perm", "6"}, {"topicFilterType", "SINGLE_TAG"}, {"topicSysFlag", "0"}, {"order", "false"}} {
		f.Str(x[0], x[1])
	}
	w.Do(remoting.ReqUpdateAndCreateTopic, f, nil)
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
		var f remoting.Fields
		f.Str("consumerGroup", "popkilled_g")
		f.Str("topic", "popkilled")
		f.Int("queueId", -1)
		f.Int("maxMsgNums", 8)
		f.Int("invisibleTime", 1500)
		f.Int("pollTime", 200)
		f.Int("bornTime", time.Now().UnixMilli())
		f.Int("initMode", 0)
		ans, err := c.Call(ctx, remoting.ReqPopMessage, f, nil)
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
	popTime, _ := ans.Get("popTime")
	starts, _ := ans.Get("startOffsetInfo")
	start := map[string]string{}
	for part := range strings.SplitSeq(starts, ";") {
		words := strings.Fields(part)
		start[words[1]] = words[2]
	}
	for rest := ans.Body; len(rest) > 0; {
		v, err := message.Parse(rest[:binary.BigEndian.Uint32(rest)])
		if err != nil {
			b.t.Error(err)
			return false
		}
		rest = rest[len(v):]
		b.given.Add(1)
		body := string(v.Body())
		b.mu.Lock()
		if b.acked[body] {
			b.t.Errorf("message %s was acknowledged and comes again", body)
		}
		b.mu.Unlock()
		queue := fmt.Sprint(v.QueueID())
		var f remoting.Fields
		f.Str("consumerGroup", "popkilled_g")
		f.Str("topic", "popkilled")
		f.Str("queueId", queue)
		f.Int("offset", int64(v.QueueOffset()))
		f.Str("extraInfo", fmt.Sprintf("%s %s 1500 0 0 broker-a %s %d", start[queue], popTime, queue, v.QueueOffset()))
		ack, err := c.Call(ctx, remoting.ReqAckMessage, f, nil)
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
