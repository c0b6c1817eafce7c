package consumequeue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/merlinmq/merlin/message"
)

// The snapshot file: the magic, then varints and strings (length, bytes):
//
//	entries of a file, stamp, number of topics, for each:
//	  name, number of queues, for each:
//	    id, number of its first file, number of files, min, max - min,
//	    position of the last record + 1, its size
//
// and at the end the CRC-32C of all before it, 4 bytes, big-endian.
const (
	snapshotMagic   = "merlin queues 1\n"
	maxSnapshotSize = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// loadSnapshot fills the table from the snapshot if there is one that fits the
// folder. One that does not is not worth an error: the queues are read instead.
func (t *Table) loadSnapshot(names []string) bool {
	if t.o.Snapshot == "" || t.o.Stamp == "" {
		return false
	}
	data, err := t.readSnapshot()
	if err != nil || len(data) < len(snapshotMagic)+4 || string(data[:len(snapshotMagic)]) != snapshotMagic {
		return false
	}
	body, sum := data[:len(data)-4], binary.BigEndian.Uint32(data[len(data)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return false
	}
	d := &decoder{b: body[len(snapshotMagic):]}
	if d.int() != int64(t.o.FileEntries) || d.string() != t.o.Stamp || !t.decodeTopics(d, names) {
		t.topics, t.count = make(map[string]*topic), 0
		return false
	}
	return true
}

func (t *Table) readSnapshot() ([]byte, error) {
	f, err := t.o.FS.Open(t.o.Snapshot, false)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && size > maxSnapshotSize {
		err = errors.New("too long")
	}
	var data []byte
	if err == nil {
		data = make([]byte, size)
		var n int
		if n, err = f.ReadAt(data, 0); err == io.EOF && int64(n) == size {
			err = nil
		}
	}
	return data, errors.Join(err, f.Close())
}

// decodeTopics reports false if the bytes do not parse or name other topics
// than the folder has.
func (t *Table) decodeTopics(d *decoder, names []string) bool {
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	if d.int() != int64(len(names)) {
		return false
	}
	for range names {
		tp := &topic{name: strings.Clone(d.string()), dirMade: true}
		n := d.count(7)
		if d.bad || !there[tp.name] || t.topics[tp.name] != nil {
			return false
		}
		tp.queues = make([]*Queue, n)
		for i := range tp.queues {
			id, first, files, low, length, last, size := d.int(), d.int(), d.int(), d.int(), d.int(), d.int(), d.int()
			if d.bad || id > 1<<31-1 || i > 0 && id <= int64(tp.queues[i-1].id) || low > maxOffset || length > maxOffset {
				return false
			}
			q := newQueue(t, tp, int32(id))
			q.restore(first, first+files, low, low+length, message.Position(last-1), int32(size))
			tp.queues[i] = q
		}
		t.topics[tp.name] = tp
		t.count += n
	}
	return len(d.b) == 0
}

// removeSnapshot makes sure that the snapshot is not read again.
func (t *Table) removeSnapshot() error {
	if t.o.Snapshot == "" {
		return nil
	}
	err := t.o.FS.Remove(t.o.Snapshot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("consumequeue: remove the snapshot %s: %w", t.o.Snapshot, err)
	}
	if err := t.o.FS.SyncDir(filepath.Dir(t.o.Snapshot)); err != nil {
		return fmt.Errorf("consumequeue: remove the snapshot %s: %w", t.o.Snapshot, err)
	}
	return nil
}

// writeSnapshot is for Close, when the files have everything.
func (t *Table) writeSnapshot() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.o.Snapshot == "" || t.stamp == "" {
		return nil
	}
	data := t.encodeSnapshot()
	tmp := t.o.Snapshot + ".tmp"
	fsys := t.o.FS
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("consumequeue: remove %s: %w", tmp, err)
	}
	f, err := fsys.Create(tmp)
	if err == nil {
		_, err = f.WriteAt(data, 0)
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = fsys.Rename(tmp, t.o.Snapshot)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(t.o.Snapshot))
	}
	if err != nil {
		return fmt.Errorf("consumequeue: write the snapshot %s: %w", t.o.Snapshot, err)
	}
	return nil
}

func (t *Table) encodeSnapshot() []byte {
	b := append([]byte(nil), snapshotMagic...)
	b = binary.AppendUvarint(b, uint64(t.o.FileEntries))
	b = appendString(b, t.stamp)
	var topics []*topic
	for _, tp := range t.topics {
		if tp.dirMade {
			topics = append(topics, tp)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(topics)))
	for _, tp := range topics {
		b = appendString(b, tp.name)
		n := 0
		for _, q := range tp.queues {
			if q.dirMade {
				n++
			}
		}
		b = binary.AppendUvarint(b, uint64(n))
		for _, q := range tp.queues {
			if !q.dirMade {
				continue
			}
			low, high := q.min.Load(), q.max.Load()
			for _, v := range []int64{int64(q.id), q.first, q.end - q.first, low, high - low, int64(q.lastPos) + 1, int64(q.lastSize)} {
				b = binary.AppendUvarint(b, uint64(v))
			}
		}
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder takes values off b; after the first that is not there it is bad and
// gives zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) int() int64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > 1<<63-1 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return int64(v)
}

// count returns a number of things that take at least so many bytes each.
func (d *decoder) count(least int) int {
	n := d.int()
	if n > int64(len(d.b)/least) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.count(1)
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}
