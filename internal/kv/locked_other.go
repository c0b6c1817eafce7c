//go:build !unix

package kv

import (
	"errors"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// isLocked tells whether opening the folder failed because somebody has it.
func isLocked(err error) bool { return errors.Is(err, storage.ErrLocked) }
