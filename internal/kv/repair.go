package kv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/syndtr/goleveldb/leveldb"
)

// Repair rebuilds a folder that nobody has open from the tables and journals
// that are readable, after copying it aside. What is damaged beyond reading is
// lost from it; the copy still has it.
func Repair(dir string, o Options) (Report, error) {
	return repair(dir, errors.New("a repair was asked for"), o.withDefaults())
}

func repair(dir string, damage error, o Options) (Report, error) {
	report := Report{Dir: dir, Damage: damage}
	stor, err := openFiles(dir)
	if err != nil {
		return report, err
	}
	defer stor.Close()
	if report.Copy, err = copyAside(dir); err != nil {
		return report, fmt.Errorf("kv: %s is damaged (%w) and was left as it is, because it could not be copied aside first: %w", dir, damage, err)
	}
	ldb, err := leveldb.Recover(stor, o.leveldb())
	if err != nil {
		return report, fmt.Errorf("kv: %s is damaged (%w) and could not be rebuilt; its files are kept in %s: %w", dir, damage, report.Copy, err)
	}
	it := ldb.NewIterator(nil, nil)
	for it.Next() {
		report.Keys++
	}
	it.Release()
	return report, errors.Join(it.Error(), ldb.Close())
}

// copyAside copies the folder to a new one beside it and returns its name.
func copyAside(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	to, err := freshName(dir + ".damaged")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == "LOCK" {
			continue
		}
		if err := copyFile(filepath.Join(dir, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return to, err
		}
	}
	return to, nil
}

// freshName makes a folder whose name begins with base.
func freshName(base string) (string, error) {
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s-%d", base, n)
		err := os.Mkdir(name, 0o755)
		if !errors.Is(err, os.ErrExist) {
			return name, err
		}
	}
}

func copyFile(from, to string) (err error) {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err = io.Copy(w, r); err != nil {
		return err
	}
	return w.Sync()
}
