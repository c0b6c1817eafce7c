package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// segment is one file of the log. Its file is opened when it is first used.
type segment struct {
	fs       vfs.FS
	name     string
	base     int64
	readOnly bool  // open the file for reading only
	size     int64 // bytes that belong to the log; the file may be shorter when damaged

	allocated atomic.Int64 // room is reserved below this byte; grows only
	named     atomic.Bool  // the file's name is durable
	firstTime atomic.Int64 // store time of the first record, 0 for not known

	mu     sync.Mutex // guards opening and mapping: file, length, noMap
	file   vfs.File
	length int64
	noMap  bool

	window atomic.Pointer[window]

	refs    atomic.Int64  // users of file; one is the log's list
	drained chan struct{} // closed when refs falls to zero
}

// window is the mapping of a segment, shared by its readers.
type window struct {
	m    vfs.Mapping
	data []byte
	refs atomic.Int64 // readers, and one for the segment
}

func newSegment(fsys vfs.FS, dir string, base, size int64) *segment {
	s := &segment{fs: fsys, name: filepath.Join(dir, segmentName(base)), base: base, size: size, drained: make(chan struct{})}
	s.refs.Store(1)
	return s
}

func segmentName(base int64) string { return fmt.Sprintf("%020d", base) }

// parseSegmentName returns the base position that a file name tells.
func parseSegmentName(name string) (base int64, ok bool) {
	if len(name) != 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(name, 10, 64)
	return n, err == nil && n >= 0 && segmentName(n) == name
}

func (s *segment) end() int64 { return s.base + s.size }

// open returns the file, opening it if needed. The caller holds a ref, or is
// sure that the segment is not retired meanwhile.
func (s *segment) open() (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		return s.file, nil
	}
	f, err := s.fs.Open(s.name, !s.readOnly)
	if err != nil {
		return nil, fmt.Errorf("commitlog: open segment: %w", err)
	}
	length, err := f.Size()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("commitlog: open segment %s: %w", s.name, err), f.Close())
	}
	s.file, s.length = f, length
	return f, nil
}

// opened tells whether the file was used yet.
func (s *segment) opened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file != nil
}

// usable returns how many bytes of the segment the file really has.
func (s *segment) usable() (int64, error) {
	if _, err := s.open(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(s.length, s.size), nil
}

// grow gives a file that is too short its full length.
func (s *segment) grow() error {
	f, err := s.open()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.length >= s.size {
		return nil
	}
	if err := f.Truncate(s.size); err != nil {
		return fmt.Errorf("commitlog: give %s its full length: %w", s.name, err)
	}
	s.length = s.size
	return nil
}

// create makes the segment's file, at full length, with nothing in it.
func (s *segment) create() error {
	f, err := s.fs.Create(s.name)
	if err == nil {
		if err = f.Truncate(s.size); err == nil {
			s.mu.Lock()
			s.file, s.length = f, s.size
			s.mu.Unlock()
			return nil
		}
		err = errors.Join(err, f.Close(), s.fs.Remove(s.name))
	}
	return fmt.Errorf("commitlog: create segment: %w", spaceError(err))
}

// reserve makes sure that there is room on the disk below byte to.
func (s *segment) reserve(to int64) error {
	from := s.allocated.Load()
	if to <= from {
		return nil
	}
	f, err := s.open()
	if err != nil {
		return err
	}
	if err := f.Allocate(from, to-from); err != nil {
		return fmt.Errorf("commitlog: reserve %d bytes in %s: %w", to-from, s.name, spaceError(err))
	}
	s.allocated.Store(to)
	return nil
}

// acquire keeps the file open until release; false when the segment is retired.
func (s *segment) acquire() bool { return acquire(&s.refs) }

func (s *segment) release() {
	if s.refs.Add(-1) == 0 {
		close(s.drained)
	}
}

// retire gives back the list's own ref, waits for the readers, which only copy,
// and closes the file.
func (s *segment) retire() error {
	err := s.unmap()
	s.release()
	<-s.drained
	err = errors.Join(err, s.unmap()) // a reader may have mapped it in between
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return err
	}
	f := s.file
	s.file = nil
	return errors.Join(err, f.Close())
}

