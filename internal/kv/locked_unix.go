//go:build unix

package kv

import (
	"errors"
	"syscall"
)

// isLocked tells whether opening the folder failed because somebody has it.
func isLocked(err error) bool {
	return errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EAGAIN)
}
