package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/merlinmq/merlin/message"
)

// Pending is a message that waits.
type Pending struct {
	Due      int64            `json:"due"`             // ms since 1970
	Level    int              `json:"level,omitempty"` // 0: for any instant
	Topic    string           `json:"topic"`
	Queue    int32            `json:"queue"`
	Unique   string           `json:"unique_key"`
	Keys     string           `json:"keys,omitempty"`
	Tags     string           `json:"tags,omitempty"`
	Size     int              `json:"size"` // bytes of the stored body
	Born     int64            `json:"born"`
	Stored   int64            `json:"stored"`
	Position message.Position `json:"position"`
	ID       string           `json:"id"` // offset id of the waiting record
}

func notPending(format string, args ...any) error {
	return &RefusedError{Kind: NotPending, Text: fmt.Sprintf(format, args...)}
}

// Recall cancels the timed message that a handle names. The error is a
// *RefusedError of the kind NotPending when it does not wait any more.
func (s *Service) Recall(h Handle) error {
	s.rowMu.Lock()
	defer s.rowMu.Unlock()
	if err := s.settleLocked(); err != nil {
		return err
	}
	done := false
	var fault error
	err := s.eachTimed(h.Unique, h.Time-1, func(v message.View, due int64) bool {
		p := v.Properties()
		if _, mark := p.Get(message.PropTimerDelUniqueKey); mark || p.Value(message.PropRealTopic) != h.Topic {
			return true
		}
		err := s.replaceLocked(v, due, nil)
		var refused *RefusedError
		if errors.As(err, &refused) {
			return true
		}
		done, fault = err == nil, err
		return false
	})
	if err := errors.Join(err, fault); err != nil || done {
		return err
	}
	return notPending("the message %s of topic %s waits no more: it was delivered, recalled or moved, or never was", clip([]byte(h.Unique)), clip([]byte(h.Topic)))
}

// Cancel takes the waiting message at a position away. See Recall for errors.
func (s *Service) Cancel(pos message.Position) error { return s.change(pos, nil) }

// Reschedule gives the waiting message at a position another instant, in ms
// since 1970. What is past is delivered at once.
func (s *Service) Reschedule(pos message.Position, due int64) error {
	rules := s.o.Rules()
	now := s.o.Now()
	if due > now.UnixMilli()+rules.Longest.Milliseconds() {
		return rules.tooFar("the new instant", formatMs(due))
	}
	due = max(due, now.UnixMilli())
	return s.change(pos, &due)
}

func (s *Service) change(pos message.Position, due *int64) error {
	s.rowMu.Lock()
	defer s.rowMu.Unlock()
	if err := s.settleLocked(); err != nil {
		return err
	}
	v, err := s.log.Record(pos)
	if errors.Is(err, ErrGone) {
		return notPending("no message waits at position %d", pos)
	}
	if err != nil {
		return err
	}
	old, ok := dueOf(v.Properties())
	if _, mark := v.Properties().Get(message.PropTimerDelUniqueKey); mark || !ok && string(v.Topic()) != message.TopicSchedule {
		return notPending("the message at position %d is not delayed", pos)
	}
	return s.replaceLocked(v, old, due)
}

// settleLocked makes everything that was sent so far known.
func (s *Service) settleLocked() error {
	if err := s.log.Sync(); err != nil {
		return err
	}
	return s.indexLocked(context.Background())
}

// replaceLocked takes a waiting message away and stores another in its place:
// the same for another instant, or, with due nil, the mark that it is gone.
func (s *Service) replaceLocked(v message.View, old int64, due *int64) error {
	r, undo, err := s.withdrawLocked(v, old)
	if err != nil {
		return err
	}
	var puts []message.Message
	if due != nil {
		m := moved(v, *due, r)
		puts = append(puts, m)
	}
	if due == nil || r.level == 0 && slotOf(*due) != slotOf(r.due) {
		puts = append(puts, deleteMark(v, r))
	}
	if err := s.log.Append(puts); err != nil {
		undo()
		return err
	}
	return s.settleLocked()
}

