package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// filled returns a folder with 400 messages in 4 queues, as a killed process
// leaves it, or as Close does.
func filled(t tester, clean bool) (*vfs.Mem, *model) {
	t.Helper()
	fsys := vfs.NewMem()
	s := mustOpen(t, small(fsys))
	m := &model{}
	b := s.NewBatch()
	for i := range 400 {
		b.Reset()
		msg := text(fmt.Sprint("t", i%2), int32(i/2%2), fmt.Sprintf("%0300d", i), "KEYS", fmt.Sprint("k", i))
		if err := b.Add(msg); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(b); err != nil {
			t.Fatal(err)
		}
		m.note(b, []*message.Message{msg})
		if i == 200 {
			mustSee(t, s)
			if err := s.checkpoint(false, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustSee(t, s)
	left := killed(fsys)
	mustClose(t, s)
	if clean {
		left = fsys
	}
	return left, m
}

func overwrite(t tester, fsys vfs.FS, name string, at int64, data []byte) {
	t.Helper()
	f, err := fsys.Open(name, true)
	if err == nil {
		if at < 0 {
			var size int64
			size, err = f.Size()
			at += size
		}
		if err == nil {
			_, err = f.WriteAt(data, at)
		}
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func files(t tester, fsys vfs.FS, dir string) (names []string) {
	t.Helper()
	list, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, filepath.Join(dir, e.Name()))
	}
	return names
}

// TestDamage breaks one thing of a folder and says what survives: everything
// (nothing is lost from the queues, nor from the index), all but `lost`
// messages, or an error that tells what to do.
func TestDamage(t *testing.T) {
	ones := []byte(strings.Repeat("\xff", 64))
	rows := []struct {
		name  string
		do    func(t *testing.T, fs *vfs.Mem)
		lost  int    // messages that cannot be read any more
		told  string // what Events.Damaged or the error must name
		err   error  // of Open
		clean bool   // only in a folder that was closed in order
		// unmet: a start after a close in order does not read that far. It tells
		// nothing, and readers are given all that is there.
		unmet bool
	}{
		{name: "nothing", do: func(*testing.T, *vfs.Mem) {}},
		{name: "no queues", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.RemoveAll("/data/consumequeue")) }, told: "consumequeue"},
		{name: "one queue missing", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.RemoveAll("/data/consumequeue/t1/0")) }, told: "consumequeue"},
		{name: "one topic missing", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.RemoveAll("/data/consumequeue/t0")) }, told: "consumequeue"},
		{name: "the only file of a queue missing", do: func(t *testing.T, fs *vfs.Mem) {
			for _, name := range files(t, fs, "/data/consumequeue/t1/0") {
				check(t, fs.Remove(name))
			}
		}, told: "consumequeue"},
		{name: "the first file of a queue missing", clean: true, do: func(t *testing.T, fs *vfs.Mem) {
			check(t, fs.Remove(files(t, fs, "/data/consumequeue/t1/0")[0]))
		}, told: "/data/consumequeue/t1/0/00000000000000000000: the file is not there"},
		{name: "a middle file of a queue missing", clean: true, do: func(t *testing.T, fs *vfs.Mem) {
			check(t, fs.Remove(files(t, fs, "/data/consumequeue/t0/1")[1]))
		}, told: "the file is not there"},
		{name: "the last file of a queue missing", clean: true, do: func(t *testing.T, fs *vfs.Mem) {
			names := files(t, fs, "/data/consumequeue/t0/1")
			check(t, fs.Remove(names[len(names)-1]))
		}, told: "the file is not there"},
		{name: "a queue file cut short", clean: true, do: func(t *testing.T, fs *vfs.Mem) {
			f, err := fs.Open(files(t, fs, "/data/consumequeue/t0/1")[0], true)
			check(t, err)
			check(t, errors.Join(f.Truncate(500), f.Close()))
		}, told: "the file has 500 bytes and not 1280"},
		{name: "no index", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.RemoveAll("/data/index")) }, told: "index"},
		{name: "index cut short", do: func(t *testing.T, fs *vfs.Mem) {
			f, err := fs.Open(files(t, fs, "/data/index")[0], true)
			check(t, err)
			check(t, errors.Join(f.Truncate(500), f.Close()))
		}, told: "index"},
		{name: "index header damaged", do: func(t *testing.T, fs *vfs.Mem) { overwrite(t, fs, files(t, fs, "/data/index")[0], 0, ones) }, told: "index"},
		{name: "no checkpoint", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.Remove("/data/checkpoint")) }},
		{name: "checkpoint from the future", do: func(t *testing.T, fs *vfs.Mem) {
			c := checkpoint{logTime: 1 << 60, queueTime: 1 << 60, indexTime: 1 << 60, confirmed: 1 << 60, queuePosition: 1 << 60}
			overwrite(t, fs, "/data/checkpoint", 0, c.encode())
		}},
		{name: "checkpoint from the future and no mark", do: func(t *testing.T, fs *vfs.Mem) {
			c := checkpoint{logTime: 1 << 60, queueTime: 1 << 60, indexTime: 1 << 60, confirmed: 1 << 60, queuePosition: 1 << 60}
			overwrite(t, fs, "/data/checkpoint", 0, c.encode())
			check(t, fs.Remove("/data/merlin.mark"))
		}, told: "/data/checkpoint: it names position 1152921504606846976, which is behind the end of the log; all of the log is read", unmet: true},
		{name: "no mark", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.Remove("/data/merlin.mark")) }},
		{name: "mark damaged", do: func(t *testing.T, fs *vfs.Mem) {
			overwrite(t, fs, "/data/merlin.mark", 0, ones)
			overwrite(t, fs, "/data/merlin.mark", markPage, ones)
		}},
		{name: "snapshot damaged", clean: true, do: func(t *testing.T, fs *vfs.Mem) { overwrite(t, fs, "/data/merlin.queues", 20, ones) }},
		{name: "used by Apache since", do: func(t *testing.T, fs *vfs.Mem) {
			f, err := fs.Create("/data/abort")
			if err == nil {
				err = f.Close()
			}
			_ = err // there already after a kill
			f, err = fs.Open("/data/abort", true)
			check(t, err)
			check(t, f.Truncate(0))
			_, err = f.WriteAt([]byte("4532"), 0)
			check(t, errors.Join(err, f.Close()))
		}},
		{name: "queue longer than the log", do: func(t *testing.T, fs *vfs.Mem) {
			// The last row of its last file leads behind the end.
			names := files(t, fs, "/data/consumequeue/t0/0")
			overwrite(t, fs, names[len(names)-1], -20, []byte("\x00\x00\x00\x00\x00\x7f\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		}},
		{name: "a record's body damaged", lost: 1, told: "/data/commitlog/00000000000000131072: positions 13", unmet: true, do: func(t *testing.T, fs *vfs.Mem) {
			overwrite(t, fs, files(t, fs, "/data/commitlog")[8], 1000, ones)
		}},
		{name: "the last segment missing", do: func(t *testing.T, fs *vfs.Mem) {
			names := files(t, fs, "/data/commitlog")
			for _, name := range names[3:] {
				check(t, fs.Remove(name))
			}
		}, err: ErrMissing, told: "00000000000000049152"},
		{name: "a segment missing", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.Remove(files(t, fs, "/data/commitlog")[1])) }, err: ErrMissing, told: "00000000000000016384"},
		{name: "the first segment missing", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.Remove(files(t, fs, "/data/commitlog")[0])) }, err: ErrMissing, told: "00000000000000000000"},
		{name: "no log", do: func(t *testing.T, fs *vfs.Mem) { check(t, fs.RemoveAll("/data/commitlog")) }, err: ErrMissing, told: "commitlog"},
		{name: "a newer format", do: func(t *testing.T, fs *vfs.Mem) { newerMark(t, fs) }, err: ErrFormat, told: "newer Merlin"},
	}
	for _, row := range rows {
		for _, clean := range []bool{false, true} {
			if row.clean && !clean {
				continue
			}
			t.Run(fmt.Sprintf("%s/clean=%v", strings.ReplaceAll(row.name, " ", "-"), clean), func(t *testing.T) {
				fsys, m := filled(t, clean)
				row.do(t, fsys)
				o := small(fsys)
				told := ""
				o.Events.Damaged = func(file string, err error) { told += file + ": " + err.Error() + "\n" }
				skipped := 0
				o.Events.Skipped = func(e *RecordError) { skipped++ }
				s, err := Open("/data", o)
				if row.err != nil {
					if !errors.Is(err, row.err) || !strings.Contains(err.Error(), row.told) {
						t.Fatalf("Open: %v", err)
					}
					o.AcceptLoss = true
					if s, err = Open("/data", o); errors.Is(row.err, ErrMissing) && err != nil {
						t.Fatalf("Open with AcceptLoss: %v", err)
					} else if err == nil {
						mustPut(t, s, text("t0", 0, "after"))
						mustClose(t, s)
					}
					return
				}
				if err != nil {
					t.Fatalf("Open: %v", err)
				}
				lost, want := row.lost, row.told
				if clean && row.unmet {
					lost, want = 0, ""
				}
				if !strings.Contains(told, want) || want == "" && told != "" {
					t.Errorf("told %q, want %q", told, want)
				}
				n := 0
				for _, p := range []place{{"t0", 0}, {"t0", 1}, {"t1", 0}, {"t1", 1}} {
					n += len(readAll(t, s, p.topic, p.queue))
				}
				equal(t, "messages that can be read", n, 400-lost)
				if row.lost == 0 {
					m.check(t, s, s.Max(), true)
				}
				equal(t, "skipped", skipped, 0)
				mustPut(t, s, text("t0", 0, "after"))
				mustClose(t, s)
				mustClose(t, mustOpen(t, small(fsys)))
			})
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newerMark(t *testing.T, fsys vfs.FS) {
	m := mark{number: 1 << 40}
	b := m.encode()
	b[11] = 2
	sum := castagnoliSum(b[:92])
	copy(b[92:], sum[:])
	overwrite(t, fsys, "/data/merlin.mark", 0, b)
}

// TestFlushFailureIsSticky: after a failed fsync nothing is taken and nothing
// is called safe; a restart has what is really there.
func TestFlushFailureIsSticky(t *testing.T) {
	for _, sync := range []bool{false, true} {
		inner := vfs.NewMem()
		faulty := vfs.NewFaulty(inner)
		o := small(faulty)
		o.SyncFlush = sync
		var failed error
		told := make(chan struct{})
		o.Events.Failed = func(err error) { failed = err; close(told) }
		s := mustOpen(t, o)
		mustPut(t, s, text("t", 0, "before"))
		mustSee(t, s)
		check(t, s.log.Flush())
		faulty.Inject(vfs.Rule{Kind: vfs.KindSync, Match: func(op vfs.Op) bool { return strings.Contains(op.Name, logFolder) }, Err: syscall.EIO})
		_, err := s.Put(text("t", 0, "lost"))
		if sync && !errors.Is(err, ErrFailed) {
			t.Errorf("Put: %v", err)
		}
		if err := s.log.Flush(); err == nil {
			t.Error("Flush worked")
		}
		<-told
		if !errors.Is(failed, ErrFailed) || !errors.Is(failed, syscall.EIO) {
			t.Errorf("told %v", failed)
		}
		faulty.Clear()
		if _, err := s.Put(text("t", 0, "refused")); !errors.Is(err, ErrFailed) || !errors.Is(s.Writable(), ErrFailed) {
			t.Errorf("Put after the failure: %v, Writable %v", err, s.Writable())
		}
		r, err := s.Get(&GetQuery{Topic: "t", MaxCount: 1}, nil)
		if err != nil || r.Status != GetFound {
			t.Errorf("Get after the failure: %v %v", r.Status, err)
		}
		if sync {
			equal(t, "visible", s.QueueMax("t", 0), 1)
		}
		if err := s.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("Close: %v", err)
		}
		s = mustOpen(t, small(inner.CrashClone(nil)))
		equal(t, "after a power cut", fmt.Sprint(readAll(t, s, "t", 0)), "[before]")
		mustClose(t, s)
	}
}

// TestRestartAfterAFailedWriteback: the kernel shows what it failed to write,
// and calls it clean. What a restart believes must outlive a power cut.
func TestRestartAfterAFailedWriteback(t *testing.T) {
	for _, sync := range []bool{false, true} {
		inner := vfs.NewMem()
		faulty := vfs.NewFaulty(inner)
		o := small(faulty)
		o.SyncFlush = sync
		s := mustOpen(t, o)
		mustPut(t, s, text("t", 0, "before"))
		mustSee(t, s)
		check(t, s.checkpoint(true, false))
		for i := range 20 { // fsynced, behind the checkpoint
			mustPut(t, s, text("t", 0, fmt.Sprintf("%01000d", i)))
		}
		check(t, s.log.Flush())
		faulty.Inject(vfs.Rule{Kind: vfs.KindSync, Match: func(op vfs.Op) bool { return strings.Contains(op.Name, logFolder) }, Err: syscall.EIO})
		for _, body := range []string{"lost?", strings.Repeat("x", 9000)} { // the second in a segment of its own
			if _, err := s.Put(text("t", 0, body)); err != nil && !errors.Is(err, ErrFailed) {
				t.Fatal(err)
			}
		}
		if err := s.log.Flush(); err == nil {
			t.Error("Flush worked")
		}
		if err := s.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("Close: %v", err)
		}
		for _, name := range files(t, inner, "/data/commitlog") {
			check(t, inner.LoseWriteback(name))
		}
		s = mustOpen(t, small(inner))
		got := readAll(t, s, "t", 0)
		if len(got) < 22 {
			t.Errorf("%d messages are there, want those that the kernel shows too", len(got))
		}
		cut := inner.CrashClone(nil)
		mustClose(t, s)
		s = mustOpen(t, small(cut))
		equal(t, "after a power cut", fmt.Sprint(readAll(t, s, "t", 0)), fmt.Sprint(got))
		mustClose(t, s)
	}
}

