package commitlog

import (
	"errors"
	"fmt"
	"syscall"
)

// spaceError marks errors that say the disk, or the user's share of it, is full.
func spaceError(err error) error {
	if err != nil && !errors.Is(err, ErrNoSpace) && isNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

func isNoSpace(err error) bool {
	for _, e := range noSpaceErrnos {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, syscall.ENOSPC)
}
