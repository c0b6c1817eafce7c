// Package bench loads any server that speaks RocketMQ's remoting protocol and
// measures it: messages a second, latency, and the server's CPU time and
// memory.
//
// It promises that its numbers are what they are called. The measured window
// leaves the warm-up out; percentiles are over every message answered in the
// window, none sampled; with a rate, latency counts from the moment a message
// was due and not from the moment the load found time to send it; the server's
// CPU time is read at both ends of the same window and divided by what was
// answered between the two readings. Every response's code is looked at, and
// at the end what was sent is read back and compared key by key.
//
// It must be cheap, because it mostly shares the machine with the server:
// frames are encoded once per connection and only patched, everything that is
// free to go leaves in one write, responses are scanned in place, and nothing
// is allocated per message. So that it does not share the faults of what it
// measures, it writes and reads its frames itself and uses no client library.
package bench
