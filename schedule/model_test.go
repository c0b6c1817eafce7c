package schedule

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/message"
)

// waiting is what the model knows of a message: a row of a plain list.
type waiting struct {
	body     string
	due      int64
	pos      message.Position
	got      int  // deliveries that the log has
	mayAgain bool // a crash may have made it come again
	anyOrder bool // the order was lost with the kv store
}

// model is the list that a service is compared with.
type model struct {
	w       *world
	r       *rand.Rand
	list    []*waiting
	crashed bool
	seen    int   // deliveries that were looked at
	calm    int64 // what is due behind it comes at its time: the clock was not set since, and the service ran
	rewound int64 // the latest time that the clock ever showed before it was set back
	crons   map[string]*recurs
	trace   []string
}

// TestModel runs random sends, cancels, moves, crashes, power cuts, losses of
// the kv store, carrying forward and steps of the clock against a plain list.
//
//   - Nothing is delivered early, by the clock of the moment.
//   - What was cancelled is not delivered, and every other message is.
//   - Nothing is delivered twice, except around a crash.
//   - What is due comes in the order of due time, and within slack of its time,
//     or of when the service could know.
//   - Schedules fire for each of their times, as far as their policy wants it.
//   - An answer to a cancel or a move is true.
func TestModel(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			m := &model{w: newWorld(t), r: rand.New(rand.NewPCG(seed, 1)), crons: map[string]*recurs{}}
			m.w.s.Close()
			m.w.o.MaxDue, m.w.o.MaxBatch = 1+m.r.IntN(40), 1+m.r.IntN(10)
			m.w.open()
			defer func() {
				if t.Failed() {
					t.Logf("seed %d:\n%v", seed, m.trace)
				}
			}()
			for range 120 {
				m.step()
				if t.Failed() {
					break
				}
			}
			m.finish()
			m.w.warns = slices.DeleteFunc(m.w.warns, func(string) bool { return m.crashed })
			m.w.close()
		})
		if t.Failed() {
			return
		}
	}
}

// slack is how late a message may come, in ms: the deliverer rests between full
// batches, and level messages may overtake each other by tailSlack.
const slack = 10 + tailSlack

func (m *model) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%v: %s\n", m.w.now().UnixMilli(), fmt.Sprintf(format, args...)))
}

func (m *model) step() {
	switch n := m.r.IntN(100); {
	case n < 45:
		m.send()
	case n < 54:
		m.change()
	case n < 56:
		m.addSchedule()
	case n < 57:
		m.removeSchedule()
	case n < 85:
		m.pass(time.Duration(m.r.Int64N(int64(8 * time.Second))))
	case n < 89:
		m.crash()
	case n < 91:
		m.powerCut()
	case n < 93:
		m.restart()
	case n < 95:
		m.carry()
	case n < 97:
		m.setBack()
	default:
		m.stepClock()
	}
}

func (m *model) send() {
	if m.r.IntN(3) == 0 {
		m.sendLevel(1 + m.r.IntN(4))
		return
	}
	delay := m.r.Int64N(20_000)
	if m.r.IntN(5) == 0 {
		delay = m.r.Int64N(300_000)
	}
	m.sent(delay, message.PropTimerDelayMs, fmt.Sprint(delay))
}

func (m *model) sendLevel(level int) {
	m.sent(m.w.rules.Load().Levels.Delay(level).Milliseconds(), message.PropDelay, fmt.Sprint(level))
}

func (m *model) sent(delay int64, name, value string) {
	x := &waiting{body: fmt.Sprint(m.w.n), due: m.w.now().UnixMilli() + delay}
	x.pos, _ = m.w.send("t", x.body, name, value)
	m.note("send %s due %d at %d", x.body, x.due, x.pos)
	m.list = append(m.list, x)
}

// look compares what was delivered since the last time with the list.
func (m *model) look() {
	synctest.Wait()
	list := m.w.delivered()
	last := int64(0)
	for _, a := range list[min(m.seen, len(list)):] {
		if m.fired(a) {
			continue
		}
		i := slices.IndexFunc(m.list, func(x *waiting) bool { return x.body == a.body })
		if i < 0 {
			m.w.t.Errorf("%s was delivered, which was cancelled", a.body)
			continue
		}
		x := m.list[i]
		x.got++
		if x.got > 1 && !x.mayAgain {
			m.w.t.Errorf("%s was delivered %d times", x.body, x.got)
		}
		if x.anyOrder && a.wall >= x.due {
			continue
		}
		switch late := a.wall - max(x.due, m.calm); {
		case a.wall < x.due:
			m.w.t.Errorf("%s was delivered %d ms early", x.body, x.due-a.wall)
		case late > slack && x.got == 1:
			m.w.t.Errorf("%s was delivered %d ms late", x.body, late)
		case x.due < last-slack:
			m.w.t.Errorf("%s was delivered behind what is due %d ms later", x.body, last-x.due)
		}
		last = x.due
	}
	m.seen = len(list)
	m.lookAtSchedules(m.w.now().UnixMilli())
}

// disturbed notes that the clock was set, or the service began to run: within
// longestNap it knows.
func (m *model) disturbed() { m.calm = m.w.now().Add(longestNap).UnixMilli() }

func (m *model) pass(d time.Duration) {
	time.Sleep(d)
	m.look()
}

