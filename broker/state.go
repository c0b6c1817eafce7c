package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/store"
)

// kvFolder holds the small state, in the data folder.
const kvFolder = "kv"

// stateFile in the data folder says that there was a kvFolder.
const stateFile = "merlin.state"

const stateText = "The folder kv beside this file holds topics, groups, committed offsets and the progress of delays.\n"

// CheckState refuses a data folder whose small state was there once and is not
// any more, with store.ErrMissing, or has a newer format. It changes nothing.
func CheckState(fsys vfs.FS, dir string) error {
	folder := filepath.Join(dir, kvFolder)
	found, err := kv.Look(folder)
	if err != nil || found {
		return err
	}
	mark := filepath.Join(dir, stateFile)
	_, err = fsys.Stat(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", mark, err)
	}
	return fmt.Errorf("%w: %s has no database any more, in which topics, groups, committed offsets and the progress of delays were (%s says so); "+
		"put the folder back, or start with --accept-loss to begin anew with what the log and config/*.json have", store.ErrMissing, folder, mark)
}

// checkState is CheckState for who opens a folder, and may accept a loss.
func (b *Broker) checkState(dir string, o Options) error {
	err := CheckState(o.FS, dir)
	if o.AcceptLoss && errors.Is(err, store.ErrMissing) {
		b.events.Warn("the small state is gone; it begins anew with what the log and config/*.json have", "error", err)
		return nil
	}
	return err
}

// markState notes durably that the small state is there.
func markState(fsys vfs.FS, dir string) error {
	path := filepath.Join(dir, stateFile)
	_, err := fsys.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = writeWhole(fsys, path, []byte(stateText)); err == nil {
			err = fsys.SyncDir(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
