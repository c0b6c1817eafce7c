package kv

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
)

func TestLook(t *testing.T) {
	check := func(when, dir string, want bool) {
		t.Helper()
		if found, err := Look(dir); found != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", when, found, err, want)
		}
	}
	dir := filepath.Join(t.TempDir(), "kv")
	check("no folder", dir, false)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("looking made the folder: %v", err)
	}
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o644))
	check("an empty folder", dir, false)

	full := filled(t)
	check("a database", full, true)
	check("a database once more", full, true)
	db, err := Open(full, Options{})
	must(t, err)
	check("an open database", full, true)
	if n := len(keys(t, NewBucket(db, "n", Bytes()), nil, nil)); n != damageKeys {
		t.Errorf("%d keys after looking", n)
	}
	must(t, db.Close())
	edit(t, newest(t, full, "MANIFEST-*"), func(b []byte) []byte { return b[:len(b)-5] })
	check("a damaged database", full, true)

	newer := filled(t)
	ldb, err := leveldb.OpenFile(newer, nil)
	must(t, err)
	must(t, ldb.Put(formatKey, []byte("2"), nil))
	must(t, ldb.Close())
	var format *FormatError
	if found, err := Look(newer); !found || !errors.As(err, &format) || format.Found != `"2"` {
		t.Errorf("a newer database: %v, %v", found, err)
	}
	if _, err := Look(filepath.Join(newest(t, newer, "MANIFEST-*"), "kv")); err == nil {
		t.Error("below a file there is a database, or none")
	}
}
