package vfs

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// ErrFault is returned by Guard and Copy when a mapped page could not be read.
var ErrFault = errors.New("vfs: a mapped page cannot be read (I/O error, or the file was cut short)")

// Guard runs fn, in which a mapping is used, and returns ErrFault if a page of
// it faults. fn must leave nothing locked when it is left by a panic. Other
// panics go on.
func Guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = FaultOf(r)
		}
	}()
	return fn()
}

// Copy is copy under Guard: src may be mapped bytes. It allocates nothing.
func Copy(dst, src []byte) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = FaultOf(r)
		}
	}()
	copy(dst, src)
	return nil
}

// FaultOf turns a recovered memory fault into an error and lets every other
// panic go on. Only faults carry an address.
func FaultOf(r any) error {
	if f, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		return fmt.Errorf("%w: at address %#x", ErrFault, f.Addr())
	}
	panic(r)
}
