package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
)

// Properties that Merlin adds to Apache's.
const (
	// PropCron makes a message recur: a cron expression with five or six fields
	// or a descriptor such as @daily, with CRON_TZ=Zone in front if wanted.
	PropCron = "MERLIN_CRON"
	// PropCronName names the schedule; the same name again replaces it. Default:
	// the message's unique key.
	PropCronName = "MERLIN_CRON_NAME"
	// PropCronUntil is the last instant of a firing, in ms since 1970 or RFC 3339.
	PropCronUntil = "MERLIN_CRON_UNTIL"
	// PropCronCount is how often it fires at most.
	PropCronCount = "MERLIN_CRON_COUNT"
	// PropCronMissed says what becomes of firings that were missed: skip
	// (default), once, or all.
	PropCronMissed = "MERLIN_CRON_MISSED"

	// PropSchedule and PropPlanned are on each firing: the schedule's name, and
	// the planned time in ms since 1970.
	PropSchedule = "MERLIN_SCHEDULE"
	PropPlanned  = "MERLIN_PLANNED_MS"

	// PropReplaces is on a record that takes the place of a waiting one.
	PropReplaces = "MERLIN_REPLACES"
	// PropDue is on a level message: when it is due, see dueStamp; and on a record
	// of the topic of schedules: when it was sent.
	PropDue = "MERLIN_DUE_MS"
)

// ownProperties are those on waiting records that mean something to this
// package and that it alone may write.
var ownProperties = []string{PropReplaces, PropDue, PropOperation, PropState, message.PropTimerRollTimes}

// TopicRecurring holds the records that make, change and remove schedules.
const TopicRecurring = "rmq_sys_merlin_schedules"

// DefaultLevels are Apache's delay levels, as its configuration writes them.
const DefaultLevels = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"

// Levels are the delays of the levels; level 1 is the first.
type Levels []time.Duration

// ParseLevels reads a list such as DefaultLevels: whole numbers with s, m, h
// or d behind them.
func ParseLevels(text string) (Levels, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	var levels Levels
	for word := range strings.FieldsSeq(text) {
		unit, known := units[word[len(word)-1]]
		n, err := strconv.ParseInt(word[:len(word)-1], 10, 64)
		if !known || err != nil || n < 0 || n > int64(100*365*24*time.Hour/unit) {
			return nil, fmt.Errorf("messageDelayLevel: %q is no delay; write whole numbers with s, m, h or d behind them, such as %q", word, DefaultLevels)
		}
		levels = append(levels, time.Duration(n)*unit)
	}
	if len(levels) == 0 {
		return nil, fmt.Errorf("messageDelayLevel is empty; write delays such as %q", DefaultLevels)
	}
	return levels, nil
}

// Delay returns the delay of a level; levels above the last are the last.
func (l Levels) Delay(level int) time.Duration {
	if level < 1 || len(l) == 0 {
		return 0
	}
	return l[min(level, len(l))-1]
}

// Rules say what may be deferred, and how.
type Rules struct {
	Levels  Levels
	Timer   bool          // messages for any instant are taken
	Longest time.Duration // how far ahead they may be

	// Tail returns the due time, in ms since 1970, of the last message that
	// waits in a queue of the schedule topic; 0 if none does. nil: none ever does.
	Tail func(queue int32) int64
}

// precision is the width of Apache's timer slots in ms.
const precision = 1000

// slotOf returns what Apache keeps as TIMER_OUT_MS for an instant: the slot
// that fires before or at it.
func slotOf(due int64) int64 {
	if due%precision == 0 {
		return due - precision
	}
	return due / precision * precision
}

// Deferred says where Defer sent a message.
type Deferred struct {
	// Code is what the entry holds in place of the hash of the tags, the due
	// time in ms since 1970; not 0 for level messages only.
	Code int64
	// Due is the instant of a timed message, in ms since 1970; else 0.
	Due int64
	// Handle is the time that a recall handle names; 0 if there is none.
	Handle int64
	// Recurring: the message makes a schedule.
	Recurring bool
}

// Defer rewrites m, if its properties ask for it, to wait under the topic where
// Apache's broker would put it. What is due already stays as it is. Properties
// are replaced, not written. Refusals are *RefusedError.
func (r *Rules) Defer(m *message.Message, now time.Time) (d Deferred, err error) {
	if t := m.SysFlag.Transaction(); t == message.FlagPrepared || t == message.FlagRollback {
		return Deferred{}, nil
	}
	asked, err := r.readAsked(m.Properties)
	if err != nil {
		return Deferred{}, err
	}
	if asked.own {
		m.Properties = m.Properties.Without(ownProperties...)
	}
	defer func() {
		if room := message.MaxPropertiesSize - reserved; err == nil && len(m.Properties) > room && d != (Deferred{}) {
			err = illegal("the properties take %d bytes with those of the delay; a delayed message has room for %d", len(m.Properties), room)
		}
	}()
	switch {
	case asked.cron != "":
		if asked.level > 0 || asked.timed() {
			return Deferred{}, illegal("a message may recur (%s) or be delayed, not both", PropCron)
		}
		return r.deferRecurring(m, now)
	case asked.level > 0:
		return r.deferLevel(m, asked, now.UnixMilli()), nil
	case asked.timed() && m.Topic != message.TopicTimer && !asked.out:
		return r.deferTimed(m, asked, now)
	}
	return Deferred{}, nil
}

