package consumequeue

import (
	"encoding/binary"
	"math"

	"github.com/merlinmq/merlin/message"
)

// EntrySize is what an entry takes in a file, in bytes.
const EntrySize = 20

// fillerSize is the record size that marks a filler.
const fillerSize = math.MaxInt32

// Entry is one row of a queue: where a record is, how long it is, and the code
// of its tags (in the schedule topic: when it is due).
type Entry struct {
	Position message.Position
	Size     int32
	TagCode  int64
}

// Filler reports whether the entry stands for an offset without a record:
// a filler as Apache writes it, or a row that was lost.
func (e Entry) Filler() bool { return e.Size <= 0 || e.Size == fillerSize || e.Position < 0 }

func putEntry(b []byte, e Entry) {
	_ = b[EntrySize-1]
	binary.BigEndian.PutUint64(b, uint64(e.Position))
	binary.BigEndian.PutUint32(b[8:], uint32(e.Size))
	binary.BigEndian.PutUint64(b[12:], uint64(e.TagCode))
}

func getEntry(b []byte) Entry {
	_ = b[EntrySize-1]
	return Entry{
		Position: message.Position(binary.BigEndian.Uint64(b)),
		Size:     int32(binary.BigEndian.Uint32(b[8:])),
		TagCode:  int64(binary.BigEndian.Uint64(b[12:])),
	}
}

// used reports whether a row of a file holds something: an entry or a filler.
func (e Entry) used() bool { return e.Position >= 0 && e.Size > 0 }

var filler = Entry{Size: fillerSize}
