package kv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Look tells, without changing anything, whether a folder holds a database, and
// returns a *FormatError if that is of a newer format. It says nothing of
// damage, and nothing of a folder that somebody has open: Open does.
func Look(dir string) (found bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("kv: look into %s: %w", dir, err)
	}
	if !slices.ContainsFunc(entries, isData) {
		return false, nil
	}
	stor, err := storage.OpenFile(dir, true)
	if err != nil {
		return true, nil
	}
	db := &DB{dir: dir}
	ldb, err := leveldb.Open(stor, &opt.Options{ReadOnly: true, ErrorIfMissing: true, Strict: opt.StrictManifest})
	if err == nil {
		if v, getErr := ldb.Get(formatKey, nil); getErr == nil {
			err = db.knows(v)
		}
		_ = ldb.Close() // nothing was written
	}
	_ = stor.Close()
	var newer *FormatError
	if errors.As(err, &newer) {
		return true, newer
	}
	return true, nil
}

// isData tells a file of a database from those that say nothing of its content.
func isData(e os.DirEntry) bool {
	switch name := e.Name(); filepath.Ext(name) {
	case ".ldb", ".log":
		return true
	default:
		return strings.HasPrefix(name, "MANIFEST-")
	}
}
