package index

import (
	"encoding/binary"
	"math"

	"github.com/merlinmq/merlin/message"
)

const (
	headSize = 40
	slotSize = 4
	itemSize = 20
)

// layout is how long the parts of a file are; all files of a folder share it.
type layout struct{ slots, items int64 }

func (l layout) size() int64             { return headSize + l.slots*slotSize + l.items*itemSize }
func (l layout) slotPlace(s int64) int64 { return headSize + s*slotSize }
func (l layout) itemPlace(n int64) int64 { return headSize + l.slots*slotSize + n*itemSize }

// head is the header of a file. Count is the number of the next free item: 1 in
// an empty file, whose header has 0 there until the first key.
type head struct {
	beginTime, endTime int64
	beginPos, endPos   message.Position
	slotsUsed, count   int64
}

func getHead(b []byte) head {
	h := head{
		beginTime: int64(binary.BigEndian.Uint64(b)),
		endTime:   int64(binary.BigEndian.Uint64(b[8:])),
		beginPos:  message.Position(binary.BigEndian.Uint64(b[16:])),
		endPos:    message.Position(binary.BigEndian.Uint64(b[24:])),
		slotsUsed: int64(int32(binary.BigEndian.Uint32(b[32:]))),
		count:     int64(int32(binary.BigEndian.Uint32(b[36:]))),
	}
	if h.count == 0 {
		h.count = 1
	}
	return h
}

func putHead(b []byte, h head) {
	binary.BigEndian.PutUint64(b, uint64(h.beginTime))
	binary.BigEndian.PutUint64(b[8:], uint64(h.endTime))
	binary.BigEndian.PutUint64(b[16:], uint64(h.beginPos))
	binary.BigEndian.PutUint64(b[24:], uint64(h.endPos))
	binary.BigEndian.PutUint32(b[32:], uint32(h.slotsUsed))
	binary.BigEndian.PutUint32(b[36:], uint32(h.count))
}

// item is one key of one record.
type item struct {
	hash int32
	pos  message.Position
	secs int32
	prev int32
}

func getItem(b []byte) item {
	_ = b[itemSize-1]
	return item{
		hash: int32(binary.BigEndian.Uint32(b)),
		pos:  message.Position(binary.BigEndian.Uint64(b[4:])),
		secs: int32(binary.BigEndian.Uint32(b[12:])),
		prev: int32(binary.BigEndian.Uint32(b[16:])),
	}
}

func putItem(b []byte, it item) {
	_ = b[itemSize-1]
	binary.BigEndian.PutUint32(b, uint32(it.hash))
	binary.BigEndian.PutUint64(b[4:], uint64(it.pos))
	binary.BigEndian.PutUint32(b[12:], uint32(it.secs))
	binary.BigEndian.PutUint32(b[16:], uint32(it.prev))
}

// hashOf is what an item keeps of a key.
func hashOf(key []byte) int32 { return itemHash(message.JavaHash(key)) }

// itemHash is the absolute value of Java's hash, and 0 for the one that has none.
func itemHash(h int32) int32 {
	if h == math.MinInt32 {
		return 0
	}
	if h < 0 {
		return -h
	}
	return h
}

// secsAfter is the time of an item: whole seconds after the file's first.
func secsAfter(begin, t int64) int32 {
	return int32(max(0, min((t-begin)/1000, math.MaxInt32)))
}
