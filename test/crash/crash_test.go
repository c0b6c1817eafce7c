package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/test/harness"
)

const (
	topic   = "crash"
	queues  = 4
	writers = 16
)

// TestKill9 runs rounds of: write from many producers, kill -9 at a random
// moment, start again, check. MERLIN_CRASH_ROUNDS sets how many rounds each
// flush mode gets (default 6), MERLIN_CRASH_SEED repeats the choices of a run.
//
// After each start no acknowledged message is lost, none is there twice under
// one offset, offsets are dense, and the index answers by key.
func TestKill9(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	if harness.External() != "" {
		t.Skip("the server is not ours to kill")
	}
	t.Cleanup(harness.Clean)
	rounds := number(t, "MERLIN_CRASH_ROUNDS", 6)
	seed := uint64(number(t, "MERLIN_CRASH_SEED", int(time.Now().UnixNano()&0xffffffff)))
	t.Logf("MERLIN_CRASH_SEED=%d MERLIN_CRASH_ROUNDS=%d repeats this run", seed, rounds)
	for i, mode := range []string{"SYNC_FLUSH", "ASYNC_FLUSH"} {
		t.Run(mode, func(t *testing.T) {
			s := harness.StartIn(t, t.TempDir(), "--set", "flushDiskType="+mode, "--set", "mappedFileSizeCommitLog=4194304",
				"--set", "mappedFileSizeConsumeQueue=20000", "--set", "maxHashSlotNum=1000", "--set", "maxIndexNum=4000")
			w := &world{t: t, server: s, mode: mode, acked: map[place]sent{}}
			for round := range rounds {
				w.round(round, roundRand(seed, i, round))
				if t.Failed() {
					t.Fatalf("round %d of seed %d", round, seed)
				}
			}
			w.check(nil, roundRand(seed, i, rounds)) // everything, not only what is new
			t.Logf("%s: %d rounds, %d acknowledged messages", mode, rounds, len(w.acked))
		})
	}
}

// roundRand is a round's own source: how much an earlier round drew depends on
// how many messages it could send, and must not change the choices of this one.
func roundRand(seed uint64, mode, round int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(mode)<<32|uint64(round)))
}

func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return n
}

type place struct {
	queue  int
	offset int64
}

// sent is what must be found again.
type sent struct {
	key  string
	body int // bytes
}

type world struct {
	t      *testing.T
	server *harness.Server
	mode   string

	mu    sync.Mutex // guards acked and again
	acked map[place]sent
	again []string // offsets that were given twice

	seen [queues]int64 // offsets below were checked in an earlier round
}

// round writes, kills, starts and checks.
func (w *world) round(n int, rng *rand.Rand) {
	pause := time.Duration(20+rng.IntN(900)) * time.Millisecond
	if rng.IntN(5) == 0 {
		pause += 3 * time.Second // over a checkpoint
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range writers {
		local := rand.New(rand.NewPCG(rng.Uint64(), 0))
		wg.Go(func() { w.write(ctx, fmt.Sprintf("%s-%d-%d", w.mode, n, i), local) })
	}
	time.Sleep(pause)
	if err := w.server.Kill(); err != nil {
		w.t.Error(err)
	}
	cancel()
	wg.Wait()
	began := time.Now()
	if err := w.server.Restart(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("round %d: killed after %v, ready after %v, %d acknowledged", n, pause, time.Since(began).Round(time.Millisecond), len(w.acked))
	w.check(&w.seen, rng)
}

// write sends until the server is gone, and keeps what was acknowledged.
func (w *world) write(ctx context.Context, name string, rng *rand.Rand) {
	c, err := remoting.Dial(ctx, w.server.Broker, remoting.ClientOptions{})
	if err != nil {
		return // killed already
	}
	defer c.Close()
	for i := 0; ctx.Err() == nil; i++ {
		key, queue := fmt.Sprintf("%s-%d", name, i), rng.IntN(queues)
		size := 1 + rng.IntN(2000)
		if rng.IntN(50) == 0 {
			size = 200_000
		}
		props := message.Properties(nil).Append(message.PropKeys, key).Append(message.PropTags, "crash")
		ans, err := c.Do(ctx, remoting.ReqSendMessageV2, harness.SendFields(topic, queue, queues, props), body(key, size))
		if err != nil {
			var refused *remoting.CodeError
			if errors.As(err, &refused) && ctx.Err() == nil {
				w.t.Errorf("%s: %v", key, err)
			}
			return
		}
		offset, err := harness.Number(ans, "queueOffset")
		if err != nil {
			w.t.Errorf("%s: the answer's queueOffset: %v", key, err)
			return
		}
		at := place{queue, offset}
		w.mu.Lock()
		if other, twice := w.acked[at]; twice {
			w.again = append(w.again, fmt.Sprintf("queue %d offset %d: %s and %s", queue, offset, other.key, key))
		}
		w.acked[at] = sent{key, size}
		w.mu.Unlock()
	}
}

// body is a key, repeated.
func body(key string, size int) []byte {
	return bytes.Repeat([]byte(key+" "), size/(len(key)+1)+1)[:size]
}

// check reads the queues from `from` on (nil: from the beginning) and compares.
func (w *world) check(from *[queues]int64, rng *rand.Rand) {
	for _, twice := range w.again {
		w.t.Errorf("given twice: %s", twice)
	}
	c := harness.DialBroker(w.t, w.server.Broker)
	defer c.Close()
	var ends [queues]int64
	for q := range queues {
		start := int64(0)
		if from != nil {
			start = from[q]
		}
		ends[q] = c.Read(topic, q, start, func(offset int64, v message.View) { w.compare(q, offset, v) })
	}
	w.mu.Lock()
	var sample []sent
	for at, s := range w.acked {
		if at.offset >= ends[at.queue] {
			w.t.Errorf("lost: %s was acknowledged at queue %d offset %d, and the queue ends at %d", s.key, at.queue, at.offset, ends[at.queue])
		}
		if rng.IntN(len(w.acked)/20+1) == 0 {
			sample = append(sample, s)
		}
	}
	w.mu.Unlock()
	for _, s := range sample {
		if found := c.Find(topic, s.key); found != 1 {
			w.t.Errorf("the key %s finds %d messages, want 1", s.key, found)
		}
	}
	if from != nil {
		*from = ends
	}
}

// compare checks one stored message. One that was not acknowledged may be
// there or not, but it must be whole.
func (w *world) compare(queue int, offset int64, v message.View) {
	w.mu.Lock()
	want, acked := w.acked[place{queue, offset}]
	w.mu.Unlock()
	key := v.Properties().Value(message.PropKeys)
	switch {
	case acked && want.key != key:
		w.t.Errorf("queue %d offset %d was acknowledged to %s and holds %s", queue, offset, want.key, key)
	case acked && want.body != v.BodySize():
		w.t.Errorf("%s has a body of %d bytes, want %d", key, v.BodySize(), want.body)
	case !bytes.Equal(v.Body(), body(key, v.BodySize())):
		w.t.Errorf("queue %d offset %d: the body is not that of %s", queue, offset, key)
	}
}
