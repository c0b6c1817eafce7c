package broker

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// keepAll is a source that lets CrashClone keep everything: a process that is
// killed, and not the machine.
type keepAll struct{}

func (keepAll) Int63() int64 { return 1 << 62 }
func (keepAll) Seed(int64)   {}

// redriveCrash is what a crash leaves.
type redriveCrash struct {
	when string
	fsys *vfs.Mem
	kv   string // a copy of the database
}

// crashRecorder takes what crashes leave, and sends something else to the
// target topics between the steps.
type crashRecorder struct {
	t   *testing.T
	dir string
	rng *rand.Rand

	mu      sync.Mutex // guards what follows
	mem     *vfs.Mem
	broker  *Broker
	crashes []redriveCrash
	steps   int
	every   int
}

func (c *crashRecorder) step(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps++
	if c.broker != nil && what != "append" {
		s := c.broker.NewSender()
		s.Add(request([]string{"one", "two"}[c.steps%2], "noise", ""))
		if err := s.Commit()[0].Err; err != nil {
			c.t.Error(err)
		}
	}
	if c.steps%c.every != 0 {
		return
	}
	for kind, rng := range map[string]*rand.Rand{"power cut": nil, "torn power cut": c.rng, "kill": rand.New(keepAll{})} {
		x := redriveCrash{when: fmt.Sprintf("%s after %s, step %d", kind, what, c.steps), fsys: c.mem.CrashClone(rng), kv: c.t.TempDir()}
		if err := os.CopyFS(x.kv, os.DirFS(filepath.Join(c.dir, "kv"))); err != nil {
			continue // it was being written
		}
		c.crashes = append(c.crashes, x)
	}
}

