package schedule

import (
	"errors"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/merlinmq/merlin/internal/heap"
	"github.com/merlinmq/merlin/message"
)

// Filter says which waiting messages to list.
type Filter struct {
	Topic string `json:"topic,omitempty"` // real topic; "" for all
	Key   string `json:"key,omitempty"`   // key or unique key; "" for all
	From  int64  `json:"from,omitempty"`  // due at or after, ms since 1970
	To    int64  `json:"to,omitempty"`    // due before; 0: no bound
	Limit int    `json:"limit,omitempty"` // at most so many, default 100, at most 1000
	After Cursor `json:"after,omitzero"`  // go on behind what was listed

	// Below leaves out what is stored at or behind a position; 0: nothing.
	Below message.Position `json:"below,omitempty"`
}

// Cursor is a place in the list of waiting messages; the zero value is its start.
type Cursor struct {
	Due      int64            `json:"due,omitempty"`
	Position message.Position `json:"position,omitempty"`
}

// List is a page of waiting messages in order of due time.
type List struct {
	Messages []Pending `json:"messages"`
	Next     Cursor    `json:"next"`
	More     bool      `json:"more"` // there may be more behind Next
}

const (
	listLimit = 1000
	listScan  = 100_000 // rows that one page looks at
)

// List returns waiting messages, a page at a time.
func (s *Service) List(f Filter) (List, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	f.Limit = min(f.Limit, listLimit)
	if f.To <= 0 {
		f.To = math.MaxInt64
	}
	if f.Below <= 0 {
		f.Below = math.MaxInt64
	}
	if err := s.Settle(); err != nil {
		return List{}, err
	}
	if f.Key != "" {
		return s.listByKey(f)
	}
	w := walk{s: s, f: f, from: rowKey{f.From, -1}, sources: heap.New(func(a, b *source) bool { return a.key.less(b.key) }, nil)}
	if after := (rowKey{f.After.Due, f.After.Position}); f.After != (Cursor{}) && w.from.less(after) {
		w.from = after
	}
	return w.run()
}

// listByKey looks the key up in the index of keys. As that is in the order of
// the log, each page looks at all records with the key.
func (s *Service) listByKey(f Filter) (List, error) {
	var out List
	var fault error
	after := rowKey{f.After.Due, f.After.Position}
	look := func(v message.View) bool {
		p, waits, err := s.look(v)
		if err != nil {
			fault = err
			return false
		}
		k := p.key()
		if !waits || !f.takes(&p) || f.After != (Cursor{}) && !after.less(k) {
			return true
		}
		i, twice := slices.BinarySearchFunc(out.Messages, k, func(x Pending, k rowKey) int { return x.key().compare(k) })
		if twice || i == f.Limit {
			out.More = out.More || !twice
			return true
		}
		if len(out.Messages) == f.Limit {
			out.Messages, out.More = out.Messages[:f.Limit-1], true
		}
		out.Messages = slices.Insert(out.Messages, i, p)
		return true
	}
	for _, topic := range []string{message.TopicTimer, message.TopicSchedule} {
		if err := errors.Join(s.log.Find(topic, f.Key, look), fault); err != nil {
			return List{}, err
		}
	}
	if n := len(out.Messages); n > 0 {
		last := &out.Messages[n-1]
		out.Next = Cursor{last.Due, last.Position}
	}
	return out, nil
}

// takes tells whether a waiting message fits the filter, apart from its key.
func (f *Filter) takes(p *Pending) bool {
	return (f.Topic == "" || p.Topic == f.Topic) && p.Due >= f.From && p.Due < f.To && p.Position < f.Below
}

func (p *Pending) key() rowKey { return rowKey{p.Due, p.Position} }

// Show returns the waiting message at a position with its record, NotPending if
// there is none.
func (s *Service) Show(pos message.Position) (Pending, message.View, error) {
	if err := s.Settle(); err != nil {
		return Pending{}, nil, err
	}
	v, err := s.log.Record(pos)
	if err != nil && !errors.Is(err, ErrGone) {
		return Pending{}, nil, err
	}
	if err == nil {
		p, waits, err := s.look(v)
		if err != nil || waits {
			return p, v, err
		}
	}
	return Pending{}, nil, notPending("no message waits at position %d: it was delivered, recalled or moved, or never was", pos)
}

