package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/merlinmq/merlin/message"
)

// Apache's checkpoint file: 4096 bytes, six big-endian numbers and zeros.
//
//	place  size  field
//	    0     8  store time of the last message that is durable in the log
//	    8     8  store time of the last message whose entry is durable
//	   16     8  store time up to which the index is durable
//	   24     8  for replication
//	   32     8  position of the last message when the log was recovered
//	   40     8  position of the last message whose entry is durable; 0 before 5.x
const checkpointSize = 4096

type checkpoint struct {
	logTime, queueTime, indexTime int64
	replicated                    int64
	confirmed, queuePosition      message.Position
}

func (c *checkpoint) encode() []byte {
	b := make([]byte, checkpointSize)
	be := binary.BigEndian
	be.PutUint64(b, uint64(c.logTime))
	be.PutUint64(b[8:], uint64(c.queueTime))
	be.PutUint64(b[16:], uint64(c.indexTime))
	be.PutUint64(b[24:], uint64(c.replicated))
	be.PutUint64(b[32:], uint64(c.confirmed))
	be.PutUint64(b[40:], uint64(c.queuePosition))
	return b
}

// decodeCheckpoint takes what there is; missing bytes count as zeros, which
// means unknown in every field.
func decodeCheckpoint(data []byte) checkpoint {
	var b [48]byte
	copy(b[:], data)
	be := binary.BigEndian
	return checkpoint{
		logTime: int64(be.Uint64(b[:])), queueTime: int64(be.Uint64(b[8:])), indexTime: int64(be.Uint64(b[16:])),
		replicated: int64(be.Uint64(b[24:])), confirmed: message.Position(be.Uint64(b[32:])),
		queuePosition: message.Position(be.Uint64(b[40:])),
	}
}

// A mark is our own checkpoint. It says exactly what is durable, and is
// believed only in a folder that nobody else has written to since. The file
// holds two, each in a page of its own; the valid one with the higher number
// counts, so a torn write leaves the other.
//
//	place  size  field, big-endian
//	    0     8  magic "MRLNMARK"
//	    8     4  version of the format, 1
//	   12     4  1 if the store was closed in order, else 2; 0 in old ones
//	   16     8  number of the mark
//	   24     8  position up to which queues and index are durable
//	   32     8  position up to which the log is durable
//	   40     8  position where the log begins, or is to begin; 0 at place 12: began
//	   48     8  sum of the ends of all queues
//	   56     8  position of the last record in the index, -1 for none
//	   64     8  position of the last message before place 24, -1 for none
//	   72     8  its store time
//	   80     8  time of the lock file, in ns
//	   88     4  CRC-32C of Apache's checkpoint file
//	   92     4  CRC-32C of the 92 bytes before
type mark struct {
	clean      bool
	begins     bool // the log begins at logMin, or before
	number     uint64
	upto       message.Position
	flushed    message.Position
	logMin     message.Position
	entries    int64
	indexLast  message.Position
	last       message.Position
	lastTime   int64
	lockTime   int64
	checkpoint uint32
}

const (
	markMagic   = "MRLNMARK"
	markVersion = 1
	markSize    = 96
	markPage    = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (m *mark) encode() []byte {
	b := make([]byte, markSize)
	be := binary.BigEndian
	copy(b, markMagic)
	be.PutUint32(b[8:], markVersion)
	switch {
	case m.clean:
		be.PutUint32(b[12:], 1)
	case m.begins:
		be.PutUint32(b[12:], 2)
	}
	for i, v := range []int64{int64(m.number), int64(m.upto), int64(m.flushed), int64(m.logMin), m.entries,
		int64(m.indexLast), int64(m.last), m.lastTime, m.lockTime} {
		be.PutUint64(b[16+8*i:], uint64(v))
	}
	be.PutUint32(b[88:], m.checkpoint)
	be.PutUint32(b[92:], crc32.Checksum(b[:92], castagnoli))
	return b
}

// decodeMark returns ok false for bytes that are no mark, and ErrFormat for one
// of a later version.
func decodeMark(b []byte) (m mark, ok bool, err error) {
	be := binary.BigEndian
	if len(b) < markSize || string(b[:8]) != markMagic || be.Uint32(b[92:]) != crc32.Checksum(b[:92], castagnoli) {
		return m, false, nil
	}
	if v := be.Uint32(b[8:]); v != markVersion {
		return m, false, fmt.Errorf("%w: it was written with version %d of the format, this Merlin knows %d; use a newer Merlin", ErrFormat, v, markVersion)
	}
	at := func(i int) int64 { return int64(be.Uint64(b[16+8*i:])) }
	m = mark{
		clean: be.Uint32(b[12:]) == 1, begins: be.Uint32(b[12:]) != 0, number: uint64(at(0)), upto: message.Position(at(1)), flushed: message.Position(at(2)),
		logMin: message.Position(at(3)), entries: at(4), indexLast: message.Position(at(5)), last: message.Position(at(6)),
		lastTime: at(7), lockTime: at(8), checkpoint: be.Uint32(b[88:]),
	}
	return m, m.upto >= 0 && m.flushed >= m.upto && m.logMin >= 0 && m.entries >= 0, nil
}

// readMark returns the newest mark, and false if there is none.
func (s *Store) readMark() (newest mark, found bool, err error) {
	data, err := readSmall(s.o.FS, s.path(markFile), 2*markPage)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, false, nil
	}
	if err != nil {
		return mark{}, false, err
	}
	for at := 0; at < len(data); at += markPage {
		m, ok, err := decodeMark(data[at:min(at+markPage, len(data))])
		if err != nil {
			return mark{}, false, fmt.Errorf("%w (%s)", err, s.path(markFile))
		}
		if ok && (!found || m.number > newest.number) {
			newest, found = m, true
		}
	}
	return newest, found, nil
}

