// Package client is the Go side: what people and programs do to a cluster of
// name servers and brokers, Apache's as well as ours.
//
// Admin asks and changes: topics, groups, offsets, routes, stored messages. It
// speaks frames of its own over remoting. Reader reads a topic by plain pulls
// and leaves nothing behind. Producer and Consumer send and receive through
// rocketmq-client-go, whose traps are kept in here: it writes a log of its own
// (silenced), takes name servers as IP addresses only (host names are resolved
// here), loses the server's remark (asked for again), and leaves goroutines
// behind when it is closed.
//
// A server's refusal is a *ServerError with its code and remark; a server that
// does not answer is an *UnreachableError. Everything is safe for concurrent
// use unless it says otherwise.
package client