// reserved is the room in bytes that the properties of a delayed message leave
// for what is noted when it is moved.
const reserved = 512

// asked is what the properties of a message ask for.
type asked struct {
	level                     int
	sec, ms, deliver, started string
	cron                      string
	deleteKey                 bool
	out                       bool // it was through Defer before
	own                       bool // it has some of ownProperties
}

func (a *asked) timed() bool {
	return a.sec != "" || a.ms != "" || a.deliver != "" || a.started != ""
}

func (r *Rules) readAsked(p message.Properties) (a asked, err error) {
	for name, value := range p.All() {
		switch string(name) {
		case message.PropDelay:
			if a.level, err = strconv.Atoi(string(value)); err != nil {
				return a, illegal("%s is %q; write the number of a delay level, 1 to %d", name, clip(value), len(r.Levels))
			}
		case message.PropTimerDelaySec:
			a.sec = string(value)
		case message.PropTimerDelayMs:
			a.ms = string(value)
		case message.PropTimerDeliverMs:
			a.deliver = string(value)
		case message.PropStartDeliverTime:
			a.started = string(value)
		case message.PropTimerDelUniqueKey:
			a.deleteKey = true
		case message.PropTimerOutMs:
			a.out = true
		case PropReplaces, PropDue, PropOperation, PropState, message.PropTimerRollTimes:
			a.own = true
		case PropCron:
			a.cron = string(value)
		}
	}
	return a, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 64)] }

func illegal(format string, args ...any) error {
	return &RefusedError{Kind: Illegal, Text: fmt.Sprintf(format, args...)}
}

// tailSlack is how far a level message may be due before the one ahead of it, in
// ms: senders that come together overtake each other.
const tailSlack = 20

// deferLevel sends m to the queue of its level. Timer properties count no more.
//
// A level's queue is in order of due time. Where that would end, because the
// clock was set back or the level was longer before, m waits as a timed message.
func (r *Rules) deferLevel(m *message.Message, a asked, now int64) Deferred {
	p := m.Properties
	level := min(a.level, len(r.Levels))
	if level != a.level {
		p = p.Set(message.PropDelay, strconv.Itoa(level))
	}
	if a.timed() {
		p = p.Without(message.PropTimerDelaySec, message.PropTimerDelayMs, message.PropTimerDeliverMs, message.PropStartDeliverTime)
	}
	due := now + max(1, r.Levels.Delay(level).Milliseconds())
	m.Properties = withReal(p, m)
	if r.Tail != nil && r.Tail(int32(level-1)) > due+tailSlack {
		m.Properties = timedProperties(withoutLevel(m.Properties), due)
		m.Topic, m.QueueID = message.TopicTimer, 0
		return Deferred{Due: due}
	}
	m.Topic, m.QueueID = message.TopicSchedule, int32(level-1)
	m.Properties = m.Properties.Append(PropDue, dueStamp(due, m.BornTimestamp, m.ReconsumeTimes))
	return Deferred{Code: due}
}

// withoutLevel keeps the level where it delays nothing: Apache's broker would
// delay a timed message by its level again.
func withoutLevel(p message.Properties) message.Properties {
	if level, ok := p.Get(message.PropDelay); ok {
		return p.Without(message.PropDelay).Set(message.PropTimerDelayLevel, string(level))
	}
	return p
}

// dueStamp returns PropDue of a level message. Recovery must find in the record
// when it is due: the store time plus the delay is something else when the clock
// was set back, as store times never go back, or when the levels have changed
// since. Apache's broker reckons so, does not know the property and hands it on
// with the message. What tells one sending from the next is in it, so that it
// counts no more when such a message is delayed anew.
func dueStamp(due, born int64, reconsumeTimes int32) string {
	return fmt.Sprintf("%d:%d:%d", due, born, reconsumeTimes)
}

// stampedDue reads what dueStamp wrote; ok is false if it is of another sending.
func stampedDue(v message.View) (due int64, ok bool) {
	stamp, found := v.Properties().Get(PropDue)
	if !found {
		return 0, false
	}
	text, _, _ := strings.Cut(string(stamp), ":")
	due, err := strconv.ParseInt(text, 10, 64)
	return due, err == nil && string(stamp) == dueStamp(due, v.BornTimestamp(), v.ReconsumeTimes())
}

