package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// stall sends, then fills the disk for the index and sends until the store
// refuses. It returns the bodies of what was taken.
func stall(t *testing.T, faulty *vfs.Faulty, s *Store) (taken []string) {
	t.Helper()
	for i := range 200 {
		taken = append(taken, fmt.Sprintf("first %0300d", i))
		mustPut(t, s, text("t", 0, taken[i], "KEYS", "first"))
	}
	mustSee(t, s)
	faulty.Inject(vfs.Rule{Kind: vfs.KindAllocate, Match: func(op vfs.Op) bool { return strings.Contains(op.Name, indexFolder) }, Err: syscall.ENOSPC})
	for i := range 100_000 {
		body := fmt.Sprintf("%0300d", i)
		_, err := s.Put(text("t", 0, body, "KEYS", fmt.Sprint("k", i)))
		if errors.Is(err, ErrNoSpace) {
			return taken
		}
		check(t, err)
		taken = append(taken, body)
	}
	t.Fatal("the disk was never full")
	return nil
}

// within fails the test when fn does not return.
func within(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s does not return", what)
	}
}

// TestRetentionOnAFullDisk: what drops segments asks the store for what waits
// in them, while the dispatcher waits for the room that it would make.
func TestRetentionOnAFullDisk(t *testing.T) {
	inner := vfs.NewMem()
	faulty := vfs.NewFaulty(inner)
	o := small(faulty)
	const waits = message.Position(40_000) // something must be kept from here on
	var s *Store
	o.BeforeDrop = func(upto message.Position) error {
		if err := s.Sync(); err != nil && upto > waits {
			return err
		}
		return nil
	}
	s = mustOpen(t, o)
	taken := stall(t, faulty, s)
	within(t, "DropBefore", func() {
		n, err := s.DropBefore(1 << 40)
		if n != 2 || !errors.Is(err, ErrNoSpace) || s.Min() != 32<<10 {
			t.Errorf("DropBefore: %d segments, the log begins at %d: %v", n, s.Min(), err)
		}
	})
	equal(t, "failed", s.Failed(), nil)
	faulty.Clear()
	for {
		_, err := s.Put(text("t", 0, "after"))
		if err == nil {
			break
		}
		if !errors.Is(err, ErrNoSpace) {
			t.Fatal(err)
		}
	}
	mustSee(t, s)
	got := readAll(t, s, "t", 0)
	if n := len(got); n == 0 || got[n-1] != "after" || got[n-2] != taken[len(taken)-1] {
		t.Errorf("%d messages can be read of %d", n, len(taken))
	}
	if n, err := s.DropBefore(1 << 40); n == 0 || err != nil {
		t.Errorf("DropBefore with room: %d segments, %v", n, err)
	}
	mustClose(t, s)
}

// TestCloseOnAFullDisk: Close does not wait for room, nor does who waits for
// the store; the next start has everything.
func TestCloseOnAFullDisk(t *testing.T) {
	inner := vfs.NewMem()
	faulty := vfs.NewFaulty(inner)
	s := mustOpen(t, small(faulty))
	taken := stall(t, faulty, s)
	within(t, "WaitVisible", func() {
		if err := s.WaitVisible(); !errors.Is(err, ErrNoSpace) {
			t.Errorf("WaitVisible: %v", err)
		}
	})
	within(t, "Close", func() {
		if err := s.Close(); err == nil {
			t.Error("Close has dispatched everything on a full disk")
		}
	})
	s = mustOpen(t, small(inner))
	equal(t, "after a restart", fmt.Sprint(readAll(t, s, "t", 0)), fmt.Sprint(taken))
	mustClose(t, s)
}

