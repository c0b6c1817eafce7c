// Package commitlog is the single append-only log of a broker: records of
// package message, one behind the other, in files of one fixed length that are
// named by the position of their first byte. The files are Apache RocketMQ's,
// byte for byte.
//
// It promises: positions only grow; a record is whole or not there; what was
// reported safe is there after a crash, byte for byte; after a failed write or
// fsync no more appends are taken and nothing unflushed is ever called safe; a
// full disk refuses appends and harms nothing, and appends go on when there is
// room again; a damaged record hides no other. It knows nothing of topics and
// queues. One Log per folder at a time: the caller holds the folder's lock.
//
// Two goroutines belong to a Log, the flusher and the one that makes room
// ahead; both end with Close. A third reads ahead during Recover. All methods are safe for concurrent use, Recover
// and Close once each.
package commitlog
