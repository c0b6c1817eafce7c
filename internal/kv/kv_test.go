package kv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("KV_CRASH_DIR"); dir != "" {
		writeUntilKilled(dir)
	}
	// goleveldb drains its pool of buffers for up to a second after Close.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

func open(t *testing.T, dir string, o Options) *DB {
	t.Helper()
	db, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func keys[V any](t *testing.T, b *Bucket[V], from, to []byte) []string {
	t.Helper()
	var got []string
	must(t, b.Range(from, to, func(key []byte, _ V) bool {
		got = append(got, string(key))
		return true
	}))
	return got
}

func TestBucket(t *testing.T) {
	db := open(t, "memory", Options{Memory: true})
	type topic struct{ Queues int }
	topics := NewBucket(db, "topic", JSON[topic]())
	other := NewBucket(db, "topics", Int64[int64]())
	if empty, err := topics.Empty(); err != nil || !empty {
		t.Fatalf("Empty of a new bucket = %v, %v", empty, err)
	}
	for i, name := range []string{"b", "a", "a/1", "a/2", "a0", "\xff\xff", ""} {
		must(t, topics.Put([]byte(name), topic{i}, Buffered))
		must(t, other.Put([]byte(name), int64(-i), Synced))
	}
	if v, found, err := topics.Get([]byte("a/2")); err != nil || !found || v.Queues != 3 {
		t.Errorf("Get = %v, %v, %v", v, found, err)
	}
	if _, found, err := topics.Get([]byte("c")); err != nil || found {
		t.Errorf("Get of a missing key = %v, %v", found, err)
	}
	if v, _, _ := other.Get([]byte("a0")); v != -4 {
		t.Errorf("a number came back as %d", v)
	}
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"", "", []string{"", "a", "a/1", "a/2", "a0", "b", "\xff\xff"}},
		{"a", "a0", []string{"a", "a/1", "a/2"}},
		{"x", "", []string{"\xff\xff"}},
	} {
		var to []byte
		if c.to != "" {
			to = []byte(c.to)
		}
		if diff := cmp.Diff(c.want, keys(t, topics, []byte(c.from), to)); diff != "" {
			t.Errorf("Range(%q, %q): %s", c.from, c.to, diff)
		}
	}
	for prefix, want := range map[string]int{"a/": 2, "": 7, "\xff": 1, "\xff\xff": 1, "z": 0} {
		n := 0
		must(t, topics.RangePrefix([]byte(prefix), func([]byte, topic) bool { n++; return true }))
		if n != want {
			t.Errorf("RangePrefix(%q) saw %d keys, want %d", prefix, n, want)
		}
	}
	must(t, topics.Delete([]byte("a"), Buffered))
	if got := keys(t, topics, nil, []byte("a/1")); len(got) != 1 || len(keys(t, other, nil, nil)) != 7 {
		t.Errorf("after Delete: %q", got)
	}
	if empty, err := topics.Empty(); err != nil || empty {
		t.Errorf("Empty = %v, %v", empty, err)
	}
}

func TestRangeSeesOneMoment(t *testing.T) {
	db := open(t, "memory", Options{Memory: true})
	b := NewBucket(db, "n", Int64[int64]())
	for i := range 100 {
		must(t, b.Put(fmt.Appendf(nil, "%03d", i), int64(i), Buffered))
	}
	seen := 0
	must(t, b.Range(nil, nil, func(key []byte, v int64) bool {
		seen++
		must(t, b.Put(fmt.Appendf(nil, "%03d-later", v), v, Buffered))
		must(t, b.Delete(fmt.Appendf(nil, "%03d", 99), Buffered))
		return true
	}))
	if seen != 100 {
		t.Errorf("a Range that writes saw %d keys, want the 100 of its beginning", seen)
	}
	seen = 0
	must(t, b.Range(nil, nil, func([]byte, int64) bool { seen++; return seen < 5 }))
	if seen != 5 {
		t.Errorf("Range went on to %d after false", seen)
	}
}

func TestDecodeErrorNamesTheKey(t *testing.T) {
	db := open(t, "somewhere", Options{Memory: true})
	must(t, NewBucket(db, "n", Bytes()).Put([]byte("k"), []byte("abc"), Buffered))
	numbers := NewBucket(db, "n", Int64[int64]())
	_, _, err := numbers.Get([]byte("k"))
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), "somewhere") || !strings.Contains(err.Error(), `"k"`) {
		t.Errorf("Get = %v", err)
	}
	if err := numbers.Range(nil, nil, func([]byte, int64) bool { return true }); !errors.As(err, &corrupt) {
		t.Errorf("Range = %v", err)
	}
}

func TestClosed(t *testing.T) {
	db, err := Open("memory", Options{Memory: true})
	must(t, err)
	b := NewBucket(db, "n", Int64[int64]())
	must(t, b.Put([]byte("k"), 1, Synced))
	must(t, db.Close())
	must(t, db.Close())
	_, _, getErr := b.Get([]byte("k"))
	for what, err := range map[string]error{
		"Get": getErr, "Put": b.Put([]byte("k"), 1, Synced),
		"Range": b.Range(nil, nil, func([]byte, int64) bool { return true }),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close = %v", what, err)
		}
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for round := range 3 {
		db, err := Open(dir, Options{WriteBuffer: 16 << 10})
		must(t, err)
		b := NewBucket(db, "n", Int64[int64]())
		if got := len(keys(t, b, nil, nil)); got != 1000*round {
			t.Fatalf("round %d: %d keys, want %d", round, got, 1000*round)
		}
		var w Batch
		for i := range 1000 {
			must(t, b.PutTo(&w, fmt.Appendf(nil, "%d-%04d", round, i), rand.Int64()))
		}
		must(t, db.Write(&w, Buffered))
		must(t, db.Close())
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second Open = %v", err)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(dir, Options{})
	must(t, err)
	must(t, NewBucket(db, "n", Int64[int64]()).Put([]byte("k"), 7, Synced))
	must(t, db.ldb.Put(formatKey, []byte("99"), nil))
	must(t, db.Close())
	var format *FormatError
	for range 2 {
		if _, err := Open(dir, Options{}); !errors.As(err, &format) || !strings.Contains(err.Error(), "99") {
			t.Fatalf("Open of a newer format = %v", err)
		}
	}
}

func TestUnwritableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	if _, err := Open(file, Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open over a file = %v", err)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		db, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		db.Close()
	}
}
