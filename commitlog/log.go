package commitlog

import (
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Log is an open commit log. See the package comment.
type Log struct{}

// Start tells Recover where to begin.
type Start struct {
	// Clean says that the log was closed in order.
	Clean bool
	// From is where checking begins; it is rounded down to the start of a
	// segment, and into the log.
	From message.Position
}

// Segment describes one file of the log.
type Segment struct {
	Base           message.Position
	Size           int64
	File           string // path
	ModTime        time.Time
	FirstStoreTime int64 // ms; 0 if the segment has no record yet
}

// Span names the bytes of one record.
type Span struct {
	Position message.Position
	Size     int32
}

// Open loads the segments in dir, creating the folder if it is missing.
// Recover must be called before appends; reads work up to the end of the
// last segment from now on.
func Open(dir string, o Options) (*Log, error) { panic("soon") }

// Recover checks the records from s.From on, calls each for every good one in
// order, and leaves the log ready for appends at its end. The View dies when
// each returns. An error of each ends the recovery and is returned.
//
// A damaged range with a good record behind it is reported through
// Events.Damaged and skipped. Bad bytes with nothing good behind them are the
// torn tail: they are zeroed, durably, before Recover returns.
func (l *Log) Recover(s Start, each func(pos message.Position, v message.View) error) error {
	panic("soon")
}

// Append writes the records of b to the log's end. Each gets its position and
// the store timestamp (never decreasing) patched in and is then shown to
// assign, in order, to patch the rest; assign may be nil. Both run under the
// append lock. end is the position behind the last record: hand it to WhenSafe.
//
// All records are in the log or none. Errors: ErrNoSpace, ErrTooLarge,
// ErrFailed, ErrClosed, ErrNotRecovered.
func (l *Log) Append(b *Batch, assign func(i int, pos message.Position, storeTime int64, rec []byte)) (end message.Position, err error) {
	panic("soon")
}

// Safe returns the position up to which an append may be acknowledged.
func (l *Log) Safe() message.Position { panic("soon") }

// Flushed returns the position up to which the log is fsynced.
func (l *Log) Flushed() message.Position { panic("soon") }

// WhenSafe calls fn once, when the log is safe up to end (nil) or never will be
// (ErrFailed, ErrClosed): at once on this goroutine if that is known already,
// else on the flusher, in the order of their ends. fn must be short.
func (l *Log) WhenSafe(end message.Position, fn func(error)) { panic("soon") }

// WhenFlushed is WhenSafe for the fsync alone, whatever Options.Sync says.
func (l *Log) WhenFlushed(end message.Position, fn func(error)) { panic("soon") }

// Flush fsyncs what is written and returns when that is done.
func (l *Log) Flush() error { panic("soon") }

// Min returns the position of the first segment, Max the end of the log.
func (l *Log) Min() message.Position { panic("soon") }

// Max returns the end of the log: where the next append goes.
func (l *Log) Max() message.Position { panic("soon") }

// Read appends the size bytes at pos to dst. They must lie in one segment and
// before Max, else ErrNotFound.
func (l *Log) Read(pos message.Position, size int, dst []byte) ([]byte, error) { panic("soon") }

// ReadMany appends the bytes of all spans to dst, in order, and stops before
// the first that would make dst longer than limit (0 for no limit) or that
// cannot be read; n says how many were read. The error is that of span n.
func (l *Log) ReadMany(spans []Span, limit int, dst []byte) (out []byte, n int, err error) {
	panic("soon")
}

// Record reads, checks and returns a copy of the record at pos. CorruptError
// if there is none or it is damaged.
func (l *Log) Record(pos message.Position) (message.View, error) { panic("soon") }

// Segments lists the segments that hold the log, oldest first.
func (l *Log) Segments() []Segment { panic("soon") }

// SegmentSize returns the length of a segment in bytes.
func (l *Log) SegmentSize() int64 { panic("soon") }

// DropBefore removes the segments that end at or before pos, never the last
// one, and returns how many.
func (l *Log) DropBefore(pos message.Position) (int, error) { panic("soon") }

// DropOldest removes up to n of the oldest segments, never the last one.
func (l *Log) DropOldest(n int) (int, error) { panic("soon") }

// Failed returns the error that made the log refuse appends, or nil.
func (l *Log) Failed() error { panic("soon") }

// Close flushes, ends the goroutines, answers who still waits, removes files
// that were made ahead, and returns the error of the last fsync, if any.
func (l *Log) Close() error { panic("soon") }

// Scan reads a folder that no Log has open, changes nothing in it, and calls
// each for every good record from the segment of from on, and damaged for
// every bad range; it returns the end of the log. damaged may be nil.
func Scan(fsys vfs.FS, dir string, from message.Position,
	each func(pos message.Position, v message.View) error,
	damaged func(file string, from, to message.Position, err error)) (end message.Position, err error) {
	panic("soon")
}
