package commitlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Errors of a Log. They come wrapped with the file, the position and the cause.
var (
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("commitlog: closed")
	// ErrNotRecovered is returned by appends before Recover has succeeded.
	ErrNotRecovered = errors.New("commitlog: not recovered yet")
	// ErrFailed is returned by appends, and given to WhenSafe, after a write or
	// an fsync failed. It stays until the log is opened anew.
	ErrFailed = errors.New("commitlog: refuses appends after a failed write or flush")
	// ErrNoSpace is returned by an append that found no room on the disk.
	// Nothing of the batch is in the log; a later append may succeed.
	ErrNoSpace = errors.New("commitlog: no space left on the disk")
	// ErrNotFound is returned for a position that the log does not hold.
	ErrNotFound = errors.New("commitlog: position is not in the log")
	// ErrTooLarge is returned for a record, or a group that must share a
	// segment, that is larger than a segment or than Options.MaxRecord.
	ErrTooLarge = errors.New("commitlog: does not fit into a segment")
)

// CorruptError says where stored bytes are not what was written.
type CorruptError struct {
	File   string // path of the segment
	Offset int64  // byte place in the file
	Err    error  // what is wrong there
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("commitlog: %s is damaged at byte %d: %v", e.File, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// Options of a Log. The zero value of a field means its default.
type Options struct {
	FS vfs.FS // default vfs.OS
	// SegmentSize is the length of a file in bytes, default 1 GiB. A folder
	// whose files all have another length keeps that one.
	SegmentSize int64
	// Sync makes a position safe once it is fsynced (group commit). Without it
	// a position is safe once it is written, and fsynced soon after.
	Sync bool
	// FlushEvery is the longest time that written data stays without an fsync
	// when nobody waits for it. Default 500 ms.
	FlushEvery time.Duration
	// AllocateAhead is how many bytes of disk are reserved ahead of the end, so
	// that a full disk is met when making room and not in a write. Default
	// 64 MiB, at most a segment.
	AllocateAhead int64
	// MaxRecord is the largest record that is taken or believed, default 64 MiB.
	MaxRecord int
	// HotWindow is how many bytes behind the end are read through a mapping,
	// default 256 MiB; what lies further back is read through one while it is in
	// memory. MaxMappings bounds how many segments are mapped, default 8.
	HotWindow   int64
	MaxMappings int
	// ColdReads is how many preads may run at once, default 16.
	ColdReads int
	// Now is the clock for store timestamps, default time.Now.
	Now    func() time.Time
	Events Events
}

// Events are called on the goroutine where the thing happens; they must be
// short and must not call the Log, except for Failed. Nil ones are skipped.
type Events struct {
	// Rolled: appends go on in the segment that starts at base.
	Rolled func(base message.Position)
	// Flushed: an fsync made that many more bytes durable.
	Flushed func(bytes int64, took time.Duration)
	// Answered: the flusher has fsynced, and called who waited for that. Not
	// told of FlushAlone, whose caller knows.
	Answered func()
	// Recovering: Recover has come to pos of about end. Called now and then.
	Recovering func(pos, end message.Position)
	// Recovered: Recover is done.
	Recovered func(Recovery)
	// Damaged: the bytes between the two positions hold no record that can be
	// believed, and good records stand behind them. Also told: a tail that is
	// cut though the log was closed in order, and a file behind the end that
	// was removed without a good record in it. err is a *CorruptError.
	Damaged func(file string, from, to message.Position, err error)
	// Ignored: a file in the folder that is not a segment was left alone.
	Ignored func(file string, why string)
	// Failed: the log takes no more appends. Called once.
	Failed func(err error)
}

// Recovery is what Recover found.
type Recovery struct {
	From, End message.Position // where checking began, where appends go on
	Records   int64
	Damaged   int           // damaged ranges that were skipped
	Cut       int64         // bytes of the torn tail that were not zero and are now
	Took      time.Duration // by the clock of Options
}

const (
	defaultSegmentSize = 1 << 30
	minSegmentSize     = 4 << 10
	maxSegmentSize     = 1<<31 - 1 // sizes in the files are signed 32-bit numbers
)

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	setDefault(&o.SegmentSize, defaultSegmentSize)
	setDefault(&o.FlushEvery, 500*time.Millisecond)
	setDefault(&o.AllocateAhead, 64<<20)
	setDefault(&o.MaxRecord, 64<<20)
	setDefault(&o.HotWindow, 256<<20)
	setDefault(&o.MaxMappings, 8)
	setDefault(&o.ColdReads, 16)
	switch {
	case o.SegmentSize < minSegmentSize || o.SegmentSize > maxSegmentSize:
		return o, fmt.Errorf("commitlog: SegmentSize is %d bytes, want %d to %d", o.SegmentSize, minSegmentSize, maxSegmentSize)
	case o.FlushEvery < 0, o.AllocateAhead < 0, o.MaxRecord < 0, o.HotWindow < 0, o.MaxMappings < 0, o.ColdReads < 0:
		return o, errors.New("commitlog: an option is negative; leave it out for its default")
	}
	return o, nil
}

func setDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
