package schedule

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// recurs is what the model knows of a schedule: it fires at the whole multiples
// of its period.
type recurs struct {
	name     string
	period   int64 // ms
	missed   string
	created  int64
	pos      message.Position
	got      map[int64]int // firings by planned time
	newest   int64         // planned time
	checked  int64         // all planned times up to here were looked at
	mayAgain int64         // what was planned up to here may come again
}

func (m *model) addSchedule() {
	if len(m.crons) >= 4 {
		m.removeSchedule()
		return
	}
	now := m.w.now().UnixMilli()
	period := []int64{5, 10, 15, 20, 30}[m.r.IntN(5)]
	c := &recurs{name: fmt.Sprint("cron", m.w.n), period: period * 1000, created: now, checked: now, newest: now, mayAgain: now, got: map[int64]int{}}
	c.missed = []string{MissedSkip, MissedOnce, MissedAll}[m.r.IntN(3)]
	c.pos, _ = m.w.send("t", c.name, PropCron, fmt.Sprintf("CRON_TZ=UTC */%d * * * * *", period), PropCronName, c.name, PropCronMissed, c.missed)
	m.note("add %s every %d s, %s, at %d", c.name, period, c.missed, c.pos)
	m.crons[c.name] = c
	m.look()
}

func (m *model) removeSchedule() {
	for name := range m.crons {
		m.look()
		m.note("remove %s", name)
		if err := m.w.s.Remove(name); err != nil {
			m.w.t.Fatal(err)
		}
		m.look()
		delete(m.crons, name)
		return
	}
}

// fired looks at a firing and tells whether the arrival is one.
func (m *model) fired(a arrival) bool {
	planned, err := strconv.ParseInt(a.view.Properties().Value(PropPlanned), 10, 64)
	if err != nil {
		return false
	}
	c := m.crons[a.body]
	if c == nil {
		m.w.t.Errorf("%s fired after its end", a.body)
		return true
	}
	c.got[planned]++
	switch late := a.wall - planned; {
	case planned%c.period != 0 || planned <= c.created:
		m.w.t.Errorf("%s, made at %d, fired for %d", c.name, c.created, planned)
	case late < 0:
		m.w.t.Errorf("%s fired %d ms early, at %d", c.name, -late, a.wall)
	case c.got[planned] > 1 && planned > c.mayAgain:
		m.w.t.Errorf("%s fired %d times for %d", c.name, c.got[planned], planned)
	case planned > m.calm && late > slack:
		m.w.t.Errorf("%s fired %d ms late", c.name, late)
	case c.missed == MissedSkip && late > missedAfter.Milliseconds()+longestNap.Milliseconds():
		m.w.t.Errorf("%s fired %d ms late, which is to be skipped", c.name, late)
	}
	c.newest = max(c.newest, planned)
	return true
}

// lookAtSchedules makes sure that nothing was left out that had to be fired.
func (m *model) lookAtSchedules(now int64) {
	if now < m.calm {
		return // the service need not know yet what is due
	}
	for _, c := range m.crons {
		before := c.checked
		for at := before - before%c.period + c.period; at <= now-slack; at += c.period {
			c.checked = at
			// What was missed is the policy's; what a clock that was set back
			// repeats has been fired.
			if c.missed != MissedAll && (at <= m.calm || at <= m.rewound) {
				continue
			}
			if c.got[at] == 0 {
				m.w.t.Errorf("%s, %s, did not fire for %d", c.name, c.missed, at)
			}
		}
	}
}

// recount counts the firings that a power cut has left in the log.
func (m *model) recount() {
	for _, c := range m.crons {
		clear(c.got)
	}
	for _, a := range m.w.delivered() {
		planned, err := strconv.ParseInt(a.view.Properties().Value(PropPlanned), 10, 64)
		if c := m.crons[a.body]; c != nil && err == nil {
			c.got[planned]++
		}
	}
}

func TestFullTableTakesReplacements(t *testing.T) {
	bubble(t, func(w *world) {
		w.s.mu.Lock()
		for i := range MaxSchedules {
			w.s.schedules.byName[fmt.Sprint(i)] = nil
		}
		w.s.schedules.byName["7"] = &liveSchedule{}
		w.s.mu.Unlock()
		if !w.s.ScheduleRoom("7") || w.s.ScheduleRoom("new") {
			t.Error("a full table takes what is new, or refuses a replacement")
		}
		w.s.mu.Lock()
		clear(w.s.schedules.byName)
		w.s.mu.Unlock()
	})
}

func TestScheduleCountsFromTheClockOfItsSending(t *testing.T) {
	bubble(t, func(w *world) {
		w.send("t", "before")
		w.step.Store(int64(-time.Hour))
		w.send("t", "tick", PropCron, "CRON_TZ=UTC * * * * *", PropCronName, "ticks")
		after(3 * time.Minute)
		w.want("before tick tick tick")
		noError(t, "Pause", w.s.Pause("ticks"))
		after(3 * time.Minute)
		noError(t, "Resume", w.s.Resume("ticks"))
		after(time.Minute)
		w.want("before tick tick tick tick")
	})
}