// TestFullDisk: appends are refused while there is no room, reads go on, and
// writing resumes by itself.
func TestFullDisk(t *testing.T) {
	inner := vfs.NewMem()
	faulty := vfs.NewFaulty(inner)
	s := mustOpen(t, small(faulty))
	m := &model{}
	b := s.NewBatch()
	put := func(i int) error {
		b.Reset()
		msg := text("t", int32(i%3), fmt.Sprintf("%0700d", i), "KEYS", fmt.Sprint("k", i))
		check(t, b.Add(msg))
		err := s.Append(b)
		if err == nil {
			m.note(b, []*message.Message{msg})
		}
		return err
	}
	for i := range 50 {
		check(t, put(i))
	}
	mustSee(t, s)
	faulty.FailAll(vfs.KindAllocate, syscall.ENOSPC)
	refused := 0
	for i := 50; i < 200; i++ {
		if err := put(i); errors.Is(err, ErrNoSpace) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("the disk was never full")
	}
	mustSeen := readAll(t, s, "t", 0)
	if len(mustSeen) == 0 {
		t.Error("nothing can be read while the disk is full")
	}
	faulty.Clear()
	for i := 200; i < 250; i++ {
		for {
			err := put(i)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrNoSpace) {
				t.Fatal(err)
			}
		}
	}
	mustSee(t, s)
	m.check(t, s, s.Max(), true)
	mustClose(t, s)
	s = mustOpen(t, small(inner))
	m.check(t, s, s.Max(), true)
	mustClose(t, s)
}

