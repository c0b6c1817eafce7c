package index

import (
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Options of Open. The zero value of a field means its default.
type Options struct {
	FS    vfs.FS
	Slots int // default 5,000,000; Apache's maxHashSlotNum
	Items int // default 20,000,000; Apache's maxIndexNum
	Now   func() time.Time
	// Unclean makes Open check every item of the newest file.
	Unclean  bool
	ReadOnly bool
	Broken   func(*BrokenError)
}

// BrokenError names an index file that cannot be used.
type BrokenError struct {
	File string
	Err  error
}

func (e *BrokenError) Error() string { return "index: " + e.File + ": " + e.Err.Error() }
func (e *BrokenError) Unwrap() error { return e.Err }

// Index is the index files of one folder.
type Index struct{}

func Open(dir string, o Options) (*Index, error) { panic("soon") }

// Put adds a complete key (TOPIC#k). Dispatcher only.
func (x *Index) Put(key []byte, pos message.Position, storeTime int64) error { panic("soon") }

// Find returns at most max positions of records whose key may be this one, with
// store times from begin to end (ms, both included), ascending.
func (x *Index) Find(key []byte, begin, end int64, max int) ([]message.Position, error) {
	panic("soon")
}
func (x *Index) Last() (message.Position, int64)         { panic("soon") } // newest record's position and store time
func (x *Index) TruncateFrom(pos message.Position) error { panic("soon") }
func (x *Index) DropBefore(min message.Position) error   { panic("soon") }
func (x *Index) Flush() error                            { panic("soon") }
func (x *Index) Drop(file string) error                  { panic("soon") }
func (x *Index) Failed() error                           { panic("soon") }
func (x *Index) Close() error                            { panic("soon") }
