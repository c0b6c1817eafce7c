// Package store is one commit log and the views derived from it: consume
// queues, which say where message 0, 1, 2 … of a topic's queue is, and the
// index, which finds messages by key. The folder is Apache RocketMQ's, file by
// file, and may go back and forth between the two.
//
// What it promises:
//
//   - Append gives each message its offset in its queue and writes all messages
//     of a batch with one write; all of them are stored or none.
//   - Offsets of a queue are dense and follow the order of the log.
//   - A message is seen by Get after it was dispatched, which happens apart and
//     in log order: soon after the append, and with SyncFlush after the fsync.
//   - Open returns when queues and index agree with the log. After a crash it
//     checks the log from the last checkpoint on and dispatches it again; what
//     was dispatched already stays as it is.
//   - A damaged record hides no other: reads step over it and report it.
//   - Nothing is deleted without being told. When files are missing that the
//     checkpoint knows of, Open refuses and names them.
//   - After a failed write or fsync no more messages are taken, reads go on.
//
// Three goroutines belong to a Store besides those of the log: the dispatcher
// and the checkpointer, which end with Close, and during Open the reader of the
// log. All methods are safe for concurrent use; a Batch belongs to one
// goroutine at a time. Several stores may be open in one process.
package store
