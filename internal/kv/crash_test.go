package kv

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// TestCutAnywhere writes batches of three keys and cuts the journal after every
// byte: whatever is left, each batch is there as a whole or not at all.
func TestCutAnywhere(t *testing.T) {
	stor := storage.NewMemStorage()
	db, err := openStorage("memory", stor, Options{WriteBuffer: 16 << 10}.withDefaults())
	must(t, err)
	b := NewBucket(db, "n", Int64[int64]())
	const rounds = 4
	for i := range int64(rounds) {
		var w Batch
		must(t, b.PutTo(&w, []byte("left"), i))
		must(t, b.PutTo(&w, fmt.Appendf(nil, "seq-%d", i), i))
		must(t, b.PutTo(&w, []byte("right"), i))
		must(t, db.Write(&w, Synced))
	}
	must(t, db.ldb.Close()) // the storage stays open, to be copied
	journals, err := stor.List(storage.TypeJournal)
	must(t, err)
	journal := journals[len(journals)-1]
	size := len(content(t, stor, journal))
	last := int64(-1)
	for cut := 0; cut <= size; cut++ {
		last = checkCut(t, cutCopy(t, stor, journal, cut), cut, last)
	}
	if last != rounds-1 {
		t.Errorf("the whole journal gives %d", last)
	}
}

// checkCut opens what is left and returns the last batch in it.
func checkCut(t *testing.T, stor storage.Storage, cut int, last int64) int64 {
	t.Helper()
	db, err := openStorage("memory", stor, Options{WriteBuffer: 16 << 10}.withDefaults())
	if err != nil {
		t.Fatalf("cut at %d: %v", cut, err)
	}
	defer db.Close()
	b := NewBucket(db, "n", Int64[int64]())
	left, hasLeft, err := b.Get([]byte("left"))
	must(t, err)
	right, hasRight, err := b.Get([]byte("right"))
	must(t, err)
	if hasLeft != hasRight || left != right {
		t.Fatalf("cut at %d: half a batch: %d and %d", cut, left, right)
	}
	if !hasLeft {
		return last
	}
	if left < last {
		t.Fatalf("cut at %d: %d, but a shorter journal gave %d", cut, left, last)
	}
	return left
}

func content(t *testing.T, stor storage.Storage, fd storage.FileDesc) []byte {
	t.Helper()
	r, err := stor.Open(fd)
	must(t, err)
	defer r.Close()
	text, err := io.ReadAll(r)
	must(t, err)
	return text
}

// cutCopy copies the storage with one of its files cut.
func cutCopy(t *testing.T, stor storage.Storage, cut storage.FileDesc, size int) storage.Storage {
	t.Helper()
	to := storage.NewMemStorage()
	fds, err := stor.List(storage.TypeAll)
	must(t, err)
	for _, fd := range fds {
		text := content(t, stor, fd)
		if fd == cut {
			text = text[:size]
		}
		w, err := to.Create(fd)
		must(t, err)
		_, err = w.Write(text)
		must(t, errors.Join(err, w.Close()))
	}
	meta, err := stor.GetMeta()
	must(t, err)
	must(t, to.SetMeta(meta))
	return to
}

// writeUntilKilled is the process of TestKill: it tells each write once it is safe.
func writeUntilKilled(dir string) {
	db, err := Open(dir, Options{WriteBuffer: 8 << 10})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	b := NewBucket(db, "n", Int64[int64]())
	next := int64(0)
	if err := b.Range(nil, nil, func(_ []byte, v int64) bool { next = max(next, v+1); return true }); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for ; ; next++ {
		if err := b.Put(binary.BigEndian.AppendUint64(nil, uint64(next)), next, Synced); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(next)
	}
}

func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kv")
	acked := int64(-1)
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "KV_CRASH_DIR="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		acks := 0
		for lines := bufio.NewScanner(out); lines.Scan(); acks++ {
			if acks == 30+17*round {
				must(t, cmd.Process.Kill())
			}
			n, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("the writer said %q", lines.Text())
			}
			acked = n
		}
		_ = cmd.Wait() // it was killed
		db, err := Open(dir, Options{})
		must(t, err)
		want := int64(0)
		must(t, NewBucket(db, "n", Int64[int64]()).Range(nil, nil, func(_ []byte, v int64) bool {
			if v != want {
				t.Errorf("round %d: %d where %d should be", round, v, want)
			}
			want++
			return true
		}))
		must(t, db.Close())
		if want-1 < acked {
			t.Fatalf("round %d: %d was acknowledged, %d is there", round, acked, want-1)
		}
	}
	if acked < 100 {
		t.Errorf("only %d writes in all rounds: nothing was tested", acked)
	}
}

// failing is a storage whose journals fail when armed.
type failing struct {
	storage.Storage
	armed atomic.Bool
}

var errBroken = errors.New("the disk is broken")

func (f *failing) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := f.Storage.Create(fd)
	return &failingFile{w, f}, err
}

type failingFile struct {
	storage.Writer
	of *failing
}

func (w *failingFile) Write(b []byte) (int, error) {
	if w.of.armed.Load() {
		n, _ := w.Writer.Write(b[:len(b)/2])
		return n, io.ErrShortWrite
	}
	return w.Writer.Write(b)
}

func (w *failingFile) Sync() error {
	if w.of.armed.Load() {
		return errBroken
	}
	return w.Writer.Sync()
}

func TestFailedWriteIsFollowedByAReopen(t *testing.T) {
	stor := &failing{Storage: storage.NewMemStorage()}
	db, err := openStorage("memory", stor, Options{WriteBuffer: 16 << 10}.withDefaults())
	must(t, err)
	b := NewBucket(db, "n", Int64[int64]())
	must(t, b.Put([]byte("before"), 1, Synced))
	stor.armed.Store(true)
	for range 3 {
		if err := b.Put([]byte("lost"), 2, Synced); err == nil {
			t.Fatal("a write to a broken disk succeeded")
		}
	}
	stor.armed.Store(false)
	must(t, b.Put([]byte("after"), 3, Synced))
	for key, want := range map[string]int64{"before": 1, "after": 3} {
		if v, found, err := b.Get([]byte(key)); err != nil || !found || v != want {
			t.Errorf("%s = %d, %v, %v", key, v, found, err)
		}
	}
	must(t, db.Close())
}
