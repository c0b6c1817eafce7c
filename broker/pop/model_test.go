package pop

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

var seedFlag = flag.Int64("seed", 0, "seed of the model test; 0: by the clock")

// known is what the model knows of one message of one group.
type known struct {
	state   string // "": new; "out", "acked", "gone"
	popTime int64
	visible int64
	times   int32
	uncount bool
}

type model struct {
	t     *testing.T
	rng   *rand.Rand
	log   *fakeLog
	table *Table
	dir   string
	db    *kv.DB
	now   int64
	sync  bool
	said  map[Key]map[message.Offset]*known
	stale []func() // attempts to acknowledge with handles that ended
	safe  map[string]int64
	trail []string
}

const modelLimit = 5

func (m *model) note(format string, args ...any) {
	m.trail = append(m.trail, fmt.Sprintf("%d: ", m.now)+fmt.Sprintf(format, args...))
	if len(m.trail) > 60 {
		m.trail = m.trail[1:]
	}
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nbefore:\n  %s", fmt.Sprintf(format, args...), strings.Join(m.trail, "\n  "))
}

func (m *model) open() {
	var err error
	if m.db, err = kv.Open(m.dir, kv.Options{WriteBuffer: 64 << 10}); err != nil {
		m.fail("%v", err)
	}
	if m.table, err = Open(Options{DB: m.db, Log: m.log, Sync: m.sync, MaxQueue: 200}); err != nil {
		m.fail("%v", err)
	}
}

func (m *model) key() Key {
	return Key{Topic: "t", Group: []string{"g", "h"}[m.rng.Intn(2)], Queue: int32(m.rng.Intn(3))}
}

func (m *model) of(k Key, off message.Offset) *known {
	if m.said[k] == nil {
		m.said[k] = map[message.Offset]*known{}
	}
	s := m.said[k][off]
	if s == nil {
		s = &known{}
		m.said[k][off] = s
	}
	return s
}

func (k *known) again() int32 {
	if k.uncount {
		return k.times
	}
	return k.times + 1
}

func (k *known) due(now int64) bool {
	return k.state == "out" && k.visible <= now && k.popTime < now
}

func (m *model) pop(k Key, order bool) {
	q := &Query{
		Key: k, Max: 1 + m.rng.Intn(MaxTake), MaxBytes: 100 + m.rng.Intn(4000), Now: m.now, Order: order, Limit: modelLimit,
		Invisible: time.Duration(1+m.rng.Intn(2000)) * time.Millisecond,
		Begin:     func() (message.Offset, error) { return m.log.QueueMin(k.Topic, k.Queue), nil },
	}
	blocked := false
	for _, s := range m.said[k] {
		blocked = blocked || order && s.state == "out" && !s.due(m.now)
	}
	got, err := m.table.Take(q, nil)
	if err != nil {
		m.fail("pop of %v: %v", k, err)
	}
	m.note("pop %v order=%t max=%d invisible=%v: %v", k, order, q.Max, q.Invisible, got.Messages)
	if blocked && len(got.Messages) > 0 {
		m.fail("an ordered pop got %v while messages are out", got.Messages)
	}
	rest := got.Body
	for i, x := range got.Messages {
		v, err := message.Parse(rest)
		if err != nil {
			m.fail("record %d: %v", i, err)
		}
		rest = rest[len(v):]
		s := m.of(k, x.Offset)
		want := int32(0)
		switch {
		case s.state == "":
		case s.due(m.now):
			want = s.again()
		default:
			m.fail("%v got offset %d, which is %+v", k, x.Offset, *s)
		}
		if x.Times != want || v.ReconsumeTimes() != want || v.QueueOffset() != x.Offset || want > modelLimit {
			m.fail("%v got offset %d: times %d, record %d, %d; want %d", k, x.Offset, x.Times, v.QueueOffset(), v.ReconsumeTimes(), want)
		}
		m.remember(k, x.Offset, s)
		*s = known{state: "out", popTime: m.now, visible: m.now + q.Invisible.Milliseconds(), times: x.Times}
	}
	if len(rest) > 0 {
		m.fail("%d bytes behind the records", len(rest))
	}
}