// TestEveryFault fails each operation of a run once, with EIO and ENOSPC, and
// expects an error, or a store that goes on; what was acknowledged is there
// after a restart.
func TestEveryFault(t *testing.T) {
	run := func(fsys vfs.FS, acked *int) error {
		o := small(fsys)
		o.SyncFlush, o.DispatchLimit = true, 16
		s, err := Open("/data", o)
		if err != nil {
			return err
		}
		for i := range 60 {
			if _, err = s.Put(text("t", 0, fmt.Sprintf("%0600d", i), "KEYS", fmt.Sprint("k", i))); err != nil {
				break
			}
			*acked++
			if i%20 == 19 {
				if err = s.WaitVisible(); err == nil {
					err = s.checkpoint(false, false)
				}
				if err != nil {
					break
				}
			}
		}
		return errors.Join(err, s.Close())
	}
	count := vfs.NewFaulty(vfs.NewMem())
	n := 0
	check(t, run(count, &n))
	total := count.Count(vfs.KindAny)
	step := 1
	if testing.Short() || raceEnabled {
		step = 7
	}
	failures := 0
	for i := rand.Intn(step); i < total; i += step {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			inner := vfs.NewMem()
			faulty := vfs.NewFaulty(inner)
			faulty.FailNth(vfs.KindAny, i+1, cause)
			acked := 0
			err := run(faulty, &acked)
			if err != nil {
				failures++
			}
			s, err := Open("/data", small(killed(inner)))
			if err != nil {
				t.Fatalf("operation %d of %d failed with %v; then Open: %v", i+1, total, cause, err)
			}
			if got := readAll(t, s, "t", 0); len(got) < acked {
				t.Fatalf("operation %d of %d failed with %v: %d messages, %d were acknowledged", i+1, total, cause, len(got), acked)
			}
			mustClose(t, s)
		}
	}
	t.Logf("%d operations, %d runs met an error", total, failures)
	if failures == 0 {
		t.Error("no run met an error")
	}
}

func castagnoliSum(b []byte) (sum [4]byte) {
	binary.BigEndian.PutUint32(sum[:], crc32.Checksum(b, castagnoli))
	return sum
}
