package broker

import (
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// TestRedriveWaitsForWhatItCannotRead: what a killed process appended and did
// not note cannot be read for a while. The re-drive says so and waits, and in
// the end each dead letter was sent once.
func TestRedriveWaitsForWhatItCannotRead(t *testing.T) {
	const total = 12
	dir, mem := t.TempDir(), vfs.NewMem()
	if err := mem.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	var b *Broker
	var left *redriveCrash
	var from message.Position
	hook := func(what string) {
		if what != "append" || left != nil {
			return
		}
		from = must(b.Redrives("x"))[0].From
		x := redriveCrash{fsys: mem.CrashClone(rand.New(keepAll{})), kv: t.TempDir()}
		if err := os.CopyFS(x.kv, os.DirFS(filepath.Join(dir, "kv"))); err == nil { // else it was being written
			left = &x
		}
	}
	settings := func(s *Settings) {
		quickLevels(s)
		s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems, s.NoIndex = 1<<20, 100, 100, 400, true
		s.redriveBatch, s.redriveHook = 5, hook
	}
	b = openBrokerOn(t, dir, mem, settings)
	redriveTopics(t, b)
	die(t, b, "g", "orders", total, nil)
	must(b.Redrive(RedriveSpec{ID: "x", Group: "g", To: RedriveTopic, Topic: "other"}))
	waitRedrive(t, b, "x", RedriveDone)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if left == nil {
		t.Fatal("no crash could be taken")
	}
	if err := os.RemoveAll(filepath.Join(dir, "kv")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "kv"), os.DirFS(left.kv)); err != nil {
		t.Fatal(err)
	}
	var failing atomic.Bool
	faulty := vfs.NewFaulty(left.fsys)
	faulty.FailAll(vfs.KindMap, syscall.ENOMEM) // so that all is read from the file
	faulty.Inject(vfs.Rule{Kind: vfs.KindRead, Times: -1, Err: syscall.EIO, Match: func(op vfs.Op) bool {
		return failing.Load() && strings.Contains(op.Name, "commitlog") && op.Off >= int64(from)
	}})
	s := DefaultSettings()
	settings(s)
	b, err := Open(dir, Options{FS: faulty, Settings: s, StoreHost: testAddr,
		Events: Events{Store: store.Events{Recovered: func(store.Recovery) { failing.Store(true) }}}})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		r := must(b.Redrives("x"))[0]
		if strings.Contains(r.Waiting, "looking for what the re-drive x sent to other") {
			break
		}
		if r.State != RedriveRunning || time.Now().After(deadline) {
			t.Fatalf("it goes on though it cannot read what it sent: %+v", r)
		}
	}
	failing.Store(false)
	if r := waitRedrive(t, b, "x", RedriveDone); r.Sent != total {
		t.Errorf("%+v", r)
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if n := b.store.QueueMax("other", 0) + b.store.QueueMax("other", 1); n != total {
		t.Errorf("%d messages were sent, want %d", n, total)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