// remove retires the segment and deletes its file.
func (s *segment) remove() error {
	return errors.Join(s.retire(), s.fs.Remove(s.name))
}

// mapLocked returns the mapping, made now if needed, or nil if the file cannot
// be mapped. The caller holds a ref on s and Log.mapMu.
func (s *segment) mapLocked() (*window, error) {
	if w := s.window.Load(); w != nil {
		return w, nil
	}
	f, err := s.open()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noMap || s.length < s.size {
		return nil, nil
	}
	m, err := f.Map(s.size, false)
	if err != nil { // reads go on by pread
		s.noMap = true
		return nil, nil
	}
	w := &window{m: m, data: m.Bytes()}
	w.refs.Store(1)
	s.window.Store(w)
	return w, nil
}

// unmap gives the mapping up; it goes when its last reader is done.
func (s *segment) unmap() error {
	if w := s.window.Swap(nil); w != nil {
		return w.release()
	}
	return nil
}

func (w *window) acquire() bool { return acquire(&w.refs) }

func (w *window) release() error {
	if w.refs.Add(-1) == 0 {
		return w.m.Close()
	}
	return nil
}

// acquire adds a ref unless the last one is gone.
func acquire(refs *atomic.Int64) bool {
	for {
		n := refs.Load()
		if n <= 0 {
			return false
		}
		if refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// find returns the index of the segment that holds pos, or -1.
func find(segs []*segment, pos int64) int {
	if len(segs) == 0 || pos < segs[0].base {
		return -1
	}
	i := int((pos - segs[0].base) / segs[0].size)
	if i >= len(segs) || pos < segs[i].base || pos >= segs[i].end() { // files are missing
		i = sort.Search(len(segs), func(i int) bool { return segs[i].base > pos }) - 1
	}
	if pos >= segs[i].end() {
		return -1
	}
	return i
}

// listing is what a folder holds.
type listing struct {
	segs    []*segment
	size    int64
	ignored []string // names that are not segments
	empty   string   // a last segment without a byte, not among segs
}

// list reads the folder. want is the segment size to believe where the files
// do not tell another.
func list(fsys vfs.FS, dir string, want int64) (listing, error) {
	out := listing{size: want}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return out, fmt.Errorf("commitlog: read folder: %w", err)
	}
	var bases, lengths []int64
	for _, e := range entries {
		base, ok := parseSegmentName(e.Name())
		if !ok || e.IsDir() {
			if !e.IsDir() {
				out.ignored = append(out.ignored, filepath.Join(dir, e.Name()))
			}
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("commitlog: read folder: %w", err)
		}
		bases, lengths = append(bases, base), append(lengths, info.Size())
	}
	if n := len(bases); n > 0 && lengths[n-1] == 0 {
		out.empty = filepath.Join(dir, segmentName(bases[n-1]))
		bases, lengths = bases[:n-1], lengths[:n-1]
	}
	out.size = segmentSizeOf(bases, lengths, want)
	for i, base := range bases {
		if base > 1<<62 || i > 0 && base-bases[i-1] < out.size {
			return out, fmt.Errorf("commitlog: %s does not start where a segment can start behind %s: "+
				"the segments seem to be of another size than %d bytes; set the segment size that the folder was written with",
				filepath.Join(dir, segmentName(base)), segmentName(bases[max(i-1, 0)]), out.size)
		}
		s := newSegment(fsys, dir, base, out.size)
		s.named.Store(true)
		out.segs = append(out.segs, s)
	}
	return out, nil
}

// segmentSizeOf returns the length that all files have, if they agree on one
// that fits their names, else want.
func segmentSizeOf(bases, lengths []int64, want int64) int64 {
	if len(lengths) == 0 || lengths[0] < minSegmentSize || lengths[0] > maxSegmentSize {
		return want
	}
	for i, n := range lengths {
		if n != lengths[0] || (bases[i]-bases[0])%n != 0 {
			return want
		}
	}
	if len(lengths) == 1 && lengths[0] < want && bases[0]%lengths[0] != 0 {
		return want
	}
	return lengths[0]
}

func position(p int64) message.Position { return message.Position(p) }
