package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
)

// madeFolder makes a folder with 300 messages in 3 queues, and closes it.
func madeFolder(t *testing.T) (dir string, o Options, positions []message.Position) {
	t.Helper()
	dir = t.TempDir()
	o = Options{SegmentSize: 1 << 16, QueueFileEntries: 32, IndexSlots: 50, IndexItems: 200}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		var p message.Properties
		p = p.Append(message.PropKeys, fmt.Sprint("k", i))
		r, err := s.Put(&message.Message{Topic: "orders", QueueID: int32(i % 3), Body: make([]byte, 500), Properties: p, BornTimestamp: 1})
		if err != nil {
			t.Fatal(err)
		}
		positions = append(positions, r.Position)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, o, positions
}

func verify(t *testing.T, dir string, o Options) Verified {
	t.Helper()
	v, err := Verify(dir, VerifyOptions{QueueFileEntries: o.QueueFileEntries, IndexSlots: o.IndexSlots, IndexItems: o.IndexItems})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func scribble(t *testing.T, file string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// snapshotOf reads every file of a folder.
func snapshotOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = info.ModTime().String() + string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestVerifyFindsNothingInAGoodFolderAndChangesNothing(t *testing.T) {
	dir, o, _ := madeFolder(t)
	before := snapshotOf(t, dir)
	v := verify(t, dir, o)
	if v.Records != 300 || v.Entries != 300 || v.Queues != 3 || len(v.Places) != 0 || v.Damaged != 0 || v.Unclean {
		t.Errorf("got %+v", v)
	}
	after := snapshotOf(t, dir)
	if len(after) != len(before) {
		t.Errorf("%d files became %d", len(before), len(after))
	}
	for name, b := range before {
		if after[name] != b {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestVerifyNamesFileAndOffset(t *testing.T) {
	segment := func(dir string, pos message.Position) (string, int64) {
		base := int64(pos) / (1 << 16) * (1 << 16)
		return filepath.Join(dir, logFolder, fmt.Sprintf("%020d", base)), int64(pos) - base
	}
	t.Run("a record", func(t *testing.T) {
		dir, o, at := madeFolder(t)
		file, place := segment(dir, at[150])
		scribble(t, file, place+200, []byte("bit rot"))
		v := verify(t, dir, o)
		if v.Damaged == 0 || v.Places[0].File != file || v.Places[0].Offset != place || v.Places[0].Heals {
			t.Errorf("want %s at %d, got %+v", file, place, v.Places)
		}
		if v.Records != 299 {
			t.Errorf("%d good records, want 299", v.Records)
		}
	})
	t.Run("an entry", func(t *testing.T) {
		dir, o, _ := madeFolder(t)
		file := filepath.Join(dir, queueFolder, "orders", "1", fmt.Sprintf("%020d", 32*20))
		scribble(t, file, 5*20, make([]byte, 20))
		v := verify(t, dir, o)
		if v.Damaged == 0 || v.Places[0].File != file || v.Places[0].Offset != 100 {
			t.Errorf("want %s at 100, got %+v", file, v.Places)
		}
	})
	t.Run("a missing segment", func(t *testing.T) {
		dir, o, _ := madeFolder(t)
		file := filepath.Join(dir, logFolder, fmt.Sprintf("%020d", 1<<16))
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		v := verify(t, dir, o)
		if v.Damaged == 0 || v.Places[0].File != file {
			t.Errorf("want %s, got %+v", file, v.Places[:min(3, len(v.Places))])
		}
	})
	t.Run("a torn tail heals", func(t *testing.T) {
		dir, o, at := madeFolder(t)
		file, place := segment(dir, at[299])
		scribble(t, file, place+600, []byte("half of a record"))
		if err := os.WriteFile(filepath.Join(dir, abortFile), []byte("1"+abortSign), 0o644); err != nil {
			t.Fatal(err)
		}
		v := verify(t, dir, o)
		if v.Damaged != 0 || len(v.Places) != 1 || !v.Places[0].Heals || !v.Unclean {
			t.Errorf("got %+v", v)
		}
	})
	t.Run("in use", func(t *testing.T) {
		dir, o, _ := madeFolder(t)
		s, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := Verify(dir, VerifyOptions{QueueFileEntries: o.QueueFileEntries}); err == nil {
			t.Error("a folder in use was verified")
		}
	})
}

// What Apache's brokers wrote has no damage; what they had not dispatched when
// they were killed heals.
func TestVerifyApacheFolders(t *testing.T) {
	for _, name := range golden.Names() {
		dir, want := golden.Unpack(t, name)
		rows := 300_000
		for _, e := range want.Entries {
			rows = int(e.FileSize / 20)
		}
		v, err := Verify(dir, VerifyOptions{QueueFileEntries: rows})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if int(v.Records) != len(want.Records) || int64(v.End) != want.End || v.Unclean != want.Abort {
			t.Errorf("%s: got %d records to %d, unclean %v; want %d to %d, %v", name, v.Records, v.End, v.Unclean, len(want.Records), want.End, want.Abort)
		}
		for _, p := range v.Places {
			if !p.Heals {
				t.Errorf("%s: %+v", name, p)
			}
		}
	}
}

func TestForgetBeforeRaisesTheBeginningOfQueues(t *testing.T) {
	var clock atomic.Int64 // ms; the store's own goroutines read it too
	clock.Store(1_700_000_000_000)
	s, err := Open("data", Options{FS: vfs.NewMem(), SegmentSize: 1 << 20, QueueFileEntries: 8, IndexSlots: 10, IndexItems: 100, Now: func() time.Time { return time.UnixMilli(clock.Load()) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 50 {
		clock.Add(1000)
		if _, err := s.Put(&message.Message{Topic: "short", Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.ForgetBefore("short", clock.Load()-10_000); n != 39 || err != nil {
		t.Errorf("%d messages went, %v; want 39", n, err)
	}
	if lo, hi := s.QueueMin("short", 0), s.QueueMax("short", 0); lo != 39 || hi != 50 {
		t.Errorf("the queue goes from %d to %d, want 39 to 50", lo, hi)
	}
	if n, err := s.ForgetBefore("short", clock.Load()+1000); n != 11 || err != nil {
		t.Errorf("%d messages went, %v; want the other 11", n, err)
	}
	if r, err := s.Put(&message.Message{Topic: "short", Body: []byte("x")}); err != nil || r.Offset != 50 {
		t.Errorf("the next offset is %d (%v), want 50", r.Offset, err)
	}
}
