package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Options of Open. The zero value of a field means its default.
type Options struct {
	FS  vfs.FS           // default vfs.OS
	Now func() time.Time // clock of store timestamps and intervals, default time.Now

	SegmentSize      int64 // of the log in bytes, default 1 GiB
	QueueFileEntries int   // entries in a queue's file, default 300,000
	IndexSlots       int   // hash slots of an index file, default 5,000,000
	IndexItems       int   // items of an index file, default 20,000,000
	NoIndex          bool  // write no index; an existing one is still read

	// SyncFlush makes a message safe, and visible, when it is fsynced. Without
	// it a message is safe once the kernel has it.
	SyncFlush bool
	// FlushEvery is how often the log is fsynced when nobody waits for it;
	// default 500 ms.
	FlushEvery time.Duration
	// CheckpointEvery is how often queues and index are made durable, default
	// 3 s; CheckpointBytes does it earlier when the log has grown by so much,
	// default 256 MiB. Together they bound the work after a crash.
	CheckpointEvery time.Duration
	CheckpointBytes int64
	// DispatchLimit bounds the messages between append and dispatch, default
	// 32,768. Appends wait when it is reached.
	DispatchLimit int
	// HotBytes is how far behind the end of the log a read still counts as hot:
	// 40 % of the memory is Apache's rule. Default 2 GiB.
	HotBytes int64
	// Transfer bounds what one Get gives; it may be changed at any time. Default
	// Apache's limits.
	Transfer *TransferLimits
	// MaxRecord is the largest record that is taken, default 64 MiB.
	MaxRecord int

	// StoreHost is the broker's address, for messages that come without one.
	StoreHost func() netip.AddrPort
	// TagCode says what the entry of a record holds in place of the hash of its
	// tags, when it is dispatched anew after a crash: the due time in the
	// schedule topic. ok is false for the hash.
	TagCode func(v message.View) (code int64, ok bool)

	// OnArrive is told of messages that Get can now find, in log order, by the
	// dispatcher: it must be short and must not call Append or Close. The
	// slice is reused after it returns. Not called during recovery.
	OnArrive func(arrivals []Arrival)
	// BeforeDrop is called before records below a position are dropped by
	// retention; all of them can be read. An error keeps them. After one that
	// wraps ErrNoSpace it is asked for lower positions.
	BeforeDrop func(upto message.Position) error
	// Progress is called while Open reads the log, with bytes.
	Progress func(done, total int64)
	// Context ends an Open that is reading the log, with its error; the next
	// Open begins anew, as after a kill. Later it means nothing. Default none.
	Context context.Context
	Events  Events

	// AcceptLoss lets Open go on where it would return ErrMissing.
	AcceptLoss bool
	// Rebuild makes queues and index anew from all of the log. Topics that were
	// deleted and not used again come back as far as the log has them.
	Rebuild bool
}

// Arrival says that a message can be read.
type Arrival struct {
	Topic     string
	Queue     int32
	Offset    message.Offset // of the message
	TagCode   int64
	StoreTime int64 // ms
	Position  message.Position
	Size      int32 // bytes of the record
}

// Events tell what happens inside. They are called on the goroutine where it
// happens, must be short and must not call the Store. Nil ones are skipped.
type Events struct {
	// Recovered: Open has made queues and index agree with the log.
	Recovered func(Recovery)
	// Damaged: a file, or a range of it, cannot be used; the text says what
	// was done about it.
	Damaged func(file string, err error)
	// Skipped: a reader stepped over an entry that leads to no record.
	Skipped func(*RecordError)
	// Flushed: an fsync of the log took so long for so many bytes.
	Flushed func(bytes int64, took time.Duration)
	// Checkpointed: queues and index are durable up to the position.
	Checkpointed func(upto message.Position, took time.Duration)
	// Uncheckpointed: the disk has no room for what a checkpoint writes; it is
	// tried again. Called once until a checkpoint is written.
	Uncheckpointed func(err error)
	// Failed: no more messages are taken. Called once.
	Failed func(err error)
}

// Recovery is what Open found and did.
type Recovery struct {
	Clean      bool             // the folder was closed in order
	Exact      bool             // our own checkpoint was believed
	Rebuilt    bool             // the queues were built anew from the whole log
	From       message.Position // where the log was read from
	End        message.Position // end of the log
	Records    int64            // read
	Dispatched int64            // of them put into queues
	Damaged    int              // damaged ranges of the log that were stepped over
	Cut        int64            // bytes of the torn tail
	Took       time.Duration
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	def(&o.SegmentSize, 1<<30)
	def(&o.QueueFileEntries, 300_000)
	def(&o.FlushEvery, 500*time.Millisecond)
	def(&o.CheckpointEvery, 3*time.Second)
	def(&o.CheckpointBytes, 256<<20)
	def(&o.DispatchLimit, 32<<10)
	def(&o.HotBytes, 2<<30)
	def(&o.MaxRecord, 64<<20)
	if o.Transfer == nil {
		o.Transfer = new(TransferLimits)
	}
	if o.StoreHost == nil {
		o.StoreHost = func() netip.AddrPort { return netip.AddrPort{} }
	}
	switch {
	case o.SegmentSize < 0, o.QueueFileEntries < 0, o.IndexSlots < 0, o.IndexItems < 0, o.FlushEvery < 0,
		o.CheckpointEvery < 0, o.CheckpointBytes < 0, o.DispatchLimit < 0, o.HotBytes < 0, o.MaxRecord < 0:
		return o, errors.New("store: an option is negative; leave it out for its default")
	case o.DispatchLimit < 16:
		return o, fmt.Errorf("store: DispatchLimit is %d, want at least 16", o.DispatchLimit)
	}
	return o, nil
}

func def[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
