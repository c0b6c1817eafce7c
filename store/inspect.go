package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Checkpoint is what a folder says of itself: how far it is durable.
type Checkpoint struct {
	Own     bool             // our own mark; else Apache's checkpoint alone
	Clean   bool             // our mark says that the store was closed in order
	Upto    message.Position // queues and index are durable up to here
	Flushed message.Position // the log is; as Upto with Apache's checkpoint
	Time    int64            // store time of the last message before Upto, ms
}

// Inspection is what can be seen of a folder without opening it.
type Inspection struct {
	Abort      bool // the folder is in use, or was not closed in order
	OwnAbort   bool // by Merlin
	Checkpoint Checkpoint
	Segments   []Segment // oldest first
}

// Inspect looks at the small files and the segments of a folder, which may be
// in use, and changes nothing. ErrFormat for a newer format.
func Inspect(fsys vfs.FS, dir string) (in Inspection, err error) {
	s := &Store{dir: dir, o: Options{FS: fsys}}
	if _, err := fsys.Stat(s.path(logFolder)); err != nil {
		return in, fmt.Errorf("store: %s is no store's folder, it has no %s: %w", dir, logFolder, err)
	}
	if in.Abort, in.OwnAbort, err = s.readAbort(); err != nil {
		return in, err
	}
	m, found, err := s.readMark()
	if err != nil {
		return in, err
	}
	if found {
		in.Checkpoint = Checkpoint{Own: true, Clean: m.clean, Upto: m.upto, Flushed: m.flushed, Time: m.lastTime}
	} else {
		data, err := readSmall(fsys, s.path(checkpointFile), checkpointSize)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return in, err
		}
		c := decodeCheckpoint(data)
		in.Checkpoint = Checkpoint{Upto: c.queuePosition, Flushed: c.queuePosition, Time: c.logTime}
	}
	in.Segments, err = segments(fsys, s.path(logFolder))
	return in, err
}

func segments(fsys vfs.FS, dir string) ([]Segment, error) {
	list, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("store: list %s: %w", dir, err)
	}
	var segs []Segment
	for _, e := range list {
		base, err := strconv.ParseInt(e.Name(), 10, 64)
		if err != nil || base < 0 || len(e.Name()) != 20 {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("store: look at %s: %w", filepath.Join(dir, e.Name()), err)
		}
		seg := Segment{Base: message.Position(base), Size: info.Size(), File: filepath.Join(dir, e.Name()), ModTime: info.ModTime()}
		if v, err := readRecord(fsys, seg.File, 0, 0); err == nil {
			seg.FirstStoreTime = v.StoreTimestamp()
		}
		segs = append(segs, seg)
	}
	slices.SortFunc(segs, func(a, b Segment) int { return int(min(max(a.Base-b.Base, -1), 1)) })
	return segs, nil
}

// maxInspected bounds what a damaged size field can ask for.
const maxInspected = 64 << 20

// readRecord reads the record at a place of a segment's file. size is 0 if the
// record is to tell.
func readRecord(fsys vfs.FS, file string, at int64, size int32) (v message.View, err error) {
	f, err := fsys.Open(file, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if size == 0 {
		head := make([]byte, 8)
		if _, err := f.ReadAt(head, at); err != nil {
			return nil, err
		}
		n, _, err := message.PeekSize(head)
		if err != nil {
			return nil, err
		}
		size = int32(n)
	}
	length, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size < message.BlankSize || size > maxInspected || int64(size) > length-at {
		return nil, fmt.Errorf("%w: a record of %d bytes where the file has %d left", message.ErrLayout, size, length-at)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, err
	}
	return message.Parse(b)
}

// Growth returns by how many bytes a second the log has grown: over the last
// day, or since its newest segment was begun if that is longer ago. 0 if that
// cannot be told.
func Growth(segs []Segment, end message.Position, now time.Time) float64 {
	day := now.Add(-24 * time.Hour).UnixMilli()
	for i, seg := range segs {
		if seg.FirstStoreTime == 0 || seg.FirstStoreTime < day && i < len(segs)-1 {
			continue
		}
		seconds := float64(now.UnixMilli()-seg.FirstStoreTime) / 1000
		if seconds < 1 || end <= seg.Base {
			return 0
		}
		return float64(end-seg.Base) / seconds
	}
	return 0
}

// TimeToFull returns how long a free number of bytes lasts at this growth, and
// false if nothing grows.
func TimeToFull(free int64, growth float64) (time.Duration, bool) {
	if growth <= 0 {
		return 0, false
	}
	seconds := float64(max(free, 0)) / growth
	return time.Duration(min(seconds, 100*365*86400)) * time.Second, true
}
