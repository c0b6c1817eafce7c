package kv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"github.com/merlinmq/merlin/internal/vfs"
)

// disk is goleveldb's storage of files over a file system of tests. It syncs
// what that syncs, and no more.
type disk struct {
	fs vfs.FS
}

const diskDir = "kv"

type closer struct{}

func (closer) Unlock() {}

func diskName(fd storage.FileDesc) string { return filepath.Join(diskDir, fd.String()) }

func (d disk) Lock() (storage.Locker, error) { return closer{}, nil }
func (d disk) Log(string)                    {}
func (d disk) Close() error                  { return nil }

// create makes a file anew.
func (d disk) create(name string) (vfs.File, error) {
	if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return d.fs.Create(name)
}

func (d disk) SetMeta(fd storage.FileDesc) error {
	tmp := filepath.Join(diskDir, fmt.Sprintf("CURRENT.%d", fd.Num))
	f, err := d.create(tmp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt([]byte(fd.String()+"\n"), 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.fs.Rename(tmp, filepath.Join(diskDir, "CURRENT")); err != nil {
		return err
	}
	return d.fs.SyncDir(diskDir)
}

func (d disk) GetMeta() (fd storage.FileDesc, err error) {
	f, err := d.fs.Open(filepath.Join(diskDir, "CURRENT"), false)
	if err != nil {
		return fd, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fd, err
	}
	text := make([]byte, size)
	if _, err := f.ReadAt(text, 0); err != nil && err != io.EOF {
		return fd, err
	}
	fd, ok := parseName(strings.TrimSuffix(string(text), "\n"))
	if !ok || fd.Type != storage.TypeManifest {
		return fd, &storage.ErrCorrupted{Err: fmt.Errorf("CURRENT holds %q", text)}
	}
	return fd, nil
}

func parseName(name string) (fd storage.FileDesc, ok bool) {
	for format, kind := range map[string]storage.FileType{
		"MANIFEST-%06d": storage.TypeManifest, "%06d.log": storage.TypeJournal, "%06d.ldb": storage.TypeTable, "%06d.tmp": storage.TypeTemp,
	} {
		if n, err := fmt.Sscanf(name, format, &fd.Num); n == 1 && err == nil && fmt.Sprintf(format, fd.Num) == name {
			return storage.FileDesc{Type: kind, Num: fd.Num}, true
		}
	}
	return fd, false
}

func (d disk) List(kinds storage.FileType) (list []storage.FileDesc, err error) {
	entries, err := d.fs.ReadDir(diskDir)
	for _, e := range entries {
		if fd, ok := parseName(e.Name()); ok && fd.Type&kinds != 0 {
			list = append(list, fd)
		}
	}
	return list, err
}

func (d disk) Open(fd storage.FileDesc) (storage.Reader, error) {
	f, err := d.fs.Open(diskName(fd), false)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return struct {
		*io.SectionReader
		io.Closer
	}{io.NewSectionReader(f, 0, size), f}, nil
}

type diskWriter struct {
	f    vfs.File
	at   int64
	sync func() error // of the folder, for a manifest
}

func (w *diskWriter) Write(p []byte) (int, error) {
	n, err := w.f.WriteAt(p, w.at)
	w.at += int64(n)
	return n, err
}

func (w *diskWriter) Sync() error {
	if err := w.f.Sync(); err != nil || w.sync == nil {
		return err
	}
	return w.sync()
}

func (w *diskWriter) Close() error { return w.f.Close() }

func (d disk) Create(fd storage.FileDesc) (storage.Writer, error) {
	f, err := d.create(diskName(fd))
	if err != nil {
		return nil, err
	}
	w := &diskWriter{f: f}
	if fd.Type == storage.TypeManifest {
		w.sync = func() error { return d.fs.SyncDir(diskDir) }
	}
	return w, nil
}

func (d disk) Remove(fd storage.FileDesc) error { return d.fs.Remove(diskName(fd)) }
func (d disk) Rename(from, to storage.FileDesc) error {
	return d.fs.Rename(diskName(from), diskName(to))
}

// TestPowerCutBeforeEveryOperation takes the machine away before each file
// operation of a run of synced batches: each is there as a whole or not at all,
// and all that were acknowledged are.
func TestPowerCutBeforeEveryOperation(t *testing.T) {
	mem := vfs.NewMem()
	must(t, mem.MkdirAll(diskDir))
	must(t, mem.SyncDir("."))
	faulty := vfs.NewFaulty(mem)
	type cut struct {
		when  string
		fsys  *vfs.Mem
		acked int64
	}
	var mu sync.Mutex // guards cuts and rng
	var cuts []cut
	rng := rand.New(rand.NewSource(1))
	var acked atomic.Int64
	acked.Store(-1)
	faulty.Hook(func(op vfs.Op) {
		if !op.Changes() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		safe := acked.Load()
		when := fmt.Sprintf("%s of %s, %d acknowledged", op.Kind, op.Name, safe)
		cuts = append(cuts, cut{when, mem.CrashClone(nil), safe}, cut{when + ", torn", mem.CrashClone(rng), safe})
	})
	o := Options{WriteBuffer: 2 << 10}.withDefaults()
	db, err := openStorage("disk", onDisk(faulty), o)
	must(t, err)
	b := NewBucket(db, "offset", Int64[int64]())
	const rounds = 150
	for i := range int64(rounds) {
		var w Batch
		must(t, b.PutTo(&w, []byte("left"), i))
		must(t, b.PutTo(&w, fmt.Appendf(nil, "queue-%d", i), i))
		must(t, b.PutTo(&w, []byte("right"), i))
		must(t, db.Write(&w, Synced))
		acked.Store(i)
	}
	must(t, db.Close())
	if len(cuts) < 4*rounds {
		t.Fatalf("only %d crashes", len(cuts))
	}
	rebuilt := 0
	for _, c := range cuts {
		db, err := openStorage("disk", onDisk(c.fsys), o)
		var corrupt *CorruptError
		if errors.As(err, &corrupt) { // Open rebuilds it
			rebuilt++
			ldb, err := leveldb.Recover(onDisk(c.fsys), o.leveldb())
			must(t, err)
			must(t, ldb.Close())
			db, err = openStorage("disk", onDisk(c.fsys), o)
			must(t, err)
		} else if err != nil {
			t.Fatalf("%s: %v", c.when, err)
		}
		b := NewBucket(db, "offset", Int64[int64]())
		left, hasLeft, err := b.Get([]byte("left"))
		must(t, err)
		right, hasRight, err := b.Get([]byte("right"))
		must(t, err)
		if left != right || hasLeft != hasRight || c.acked >= 0 && (!hasLeft || left < c.acked || left > c.acked+1) {
			t.Fatalf("%s: %d (%v) and %d (%v)", c.when, left, hasLeft, right, hasRight)
		}
		must(t, db.Close())
	}
	t.Logf("%d crashes, %d folders rebuilt", len(cuts), rebuilt)
}

// onDisk is what openFiles gives, over a file system of tests.
func onDisk(fsys vfs.FS) storage.Storage {
	return durableNames{disk{fsys}, func() error { return fsys.SyncDir(diskDir) }}
}
