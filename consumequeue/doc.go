// Package consumequeue keeps, for every topic and queue, the row of 20-byte
// entries that says where in the commit log message 0, 1, 2 … of that queue
// is. The files are Apache RocketMQ's: consumequeue/TOPIC/QUEUE/<20 digits>,
// each of full length, unused places zero.
//
//	place  size  field (big-endian)
//	    0     8  position of the record in the commit log
//	    8     4  size of the record
//	   12     8  tag code
//
// A row counts if its position is not negative and its size is above 0. The
// filler {0, 2147483647, 0} stands for an offset that has no record: the start
// of a file whose queue begins later, or a record that damage has isolated.
//
// What it promises: readers see an entry as soon as Put has returned; what was
// put before a call of Flush is durable when Flush returns nil; an entry that
// was not flushed may be lost by a crash, or be on disk with holes before it,
// so after a crash the caller names the last position it is certain of
// (TruncateFrom) and puts again what the log has behind it. After a failed
// write or fsync the table takes no more entries (ErrFailed); a full disk
// (ErrNoSpace) is not such a failure.
//
// An idle queue costs its struct and nothing else: no open file, no mapping,
// no buffer. One process per folder; the caller holds the lock.
package consumequeue
