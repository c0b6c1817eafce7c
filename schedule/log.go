package schedule

import (
	"errors"

	"github.com/merlinmq/merlin/message"
)

// Log is the message log as a Service needs it. Implementations are safe for
// concurrent use.
type Log interface {
	// Bounds returns the first offset of a queue that can be read and the one
	// behind the last; 0, 0 for a queue that there is not.
	Bounds(topic string, queue int32) (first, end message.Offset)
	// Entries fills dst from an offset on and returns how many; fewer than
	// len(dst) means that the queue ends there. ErrGone for an offset outside.
	Entries(topic string, queue int32, from message.Offset, dst []Entry) (int, error)
	// Record returns a copy of the record at a position; an error that wraps
	// ErrGone if there is none, now and forever.
	Record(pos message.Position) (message.View, error)
	// Find calls fn with the records under a topic that have a key, or unique
	// key, newest first, until it returns false. fn may call the log. An error
	// that wraps ErrNoIndex if there is no index of keys.
	Find(topic, key string, fn func(v message.View) bool) error
	// Append stores all messages with one write, or none. The messages may be
	// changed afterwards. ErrNoSpace while the disk is full.
	Append(messages []message.Message) error
	// Sync returns when everything appended before is durable and visible in
	// the queues. ErrNoSpace: it is durable, but the disk has no room for the
	// queues.
	Sync() error
}

// Entry is a row of a queue. For the schedule topic TagCode is the due time.
type Entry struct {
	Position message.Position
	Size     int32
	TagCode  int64
}

var (
	// ErrGone is wrapped when there is no record where one is looked for.
	ErrGone = errors.New("no such record")
	// ErrNoSpace is wrapped when the disk has no room; there may be some later.
	ErrNoSpace = errors.New("no room on the disk")
	// ErrNoIndex is wrapped when records cannot be found by key.
	ErrNoIndex = errors.New("there is no index of keys")
	// ErrIllegal is wrapped when a message can never be stored as it is.
	ErrIllegal = errors.New("the message cannot be stored")
)

// Kind says what sort of refusal a RefusedError is.
type Kind int

// The kinds of refusals.
const (
	Illegal    Kind = iota // the message breaks a rule
	Disabled               // what is asked for is switched off
	NotPending             // the message is not waiting any more, or never was
	Unknown                // there is nothing by that name
)

// RefusedError is a refusal whose text is written for the client's reader.
type RefusedError struct {
	Kind Kind
	Text string
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Text }
