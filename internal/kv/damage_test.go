package kv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const damageKeys = 1500

// filled makes a folder with damageKeys keys, in tables and in a journal.
func filled(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "kv")
	for part := range 3 {
		db, err := Open(dir, Options{WriteBuffer: 16 << 10})
		must(t, err)
		b := NewBucket(db, "n", Bytes())
		for i := range damageKeys / 3 {
			must(t, b.Put(fmt.Appendf(nil, "%d-%04d", part, i), bytes.Repeat([]byte{byte(i)}, 40), Buffered))
		}
		must(t, db.Close())
	}
	return dir
}

// newest returns the file with the highest number of that form.
func newest(t *testing.T, dir, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	best := ""
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 && name > best {
			best = name
		}
	}
	if best == "" {
		t.Fatalf("no %s in %s", pattern, dir)
	}
	return best
}

func edit(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, change(text), 0o644))
}

func TestDamage(t *testing.T) {
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:max(0, len(b)-n)] } }
	zeros := func(b []byte) []byte { return make([]byte, len(b)) }
	for _, c := range []struct {
		name    string
		damage  func(t *testing.T, dir string)
		keys    int    // that survive
		rebuilt bool   // the folder is rebuilt, with a copy beside it
		told    string // of damage that needs no rebuilding; "" for nothing
	}{
		{"manifest tail cut", func(t *testing.T, d string) { edit(t, newest(t, d, "MANIFEST-*"), cut(5)) }, damageKeys, true, ""},
		{"manifest zeroed", func(t *testing.T, d string) { edit(t, newest(t, d, "MANIFEST-*"), zeros) }, damageKeys, true, ""},
		{"manifest gone", func(t *testing.T, d string) { must(t, os.Remove(newest(t, d, "MANIFEST-*"))) }, damageKeys, true, ""},
		{"CURRENT empty", func(t *testing.T, d string) {
			must(t, os.WriteFile(filepath.Join(d, "CURRENT"), nil, 0o644))
			os.Remove(filepath.Join(d, "CURRENT.bak"))
		}, damageKeys, true, ""},
		{"CURRENT gone", func(t *testing.T, d string) {
			must(t, os.Remove(filepath.Join(d, "CURRENT")))
			os.Remove(filepath.Join(d, "CURRENT.bak"))
		}, damageKeys, true, ""},
		{"CURRENT names another file", func(t *testing.T, d string) {
			must(t, os.WriteFile(filepath.Join(d, "CURRENT"), []byte("MANIFEST-999999\n"), 0o644))
			os.Remove(filepath.Join(d, "CURRENT.bak"))
		}, damageKeys, true, ""},
		{"journal tail cut", func(t *testing.T, d string) { edit(t, newest(t, d, "*.log"), cut(7)) }, damageKeys - 1, false, "usual trace of a crash"},
		{"garbage behind the journal", func(t *testing.T, d string) {
			edit(t, newest(t, d, "*.log"), func(b []byte) []byte { return append(b, strings.Repeat("x", 100)...) })
		}, damageKeys, false, "usual trace of a crash"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filled(t)
			c.damage(t, dir)
			var reports []Report
			db, err := Open(dir, Options{Report: func(r Report) { reports = append(reports, r) }})
			must(t, err)
			n := len(keys(t, NewBucket(db, "n", Bytes()), nil, nil))
			must(t, db.Close())
			if n != c.keys {
				t.Errorf("%d keys survive, want %d", n, c.keys)
			}
			if !c.rebuilt {
				if len(reports) != 1 || reports[0].Copy != "" || !strings.Contains(reports[0].String(), c.told) || !strings.Contains(reports[0].String(), dir) {
					t.Errorf("the damage was reported as %v, want %q", reports, c.told)
				}
				return
			}
			// One more than ours: the format.
			if len(reports) != 1 || reports[0].Copy == "" || reports[0].Keys != c.keys+1 || !strings.Contains(reports[0].String(), dir) {
				t.Fatalf("the damage was reported as %v", reports)
			}
			if _, err := os.Stat(filepath.Join(reports[0].Copy, filepath.Base(newest(t, reports[0].Copy, "*.l*")))); err != nil {
				t.Errorf("the copy: %v", err)
			}
			db, err = Open(dir, Options{Report: func(r Report) { t.Errorf("the rebuilt folder is reported: %v", r) }})
			must(t, err)
			if again := len(keys(t, NewBucket(db, "n", Bytes()), nil, nil)); again != n {
				t.Errorf("%d keys at the second open, %d at the first", again, n)
			}
			must(t, db.Close())
		})
	}
}

func TestFlippedByteInTheJournalIsReported(t *testing.T) {
	dir := filled(t)
	edit(t, newest(t, dir, "*.log"), func(b []byte) []byte { b[len(b)/2] ^= 0x40; return b })
	var reports []Report
	db := open(t, dir, Options{Report: func(r Report) { reports = append(reports, r) }})
	n := len(keys(t, NewBucket(db, "n", Bytes()), nil, nil))
	if n == damageKeys || len(reports) == 0 {
		t.Errorf("%d of %d keys, reported as %v: a loss must not be silent", n, damageKeys, reports)
	}
}

func TestRepairOfABrokenTable(t *testing.T) {
	dir := filled(t)
	edit(t, newest(t, dir, "*.ldb"), func(b []byte) []byte { return b[:len(b)/2] })
	db, err := Open(dir, Options{})
	must(t, err)
	var corrupt *CorruptError
	readErr := NewBucket(db, "n", Bytes()).Range(nil, nil, func([]byte, []byte) bool { return true })
	if !errors.As(readErr, &corrupt) {
		t.Errorf("reading a broken table = %v", readErr)
	}
	must(t, db.Close())
	if _, err := Verify(dir); !errors.As(err, &corrupt) {
		t.Errorf("verifying a broken table = %v", err)
	}
	report, err := Repair(dir, Options{})
	must(t, err)
	db = open(t, dir, Options{})
	n := len(keys(t, NewBucket(db, "n", Bytes()), nil, nil))
	if n == 0 || n >= damageKeys || report.Copy == "" {
		t.Errorf("%d keys after the repair, report %v", n, report)
	}
}
