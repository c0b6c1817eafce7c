package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSameBehaviour holds all implementations to the words of the interface.
func TestSameBehaviour(t *testing.T) {
	for _, c := range []struct {
		name string
		fs   func() FS
	}{
		{"os", func() FS { return OS }},
		{"mem", func() FS { return NewMem() }},
		{"faulty", func() FS { return NewFaulty(NewMem()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := "base"
			if c.name == "os" {
				dir = t.TempDir()
			}
			sameBehaviour(t, c.fs(), dir)
		})
	}
}

func sameBehaviour(t *testing.T, fsys FS, dir string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	sub := filepath.Join(dir, "a", "b")
	name, other := filepath.Join(sub, "file"), filepath.Join(sub, "other")
	_, err := fsys.Create(name)
	is(err, fs.ErrNotExist)
	must(fsys.MkdirAll(sub))
	must(fsys.MkdirAll(sub))
	_, err = fsys.Open(name, false)
	is(err, fs.ErrNotExist)
	_, err = fsys.Stat(name)
	is(err, fs.ErrNotExist)
	_, err = fsys.ReadDir(filepath.Join(dir, "none"))
	is(err, fs.ErrNotExist)
	is(fsys.Remove(name), fs.ErrNotExist)
	is(fsys.Rename(name, other), fs.ErrNotExist)
	must(fsys.RemoveAll(filepath.Join(dir, "none")))

	f, err := fsys.Create(name)
	must(err)
	_, err = fsys.Create(name)
	is(err, fs.ErrExist)
	_, err = f.WriteAt([]byte("hello"), 10)
	must(err)
	b := make([]byte, 20)
	n, err := f.ReadAt(b, 0)
	if n != 15 || err != io.EOF || string(b[10:15]) != "hello" || !bytes.Equal(b[:10], make([]byte, 10)) {
		t.Fatalf("read %d %v %q", n, err, b)
	}
	must(f.Truncate(12))
	must(f.Truncate(20000))
	if n, err = f.ReadAt(b[:10], 10); n != 10 || err != nil || string(b[:10]) != "he\x00\x00\x00\x00\x00\x00\x00\x00" {
		t.Fatalf("after cutting and growing: %q %v", b[:10], err)
	}
	must(f.Allocate(20000, 10000))
	if size, err := f.Size(); size != 30000 || err != nil {
		t.Fatalf("size %d, %v", size, err)
	}
	must(f.Allocate(0, 100))
	if size, _ := f.Size(); size != 30000 {
		t.Fatal("Allocate within the file changed its length to", size)
	}

	m, err := f.Map(30000, true)
	must(err)
	if _, err := f.WriteAt([]byte("seen"), 5000); err != nil || string(m.Bytes()[5000:5004]) != "seen" {
		t.Fatal("a write is not seen through the mapping")
	}
	copy(m.Bytes()[9000:], "mapped")
	if _, err := f.ReadAt(b[:6], 9000); err != nil || string(b[:6]) != "mapped" {
		t.Fatal("what was written through the mapping is not read")
	}
	must(m.Sync())
	must(m.Close())
	must(m.Close())
	_, err = f.Map(30001, false)
	is(err, syscall.EINVAL)
	must(f.Sync())

	data, hole, err := NextData(f, 0)
	if err != nil || data > 10 || hole <= 10 {
		t.Fatalf("first data %d to %d, %v", data, hole, err)
	}
	if data, hole, err = NextData(f, 1<<20); err != nil || data != 30000 || hole != 30000 {
		t.Fatalf("data behind the end: %d to %d, %v", data, hole, err)
	}
	must(f.Close())
	is(func() error { _, err := f.ReadAt(b, 0); return err }(), fs.ErrClosed)

	r, err := fsys.Open(name, false)
	must(err)
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Fatal("wrote to a file opened for reading")
	}
	must(r.Close())
	must(fsys.Rename(name, other))
	entries, err := fsys.ReadDir(sub)
	if err != nil || len(entries) != 1 || entries[0].Name() != "other" || entries[0].IsDir() {
		t.Fatalf("entries %v, %v", entries, err)
	}
	if info, err := fsys.Stat(other); err != nil || info.Size() != 30000 {
		t.Fatal(info, err)
	}
	must(fsys.SyncDir(sub))
	if err := fsys.Remove(sub); err == nil {
		t.Fatal("removed a folder that is not empty")
	}

	lock, err := fsys.Lock(filepath.Join(dir, "lock"))
	must(err)
	_, err = fsys.Lock(filepath.Join(dir, "lock"))
	is(err, ErrLocked)
	must(lock.Close())
	lock, err = fsys.Lock(filepath.Join(dir, "lock"))
	must(err)
	must(lock.Close())

	total, free, err := fsys.Usage(dir)
	if err != nil || total <= 0 || free <= 0 || free > total {
		t.Fatalf("usage %d %d %v", total, free, err)
	}
	must(fsys.RemoveAll(filepath.Join(dir, "a")))
	_, err = fsys.Stat(sub)
	is(err, fs.ErrNotExist)
}

