// Package index finds records by key. It keeps Apache RocketMQ's IndexFiles:
// each a header, a table of hash slots, and items chained from the slots, named
// by the local time of its creation (yyyyMMddHHmmssSSS). All integers are
// big-endian.
//
//	place            size  header
//	    0               8  store time of the first key, ms
//	    8               8  store time of the last key
//	   16               8  position of the first key's record
//	   24               8  position of the last key's record
//	   32               4  slots in use
//	   36               4  number of the next free item; item 0 is never used
//	   40         4*slots  slots: the number of the newest item of the chain, 0 none
//	   40+4*slots 20*items items
//
//	place  size  item
//	    0     4  hash of the key: |JavaHash|, or 0 if that cannot be
//	    4     8  position of the record
//	   12     4  its store time in seconds after the file's first
//	   16     4  number of the item before it in the chain, 0 none
//
// What it promises: what was put before a call of Flush is durable when Flush
// returns nil. After a crash Open checks the newest files and drops what is
// half written; TruncateFrom then cuts them at the position the caller is
// certain of, and the caller puts again what the log has behind it. A file that
// cannot be used is reported (BrokenError) and left alone until Drop removes it.
// Keys are not stored: Find returns candidates, and the caller compares.
package index
