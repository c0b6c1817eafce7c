package commitlog

import (
	"fmt"
)

// rewriteLocked writes the bytes of a range of the log as they are read. After
// a failed write to the disk Linux keeps the pages in memory and calls them
// clean: they read well, and an fsync has nothing to do and succeeds, until a
// power cut takes them. Written again, they are the fsync's matter again.
func (l *Log) rewriteLocked(from, end int64) error {
	var buf []byte
	for _, s := range *l.segs.Load() {
		if s.end() <= from || s.base >= end {
			continue
		}
		usable, err := s.usable()
		if err != nil {
			return err
		}
		f, err := s.open()
		if err != nil {
			return err
		}
		stop := min(end-s.base, usable)
		for off := max(from-s.base, 0); off < stop; {
			if buf == nil {
				buf = make([]byte, min(end-from, scanChunk))
			}
			b := buf[:min(int64(len(buf)), stop-off)]
			n, err := f.ReadAt(b, off)
			if n > 0 {
				_, err = f.WriteAt(b[:n], off)
			}
			if err != nil {
				return fmt.Errorf("commitlog: write again what may not have reached the disk, %s from byte %d: %w", s.name, off, spaceError(err))
			}
			off += int64(n)
		}
	}
	return nil
}
