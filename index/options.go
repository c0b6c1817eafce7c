package index

import (
	"errors"
	"fmt"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
)

// Errors that callers tell apart.
var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("index: closed")
	// ErrFailed is sticky: a write or an fsync failed, and what is in the newest
	// file is uncertain until the index is opened again. It wraps the cause.
	ErrFailed = errors.New("index: no more keys are taken after a failed write")
	// ErrNoSpace says that the disk has no room for more keys. Nothing changed;
	// Put works again when there is space.
	ErrNoSpace = errors.New("index: disk full")
	// ErrReadOnly is returned by what would write in an index opened read-only.
	ErrReadOnly = errors.New("index: opened read-only")
)

// BrokenError names an index file that cannot be used. It is left where it is;
// Drop removes it.
type BrokenError struct {
	File string
	Err  error
}

func (e *BrokenError) Error() string { return "index: " + e.File + ": " + e.Err.Error() }
func (e *BrokenError) Unwrap() error { return e.Err }

// Options of Open. The zero value of a field means its default.
type Options struct {
	FS vfs.FS // default vfs.OS
	// Slots and Items are the size of a file, default 5,000,000 and 20,000,000;
	// Apache's maxHashSlotNum and maxIndexNum. They must be what the folder was
	// written with.
	Slots, Items int
	// Now gives the time for the names of new files, in the zone that they are
	// to be named in. Default time.Now.
	Now func() time.Time
	// ReadOnly opens without changing anything.
	ReadOnly bool
	// Broken is told of files that Open leaves out. May be nil.
	Broken func(*BrokenError)
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.Slots == 0 {
		o.Slots = 5_000_000
	}
	if o.Items == 0 {
		o.Items = 20_000_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Broken == nil {
		o.Broken = func(*BrokenError) {}
	}
	if o.Slots < 1 || o.Slots > 1<<30 || o.Items < 2 || o.Items > 1<<30 {
		return o, fmt.Errorf("index: %d slots and %d items; slots must be 1 to %d, items 2 to %d", o.Slots, o.Items, 1<<30, 1<<30)
	}
	return o, nil
}
