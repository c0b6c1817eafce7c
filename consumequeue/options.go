package consumequeue

import (
	"errors"
	"fmt"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Errors that callers tell apart.
var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("consumequeue: closed")
	// ErrDeleted is returned by a Queue whose topic was deleted.
	ErrDeleted = errors.New("consumequeue: the topic was deleted")
	// ErrFailed is sticky: a write or an fsync failed, and what is in the files
	// is uncertain until the table is opened again. It wraps the cause.
	ErrFailed = errors.New("consumequeue: no more entries are taken after a failed write")
	// ErrNoSpace says that the disk is full and the memory for entries that
	// wait for it too. Nothing is lost; Put works again when there is space.
	ErrNoSpace = errors.New("consumequeue: disk full")
	// ErrOutside is returned by Read for an offset below Min or above Max.
	ErrOutside = errors.New("consumequeue: offset outside of the queue")
	// ErrReadOnly is returned by what would write in a table opened read-only.
	ErrReadOnly = errors.New("consumequeue: opened read-only")
	// ErrEntry is returned by Put for what no queue can hold: see the text.
	ErrEntry = errors.New("consumequeue: entry refused")
)

// DamageError names a queue file that is not what it should be.
type DamageError struct {
	File string
	Err  error
}

func (e *DamageError) Error() string { return "consumequeue: " + e.File + ": " + e.Err.Error() }
func (e *DamageError) Unwrap() error { return e.Err }

// Options of Open. The zero value of a field means its default.
type Options struct {
	FS vfs.FS // default vfs.OS
	// FileEntries is the length of a file in entries, default 300,000 as Apache
	// has it. It must be what the folder was written with.
	FileEntries int
	// OpenFiles bounds the files that are kept open, default 256.
	OpenFiles int
	// BufferBytes bounds the memory of entries that are not in the files yet,
	// default 64 MiB. When it is reached, Put writes out the oldest.
	BufferBytes int64
	// MaxGap is how many offsets a Put may skip in a queue that has entries,
	// default 1,000,000; a longer step is damage and refused with ErrEntry.
	MaxGap int64
	// Snapshot is the file that Close leaves and Open reads instead of looking
	// into every queue; it must be outside of the table's folder. "" is none.
	Snapshot string
	// Stamp must equal what SetStamp was given before the Close that wrote the
	// snapshot; with another one, or "", the snapshot is not believed.
	Stamp string
	// ReadOnly opens without changing anything.
	ReadOnly bool
	// Damaged is told of files that Open could use only in part. May be nil.
	Damaged func(*DamageError)
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.FileEntries == 0 {
		o.FileEntries = 300_000
	}
	if o.OpenFiles == 0 {
		o.OpenFiles = 256
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = 64 << 20
	}
	if o.MaxGap == 0 {
		o.MaxGap = 1_000_000
	}
	if o.FileEntries < 1 || o.FileEntries > 1<<26 {
		return o, fmt.Errorf("consumequeue: FileEntries is %d, must be 1 to %d", o.FileEntries, 1<<26)
	}
	if o.OpenFiles < 1 || o.BufferBytes < 1 || o.MaxGap < 0 {
		return o, fmt.Errorf("consumequeue: OpenFiles %d, BufferBytes %d and MaxGap %d must not be negative", o.OpenFiles, o.BufferBytes, o.MaxGap)
	}
	if o.Damaged == nil {
		o.Damaged = func(*DamageError) {}
	}
	return o, nil
}

// Stats are the table's numbers of this moment.
type Stats struct {
	Queues        int
	DirtyQueues   int   // with entries that are not durable yet
	BufferedBytes int64 // memory of buffers
	OpenFiles     int
}

// Tail says where a queue ends.
type Tail struct {
	Offset   message.Offset   // of the next entry
	Position message.Position // of the last record, NoPosition if none is known
	Size     int32            // of that record
}