func (m *model) change() {
	m.look()
	if len(m.list) == 0 {
		return
	}
	i := m.r.IntN(len(m.list))
	x := m.list[i]
	if x.mayAgain { // whether it waits again depends on the crash
		return
	}
	var err error
	var due int64
	if m.r.IntN(2) == 0 {
		err = m.w.s.Cancel(x.pos)
	} else {
		due = m.w.now().UnixMilli() + m.r.Int64N(30_000)
		err = m.w.s.Reschedule(x.pos, due)
	}
	m.note("change %s to %d: %v", x.body, due, err)
	m.look()
	switch {
	case x.got > 0 && err == nil && due == 0:
		m.w.t.Errorf("%s was delivered, and could be cancelled", x.body)
	case x.got == 0 && err != nil:
		m.w.t.Errorf("%s waits and could not be changed: %v", x.body, err)
	case err == nil && due == 0:
		m.list = slices.Delete(m.list, i, i+1)
	case err == nil:
		x.due = due
		m.relocate(x)
	}
}

// relocate finds the record that a message waits in now.
func (m *model) relocate(x *waiting) {
	synctest.Wait()
	list, err := m.w.s.List(Filter{Key: "U-" + x.body})
	if err != nil {
		m.w.t.Fatal(err)
	}
	for _, p := range list.Messages {
		x.pos = p.Position
	}
}

// again notes that what was delivered may come again.
func (m *model) again() {
	m.crashed = true
	for _, x := range m.list {
		x.mayAgain = x.mayAgain || x.got > 0
	}
	for _, c := range m.crons {
		c.mayAgain = c.newest
	}
}

func (m *model) crash() {
	m.look()
	m.note("crash")
	m.w.crash()
	m.look()
	m.again()
	m.disturbed()
	m.w.open()
	m.look()
}

// powerCut loses what the log has not synced, and sometimes the kv store.
func (m *model) powerCut() {
	m.look()
	m.w.crash()
	m.look()
	m.again()
	m.w.log.powerCut(m.r.IntN(4))
	lostDB := m.r.IntN(3) == 0
	m.note("power cut, kv lost: %v", lostDB)
	end := m.w.log.tail()
	m.list = slices.DeleteFunc(m.list, func(x *waiting) bool { return x.pos >= end })
	maps.DeleteFunc(m.crons, func(_ string, c *recurs) bool { return c.pos >= end })
	m.seen = len(m.w.delivered())
	// What is left of the deliveries is all there is.
	for _, x := range m.list {
		x.got = 0
	}
	for _, a := range m.w.delivered() {
		for _, x := range m.list {
			if x.body == a.body {
				x.got++
				x.mayAgain = true
			}
		}
	}
	m.recount()
	m.disturbed()
	if lostDB {
		for _, x := range m.list {
			x.anyOrder = true // a level's queue may have strays in it that had been set aside
		}
		old := m.w.db
		m.w.newDB()
		if err := old.Close(); err != nil {
			m.w.t.Fatal(err)
		}
	}
	m.w.open()
	m.look()
}

func (m *model) restart() {
	m.look()
	m.note("restart")
	if err := m.w.s.Close(); err != nil {
		m.w.t.Fatal(err)
	}
	m.look()
	time.Sleep(time.Duration(m.r.Int64N(int64(time.Minute))))
	m.disturbed()
	m.w.open()
	m.look()
}

func (m *model) carry() {
	m.look()
	upto := m.w.log.tail()
	m.note("carry up to %d", upto)
	if err := m.w.s.CarryForward(upto); err != nil {
		m.w.t.Fatal(err)
	}
	m.look()
	m.w.log.dropBefore(upto)
	for _, x := range m.list {
		if x.pos < upto && x.got == 0 {
			m.relocate(x)
			if x.pos < upto && x.got == 0 {
				if m.look(); x.got == 0 {
					m.w.t.Errorf("%s was not carried forward", x.body)
				}
			}
		}
	}
}

// setBack sets the clock back while messages of one level wait at different
// times, and sends another.
func (m *model) setBack() {
	for range 4 {
		m.sendLevel(4)
		m.pass(time.Duration(m.r.Int64N(int64(10 * time.Second))))
	}
	m.setClock(-time.Duration(m.r.Int64N(int64(20 * time.Second))))
	m.sendLevel(4)
}

func (m *model) stepClock() {
	step := time.Duration(m.r.Int64N(int64(2*time.Minute))) - time.Minute
	if m.r.IntN(4) == 0 {
		step = time.Duration(m.r.Int64N(int64(10 * time.Minute))) // as after the process or the machine was suspended
	}
	m.setClock(step)
	m.look()
	m.pass(time.Duration(m.r.Int64N(int64(2 * time.Second))))
}

func (m *model) setClock(step time.Duration) {
	m.look()
	m.note("the clock steps by %v", step)
	m.rewound = max(m.rewound, m.w.now().UnixMilli())
	m.w.step.Add(int64(step))
	m.disturbed()
}

func (m *model) finish() {
	m.look()
	m.pass(30 * time.Minute)
	for _, x := range m.list {
		if x.got == 0 {
			m.w.t.Errorf("%s, due %d, was never delivered", x.body, x.due)
		}
	}
	if st := m.w.s.Stats(); len(st.Timed) > 0 && !m.crashed {
		m.w.t.Errorf("rows are left: %v", st.Timed)
	}
}
