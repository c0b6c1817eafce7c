package store

import "sync/atomic"

// counts are what Stats counts.
type counts struct {
	putMessages, putBytes atomic.Int64
	getMessages, getBytes atomic.Int64
	getMisses, skipped    atomic.Int64
}

// Stats are counters since Open and gauges of this moment.
type Stats struct {
	PutMessages, PutBytes int64
	GetMessages, GetBytes int64
	GetMisses             int64 // Gets that gave nothing
	Skipped               int64 // entries that led to no record
	DispatchBehind        int64 // bytes between the log's end and what can be read
	DispatchWaiting       int   // messages on their way there
	FlushBehind           int64 // bytes that are not fsynced
	CheckpointBehind      int64 // bytes that a start after a crash reads again
	Queues                int
	QueueBuffers          int64 // bytes of queue entries that wait for the files
	QueueFilesOpen        int
}

// Stats returns the store's numbers.
func (s *Store) Stats() Stats {
	c, end, t := &s.counts, int64(s.log.Max()), s.table.Stats()
	return Stats{
		PutMessages: c.putMessages.Load(), PutBytes: c.putBytes.Load(),
		GetMessages: c.getMessages.Load(), GetBytes: c.getBytes.Load(),
		GetMisses: c.getMisses.Load(), Skipped: c.skipped.Load(),
		DispatchBehind: max(0, end-s.visible.Load()), DispatchWaiting: s.pending.held(),
		FlushBehind: max(0, end-int64(s.log.Flushed())), CheckpointBehind: max(0, end-s.markedEnd.Load()),
		Queues: t.Queues, QueueBuffers: t.BufferedBytes, QueueFilesOpen: t.OpenFiles,
	}
}
