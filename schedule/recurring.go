package schedule

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/merlinmq/merlin/internal/heap"
	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

const (
	// missedAfter is how late a firing may be before the policy for missed ones
	// says what becomes of it.
	missedAfter = 5 * time.Second
	// replanAfter is how far the clock must go back for schedules to forget
	// that they fired at times that are to come again.
	replanAfter = 24 * time.Hour
	// MaxSchedules is how many recurring messages there may be.
	MaxSchedules = 10_000
)

// Schedule is a recurring message. Times are in ms since 1970.
type Schedule struct {
	Name     string           `json:"name"`
	Topic    string           `json:"topic"`
	Queue    int32            `json:"queue"`
	Spec     string           `json:"spec"`
	Keys     string           `json:"keys,omitempty"`   // of each message, separated by spaces
	Until    int64            `json:"until,omitempty"`  // last instant of a firing
	Count    int64            `json:"count,omitempty"`  // how often it fires at most
	Missed   string           `json:"missed"`           // MissedSkip, MissedOnce or MissedAll
	Paused   bool             `json:"paused,omitempty"` //
	Created  int64            `json:"created"`          //
	Fired    int64            `json:"fired"`            // how often
	Last     int64            `json:"last"`             // planned time of the last firing, or since when it counts
	Next     int64            `json:"next,omitempty"`   // planned time of the next firing, 0 for none
	Position message.Position `json:"position"`         // of the record that has the message
}

// liveSchedule is a schedule at work.
type liveSchedule struct {
	Schedule
	plan    cron.Schedule
	at      int64 // planned time of the next firing; never for none
	caught  int64 // a missed firing that is to be made up for
	ahead   int64 // firings of the batch under way
	place   int   // in the heap
	changed bool  // since the last save
}

const never = math.MaxInt64

// scheduleTable is the schedules by name and by time. It is guarded by
// Service.mu.
type scheduleTable struct {
	byName map[string]*liveSchedule
	byTime heap.Heap[*liveSchedule]
}

func newScheduleTable() scheduleTable {
	return scheduleTable{
		byName: map[string]*liveSchedule{},
		byTime: heap.New(func(a, b *liveSchedule) bool { return a.at < b.at }, func(l *liveSchedule, place int) { l.place = place }),
	}
}

// first returns the schedule that fires next, nil if none will.
func (t *scheduleTable) first() *liveSchedule {
	if t.byTime.Len() == 0 || t.byTime.First().at == never {
		return nil
	}
	return t.byTime.First()
}

// due returns what first does, once the policies for what was missed are
// applied.
func (t *scheduleTable) due(now int64) *liveSchedule {
	for {
		l := t.first()
		if l == nil || l.at >= now-missedAfter.Milliseconds() || l.Missed == MissedAll || l.caught == l.at {
			return l
		}
		if l.Missed == MissedOnce {
			l.caught = newestUpto(l.plan, l.at, now)
			l.at = l.caught
		} else {
			l.at = l.planned(now - missedAfter.Milliseconds())
		}
		t.byTime.Fix(l.place)
	}
}

// newestUpto returns the last planned time in [first, now]; first is one.
func newestUpto(plan cron.Schedule, first, now int64) int64 {
	for span := time.Minute.Milliseconds(); ; span *= 8 {
		from := max(now-span, first-1)
		found := int64(0)
		for at := plan.Next(time.UnixMilli(from)); !at.IsZero() && at.UnixMilli() <= now; at = plan.Next(at) {
			found = at.UnixMilli()
		}
		if found > 0 {
			return max(found, first)
		}
		if from == first-1 {
			return first
		}
	}
}

// planned returns the first planned time behind after, or never.
func (l *liveSchedule) planned(after int64) int64 {
	if l.Paused || l.Count > 0 && l.Fired+l.ahead >= l.Count {
		return never
	}
	at := l.plan.Next(time.UnixMilli(after))
	if at.IsZero() || l.Until > 0 && at.UnixMilli() > l.Until {
		return never
	}
	return at.UnixMilli()
}

// plan sets the next time from what was fired last.
func (t *scheduleTable) plan(l *liveSchedule, now int64) {
	after := l.Last
	if after > now+replanAfter.Milliseconds() {
		after = now // the clock was wrong
	}
	l.at = l.planned(after)
	t.byTime.Fix(l.place)
}

// advance goes on to the firing after the one that was taken.
func (t *scheduleTable) advance(l *liveSchedule, _ int64) {
	l.ahead++
	l.at = l.planned(l.at)
	t.byTime.Fix(l.place)
}

// takeBack undoes the last advance.
func (t *scheduleTable) takeBack(l *liveSchedule, planned int64) {
	l.ahead--
	if t.byName[l.Name] != l {
		return // removed or replaced meanwhile
	}
	l.at = planned
	t.byTime.Fix(l.place)
}

// fired notes that a firing is in the log.
func (t *scheduleTable) fired(l *liveSchedule, planned int64) {
	l.ahead--
	l.Fired++
	l.Last = planned
	l.changed = true
}

func (t *scheduleTable) set(l *liveSchedule, now int64) {
	t.remove(l.Name)
	t.byName[l.Name] = l
	l.at = never
	t.byTime.Push(l)
	t.plan(l, now)
}

func (t *scheduleTable) remove(name string) {
	if l := t.byName[name]; l != nil {
		t.byTime.Remove(l.place)
		delete(t.byName, name)
	}
}