func TestGuard(t *testing.T) {
	dir := t.TempDir()
	f, err := OS.Create(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 10); err != nil {
		t.Fatal(err)
	}
	m, err := f.Map(64<<10, false)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dst := make([]byte, 8192)
	if err := Copy(dst, m.Bytes()[:8192]); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(4096); err != nil { // the pages behind are gone: SIGBUS
		t.Fatal(err)
	}
	if err := Copy(dst, m.Bytes()[32<<10:40<<10]); !errors.Is(err, ErrFault) {
		t.Fatal("Copy of lost pages:", err)
	}
	sum := 0
	err = Guard(func() error {
		for _, b := range m.Bytes() {
			sum += int(b)
		}
		return nil
	})
	if !errors.Is(err, ErrFault) {
		t.Fatal("Guard over lost pages:", err)
	}
	if err := Guard(func() error { return io.EOF }); err != io.EOF {
		t.Fatal("Guard lost the error of its function:", err)
	}
	defer func() {
		if recover() == nil {
			t.Fatal("Guard swallowed a panic that is no fault")
		}
	}()
	var none []int
	_ = Guard(func() error { none[3]++; return nil })
}

func create(t *testing.T, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, fsys FS, name string) ([]byte, bool) {
	t.Helper()
	f, err := fsys.Open(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
		t.Fatal(err)
	}
	return b, true
}

func block(c byte) []byte { return bytes.Repeat([]byte{c}, blockSize) }

// TestCrashLosesWhatIsNotSynced: with a nil source all that is unsynced goes,
// and nothing else.
func TestCrashLosesWhatIsNotSynced(t *testing.T) {
	m := NewMem()
	if err := m.MkdirAll("d"); err != nil {
		t.Fatal(err)
	}
	kept := create(t, m, "d/kept")
	kept.WriteAt(block('a'), 0)
	kept.Sync()
	if _, ok := read(t, m.CrashClone(nil), "d/kept"); ok {
		t.Error("a name is there though its folder was not synced")
	}
	m.SyncDir("d")
	kept.WriteAt(block('b'), 0)
	kept.WriteAt(block('b'), blockSize)
	c := m.CrashClone(nil)
	if b, ok := read(t, c, "d/kept"); !ok || !bytes.Equal(b, block('a')) {
		t.Error("unsynced bytes or length survived, or synced ones did not")
	}
	create(t, m, "d/new")
	m.Rename("d/kept", "d/moved")
	c = m.CrashClone(nil)
	if _, ok := read(t, c, "d/new"); ok {
		t.Error("an unsynced creation survived")
	}
	if _, ok := read(t, c, "d/kept"); !ok {
		t.Error("an unsynced renaming survived")
	}
	m.SyncDir("d")
	m.Remove("d/moved")
	c = m.CrashClone(nil)
	if _, ok := read(t, c, "d/moved"); !ok {
		t.Error("a synced renaming was lost, or an unsynced removal was not")
	}
	m.SyncDir("d")
	if _, ok := read(t, m.CrashClone(nil), "d/moved"); ok {
		t.Error("a synced removal was lost")
	}
	if _, err := c.Lock("d/moved"); err != nil {
		t.Error("a lock outlived the crash:", err)
	}
}

