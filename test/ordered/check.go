package ordered

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Rules are what Check holds the members to.
type Rules struct {
	// Repeats is how far before its owner's last message a queue may begin again
	// with a new owner: clients commit from time to time, not after each message.
	Repeats time.Duration
	// Locked is for how long at least after the last message of a member that was
	// killed or stands still nobody else begins with its queue.
	Locked time.Duration
	// Restarted is when the broker was started anew; zero: it was not. Afterwards
	// members may lose a queue for a moment and repeat like a new owner.
	Restarted time.Time
}

// Report is what Check found.
type Report struct {
	Handled int // messages, repeats included
	Changes int // of owners
	Seized  int // changes from a member that was killed or stands still
	Repeats int
	Wrong   []string // sentences, one for each breach, maxWrong at most
}

const maxWrong = 20

func (r *Report) String() string {
	return fmt.Sprintf("%d handled, %d repeats; %d changes of owners, %d of them from members that were killed or stood still", r.Handled, r.Repeats, r.Changes, r.Seized)
}

// Check looks at each queue by itself. What a member was in the midst of when it
// was made to stand still ends when it goes on, whoever has the queue by then; or
// it begins then with the next one, if it had looked at its lock for that before.
func (l *Log) Check(rules Rules) *Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	byQueue := map[int][]*event{}
	for _, e := range l.events {
		byQueue[e.queue] = append(byQueue[e.queue], e)
	}
	r := &Report{Handled: len(l.events)}
	for _, queue := range slices.Sorted(maps.Keys(byQueue)) {
		events := byQueue[queue]
		slices.SortStableFunc(events, func(a, b *event) int { return cmp.Compare(a.begin.UnixNano(), b.begin.UnixNano()) })
		events = l.withoutLateLocked(events)
		l.overlapsLocked(r, events)
		l.orderLocked(r, rules, events)
	}
	return r
}

func (r *Report) wrong(format string, args ...any) {
	if len(r.Wrong) < maxWrong {
		r.Wrong = append(r.Wrong, fmt.Sprintf(format, args...))
	}
}

// withoutLateLocked leaves out the message with which a member began as it went
// on, where it was the next one to it, it had ended the one before, and another
// member had the queue meanwhile.
func (l *Log) withoutLateLocked(events []*event) []*event {
	for name, g := range l.gaps {
		if g.to.IsZero() {
			continue
		}
		next, taken := int64(0), false
		for i, e := range events {
			if e.member != name {
				taken = taken || e.begin.After(g.from)
				continue
			}
			if e.begin.Before(g.to) {
				if next = e.offset + 1; !e.end.Before(g.to) {
					next = -1 // it was in the midst of that one
				}
				continue
			}
			if taken && e.offset == next {
				events = slices.Delete(slices.Clone(events), i, i+1)
			}
			break // only its first message since
		}
	}
	return events
}

// overlapsLocked looks for two messages of one queue that are handled at a time.
func (l *Log) overlapsLocked(r *Report, events []*event) {
	for i, e := range events {
		for _, before := range events[:i] {
			if !before.end.IsZero() && !before.end.After(e.begin) {
				continue
			}
			if g := l.gaps[before.member]; before.member != e.member && g != nil && !g.to.IsZero() && before.begin.Before(g.to) && before.end.After(g.to) {
				continue
			}
			r.wrong("queue %d: %s begins with offset %d while %s handles offset %d", e.queue, e.member, e.offset, before.member, before.offset)
		}
	}
}

// orderLocked looks for messages that are skipped or swapped, for repeats that
// have no reason, and for queues that are taken while they are locked.
func (l *Log) orderLocked(r *Report, rules Rules, events []*event) {
	next, ends := int64(0), map[int64]time.Time{} // ends are those of the offsets below next
	for i, e := range events {
		if e.offset > next {
			r.wrong("queue %d: %s handles offset %d, and nobody has handled %d: messages are skipped", e.queue, e.member, e.offset, next)
		}
		if e.offset < next {
			r.Repeats++
		}
		next = max(next, e.offset+1)
		if i > 0 {
			l.stepLocked(r, rules, events[i-1], e, ends)
		}
		ends[e.offset] = e.end
	}
}

// stepLocked looks at two messages of a queue, one after the other.
func (l *Log) stepLocked(r *Report, rules Rules, last, e *event, ends map[int64]time.Time) {
	back := e.offset <= last.offset
	if back {
		if end, before := ends[e.offset], last.begin.Add(-rules.Repeats); end.Before(before) {
			r.wrong("queue %d: %s goes back from offset %d to %d, which was handled %v before", e.queue, e.member, last.offset, e.offset, last.begin.Sub(end))
		}
	}
	if e.member == last.member {
		lost := !rules.Restarted.IsZero() && e.begin.After(rules.Restarted)
		if e.offset > last.offset+1 || e.offset < last.offset && !lost {
			r.wrong("queue %d: %s goes from offset %d to %d", e.queue, e.member, last.offset, e.offset)
		}
		return
	}
	r.Changes++
	g := l.gaps[last.member]
	if g == nil || e.begin.Before(g.from) || !g.to.IsZero() && last.begin.After(g.to) {
		return
	}
	r.Seized++
	if took := e.begin.Sub(last.begin); took < rules.Locked {
		r.wrong("queue %d: %s takes it %v after the last message of %s, whose lock must last longer", e.queue, e.member, took, last.member)
	}
}