// look tells whether a record waits, and what it is.
func (s *Service) look(v message.View) (Pending, bool, error) {
	p := v.Properties()
	if _, mark := p.Get(message.PropTimerDelUniqueKey); mark {
		return Pending{}, false, nil
	}
	switch string(v.Topic()) {
	case message.TopicTimer:
		due, ok := dueOf(p)
		if !ok {
			return Pending{}, false, nil
		}
		return s.lookRow(v, due, 0)
	case message.TopicSchedule:
		due, err := s.entryCode(v)
		var refused *RefusedError
		if errors.As(err, &refused) || err == nil && int(v.QueueID()) >= len(s.levels) {
			return Pending{}, false, nil
		}
		if err != nil {
			return Pending{}, false, err
		}
		l := s.levels[v.QueueID()]
		s.mu.Lock()
		_, skip := s.skip[v.Position()]
		waits := !skip && v.QueueOffset() >= l.next+message.Offset(l.taken)
		s.mu.Unlock()
		if waits {
			return pendingOf(v, due, l.number), true, nil
		}
		return s.lookRow(v, due, l.number)
	}
	return Pending{}, false, nil
}

func (s *Service) lookRow(v message.View, due int64, level int) (Pending, bool, error) {
	k := rowKey{due, v.Position()}
	_, found, err := s.rows.timed.Get(k.bytes())
	if err != nil || !found {
		return Pending{}, false, err
	}
	s.mu.Lock()
	_, away := s.away[k]
	s.mu.Unlock()
	return pendingOf(v, due, level), !away, nil
}

func pendingOf(v message.View, due int64, level int) Pending {
	out := Pending{
		Due: due, Level: level, Size: v.BodySize(), Born: v.BornTimestamp(), Stored: v.StoreTimestamp(),
		Position: v.Position(), ID: v.OffsetID(), Topic: string(v.Topic()), Queue: v.QueueID(),
	}
	if m, err := Restore(v); err == nil {
		out.Topic, out.Queue = m.Topic, m.QueueID
	}
	for name, value := range v.Properties().All() {
		switch string(name) {
		case message.PropUniqueKey:
			out.Unique = string(value)
		case message.PropKeys:
			out.Keys = string(value)
		case message.PropTags:
			out.Tags = string(value)
		}
	}
	return out
}

// walk lists in order of due time: rows and levels side by side.
type walk struct {
	s    *Service
	f    Filter
	from rowKey // behind it

	sources heap.Heap[*source]
	scanned int
	out     List
}

// source is where a walk takes from: its next key and how to go on.
type source struct {
	key   rowKey
	topic string // real topic, if it is known
	next  func() (rowKey, string, bool, error)
}

func (w *walk) run() (List, error) {
	for _, next := range w.open() {
		src := &source{next: next}
		if err := w.advance(src, false); err != nil {
			return w.out, err
		}
	}
	for w.sources.Len() > 0 && len(w.out.Messages) < w.f.Limit && w.scanned < listScan {
		src := w.sources.First()
		if src.key.due >= w.f.To {
			return w.out, nil
		}
		w.scanned++
		w.out.Next = Cursor{src.key.due, src.key.pos}
		if w.f.Topic == "" || src.topic == "" || src.topic == w.f.Topic {
			if err := w.take(src.key); err != nil {
				return w.out, err
			}
		}
		if err := w.advance(src, true); err != nil {
			return w.out, err
		}
	}
	w.out.More = w.sources.Len() > 0
	return w.out, nil
}

func (w *walk) take(k rowKey) error {
	v, err := w.s.log.Record(k.pos)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	p, waits, err := w.s.look(v)
	if err == nil && waits && p.Due == k.due && w.f.takes(&p) {
		w.out.Messages = append(w.out.Messages, p)
	}
	return err
}

func (w *walk) advance(src *source, placed bool) error {
	key, topic, ok, err := src.next()
	switch {
	case err != nil:
		return err
	case ok && placed:
		src.key, src.topic = key, topic
		w.sources.Fix(0)
	case ok:
		src.key, src.topic = key, topic
		w.sources.Push(src)
	case placed:
		w.sources.Pop()
	}
	return nil
}

