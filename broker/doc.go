// Package broker is what a broker does, in no wire's words: topics, groups,
// offsets and clients; storing what producers send and handing it to consumers;
// parked pulls, retries and locks. A gateway turns a protocol's requests into
// calls of it, and hands in functions for what must reach a client.
//
// Several brokers may live in one process: there is no global state. All
// methods of a Broker are safe for concurrent use unless they say otherwise. A
// refusal is an *Error whose text is written for the client's reader.
package broker