// TestCrashMixesBlocks: each unsynced block is old or new on its own, so that
// over many crashes every mix is seen, and no other.
func TestCrashMixesBlocks(t *testing.T) {
	for _, mapped := range []bool{false, true} {
		m := NewMem()
		f := create(t, m, "f")
		for i := range int64(3) {
			f.WriteAt(block('o'), i*blockSize)
		}
		f.Sync()
		m.SyncDir(".")
		if mapped {
			p, err := f.Map(3*blockSize, true)
			if err != nil {
				t.Fatal(err)
			}
			copy(p.Bytes(), bytes.Repeat([]byte{'n'}, 3*blockSize))
		} else {
			f.WriteAt(bytes.Repeat([]byte{'n'}, 3*blockSize), 0)
		}
		seen := map[string]bool{}
		rng := rand.New(rand.NewSource(1))
		for range 200 {
			b, ok := read(t, m.CrashClone(rng), "f")
			if !ok || len(b) != 3*blockSize {
				t.Fatal("synced name or length lost")
			}
			mix := ""
			for i := range 3 {
				part := b[i*blockSize : (i+1)*blockSize]
				if !bytes.Equal(part, block(part[0])) {
					t.Fatal("a block is torn")
				}
				mix += string(part[0])
			}
			seen[mix] = true
		}
		if len(seen) != 8 {
			t.Errorf("mapped %v: %d mixes of three blocks, want 8", mapped, len(seen))
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if b, _ := read(t, m.CrashClone(nil), "f"); !bytes.Equal(b, bytes.Repeat([]byte{'n'}, 3*blockSize)) {
			t.Errorf("mapped %v: synced bytes lost", mapped)
		}
	}
}

func TestCrashLength(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	f.Truncate(100)
	f.Sync()
	m.SyncDir(".")
	f.Truncate(9000)
	lengths := map[int]bool{}
	rng := rand.New(rand.NewSource(1))
	for range 50 {
		b, _ := read(t, m.CrashClone(rng), "f")
		lengths[len(b)] = true
	}
	if len(lengths) != 2 || !lengths[100] || !lengths[9000] {
		t.Errorf("lengths %v, want 100 and 9000", lengths)
	}
}

// TestCrashIsAPicture: neither goes on to change the other.
func TestCrashIsAPicture(t *testing.T) {
	m := NewMem()
	f := create(t, m, "f")
	f.WriteAt(block('1'), 0)
	f.Sync()
	m.SyncDir(".")
	c := m.CrashClone(nil)
	f.WriteAt(block('2'), 0)
	f.Sync()
	if b, _ := read(t, c, "f"); !bytes.Equal(b, block('1')) {
		t.Error("the clone changed with the original")
	}
	g, _ := c.Open("f", true)
	g.WriteAt(block('3'), 0)
	if b, _ := read(t, m, "f"); !bytes.Equal(b, block('2')) {
		t.Error("the original changed with the clone")
	}
	if b, _ := read(t, c.CrashClone(nil), "f"); !bytes.Equal(b, block('1')) {
		t.Error("a clone of the clone forgot what was synced")
	}
}

func TestCrashSameSeedSameClone(t *testing.T) {
	m := NewMem()
	for i := range 20 {
		f := create(t, m, string(rune('a'+i)))
		f.WriteAt(block(byte(i+1)), int64(i)*blockSize)
	}
	names := func(seed int64) (out []string) {
		c := m.CrashClone(rand.New(rand.NewSource(seed)))
		entries, _ := c.ReadDir(".")
		for _, e := range entries {
			b, _ := read(t, c, e.Name())
			out = append(out, e.Name()+string(bytes.TrimRight(b, "\x00")))
		}
		return out
	}
	if !slices.Equal(names(7), names(7)) {
		t.Error("the same seed gave two clones")
	}
	if slices.Equal(names(7), names(8)) {
		t.Error("two seeds gave the same clone of 20 files")
	}
}

func TestFaultyRules(t *testing.T) {
	f := NewFaulty(NewMem())
	var ops []Kind
	f.Hook(func(op Op) { ops = append(ops, op.Kind) })
	file := create(t, f, "x")
	f.FailNth(KindWrite, 2, syscall.ENOSPC)
	for i, want := range []error{nil, syscall.ENOSPC, nil} {
		if _, err := file.WriteAt([]byte("abcd"), 0); !errors.Is(err, want) {
			t.Errorf("write %d: %v, want %v", i+1, err, want)
		}
	}
	f.Inject(Rule{Kind: KindWrite, Times: 1, Short: true})
	if n, err := file.WriteAt([]byte("ABCD"), 0); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Errorf("short write: %d, %v", n, err)
	}
	b := make([]byte, 4)
	if file.ReadAt(b, 0); string(b) != "ABcd" {
		t.Errorf("after a short write: %q", b)
	}
	f.Inject(Rule{Kind: KindOpen, Match: func(op Op) bool { return op.Name == "y" }})
	if _, err := f.Open("x", false); err != nil {
		t.Error("a rule for y failed x:", err)
	}
	f.FailAll(KindAny, syscall.EROFS)
	if err := file.Sync(); !errors.Is(err, syscall.EROFS) {
		t.Error(err)
	}
	f.Clear()
	if err := file.Sync(); err != nil {
		t.Error(err)
	}
	want := []Kind{KindCreate, KindWrite, KindWrite, KindWrite, KindWrite, KindRead, KindOpen, KindSync, KindSync}
	if !slices.Equal(ops, want) || f.Count(KindWrite) != 4 || f.Count(KindAny) != len(want) {
		t.Errorf("hook saw %v", ops)
	}
}

