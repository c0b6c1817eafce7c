// Package gateway serves RocketMQ's remoting protocol before a broker: header
// in, one call of the broker, answer out. One file per request code, or per
// few that belong together; each opens with what it covers and how it differs
// from Apache's broker.
//
// What a client sent wrong is answered with the code that Apache gives and a
// sentence that says what is wrong and what to do; see errors.go for the table.
package gateway
