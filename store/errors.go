package store

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
)

// Errors that callers tell apart. They come wrapped with what failed.
var (
	// ErrLocked is returned by Open when another process has the folder.
	ErrLocked = errors.New("store: the folder is in use by another process")
	// ErrMissing is returned by Open when files are missing that the folder's
	// checkpoint knows of. Nothing was changed. Options.AcceptLoss goes on.
	ErrMissing = errors.New("store: files are missing")
	// ErrFormat is returned by Open for a folder of a newer format.
	ErrFormat = errors.New("store: the folder has a newer format")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store: closed")
	// ErrFailed is sticky: a write or an fsync failed; until the folder is
	// opened anew, nothing is stored any more. Reads go on.
	ErrFailed = errors.New("store: takes no messages after a failed write or flush")
	// ErrNoSpace says that the disk is full. Nothing of the batch was stored;
	// appends work again when there is space.
	ErrNoSpace = commitlog.ErrNoSpace
	// ErrTooLarge says that a message, or a group, does not fit into a segment.
	ErrTooLarge = commitlog.ErrTooLarge
	// ErrNotFound says that there is no record at the position, no such queue,
	// or no entry at the offset.
	ErrNotFound = errors.New("store: not found")
)

// CorruptError says where the log holds no record, or a damaged one.
type CorruptError = commitlog.CorruptError

// RecordError says that a queue's entry does not lead to a record of it.
type RecordError struct {
	Topic  string
	Queue  int32
	Offset int64 // in the queue
	Err    error
}

// Error implements error.
func (e *RecordError) Error() string {
	return fmt.Sprintf("store: %s queue %d offset %d leads to no record of it: %v", e.Topic, e.Queue, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *RecordError) Unwrap() error { return e.Err }

// isNoSpace tells whether the disk, or the user's share of it, is full.
func isNoSpace(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, consumequeue.ErrNoSpace) ||
		errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