// withReal returns properties that keep m's topic and queue.
func withReal(p message.Properties, m *message.Message) message.Properties {
	return p.Without(message.PropRealTopic, message.PropRealQueueID).
		Append(message.PropRealTopic, m.Topic).Append(message.PropRealQueueID, strconv.Itoa(int(m.QueueID)))
}

// deferTimed sends m to the timer topic, unless its instant is there already.
func (r *Rules) deferTimed(m *message.Message, a asked, now time.Time) (Deferred, error) {
	if !r.Timer {
		return Deferred{}, &RefusedError{Kind: Disabled, Text: "this broker takes no messages for an instant: timerWheelEnable is false; use a delay level"}
	}
	due, err := r.instant(a, now.UnixMilli())
	if err != nil {
		return Deferred{}, err
	}
	if due <= now.UnixMilli() {
		if a.deleteKey {
			return Deferred{}, illegal("the message to be recalled was due at %s, which is past", formatMs(due))
		}
		return Deferred{}, nil
	}
	m.Properties = timedProperties(withReal(m.Properties, m), due)
	m.Topic, m.QueueID = message.TopicTimer, 0
	return Deferred{Due: due, Handle: slotOf(due) + 1}, nil
}

// timedProperties sets the instant: exactly, and as Apache's broker keeps it.
func timedProperties(p message.Properties, due int64) message.Properties {
	return p.Without(message.PropTimerDeliverMs, message.PropTimerOutMs).
		Append(message.PropTimerDeliverMs, strconv.FormatInt(due, 10)).
		Append(message.PropTimerOutMs, strconv.FormatInt(slotOf(due), 10))
}

// instant returns when the message is due, in ms since 1970. The order in which
// the properties count is Apache's.
func (r *Rules) instant(a asked, now int64) (due int64, err error) {
	longest := r.Longest.Milliseconds()
	relative := func(name, text string, unit int64) (int64, error) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, illegal("%s is %q; write a whole number", name, clip([]byte(text)))
		}
		if n > longest/unit {
			return 0, r.tooFar(name, text)
		}
		return now + max(n, 0)*unit, nil
	}
	absolute := func(name, text string) (int64, error) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, illegal("%s is %q; write milliseconds since 1970", name, clip([]byte(text)))
		}
		if n > now+longest {
			return 0, r.tooFar(name, text)
		}
		return n, nil
	}
	switch {
	case a.sec != "":
		return relative(message.PropTimerDelaySec, a.sec, 1000)
	case a.ms != "":
		return relative(message.PropTimerDelayMs, a.ms, 1)
	case a.deliver != "":
		return absolute(message.PropTimerDeliverMs, a.deliver)
	}
	return absolute(message.PropStartDeliverTime, a.started)
}

func (r *Rules) tooFar(name, text string) error {
	return illegal("timer message illegal, the delay time should not be bigger than the max delay %dms: %s is %q, and timerMaxDelaySec allows %s ahead",
		r.Longest.Milliseconds(), name, clip([]byte(text)), span(r.Longest))
}

// span writes a duration in days, if it is a whole number of them.
func span(d time.Duration) string {
	if days := d / (24 * time.Hour); days > 0 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", days)
	}
	return d.String()
}

func formatMs(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// EntryCode says for recovery what the entry of a record holds in place of the
// hash of its tags; ok is false for the hash.
func (l Levels) EntryCode(v message.View) (code int64, ok bool) {
	if string(v.Topic()) != message.TopicSchedule {
		return 0, false
	}
	if due, ok := stampedDue(v); ok {
		return due, true
	}
	delay := l.Delay(int(v.QueueID()) + 1)
	return v.StoreTimestamp() + max(1, delay.Milliseconds()), true
}

// Restore returns the message of a waiting record as it is delivered: in its
// real topic and queue. Body and Properties may point into v. It fails when the
// record does not say where it belongs.
func Restore(v message.View) (message.Message, error) {
	m := v.Message()
	topic, found := m.Properties.Get(message.PropRealTopic)
	queue, err := strconv.ParseInt(m.Properties.Value(message.PropRealQueueID), 10, 32)
	if !found || err != nil || queue < 0 {
		return m, fmt.Errorf("the record at %d does not say in %s and %s where it is to be delivered", v.Position(), message.PropRealTopic, message.PropRealQueueID)
	}
	m.Topic, m.QueueID = string(topic), int32(queue)
	return m, nil
}

// dueOf returns the instant of a record of the timer topic. Apache keeps the
// slot alone for some: then the slot's end, which is never early.
func dueOf(p message.Properties) (due int64, ok bool) {
	out, err := strconv.ParseInt(p.Value(message.PropTimerOutMs), 10, 64)
	if err != nil {
		return 0, false
	}
	if exact, err := strconv.ParseInt(p.Value(message.PropTimerDeliverMs), 10, 64); err == nil && slotOf(exact) == out {
		return exact, true
	}
	return out + precision, true
}
