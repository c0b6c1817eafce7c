package schedule

import (
	"errors"

	"github.com/merlinmq/merlin/message"
)

// level is how far the messages of one delay level were delivered. Its queue is
// in order of due time, because all of them wait equally long: what does not
// fit, after a step of the clock or with another table of levels, is moved to
// the rows.
type level struct {
	number int
	queue  int32

	next  message.Offset // first that was not delivered; guarded by Service.mu
	taken int            // of the batch under way; guarded by Service.mu

	// The next entries, from the offset ahead on; for the deliverer alone.
	ahead  message.Offset
	buffer []Entry
}

func (l *level) mark() []byte { return levelMark(l.number) }

const aheadEntries = 256

// head returns the entry behind the i that were taken, nil if there is none.
// The deliverer calls it; next changes by the deliverer alone while it delivers.
func (s *Service) head(l *level, i int) (*Entry, error) {
	at := l.next + message.Offset(i)
	if n := at - l.ahead; n >= 0 && int(n) < len(l.buffer) {
		return &l.buffer[n], nil
	}
	first, end := s.log.Bounds(message.TopicSchedule, l.queue)
	if at < first && i == 0 {
		s.mu.Lock()
		l.next, at = first, first // what lay before was carried forward
		s.dirty = true
		s.mu.Unlock()
	}
	if at >= end || at < first {
		return nil, nil
	}
	if cap(l.buffer) == 0 {
		l.buffer = make([]Entry, 0, aheadEntries)
	}
	l.buffer = l.buffer[:aheadEntries]
	n, err := s.log.Entries(message.TopicSchedule, l.queue, at, l.buffer)
	l.ahead, l.buffer = at, l.buffer[:n]
	if errors.Is(err, ErrGone) {
		return nil, nil // trimmed meanwhile; the next look starts behind it
	}
	if err != nil || n == 0 {
		return nil, err
	}
	return &l.buffer[0], nil
}

// LevelTail returns the due time, in ms since 1970, of the last message that
// waits in a queue of the schedule topic, 0 if none does: see Rules.Tail. What
// is being stored is not counted.
func (s *Service) LevelTail(queue int32) int64 {
	_, end := s.log.Bounds(message.TopicSchedule, queue)
	if end == 0 || queue < 0 || int(queue) >= len(s.levels) {
		return 0
	}
	var last [1]Entry
	if n, err := s.log.Entries(message.TopicSchedule, queue, end-1, last[:]); err != nil || n == 0 {
		return 0 // trimmed meanwhile; what cannot be read holds up delivery, and is told of there
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.levels[queue]; l.next+message.Offset(l.taken) >= end {
		return 0
	}
	return last[0].TagCode
}

// levelNext returns the first offset of a level that waits and can be read.
func (s *Service) levelNext(l *level) message.Offset {
	first, _ := s.log.Bounds(message.TopicSchedule, l.queue)
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(first, l.next)
}