// TestRedriveIsExactAcrossCrashes ends the machine or the process after each
// part of each step of a re-drive, and some of those that go on once more: each
// dead letter is sent once, and those without a topic are told.
func TestRedriveIsExactAcrossCrashes(t *testing.T) {
	const total = 48
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	c := &crashRecorder{t: t, dir: t.TempDir(), rng: rand.New(rand.NewSource(seed)), mem: vfs.NewMem(), every: 1}
	if testing.Short() {
		c.every = 3
	}
	settings := func(s *Settings) {
		quickLevels(s)
		s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems, s.NoIndex = 1<<16, 100, 100, 400, true
		s.FlushEvery, s.OffsetFlushEvery = time.Hour, time.Hour
		s.redriveBatch, s.redriveHook = 5, c.step
	}
	b := openBrokerOn(t, c.dir, c.mem, settings)
	for _, topic := range []string{"one", "two"} {
		if err := b.topics.Update(TopicConfig{Name: topic, ReadQueues: 2, WriteQueues: 2, Perm: PermRead | PermWrite}); err != nil {
			t.Fatal(err)
		}
	}
	die(t, b, "g", "", total, func(i int) []string {
		return []string{message.PropRetryTopic, []string{"one", "two", "one", "nowhere"}[i%4], message.PropTags, []string{"T", "U", "T"}[i%3]}
	})
	if _, err := b.groups.AutoCreate("g"); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.broker = b
	c.mu.Unlock()
	if _, err := b.Redrive(RedriveSpec{ID: "r1", Group: "g", Filter: DeadFilter{Tag: "T"}}); err != nil {
		t.Fatal(err)
	}
	checkRedriven(t, b, "without a crash", total)
	c.mu.Lock()
	crashes := c.crashes
	c.broker = nil
	c.mu.Unlock()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 10 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	again := 0
	for i, x := range crashes {
		c.mu.Lock()
		c.mem, c.crashes, c.steps, c.every = x.fsys, nil, 0, 1+c.rng.Intn(6)
		c.mu.Unlock()
		c.resume(&x, settings, total)
		if i%4 != 0 || t.Failed() {
			continue
		}
		c.mu.Lock()
		later := c.crashes
		c.mu.Unlock()
		if len(later) > 0 {
			y := later[c.rng.Intn(len(later))]
			y.when = x.when + ", then " + y.when
			c.mu.Lock()
			c.mem, c.crashes, c.every = y.fsys, nil, 1000
			c.mu.Unlock()
			c.resume(&y, settings, total)
			again++
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d crashes, and %d more of what went on", len(crashes), again)
}

// resume opens what a crash left and waits for the end of the re-drive.
func (c *crashRecorder) resume(x *redriveCrash, settings func(*Settings), total int) {
	c.t.Helper()
	kv := filepath.Join(c.dir, "kv")
	if err := os.RemoveAll(kv); err != nil {
		c.t.Fatal(err)
	}
	if err := os.CopyFS(kv, os.DirFS(x.kv)); err != nil {
		c.t.Fatal(err)
	}
	b := openBrokerOn(c.t, c.dir, x.fsys, settings)
	checkRedriven(c.t, b, x.when, total)
	if err := b.Close(); err != nil {
		c.t.Errorf("%s: Close: %v", x.when, err)
	}
}

// checkRedriven waits until the re-drive is done and counts what it sent.
func checkRedriven(t *testing.T, b *Broker, when string, total int) {
	t.Helper()
	s := waitRedrive(t, b, "r1", RedriveDone)
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	n := map[int]int{}
	for _, topic := range []string{"one", "two"} {
		for q := range int32(2) {
			for off := b.store.QueueMin(topic, q); off < b.store.QueueMax(topic, q); off++ {
				v, err := b.store.RecordAt(topic, q, off)
				if err != nil {
					continue // it was not safe, and the crash took it
				}
				if p := v.Properties(); p.Value(PropRedrive) == "r1" {
					i, err := strconv.Atoi(p.Value(PropRedriveOffset))
					if err != nil || string(v.Body()) != p.Value(PropRedriveOffset) {
						t.Errorf("%s: %q says that it is %q", when, v.Body(), p.Value(PropRedriveOffset))
					}
					n[i]++
				}
			}
		}
	}
	var sent, skipped, failed int64
	for i := range total {
		want := 1
		switch {
		case i%3 == 1:
			want = 0
			skipped++
		case i%4 == 3:
			want = 0
			failed++
		default:
			sent++
		}
		if n[i] != want {
			t.Errorf("%s: dead letter %d was sent %d times, want %d", when, i, n[i], want)
		}
	}
	if s.Sent != sent || s.Skipped != skipped || s.Failed != failed || s.Gone != 0 || s.Next != message.Offset(total) {
		t.Errorf("%s: the re-drive says %+v; want %d sent, %d skipped, %d failed", when, s, sent, skipped, failed)
	}
	results, err := b.RedriveResults("r1", 0, 0)
	if err != nil || len(results.Results) != int(sent+failed) || results.More {
		t.Errorf("%s: %d results, %v", when, len(results.Results), err)
	}
	for _, r := range results.Results {
		if r.Status == "sent" && (r.UniqueKey != fmt.Sprint("U", r.Offset) || r.ID == "") || r.Status == "failed" && r.Error == "" {
			t.Errorf("%s: the result %+v", when, r)
		}
	}
}

// waitRedrive waits until a re-drive has a state.
func waitRedrive(t *testing.T, b *Broker, id string, want RedriveState) Redrive {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		list, err := b.Redrives(id)
		if err != nil {
			t.Fatal(err)
		}
		if list[0].State == want {
			return list[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("the re-drive is %+v, want %s", list[0], want)
		}
	}
}

// TestRedriveMeetsAFullDisk: it waits while nothing can be written, and goes on
// by itself without a message twice.
func TestRedriveMeetsAFullDisk(t *testing.T) {
	dir := t.TempDir()
	mem := vfs.NewMem()
	if err := mem.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.NewFaulty(mem)
	b := openBrokerOn(t, dir, faulty, func(s *Settings) {
		quickLevels(s)
		s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems, s.NoIndex = 1<<16, 100, 100, 400, true
		s.redriveBatch = 8
		s.DiskWarning.Store(100)
	})
	redriveTopics(t, b)
	die(t, b, "g", "orders", 100, func(int) []string { return []string{"fill", strings.Repeat("x", 3000)} })
	faulty.SetBudget(200 << 10)
	if _, err := b.Redrive(RedriveSpec{ID: "x", Group: "g", To: RedriveTopic, Topic: "other"}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); must(b.Redrives("x"))[0].Waiting == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a full disk is not told: %+v", must(b.Redrives("x")))
		}
	}
	s := must(b.Redrives("x"))[0]
	if s.State != RedriveRunning || s.Sent == 100 || s.From != message.NoPosition {
		t.Errorf("%+v", s)
	}
	faulty.SetBudget(0)
	if s = waitRedrive(t, b, "x", RedriveDone); s.Sent != 100 || s.Failed+s.Gone != 0 {
		t.Errorf("%+v", s)
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, m := range pullAll(t, b, "other", 0, 100) {
		seen[string(m.Body)]++
	}
	if len(seen) != 100 || b.store.QueueMax("other", 0) != 100 {
		t.Errorf("%d of 100 came, %d messages in all", len(seen), b.store.QueueMax("other", 0))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
