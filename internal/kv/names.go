package kv

import (
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// durableNames makes the name of a new journal durable before anything is
// written to it. goleveldb syncs the folder with its manifest alone: until the
// next one a power cut could take a journal with all the synced writes in it.
type durableNames struct {
	storage.Storage
	syncFolder func() error
}

// Create implements storage.Storage.
func (s durableNames) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := s.Storage.Create(fd)
	if err != nil || fd.Type != storage.TypeJournal {
		return w, err
	}
	if err := s.syncFolder(); err != nil {
		return nil, errors.Join(fmt.Errorf("sync the folder for the new file %s: %w", fd, err), w.Close())
	}
	return w, nil
}