// TestMissingFirstSegmentAfterRetention: what retention has dropped is not
// missed after a kill, before the next checkpoint; what somebody else removed
// is.
func TestMissingFirstSegmentAfterRetention(t *testing.T) {
	fsys := vfs.NewMem()
	faulty := vfs.NewFaulty(fsys)
	s := mustOpen(t, small(faulty))
	for i := range 400 {
		mustPut(t, s, text("t", 0, fmt.Sprintf("%0300d", i)))
	}
	mustSee(t, s)
	check(t, s.checkpoint(true, false))
	var between *vfs.Mem // the first segment is gone, the second is not yet
	faulty.Hook(func(op vfs.Op) {
		if op.Kind == vfs.KindRemove && strings.HasSuffix(op.Name, "16384") {
			between = killed(fsys)
		}
	})
	n, err := s.DropBefore(50_000)
	if n != 3 || err != nil {
		t.Fatalf("DropBefore: %d %v", n, err)
	}
	faulty.Hook(nil)
	after := killed(fsys)
	mustClose(t, s)
	for _, left := range []*vfs.Mem{between, after, fsys} {
		again := killed(left)
		s = mustOpen(t, small(left))
		if got := readAll(t, s, "t", 0); len(got) < 200 {
			t.Errorf("%d messages can be read", len(got))
		}
		mustClose(t, s)
		check(t, again.Remove(files(t, again, "/data/commitlog")[0]))
		if left == between { // of which the last two that retention wanted are left
			check(t, again.Remove(files(t, again, "/data/commitlog")[0]))
			check(t, again.Remove(files(t, again, "/data/commitlog")[0]))
		}
		before := fmt.Sprint(files(t, again, "/data/commitlog"), files(t, again, "/data/consumequeue/t/0"))
		if _, err := Open("/data", small(again)); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "00000000000000049152") {
			t.Errorf("Open: %v", err)
		}
		equal(t, "what a refused start leaves", fmt.Sprint(files(t, again, "/data/commitlog"), files(t, again, "/data/consumequeue/t/0")), before)
	}
}

// TestStartOnAFullDisk: a start that is refused leaves no sign of another
// broker; the next one believes the mark and reads no log.
func TestStartOnAFullDisk(t *testing.T) {
	for _, kind := range []vfs.Kind{vfs.KindWrite, vfs.KindSync} {
		fsys, _ := filled(t, true)
		faulty := vfs.NewFaulty(fsys)
		faulty.Inject(vfs.Rule{Kind: kind, Match: func(op vfs.Op) bool { return strings.HasSuffix(op.Name, abortFile) }, Err: syscall.ENOSPC, Short: true})
		if _, err := Open("/data", small(faulty)); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/data/abort") {
			t.Errorf("Open: %v", err)
		}
		if _, err := fsys.Stat("/data/abort"); err == nil {
			t.Error("a half-written abort is left")
		}
		o := small(fsys)
		var found Recovery
		o.Events.Recovered = func(r Recovery) { found = r }
		s := mustOpen(t, o)
		if !found.Clean || !found.Exact || found.Dispatched != 0 {
			t.Errorf("the next start: %+v", found)
		}
		mustClose(t, s)
	}
}

// TestCheckpointOnAFullDisk: that checkpoints find no room is told once, until
// one is written again.
func TestCheckpointOnAFullDisk(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	told, written := make(chan error, 100), make(chan struct{}, 1000)
	o := small(faulty)
	o.CheckpointEvery = time.Millisecond
	o.Events.Uncheckpointed = func(err error) { told <- err }
	o.Events.Checkpointed = func(message.Position, time.Duration) {
		select {
		case written <- struct{}{}:
		default:
		}
	}
	s := mustOpen(t, o)
	for round := range 2 {
		tries := 0
		seen := make(chan struct{})
		faulty.Inject(vfs.Rule{Match: func(op vfs.Op) bool {
			if !op.Changes() || filepath.Base(op.Name) != markFile {
				return false
			}
			if tries++; tries == 3 {
				close(seen)
			}
			return true
		}, Err: syscall.ENOSPC})
		mustPut(t, s, text("t", 0, fmt.Sprint("x", round)))
		mustSee(t, s)
		within(t, "the third checkpoint", func() { <-seen })
		if err := <-told; !errors.Is(err, ErrNoSpace) && !isNoSpace(err) {
			t.Errorf("told %v", err)
		}
		faulty.Clear()
		for len(written) > 0 {
			<-written
		}
		within(t, "a checkpoint with room", func() { <-written })
		if n := len(told); n != 0 {
			t.Errorf("told %d times more", n)
		}
	}
	equal(t, "failed", s.Failed(), nil)
	mustClose(t, s)
}
