package kv

import (
	"errors"
	"fmt"
	"os"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Verify reads every key of a folder that nobody has open and checks all
// checksums, and changes nothing. It returns how many keys there are; a
// *CorruptError says that something is damaged. A folder that is not there has
// no keys.
func Verify(dir string) (keys int, err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	stor, err := storage.OpenFile(dir, true)
	if isLocked(err) {
		return 0, fmt.Errorf("kv: %s: %w", dir, ErrLocked)
	}
	if err != nil {
		return 0, fmt.Errorf("kv: open %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, stor.Close()) }()
	db := &DB{dir: dir}
	ldb, err := leveldb.Open(stor, &opt.Options{ReadOnly: true, ErrorIfMissing: true, Strict: opt.StrictAll})
	if err != nil {
		return 0, db.wrap("verify", err)
	}
	it := ldb.NewIterator(nil, &opt.ReadOptions{Strict: opt.StrictAll, DontFillCache: true})
	for it.Next() {
		keys++
	}
	it.Release()
	if err := errors.Join(it.Error(), ldb.Close()); err != nil {
		return keys, db.wrap("verify", err)
	}
	return keys, nil
}
