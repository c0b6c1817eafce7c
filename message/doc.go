// Package message holds what a RocketMQ message is, byte for byte: the record
// of the commit log, its properties, ids, tag codes, flags, and the names that
// brokers and clients agree on. It does no I/O and keeps no state.
//
// Everything here is safe for concurrent use as long as the byte slices that
// are passed in are not written meanwhile. Decoders accept any input: they
// return an error and never panic, whatever the bytes are.
package message

// Position is a byte place in the commit log: the physical offset of a record.
type Position int64

// Offset is a place in one consume queue, counted in entries.
type Offset int64

// NoPosition and NoOffset stand for "none": no record, nothing committed.
const (
	NoPosition Position = -1
	NoOffset   Offset   = -1
)
