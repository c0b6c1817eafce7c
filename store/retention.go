package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/merlinmq/merlin/message"
)

// Queues returns the numbers of the queues of a topic that have had a message,
// ascending.
func (s *Store) Queues(topic string) []int32 {
	var ids []int32
	for _, q := range s.table.Topic(topic) {
		if q.Max() > 0 {
			ids = append(ids, q.ID())
		}
	}
	slices.Sort(ids)
	return ids
}

// Topics returns the names of the topics that have had a message, sorted.
func (s *Store) Topics() []string {
	seen := make(map[string]bool)
	var names []string
	for q := range s.table.All() {
		if name := q.Topic(); !seen[name] && q.Max() > 0 {
			seen[name] = true
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// DeleteTopic removes the queues of a topic, durably. Its records stay in the
// log until retention takes them. When the topic is used again its queues start
// at offset 0. Messages that are appended to it at the same time may go or stay.
func (s *Store) DeleteTopic(topic string) error {
	if err := s.Failed(); err != nil {
		return err
	}
	if err := s.WaitVisible(); err != nil {
		return err
	}
	err := s.registry.replace(topic, func() error {
		s.dispatchMu.Lock()
		defer s.dispatchMu.Unlock()
		entries := int64(0)
		for _, q := range s.table.Topic(topic) {
			entries += int64(q.Max())
		}
		if err := s.table.Delete(topic); err != nil {
			return fmt.Errorf("store: delete the queues of %s: %w", topic, err)
		}
		s.done.entries -= entries
		return nil
	})
	if err != nil {
		return err
	}
	return s.checkpoint(true, false)
}

// DropBefore removes the segments of the log that end at or before a position,
// never the last one nor one that is not dispatched, and then what queues and
// index have of them. It returns how many segments went. Options.BeforeDrop is
// asked first. When the disk is too full to keep what still waits in them, the
// oldest go as far as nothing waits there, and the error is ErrNoSpace.
func (s *Store) DropBefore(pos message.Position) (segments int, err error) {
	if err := s.Failed(); err != nil {
		return 0, err
	}
	var bounds []message.Position // ends of the segments that may go
	for i, seg := range s.log.Segments() {
		if i > 0 && seg.Base <= pos {
			bounds = append(bounds, seg.Base)
		}
	}
	if n := len(bounds); n > 0 && s.Visible() < bounds[n-1] {
		if err := s.WaitVisible(); err != nil && !errors.Is(err, ErrNoSpace) {
			return 0, err
		}
	}
	for len(bounds) > 0 && bounds[len(bounds)-1] > s.Visible() {
		bounds = bounds[:len(bounds)-1]
	}
	if len(bounds) == 0 {
		return 0, nil
	}
	segments, err = s.dropTo(bounds[len(bounds)-1])
	if segments > 0 || !isNoSpace(err) || s.Failed() != nil {
		return segments, err
	}
	// Keeping what waits in them needs room, which the first to go may give.
	for _, upto := range bounds {
		n, err := s.dropTo(upto)
		if segments += n; err != nil {
			return segments, err
		}
	}
	return segments, nil
}

// dropTo removes the segments below upto, where one begins.
func (s *Store) dropTo(upto message.Position) (segments int, err error) {
	if s.o.BeforeDrop != nil {
		if err := s.o.BeforeDrop(upto); err != nil {
			return 0, fmt.Errorf("store: keep the log below %d: %w", upto, err)
		}
	}
	// What goes must not be what a restart wants to read.
	if s.markedEnd.Load() < int64(upto) {
		if err := s.checkpoint(true, false); err != nil {
			return 0, err
		}
	}
	if err := s.markDrop(upto); err != nil {
		return 0, err
	}
	if segments, err = s.log.DropBefore(upto); err != nil {
		return segments, err
	}
	return segments, s.followLog()
}

// followLog makes queues and index forget what the log has lost at its start.
func (s *Store) followLog() error {
	min := s.log.Min()
	err := s.table.DropBefore(min)
	if err != nil {
		err = fmt.Errorf("store: trim the queues to the log's start %d: %w", min, err)
	}
	if ierr := s.index.DropBefore(min); ierr != nil {
		err = errors.Join(err, fmt.Errorf("store: trim the index to the log's start %d: %w", min, ierr))
	}
	return err
}

// Usage is what the folder holds.
type Usage struct {
	LogBytes            int64
	DiskTotal, DiskFree int64
	Min, Max            message.Position
	Segments            []Segment // oldest first
}

// Usage returns what the log takes and what the disk has left.
func (s *Store) Usage() (Usage, error) {
	u := Usage{Min: s.log.Min(), Max: s.log.Max(), Segments: s.log.Segments()}
	for _, seg := range u.Segments {
		u.LogBytes += seg.Size
	}
	var err error
	dir := s.path(logFolder) // which may be a link to another disk
	u.DiskTotal, u.DiskFree, err = s.o.FS.Usage(dir)
	if err != nil {
		err = fmt.Errorf("store: ask how full the disk of %s is: %w", dir, err)
	}
	return u, err
}

// ForgetBefore makes the queues of a topic begin with the first message that
// was stored at or after a time, in ms: readers do not see the others any more.
// The log keeps them until its segments go. It returns how many messages went.
// After a start the queues begin where the log does, until it is called again.
func (s *Store) ForgetBefore(topic string, ms int64) (messages int64, err error) {
	if err := s.Failed(); err != nil {
		return 0, err
	}
	for _, q := range s.table.Topic(topic) {
		first := q.Min()
		off, err := s.OffsetByTime(topic, q.ID(), ms, Lower)
		if err != nil {
			return messages, fmt.Errorf("store: find what %s queue %d had at %d: %w", topic, q.ID(), ms, err)
		}
		if off <= first {
			continue
		}
		tail := q.Tail()
		upto := tail.Position + 1
		if off < tail.Offset {
			var e [1]Entry
			if n, err := q.Read(off, e[:]); err != nil || n == 0 || e[0].Filler() {
				continue // trimmed meanwhile, or no place to tell where: the next run sees
			}
			upto = e[0].Position
		}
		if err := q.DropBefore(upto); err != nil {
			return messages, fmt.Errorf("store: trim %s queue %d: %w", topic, q.ID(), err)
		}
		messages += int64(q.Min() - first)
	}
	return messages, nil
}

// ForgetTo makes a queue begin with an offset: readers do not see what is
// before it any more. It returns how many messages went. What it did is gone
// with a restart, as with ForgetBefore.
func (s *Store) ForgetTo(topic string, queue int32, off message.Offset) (messages int64, err error) {
	if err := s.Failed(); err != nil {
		return 0, err
	}
	q := s.table.Lookup(topic, queue)
	if q == nil {
		return 0, nil
	}
	first := q.Min()
	upto := message.NoPosition // behind the last record that goes
	var rows [64]Entry
	for end := min(off, q.Max()); upto < 0 && end > first; {
		from := max(first, end-message.Offset(len(rows)))
		n, err := q.Read(from, rows[:end-from])
		if err != nil {
			return 0, fmt.Errorf("store: find where %s queue %d is to begin: %w", topic, queue, s.readError(err))
		}
		for i := n - 1; i >= 0 && upto < 0; i-- {
			if !rows[i].Filler() {
				upto = rows[i].Position + 1
			}
		}
		end = from
	}
	if upto < 0 {
		return 0, nil
	}
	if err := q.DropBefore(upto); err != nil {
		return 0, fmt.Errorf("store: trim %s queue %d: %w", topic, queue, err)
	}
	return int64(q.Min() - first), nil
}

// FollowLog makes queues and index forget what the log has not any more, which
// DropBefore does too.
func (s *Store) FollowLog() error {
	if err := s.Failed(); err != nil {
		return err
	}
	return s.followLog()
}
