//go:build !unix

package kv

// syncFolder does nothing: such systems have no sync of a folder.
func syncFolder(string) error { return nil }