// remember keeps a handle that ends now.
func (m *model) remember(k Key, off message.Offset, s *known) {
	if s.state != "out" || m.rng.Intn(4) > 0 {
		return
	}
	popTime := s.popTime
	m.stale = append(m.stale, func() {
		now := m.of(k, off)
		if now.state == "gone" || now.popTime == popTime {
			return
		}
		outcome := m.ack(k, popTime, off)
		if now.state == "out" && outcome != Stale || now.state == "acked" && outcome != Repeated {
			m.fail("an old handle of %v offset %d, which is %+v: %v", k, off, *now, outcome)
		}
	})
}

func (m *model) ack(k Key, popTime int64, off message.Offset) (outcome Outcome) {
	if err := m.table.Ack(k, popTime, []message.Offset{off}, func(_ message.Offset, o Outcome) { outcome = o }); err != nil {
		m.fail("ack: %v", err)
	}
	return outcome
}

// pick returns a message that is out.
func (m *model) pick(k Key) (message.Offset, *known) {
	for off, s := range m.said[k] {
		if s.state == "out" {
			return off, s
		}
	}
	return -1, nil
}

func (m *model) step() {
	k := m.key()
	switch n := m.rng.Intn(100); {
	case n < 20:
		for range m.rng.Intn(20) {
			m.log.put(m.t, "t", k.Queue, "body")
		}
	case n < 45:
		m.pop(k, n < 27)
	case n < 70:
		if off, s := m.pick(k); s != nil {
			m.note("ack %v %d", k, off)
			if o := m.ack(k, s.popTime, off); o != Done {
				m.fail("ack of %v offset %d: %v", k, off, o)
			}
			s.state = "acked"
		}
	case n < 78:
		if off, s := m.pick(k); s != nil {
			invisible, uncount := time.Duration(m.rng.Intn(3000))*time.Millisecond, m.rng.Intn(3) == 0
			newTime, o, err := m.table.Change(k, off, s.popTime, m.now, invisible, uncount)
			m.note("change %v %d by %v: %d", k, off, invisible, newTime)
			if err != nil || o != Done || newTime <= s.popTime {
				m.fail("change: %d, %v, %v", newTime, o, err)
			}
			m.remember(k, off, s)
			*s = known{state: "out", popTime: newTime, visible: m.now + invisible.Milliseconds(), times: s.times, uncount: uncount}
		}
	case n < 82:
		if len(m.stale) > 0 {
			m.stale[m.rng.Intn(len(m.stale))]()
		}
		if o := m.ack(k, m.now, m.log.QueueMax("t", k.Queue)+5); o != Unknown {
			m.fail("a message that there is not: %v", o)
		}
	case n < 94:
		m.now += int64(m.rng.Intn(800))
	case n < 96:
		m.bury(k)
	default:
		m.checkFloor(k)
	}
}

func (m *model) bury(k Key) {
	lease := time.Duration(1+m.rng.Intn(500)) * time.Millisecond
	for _, x := range m.table.Expired(k, m.now, lease, modelLimit) {
		s := m.of(k, x.Offset)
		m.note("expired %v %v", k, x)
		if !s.due(m.now) || s.again() <= modelLimit || s.again() != x.Times {
			m.fail("%v offset %d is given up: %+v", k, x.Offset, *s)
		}
		if m.rng.Intn(3) == 0 {
			*s = known{state: "out", popTime: m.now, visible: m.now + lease.Milliseconds(), times: x.Times, uncount: true}
			continue
		}
		if o := m.ack(k, m.now, x.Offset); o != Done {
			m.fail("putting %v offset %d away: %v", k, x.Offset, o)
		}
		s.state = "acked"
	}
}

func (m *model) checkFloor(k Key) {
	for _, st := range m.table.Queues(k.Group) {
		if st.Key != k {
			continue
		}
		out, floor := 0, st.Next
		for off, s := range m.said[k] {
			if s.state == "out" {
				out++
				floor = min(floor, off)
			}
		}
		if st.InFlight != out || st.Floor != floor {
			m.fail("%v has %d out and its floor at %d; want %d and %d", k, st.InFlight, st.Floor, out, floor)
		}
	}
}

// settle waits for what was done and notes how long the journals are then.
func (m *model) settle() {
	if err := m.table.Safe(); err != nil {
		m.fail("Safe: %v", err)
	}
	m.safe = m.journals()
}

