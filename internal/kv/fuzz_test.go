package kv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// FuzzOpen puts any bytes into any file of a database: it opens, rebuilds
// itself or says what is wrong, and then the same with a repair.
func FuzzOpen(f *testing.F) {
	seed := f.TempDir()
	for range 2 { // a table and a journal
		db, err := Open(seed, Options{WriteBuffer: 4 << 10})
		if err != nil {
			f.Fatal(err)
		}
		b := NewBucket(db, "n", Bytes())
		for i := range 40 {
			if err := b.Put(fmt.Appendf(nil, "%04d", i), bytes.Repeat([]byte{byte(i)}, 100), Buffered); err != nil {
				f.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			f.Fatal(err)
		}
	}
	entries, err := os.ReadDir(seed)
	if err != nil {
		f.Fatal(err)
	}
	files := map[string][]byte{}
	var names []string
	for _, e := range entries {
		if e.Name() == "LOCK" || e.Name() == "LOG" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(seed, e.Name()))
		if err != nil {
			f.Fatal(err)
		}
		names, files[e.Name()] = append(names, e.Name()), text
		f.Add(uint8(len(names)-1), uint16(0), text)
		f.Add(uint8(len(names)-1), uint16(len(text)/2), []byte("\x00\xff\x00\xff"))
	}
	f.Fuzz(func(t *testing.T, file uint8, at uint16, text []byte) {
		dir := filepath.Join(t.TempDir(), "kv")
		must(t, os.Mkdir(dir, 0o755))
		name := names[int(file)%len(names)]
		for n, whole := range files {
			if n == name { // replaced from a place on
				whole = append(bytes.Clone(whole[:min(int(at), len(whole))]), text...)
			}
			must(t, os.WriteFile(filepath.Join(dir, n), whole, 0o644))
		}
		if _, err := Look(dir); err != nil {
			wantSaid(t, err)
		}
		_, _ = Verify(dir) // any error is fine, a panic is not
		read(t, dir)
		if _, err := Repair(dir, Options{}); err == nil {
			read(t, dir)
		}
	})
}

// read goes through all keys, as far as they can be read.
func read(t *testing.T, dir string) {
	t.Helper()
	db, err := Open(dir, Options{})
	if err != nil {
		return
	}
	wantSaid(t, NewBucket(db, "n", Bytes()).Range(nil, nil, func([]byte, []byte) bool { return true }))
	_ = db.Close() // of a damaged one it may fail
}

// wantSaid wants that what is wrong has a type of this package.
func wantSaid(t *testing.T, err error) {
	t.Helper()
	var corrupt *CorruptError
	var format *FormatError
	if err != nil && !errors.As(err, &corrupt) && !errors.As(err, &format) {
		t.Errorf("%v", err)
	}
}