// open returns the sources behind the cursor.
func (w *walk) open() []func() (rowKey, string, bool, error) {
	all := []func() (rowKey, string, bool, error){w.rows()}
	for _, l := range w.s.levels {
		if next := w.level(l); next != nil {
			all = append(all, next)
		}
	}
	return all
}

// rows reads rows in pieces, so that no iterator is held.
func (w *walk) rows() func() (rowKey, string, bool, error) {
	type row struct {
		key   rowKey
		topic string
	}
	var piece []row
	at := w.from
	return func() (rowKey, string, bool, error) {
		if len(piece) == 0 {
			start := rowKey{at.due, at.pos + 1}
			err := w.s.rows.timed.Range(start.bytes(), nil, func(key, topic []byte) bool {
				if k, ok := parseRowKey(key); ok {
					piece = append(piece, row{k, string(topic)})
				}
				return len(piece) < 256
			})
			if err != nil || len(piece) == 0 {
				return rowKey{}, "", false, err
			}
		}
		first := piece[0]
		piece, at = piece[1:], first.key
		return first.key, first.topic, true, nil
	}
}

// level goes through what waits in a level, from the cursor on.
func (w *walk) level(l *level) func() (rowKey, string, bool, error) {
	s := w.s
	first := s.levelNext(l)
	_, end := s.log.Bounds(message.TopicSchedule, l.queue)
	if first >= end {
		return nil
	}
	var fault error
	var one [1]Entry
	skip := sort.Search(int(end-first), func(i int) bool {
		n, err := s.log.Entries(message.TopicSchedule, l.queue, first+message.Offset(i), one[:])
		if err != nil && !errors.Is(err, ErrGone) {
			fault = err
		}
		return n == 1 && w.from.less(rowKey{one[0].TagCode, one[0].Position})
	})
	at := first + message.Offset(skip)
	var buffer [256]Entry
	var piece []Entry
	return func() (rowKey, string, bool, error) {
		for fault == nil {
			if len(piece) == 0 {
				n, err := s.log.Entries(message.TopicSchedule, l.queue, at, buffer[:])
				if errors.Is(err, ErrGone) || err == nil && n == 0 {
					return rowKey{}, "", false, nil
				}
				if err != nil {
					return rowKey{}, "", false, err
				}
				piece, at = buffer[:n], at+message.Offset(n)
			}
			e := piece[0]
			piece = piece[1:]
			if k := (rowKey{e.TagCode, e.Position}); e.Size > 0 && w.from.less(k) {
				return k, "", true, nil
			}
		}
		return rowKey{}, "", false, fault
	}
}

// Schedules returns the recurring messages by name. Times are as of now.
func (s *Service) Schedules() []Schedule {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Schedule, 0, len(s.schedules.byName))
	for _, l := range s.schedules.byName {
		state := l.Schedule
		if l.at != never {
			state.Next = l.at
		}
		list = append(list, state)
	}
	slices.SortFunc(list, func(a, b Schedule) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// ScheduleRoom tells whether there is room for a recurring message of a name: it
// takes the place of one that has it.
func (s *Service) ScheduleRoom(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.schedules.byName) < MaxSchedules || s.schedules.byName[name] != nil
}

// NextFirings returns the next n planned times of a schedule, Unknown if there
// is none by the name.
func (s *Service) NextFirings(name string, n int) (Schedule, []int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.schedules.byName[name]
	if l == nil {
		return Schedule{}, nil, &RefusedError{Kind: Unknown, Text: "there is no schedule " + name}
	}
	state := l.Schedule
	var times []int64
	for at := l.at; at != never && len(times) < n; {
		times = append(times, at)
		t := l.plan.Next(time.UnixMilli(at))
		if t.IsZero() || l.Until > 0 && t.UnixMilli() > l.Until || l.Count > 0 && l.Fired+int64(len(times)) >= l.Count {
			break
		}
		at = t.UnixMilli()
	}
	if len(times) > 0 {
		state.Next = times[0]
	}
	return state, times, nil
}
