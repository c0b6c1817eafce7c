package e2e

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/test/harness"
)

// TestPopInOrderKilled pops in order from several connections, which now and then give up in the midst of what they
// have, while the server is killed over and over: nothing of a queue is handed out before everything in front of it was
// acknowledged, and all of it is in the end.
func TestPopInOrderKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	if harness.External() != "" {
		t.Skip("the server is not ours to kill")
	}
	const topic, group, queues, each, members, kills = "popordered", "popordered_g", 3, 100, 4, 3
	s := harness.Start(t, "--set", "brokerName=broker-a")
	w := harness.DialBroker(t, s.Broker)
	w.CreateTopic(topic, queues)
	w.CreateGroup(group)
	for i := range queues * each {
		w.Send(topic, i%queues, nil, fmt.Append(nil, i/queues), false)
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	book := &orderedBook{t: t, group: group, topic: topic, asked: make([]map[message.Offset]int, queues), last: make([]message.Offset, queues)}
	for q := range book.asked {
		book.asked[q] = map[message.Offset]int{}
	}
	var running sync.WaitGroup
	for i := range members {
		rng := rand.New(rand.NewSource(seed + int64(i)))
		running.Go(func() {
			for !book.done.Load() {
				book.consume(s.Broker, rng)
			}
		})
	}
	rng := rand.New(rand.NewSource(seed - 1))
	for range kills {
		time.Sleep(time.Duration(300+rng.Intn(700)) * time.Millisecond)
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(2 * time.Minute); book.count() < queues*each && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	book.done.Store(true)
	running.Wait()
	if n := book.count(); n != queues*each {
		t.Errorf("%d of %d messages were acknowledged", n, queues*each)
	}
	if book.gaveUp.Load() == 0 || book.again.Load() == 0 {
		t.Errorf("members gave up %d times, and %d messages came again: nothing was put to the test", book.gaveUp.Load(), book.again.Load())
	}
	t.Logf("%d times given up, %d messages came again", book.gaveUp.Load(), book.again.Load())
}

// orderedBook counts for each message of each queue the acknowledgements that were asked for and not refused.
type orderedBook struct {
	t             *testing.T
	group, topic  string
	done          atomic.Bool
	gaveUp, again atomic.Int64

	mu    sync.Mutex // guards what follows
	asked []map[message.Offset]int
	last  []message.Offset // behind the highest offset that was given
}

func (b *orderedBook) count() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.asked {
		for _, asked := range q {
			n += min(asked, 1)
		}
	}
	return n
}

// consume pops and acknowledges over one connection until it breaks.
func (b *orderedBook) consume(addr string, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := remoting.Dial(ctx, addr, remoting.ClientOptions{})
	if err != nil {
		time.Sleep(20 * time.Millisecond) // the server is being started again
		return
	}
	defer c.Close()
	for !b.done.Load() {
		f := popFields(b.group, b.topic, 8)
		f.Bool("order", true)
		ans, err := c.Call(ctx, remoting.ReqPopMessage, f, nil)
		if err != nil {
			return
		}
		if ans.Code == remoting.RespSuccess && !b.take(ctx, c, ans, rng) {
			return
		}
	}
}

// take looks at the order of what was popped and acknowledges it, all or the beginning. It tells whether the connection
// still works.
func (b *orderedBook) take(ctx context.Context, c *remoting.Client, ans *remoting.Answer, rng *rand.Rand) bool {
	views, handles, err := popped(ans)
	if err != nil {
		b.t.Error(err)
		return false
	}
	failed := map[int32]bool{} // queues of which the rest is given up
	for i, v := range views {
		b.mu.Lock()
		b.inOrderLocked(views[:i], v)
		b.mu.Unlock()
	}
	for i, v := range views {
		if q := v.QueueID(); failed[q] || rng.Intn(60) == 0 {
			failed[q] = true // as a handler that fails: what is behind it must not be done before it
			b.gaveUp.Add(1)
			continue
		}
		time.Sleep(time.Millisecond)
		b.ask(v, 1) // before the server knows: another member may be given the next at once
		ack, err := c.Call(ctx, remoting.ReqAckMessage, ackFields(b.group, b.topic, v, handles[i]), nil)
		if err != nil {
			return false // done or not, nobody knows
		}
		if ack.Code != remoting.RespSuccess {
			b.ask(v, -1) // it came too late
			failed[v.QueueID()] = true
		}
	}
	return true
}

func (b *orderedBook) ask(v message.View, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[v.QueueID()][v.QueueOffset()] += n
}

// inOrderLocked checks that everything in front of a message was acknowledged, or came before it in the same answer.
func (b *orderedBook) inOrderLocked(before []message.View, v message.View) {
	q, off := v.QueueID(), v.QueueOffset()
	if string(v.Body()) != fmt.Sprint(off) {
		b.t.Errorf("queue %d offset %d holds message %s", q, off, v.Body())
	}
	first := off
	for _, x := range before {
		if x.QueueID() == q {
			if x.QueueOffset() >= off {
				b.t.Errorf("queue %d: offset %d comes behind %d", q, off, x.QueueOffset())
			}
			first = min(first, x.QueueOffset())
		}
	}
	for o := range first {
		if b.asked[q][o] == 0 {
			b.t.Errorf("queue %d: offset %d is handed out, and %d before it is not acknowledged", q, off, o)
			return
		}
	}
	if off < b.last[q] {
		b.again.Add(1)
	}
	b.last[q] = max(b.last[q], off+1)
}
