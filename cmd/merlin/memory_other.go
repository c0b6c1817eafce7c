//go:build !linux

package main

// memorySize returns the bytes of memory that this process may use; 0 is not
// known.
func memorySize() int64 { return 0 }