// removeMark makes sure that no mark is believed that does not fit any more.
func (s *Store) removeMark() error {
	err := s.o.FS.Remove(s.path(markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store: remove %s: %w", s.path(markFile), err)
	}
	return s.syncFolder()
}

// progress is how far the views are: everything before end was dispatched.
type progress struct {
	end      message.Position
	last     message.Position // of the last record before end, NoPosition for none
	lastTime int64            // its store time
	entries  int64            // sum of the ends of all queues
	index    message.Position // of the last record in the index, NoPosition for none
}

// checkpoint makes everything that is dispatched durable, in the order log,
// queues, index, and writes that down. It does nothing when nothing is new,
// unless always is set.
func (s *Store) checkpoint(always, clean bool) error {
	s.checkpointMu.Lock()
	defer s.checkpointMu.Unlock()
	s.dispatchMu.Lock()
	p := s.done
	s.dispatchMu.Unlock()
	if !always && p.end == s.marked.upto && p.entries == s.marked.entries {
		return nil
	}
	began := s.o.Now()
	if s.log.Flushed() < p.end {
		if err := s.log.Flush(); err != nil {
			return fmt.Errorf("store: flush the log for a checkpoint: %w", err)
		}
	}
	if err := s.table.Flush(); err != nil {
		return fmt.Errorf("store: flush the queues for a checkpoint: %w", err)
	}
	if err := s.index.Flush(); err != nil {
		return fmt.Errorf("store: flush the index for a checkpoint: %w", err)
	}
	if err := s.writeMark(p, clean); err != nil {
		return err
	}
	if s.o.Events.Checkpointed != nil {
		s.o.Events.Checkpointed(p.end, s.o.Now().Sub(began))
	}
	return nil
}

// writeMark writes Apache's checkpoint and our mark. checkpointMu is held.
func (s *Store) writeMark(p progress, clean bool) error {
	last := max(p.last, 0)
	c := checkpoint{logTime: p.lastTime, queueTime: p.lastTime, indexTime: p.lastTime, confirmed: last, queuePosition: last}
	data := c.encode()
	if err := s.writeSmall(checkpointFile, 0, data, false); err != nil {
		return err
	}
	m := mark{
		clean: clean, begins: true, number: s.marked.number + 1, upto: p.end, flushed: max(s.log.Flushed(), p.end), logMin: max(s.log.Min(), s.dropping),
		entries: p.entries, indexLast: p.index, last: p.last, lastTime: p.lastTime,
		lockTime: s.lockTime(), checkpoint: crc32.Checksum(data[:48], castagnoli),
	}
	return s.putMark(m)
}

// putMark makes a mark the newest. checkpointMu is held.
func (s *Store) putMark(m mark) error {
	at := int64(m.number%2) * markPage
	// Whole pages: once there, marks need no more room on a full disk.
	if err := s.writeSmall(markFile, at, append(m.encode(), make([]byte, markPage-markSize)...), false); err != nil {
		return err
	}
	s.marked = m
	s.markedEnd.Store(int64(m.upto))
	return nil
}

// markDrop notes durably that the log is to begin at a position: from then on
// segments before it may be missing. There is a mark already.
func (s *Store) markDrop(upto message.Position) error {
	s.checkpointMu.Lock()
	defer s.checkpointMu.Unlock()
	s.dropping = max(s.dropping, upto)
	m := s.marked
	m.clean, m.begins, m.number, m.logMin = false, true, m.number+1, max(m.logMin, s.dropping)
	return s.putMark(m)
}

// stamp names the state of the log for the queues' snapshot.
func (m *mark) stamp() string {
	return fmt.Sprintf("%d %d %d %d", m.number, m.upto, m.entries, m.logMin)
}
