package store

import (
	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/message"
)

// Entry is one row of a queue.
type Entry = consumequeue.Entry

// Segment describes one file of the log.
type Segment = commitlog.Segment

// Store is an open folder. See the package comment.
type Store struct{}

// Batch gathers messages for one Append; see NewBatch.
type Batch struct{}

// Result is where a message was stored.
type Result struct {
	Offset    message.Offset // in its queue
	Position  message.Position
	StoreTime int64 // ms
}

func Open(dir string, o Options) (*Store, error) { panic("soon") }
func (s *Store) Close() error                    { panic("soon") }

func (s *Store) NewBatch() *Batch { panic("soon") }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { panic("soon") }

// Add encodes m; its slices may die afterwards. Errors: message.ErrTooLarge, ErrTooLarge.
func (b *Batch) Add(m *message.Message) error { panic("soon") }

// AddCode is Add with the code that the queue's entry holds in place of the
// hash of the tags.
func (b *Batch) AddCode(m *message.Message, tagCode int64) error { panic("soon") }

// AddGroup adds the messages that fill hands to add; they get consecutive
// offsets and share a segment. When fill fails, none of them is added.
func (b *Batch) AddGroup(fill func(add func(*message.Message) error) error) error { panic("soon") }
func (b *Batch) Len() int                                                         { panic("soon") }
func (b *Batch) Result(i int) Result                                              { panic("soon") } // after Append
func (b *Batch) End() message.Position                                            { panic("soon") } // for WhenSafe

// Append stores all messages of b or none.
func (s *Store) Append(b *Batch) error                                  { panic("soon") }
func (s *Store) WhenSafe(end message.Position, fn func(error))          { panic("soon") }
func (s *Store) Put(m *message.Message) (Result, error)                 { panic("soon") } // waits until safe, unless WAIT=false
func (s *Store) PutCode(m *message.Message, code int64) (Result, error) { panic("soon") }
func (s *Store) SyncFlush() bool                                        { panic("soon") }
func (s *Store) Writable() error                                        { panic("soon") } // ErrFailed, ErrClosed, … or nil
func (s *Store) Failed() error                                          { panic("soon") }

// GetStatus says what came of a Get.
type GetStatus int

// The outcomes of a Get. String gives Apache's names.
const (
	GetFound           GetStatus = iota // records are in the body
	GetNoMatch                          // none of the scanned entries matches: go on at Next
	GetBeingRemoved                     // the scanned entries lead to no record any more: go on at Next
	GetGap                              // the queue has no entries at the offset: go on at Next
	GetOffsetAtEnd                      // the offset is the queue's end: nothing there yet
	GetOffsetBeyondEnd                  // the offset is above the queue's end: Next is the end
	GetOffsetTooSmall                   // the offset is below the queue's first: Next is the first
	GetEmptyQueue                       // the queue never had a message: Next is 0
	GetNoQueue                          // there is no such queue: Next is 0
)

func (s GetStatus) String() string { panic("soon") }

// GetQuery says what to read.
type GetQuery struct {
	Topic    string
	Queue    int32
	Offset   message.Offset
	MaxCount int // messages; at most 32 hot and 8 cold are given
	MaxBytes int // 0: no limit of the caller's; at least one message is given

	MatchTag    func(code int64) bool   // nil: all
	MatchRecord func(message.View) bool // nil: all; the View dies when it returns
}

// GetResult is the outcome of a Get.
type GetResult struct {
	Status GetStatus
	Next   message.Offset // where to go on
	Min    message.Offset // of the queue
	Max    message.Offset // of the queue
	Count  int            // messages in Body
	Body   []byte         // the caller's buffer with the records appended
	Cold   bool           // the consumer is further behind the end than HotBytes
	Behind int64          // bytes from the last record read to the end of the log
}

// Get reads messages of a queue and appends their records to dst.
func (s *Store) Get(q *GetQuery, dst []byte) (GetResult, error) { panic("soon") }

func (s *Store) QueueMin(topic string, queue int32) message.Offset { panic("soon") } // 0 for an unknown queue
func (s *Store) QueueMax(topic string, queue int32) message.Offset { panic("soon") }
func (s *Store) Queues(topic string) []int32                       { panic("soon") }
func (s *Store) Topics() []string                                  { panic("soon") }

// Entries reads entries from an offset on; n is 0 at the end.
func (s *Store) Entries(topic string, queue int32, from message.Offset, dst []Entry) (n int, err error) {
	panic("soon")
}

// Boundary says which of several messages with one time is meant.
type Boundary int

// Lower is the first message not before the time, Upper the last not after it.
const (
	Lower Boundary = iota
	Upper
)

func (s *Store) OffsetByTime(topic string, queue int32, ms int64, b Boundary) (message.Offset, error) {
	panic("soon")
}
func (s *Store) StoreTimeAt(topic string, queue int32, off message.Offset) (int64, error) {
	panic("soon")
}
func (s *Store) EarliestTime(topic string, queue int32) (int64, error) { panic("soon") }

// Record returns a copy of the record at a position. ErrNotFound if there is none.
func (s *Store) Record(pos message.Position) (message.View, error) { panic("soon") }

// KeyKind says what a key is.
type KeyKind int

// Kinds of keys.
const (
	AnyKey    KeyKind = iota // one of the KEYS, or the unique key
	UniqueKey                // the unique key
	TagKey                   // the tags
)

// KeyQuery says what to look for.
type KeyQuery struct {
	Topic string
	Key   string
	Kind  KeyKind
	Begin int64 // store time, ms
	End   int64
	Max   int // at most 64 are given
}

// KeyResult is the outcome of a Query.
type KeyResult struct {
	Count        int
	Body         []byte // the caller's buffer with the records appended
	LastTime     int64  // store time of the newest record in the index, ms
	LastPosition message.Position
}

// Query finds messages by key; topic and key are compared on the record.
func (s *Store) Query(q *KeyQuery, dst []byte) (KeyResult, error) { panic("soon") }

// DeleteTopic removes the topic's queues; they start at 0 again when used.
func (s *Store) DeleteTopic(topic string) error { panic("soon") }

// DropBefore drops whole segments below pos, then what queues and index have of them.
func (s *Store) DropBefore(pos message.Position) (segments int, err error) { panic("soon") }

// Usage is what the folder holds.
type Usage struct {
	LogBytes            int64
	DiskTotal, DiskFree int64
	Segments            []Segment
	Min, Max            message.Position
}

func (s *Store) Usage() (Usage, error) { panic("soon") }

// Stats are counters since Open and gauges of this moment.
type Stats struct {
	PutMessages, PutBytes int64
	GetMessages, GetBytes int64
	GetMisses             int64
	DispatchBehind        int64 // bytes between the log's end and what is visible
	DispatchWaiting       int   // messages between append and dispatch
	FlushBehind           int64 // bytes that are not fsynced
	CheckpointBehind      int64 // bytes that a restart after a crash reads again
	Skipped               int64 // entries that led to no record
	LastStoreTime         int64
}

func (s *Store) Stats() Stats { panic("soon") }
