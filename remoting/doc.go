// Package remoting carries RocketMQ's remoting protocol: frames with a JSON or
// a binary header, the connections of a server, and a client.
//
// It knows the shape of a frame and nothing of what a code means: a Handler
// gets requests and writes answers. What it promises is about the wire. Frames
// of one connection are handed over in order, all whole frames of one read
// together, on one goroutine of that connection, and their answers leave in one
// write. Nothing is allocated per frame on that way. What a peer can make the
// process keep is bounded: input that nobody has taken yet, frames that never
// end, answers that nobody reads. Past the soft bound requests are answered
// with SYSTEM_BUSY, past the hard one the connection is closed; both are
// counted and told to Events. A peer that does not read, or sends garbage,
// changes nothing for the others.
//
// Two transports move the bytes: netpoll, the default where it exists, and the
// standard library's net.
package remoting
