package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// TestNoPowerCutLosesWhatPopsBury cuts the power while popped messages go to
// the dead letters, with a log that is not fsynced by itself: each of them is
// handed out or dead afterwards.
func TestNoPowerCutLosesWhatPopsBury(t *testing.T) {
	const total = 3
	dir := t.TempDir()
	mem := vfs.NewMem()
	if err := mem.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.NewFaulty(mem)
	settings := func(s *Settings) {
		quickLevels(s)
		s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems, s.NoIndex = 1<<16, 100, 100, 400, true
		s.FlushEvery, s.OffsetFlushEvery = time.Hour, time.Hour
	}
	var mu sync.Mutex
	var crashes []popCrash
	crash := func(when string) {
		mu.Lock()
		defer mu.Unlock()
		c := popCrash{when: when, fsys: mem.CrashClone(nil), kv: filepath.Join(t.TempDir(), "kv")}
		if err := os.CopyFS(c.kv, os.DirFS(filepath.Join(dir, "kv"))); err == nil { // else it was being written
			crashes = append(crashes, c)
		}
	}
	b := openBrokerOn(t, dir, faulty, settings)
	cfg := DefaultGroupConfig("g")
	cfg.RetryMaxTimes = 0
	if err := b.UpdateGroups(cfg); err != nil {
		t.Fatal(err)
	}
	for i := range total {
		mustSend(t, b, request("orders", fmt.Sprint(i), ""))
	}
	if err := b.store.Sync(); err != nil {
		t.Fatal(err)
	}
	r := popRequest("g")
	r.Invisible = time.Millisecond
	if list := popOnce(t, b, r); len(list) != total {
		t.Fatalf("%v", list)
	}
	faulty.Hook(func(op vfs.Op) {
		if op.Kind == vfs.KindSync {
			crash("before the fsync of " + filepath.Base(op.Name))
		}
	})
	for deadline := time.Now().Add(30 * time.Second); b.PopQueues("g")[0].InFlight > 0; b.sweepPops() {
		if time.Now().After(deadline) {
			t.Fatal("they are still handed out")
		}
	}
	if err := b.PopsSafe(); err != nil {
		t.Fatal(err)
	}
	faulty.Hook(nil)
	crash("after all is acknowledged")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range crashes {
		checkBuried(t, dir, &crashes[i], settings, total)
	}
	t.Logf("%d crashes", len(crashes))
}

// checkBuried opens what a crash left and waits until all is dead.
func checkBuried(t *testing.T, dir string, c *popCrash, settings func(*Settings), total int) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, "kv")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "kv"), os.DirFS(c.kv)); err != nil {
		t.Fatal(err)
	}
	s := DefaultSettings()
	settings(s)
	b, err := Open(dir, Options{FS: c.fsys, Settings: s, StoreHost: testAddr, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if err != nil {
		t.Fatalf("%s: %v", c.when, err)
	}
	defer b.Close()
	dead := map[string]bool{}
	for deadline := time.Now().Add(30 * time.Second); len(dead) < total; b.sweepPops() {
		out := 0
		for _, q := range b.PopQueues("g") {
			out += q.InFlight
		}
		if err := b.eachDead(message.DLQTopic("g"), 0, b.store.QueueMax(message.DLQTopic("g"), 0), func(d *deadView) bool {
			dead[string(d.Body())] = true
			return true
		}); err != nil {
			t.Fatalf("%s: %v", c.when, err)
		}
		if out+len(dead) < total || time.Now().After(deadline) {
			t.Errorf("%s: %d are handed out and %v are dead, of %d", c.when, out, dead, total)
			return
		}
	}
}