func TestFaultyBudget(t *testing.T) {
	f := NewFaulty(NewMem())
	f.SetBudget(4 * blockSize)
	a, b := create(t, f, "a"), create(t, f, "b")
	if err := a.Truncate(100 * blockSize); err != nil {
		t.Fatal("a hole takes no room:", err)
	}
	if err := a.Allocate(0, 2*blockSize); err != nil {
		t.Fatal(err)
	}
	if n, err := b.WriteAt(make([]byte, 3*blockSize), 0); n != 2*blockSize || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d, %v; two blocks were free", n, err)
	}
	if _, err := a.WriteAt(block('x'), blockSize); err != nil {
		t.Error("a write into reserved room:", err)
	}
	if _, free, _ := f.Usage("."); free != 0 {
		t.Errorf("%d bytes free, want none", free)
	}
	if err := f.Remove("b"); err != nil {
		t.Fatal(err)
	}
	if err := a.Allocate(2*blockSize, 2*blockSize); err != nil {
		t.Error("room did not come back with the removal:", err)
	}
	if err := a.Truncate(blockSize); err != nil {
		t.Fatal(err)
	}
	if _, free, _ := f.Usage("."); free != 3*blockSize {
		t.Errorf("%d bytes free after the cut, want three blocks", free)
	}
}

func BenchmarkCopy1200(b *testing.B) {
	src, dst := make([]byte, 1200), make([]byte, 1200)
	b.ReportAllocs()
	for b.Loop() {
		if err := Copy(dst, src); err != nil {
			b.Fatal(err)
		}
	}
}

// What was just written is in memory; what no mapping covers is not.
func TestResident(t *testing.T) {
	f, err := OS.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 64<<10)
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	m, err := f.Map(int64(len(data)), false)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, ok := m.(Residency); !ok {
		t.Skip("mappings cannot tell here")
	}
	if !Resident(m, 100, 50_000) || !Resident(m, 0, 0) {
		t.Error("what was just written is said not to be in memory")
	}
	if Resident(m, 60_000, 10_000) || Resident(m, -1, 5) {
		t.Error("what lies outside is said to be in memory")
	}
}