func (m *model) journals() map[string]int64 {
	sizes := map[string]int64{}
	names, _ := filepath.Glob(filepath.Join(m.dir, "*.log"))
	for _, name := range names {
		if st, err := os.Stat(name); err == nil {
			sizes[filepath.Base(name)] = st.Size()
		}
	}
	return sizes
}

// crash goes on with a copy of the folder as a killed process leaves it, or,
// with power set, as a power cut may.
func (m *model) crash(power bool) {
	next := filepath.Join(m.t.TempDir(), "kv")
	if err := os.CopyFS(next, os.DirFS(m.dir)); err != nil {
		m.t.Skipf("the folder changed while it was copied: %v", err)
	}
	sizes := m.safe
	_ = m.table.Close()
	_ = m.db.Close()
	m.dir = next
	if power {
		for name, size := range m.journals() {
			if least := sizes[name]; least < size {
				cut := least + m.rng.Int63n(size-least+1)
				m.note("journal %s of %d bytes is cut to %d, %d are safe", name, size, cut, least)
				if err := os.Truncate(filepath.Join(m.dir, name), cut); err != nil {
					m.fail("%v", err)
				}
			}
		}
	}
	m.open()
}

// drain pops everything that is left, over and over: all that was not
// acknowledged comes, and nothing else. The limit does not count here.
func (m *model) drain(maybe map[*known]bool) {
	m.now += 1_000_000
	for _, group := range []string{"g", "h"} {
		for queue := range int32(3) {
			k := Key{"t", group, queue}
			came := map[message.Offset]bool{}
			for {
				got, err := m.table.Take(&Query{Key: k, Max: MaxTake, MaxBytes: 1 << 20, Now: m.now, Invisible: time.Hour, Limit: 1 << 20,
					Begin: func() (message.Offset, error) { return m.log.QueueMin("t", queue), nil }}, nil)
				if err != nil {
					m.fail("drain: %v", err)
				}
				if len(got.Messages) == 0 {
					break
				}
				for _, x := range got.Messages {
					if came[x.Offset] {
						m.fail("%v got offset %d twice", k, x.Offset)
					}
					came[x.Offset] = true
					if o := m.ack(k, m.now, x.Offset); o != Done {
						m.fail("drain: ack %v", o)
					}
				}
			}
			for off := m.log.QueueMin("t", queue); off < m.log.QueueMax("t", queue); off++ {
				s := m.of(k, off)
				if acked := s.state == "acked"; acked && came[off] && !maybe[s] {
					m.fail("%v offset %d was acknowledged and came again", k, off)
				} else if !acked && !came[off] {
					m.fail("%v offset %d never came: %+v", k, off, *s)
				}
			}
		}
	}
}

// TestModel runs random pops, acknowledgements, changes and passing time
// against a model that knows what may come, with processes that are killed and
// power that is cut.
func TestModel(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	t.Logf("run with -seed %d to repeat", seed)
	rng := rand.New(rand.NewSource(seed))
	rounds := 60
	if testing.Short() {
		rounds = 12
	}
	for i := range rounds {
		m := &model{t: t, rng: rng, log: newFakeLog(), dir: filepath.Join(t.TempDir(), "kv"), now: 1_700_000_000_000, sync: i%2 == 0, said: map[Key]map[message.Offset]*known{}}
		m.open()
		for range 3 {
			for range 150 {
				m.step()
			}
			m.settle() // a clean kill: everything was written
			m.note("kill")
			m.crash(false)
		}
		m.settle()
		acked := m.ackedNow()
		for range 40 {
			m.step()
		}
		maybe := map[*known]bool{} // acknowledged, and nobody waited until it was safe
		for s := range m.ackedNow() {
			if !acked[s] {
				maybe[s] = true
			}
		}
		m.note("crash")
		m.crash(m.sync)
		m.drain(maybe)
		if err := m.table.Close(); err != nil {
			t.Error(err)
		}
		_ = m.db.Close()
	}
}

func (m *model) ackedNow() map[*known]bool {
	set := map[*known]bool{}
	for _, list := range m.said {
		for _, s := range list {
			if s.state == "acked" {
				set[s] = true
			}
		}
	}
	return set
}