// withdrawLocked makes sure that a message waits and is not delivered from now
// on. undo puts it back.
func (s *Service) withdrawLocked(v message.View, due int64) (r replaced, undo func(), err error) {
	if string(v.Topic()) == message.TopicSchedule {
		if r, undo, waits := s.withdrawLevel(v); waits {
			return r, undo, nil
		}
		// It may have been set aside; its instant is in its entry alone.
		if due, err = s.entryCode(v); err != nil {
			return r, nil, err
		}
	}
	k := rowKey{due, v.Position()}
	_, found, err := s.rows.timed.Get(k.bytes())
	if err != nil {
		return r, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, away := s.away[k]; away || !found {
		return r, nil, notPending("the message at position %d waits no more: it was delivered, recalled or moved", v.Position())
	}
	was := s.due.drop(k)
	r = replaced{0, k.due, k.pos}
	if string(v.Topic()) == message.TopicSchedule {
		r.level = int(v.QueueID()) + 1 // without the row it would be its level's again
	}
	return r, func() {
		if was {
			s.addDue([]rowKey{k})
		}
	}, nil
}

func (s *Service) entryCode(v message.View) (int64, error) {
	var e [1]Entry
	n, err := s.log.Entries(message.TopicSchedule, v.QueueID(), v.QueueOffset(), e[:])
	if err != nil && !errors.Is(err, ErrGone) {
		return 0, err
	}
	if n == 0 || e[0].Position != v.Position() {
		return 0, notPending("the message at position %d waits no more", v.Position())
	}
	return e[0].TagCode, nil
}

// withdrawLevel makes the deliverer pass a level message by.
func (s *Service) withdrawLevel(v message.View) (r replaced, undo func(), waits bool) {
	queue := int(v.QueueID())
	due, err := s.entryCode(v)
	if err != nil || queue < 0 || queue >= len(s.levels) {
		return r, nil, false
	}
	l := s.levels[queue]
	pos := v.Position()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, skip := s.skip[pos]; skip || v.QueueOffset() < l.next+message.Offset(l.taken) {
		return r, nil, false
	}
	s.skip[pos] = due
	return replaced{l.number, due, pos}, func() {
		s.mu.Lock()
		delete(s.skip, pos)
		s.mu.Unlock()
	}, true
}

// moved returns the record for a message that waits for another instant.
func moved(v message.View, due int64, r replaced) message.Message {
	m := v.Message()
	p := withoutLevel(m.Properties)
	p = p.Without(message.PropTimerDelaySec, message.PropTimerDelayMs, message.PropStartDeliverTime, message.PropTimerRollTimes, PropReplaces, PropDue)
	m.Properties = timedProperties(p, due).Append(PropReplaces, r.String())
	m.Topic, m.QueueID = message.TopicTimer, 0
	return m
}

// deleteMark returns the record that Apache's broker, too, takes for a recall.
func deleteMark(v message.View, r replaced) message.Message {
	p := v.Properties()
	unique := p.Value(message.PropUniqueKey)
	m := message.Message{
		Topic: message.TopicTimer, Body: []byte("0"), BornTimestamp: v.BornTimestamp(), BornHost: v.BornHost(), StoreHost: v.StoreHost(),
	}
	m.Properties = m.Properties.Append(message.PropTags, "_RECALL_MESSAGE_TAG_").
		Append(message.PropTimerDelUniqueKey, cmp.Or(unique, "-")).
		Append(message.PropRealTopic, p.Value(message.PropRealTopic)).Append(message.PropRealQueueID, cmp.Or(p.Value(message.PropRealQueueID), "0")).
		Append(message.PropTimerDeliverMs, strconv.FormatInt(r.due, 10)).Append(message.PropTimerOutMs, strconv.FormatInt(slotOf(r.due), 10)).
		Append(PropReplaces, r.String())
	return m
}

// HandOver stores everything that waits anew at the end of the log and returns
// where that begins in the timer's queue: a broker that reads the queue from
// there on, such as Apache's, misses nothing and delivers nothing twice.
// levels is where each delay level is to be gone on with then: at its end.
// Recurring messages are not carried, as no other broker knows them. Nothing
// may be sent or delivered meanwhile: see Options.Idle.
func (s *Service) HandOver() (timer Taken, levels map[int32]message.Offset, err error) {
	if err := s.Settle(); err != nil {
		return Taken{}, nil, err
	}
	_, end := s.log.Bounds(message.TopicTimer, 0)
	if err := s.CarryForward(math.MaxInt64); err != nil {
		return Taken{}, nil, err
	}
	levels = make(map[int32]message.Offset)
	for _, l := range s.levels {
		if _, end := s.log.Bounds(message.TopicSchedule, l.queue); end > 0 {
			levels[int32(l.number)] = end
		}
	}
	return Taken{Offset: end, Time: s.o.Now().UnixMilli()}, levels, nil
}

// Control pauses, resumes or removes the schedule of a name.
func (s *Service) control(name, op string) error {
	s.mu.Lock()
	l := s.schedules.byName[name]
	s.mu.Unlock()
	if l == nil {
		return &RefusedError{Kind: Unknown, Text: fmt.Sprintf("there is no schedule %q", clip([]byte(name)))}
	}
	s.rowMu.Lock()
	defer s.rowMu.Unlock()
	var p message.Properties
	now := s.o.Now().UnixMilli()
	p = p.Append(PropCronName, name).Append(PropOperation, op).Append(PropDue, dueStamp(now, now, 0))
	m := message.Message{Topic: TopicRecurring, Body: []byte("0"), BornTimestamp: now, BornHost: s.o.Host(), Properties: p}
	if err := s.log.Append([]message.Message{m}); err != nil {
		return err
	}
	return s.settleLocked()
}

// Pause stops a schedule's firings until Resume; what would have fired
// meanwhile does not count as missed.
func (s *Service) Pause(name string) error { return s.control(name, opPause) }

// Resume lets a paused schedule fire again.
func (s *Service) Resume(name string) error { return s.control(name, opResume) }

// Remove takes a schedule away.
func (s *Service) Remove(name string) error { return s.control(name, opRemove) }

// Settle returns when everything that was sent so far is known to the service.
func (s *Service) Settle() error {
	s.rowMu.Lock()
	defer s.rowMu.Unlock()
	return s.settleLocked()
}
