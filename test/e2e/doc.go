// Package e2e holds the tests that drive a running server with rocketmq-client-go: the binary of this repository, or the
// server that MERLIN_ADDR names.
package e2e