// changed returns the state of what changed and takes it for saved.
func (t *scheduleTable) changed() (list []Schedule) {
	for _, l := range t.byTime.All() {
		if l.changed {
			list = append(list, l.Schedule)
			l.changed = false
		}
	}
	return list
}

func (t *scheduleTable) changeAgain(list []Schedule) {
	for i := range list {
		if l := t.byName[list[i].Name]; l != nil {
			l.changed = true
		}
	}
}

// loadSchedules takes the stored schedules up. One whose record the log has lost
// in a power cut goes.
func (s *Service) loadSchedules() error {
	now := s.o.Now()
	var fault error
	err := s.rows.schedules.Range(nil, nil, func(key []byte, stored Schedule) bool {
		v, err := s.log.Record(stored.Position)
		if err == nil {
			err = verifySchedule(stored.Name, v)
		}
		if errors.Is(err, ErrGone) {
			s.o.Warn("a schedule is gone: the log has lost its message", "schedule", stored.Name, "position", stored.Position)
			fault = s.rows.schedules.Delete(key, kv.Buffered)
			return fault == nil
		}
		if err != nil {
			fault = fmt.Errorf("read the message of the schedule %s: %w", stored.Name, err)
			return false
		}
		plan, err := ParseCron(stored.Spec, now)
		if err != nil {
			s.o.Warn("a schedule does not fire any more", "schedule", stored.Name, "error", err)
			return true
		}
		s.schedules.set(&liveSchedule{Schedule: stored, plan: plan}, now.UnixMilli())
		return true
	})
	return errors.Join(err, fault)
}

// replanSchedules reckons all next times anew, after a step of the clock.
func (s *Service) replanSchedules(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.schedules.byName {
		s.schedules.plan(l, now)
	}
}

// putScheduleTo adds the present state of a schedule to a batch, or its end.
func (s *Service) putScheduleTo(b *kv.Batch, name string) error {
	s.mu.Lock()
	l := s.schedules.byName[name]
	var state Schedule
	if l != nil {
		state = l.Schedule
	}
	s.mu.Unlock()
	if l == nil {
		s.rows.schedules.DeleteTo(b, []byte(name))
		return nil
	}
	return s.rows.schedules.PutTo(b, []byte(name), state)
}

// putSaved adds the saved state of a schedule, unless it was removed or
// replaced since.
func (s *Service) putSaved(b *kv.Batch, state *Schedule) error {
	s.mu.Lock()
	l := s.schedules.byName[state.Name]
	same := l != nil && l.Created == state.Created
	if same { // what is changed by a definition meanwhile counts
		state.Paused, state.Position = l.Paused, l.Position
	}
	s.mu.Unlock()
	if !same {
		return nil
	}
	return s.rows.schedules.PutTo(b, []byte(state.Name), *state)
}

// indexDefinition takes up what a record of the topic of schedules says.
func (s *Service) indexDefinition(c *indexing, v message.View) error {
	p := v.Properties()
	name := p.Value(PropCronName)
	now := s.o.Now()
	switch op := p.Value(PropOperation); op {
	case "":
		l, err := s.newSchedule(v, now)
		if err != nil {
			s.o.Warn("a record that should make a schedule is left out", "position", v.Position(), "error", err)
			return nil
		}
		s.mu.Lock()
		if old := s.schedules.byName[l.Name]; old != nil && p.Value(PropState) != "" && old.Created == l.Created {
			old.Position = v.Position() // it was carried to the end of the log
		} else {
			s.schedules.set(l, now.UnixMilli())
		}
		s.mu.Unlock()
		name = l.Name
	case opRemove:
		s.mu.Lock()
		s.schedules.remove(name)
		s.mu.Unlock()
	case opPause, opResume:
		s.mu.Lock()
		if l := s.schedules.byName[name]; l != nil && l.Paused != (op == opPause) {
			l.Paused = op == opPause
			if !l.Paused {
				l.Last = max(l.Last, sentAt(v))
			}
			s.schedules.plan(l, now.UnixMilli())
		}
		s.mu.Unlock()
	}
	c.defs = append(c.defs, name)
	return nil
}

// sentAt returns when a definition was sent, by the clock of that moment: the
// store time may be ahead of it.
func sentAt(v message.View) int64 {
	if at, ok := stampedDue(v); ok {
		return at
	}
	return v.StoreTimestamp()
}

func (s *Service) newSchedule(v message.View, now time.Time) (*liveSchedule, error) {
	p := v.Properties()
	m, err := Restore(v)
	if err != nil {
		return nil, err
	}
	d, err := readDefinition(p, now)
	if err != nil {
		return nil, err
	}
	l := &liveSchedule{plan: d.plan, Schedule: Schedule{
		Name: d.name, Topic: m.Topic, Queue: m.QueueID, Spec: d.spec, Keys: p.Value(message.PropKeys), Until: d.until, Count: d.count, Missed: d.missed,
		Created: sentAt(v), Last: sentAt(v), Position: v.Position(),
	}}
	if text := p.Value(PropState); text != "" {
		var st Schedule
		if err := json.Unmarshal([]byte(text), &st); err != nil {
			return nil, fmt.Errorf("the state in the record is broken: %w", err)
		}
		l.Paused, l.Created, l.Fired, l.Last = st.Paused, st.Created, st.Fired, st.Last
	}
	return l, nil
}
