package schedule

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type memQueue struct {
	topic string
	id    int32
}

// memLog is a log in memory that can lose what was not synced.
type memLog struct {
	now     func() time.Time
	arrived func(topic string)

	mu        sync.Mutex // guards what follows
	records   []message.View
	byPos     map[message.Position]int
	queues    map[memQueue][]Entry
	end       message.Position
	start     message.Position // records below are gone
	synced    int
	lastTime  int64
	fail      error
	block     func() error // decides the next append
	onSync    func()       // called by each Sync
	noIndex   bool
	syncs     int
	appends   int
	delivered []message.View // records of topics that are not the schedule's own, in order
	came      []time.Time    // when they came, by a clock that is never set
	wall      []int64        // and by the one that may be
}

func newMemLog(now func() time.Time) *memLog {
	return &memLog{now: now, byPos: map[message.Position]int{}, queues: map[memQueue][]Entry{}, arrived: func(string) {}}
}

func (l *memLog) Bounds(topic string, queue int32) (first, end message.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[memQueue{topic, queue}]
	n := 0
	for n < len(q) && q[n].Position < l.start {
		n++
	}
	return message.Offset(n), message.Offset(len(q))
}

func (l *memLog) Entries(topic string, queue int32, from message.Offset, dst []Entry) (int, error) {
	first, end := l.Bounds(topic, queue)
	if from < first || from > end {
		return 0, ErrGone
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return copy(dst, l.queues[memQueue{topic, queue}][from:]), nil
}

func (l *memLog) Record(pos message.Position) (message.View, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.byPos[pos]
	if !ok || pos < l.start {
		return nil, fmt.Errorf("%w: at %d", ErrGone, pos)
	}
	return slices.Clone(l.records[i]), nil
}

func (l *memLog) Find(topic, key string, fn func(v message.View) bool) error {
	l.mu.Lock()
	records, noIndex := slices.Clone(l.records), l.noIndex
	l.mu.Unlock()
	if noIndex {
		return ErrNoIndex
	}
	for _, v := range slices.Backward(records) {
		if v.Position() < l.start || string(v.Topic()) != topic {
			continue
		}
		p := v.Properties()
		match := p.Value(message.PropUniqueKey) == key
		for k := range p.Keys() {
			match = match || string(k) == key
		}
		if match && !fn(slices.Clone(v)) {
			break
		}
	}
	return nil
}

func (l *memLog) Append(messages []message.Message) error {
	codes := make([]int64, len(messages))
	return l.append(messages, codes)
}

// append stores messages; a code that is not 0 goes into the entry.
func (l *memLog) append(messages []message.Message, codes []int64) error {
	l.mu.Lock()
	if block := l.block; block != nil {
		l.block = nil
		l.mu.Unlock()
		if err := block(); err != nil {
			return err
		}
		l.mu.Lock()
	}
	if l.fail != nil {
		defer l.mu.Unlock()
		return l.fail
	}
	l.appends++
	var topics []string
	for i := range messages {
		m := messages[i]
		l.lastTime = max(l.lastTime, l.now().UnixMilli())
		k := memQueue{m.Topic, m.QueueID}
		m.Position, m.QueueOffset, m.StoreTimestamp = l.end, message.Offset(len(l.queues[k])), l.lastTime
		rec, err := message.AppendRecord(nil, &m)
		if err != nil {
			l.mu.Unlock()
			return fmt.Errorf("%w: %w", ErrIllegal, err)
		}
		v := message.View(rec)
		l.byPos[l.end] = len(l.records)
		l.records = append(l.records, v)
		e := Entry{Position: l.end, Size: int32(len(rec)), TagCode: m.Properties.TagCode()}
		if codes[i] != 0 {
			e.TagCode = codes[i]
		}
		l.queues[k] = append(l.queues[k], e)
		l.end += message.Position(len(rec))
		topics = append(topics, m.Topic)
		if m.Topic != message.TopicSchedule && m.Topic != message.TopicTimer && m.Topic != TopicRecurring {
			l.delivered, l.came, l.wall = append(l.delivered, v), append(l.came, time.Now()), append(l.wall, l.now().UnixMilli())
		}
	}
	tell := l.arrived
	l.mu.Unlock()
	for _, t := range topics {
		tell(t)
	}
	return nil
}

func (l *memLog) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.onSync != nil {
		l.onSync()
	}
	if l.fail != nil {
		return l.fail
	}
	l.synced = len(l.records)
	l.syncs++
	return nil
}

func (l *memLog) setFail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

func (l *memLog) tail() message.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (l *memLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appends
}

// views returns what was delivered, forget forgets it.
func (l *memLog) views() []message.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.delivered)
}

func (l *memLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delivered, l.came, l.wall = nil, nil, nil
}

// powerCut loses what was not synced, down to keep records more than that.
func (l *memLog) powerCut(keep int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.records), l.synced+keep)
	for _, v := range l.records[n:] {
		l.end = min(l.end, v.Position())
		delete(l.byPos, v.Position())
		k := memQueue{string(v.Topic()), v.QueueID()}
		l.queues[k] = l.queues[k][:len(l.queues[k])-1]
	}
	for i, v := range l.delivered {
		if v.Position() >= l.end {
			l.delivered, l.came, l.wall = l.delivered[:i], l.came[:i], l.wall[:i]
			break
		}
	}
	l.records = l.records[:n]
}

// rebuild makes the entries of the schedule topic anew from the records.
func (l *memLog) rebuild(levels Levels) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, q := range l.queues {
		for i := range q {
			if code, ok := levels.EntryCode(l.records[l.byPos[q[i].Position]]); ok {
				l.queues[k][i].TagCode = code
			}
		}
	}
}

func (l *memLog) dropBefore(pos message.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = pos
}

// world is a log, a kv store and a service over them, with a clock that can be
// set.
type world struct {
	t      *testing.T
	log    *memLog
	db     *kv.DB
	s      *Service
	step   atomic.Int64          // of the wall clock against the bubble's
	rules  atomic.Pointer[Rules] // replaced as a whole
	o      Options
	n      int
	warnMu sync.Mutex // guards warns while the service runs
	warns  []string
}

func newWorld(t *testing.T) *world {
	levels, err := ParseLevels(DefaultLevels)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	w.rules.Store(&Rules{Levels: levels, Timer: true, Longest: 10 * 365 * 24 * time.Hour})
	w.log = newMemLog(w.now)
	w.newDB()
	w.o = Options{Log: w.log, Rules: func() Rules { return *w.rules.Load() }, Now: w.now}
	w.open()
	return w
}

// change puts changed rules in force.
func (w *world) change(f func(*Rules)) {
	r := *w.rules.Load()
	f(&r)
	w.rules.Store(&r)
}

func (w *world) newDB() {
	db, err := kv.Open("memory", kv.Options{Memory: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.db = db
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.step.Load())) }

func (w *world) open() {
	o := w.o
	o.DB = w.db
	o.Warn = func(text string, pairs ...any) {
		w.warnMu.Lock()
		w.warns = append(w.warns, fmt.Sprint(text, pairs))
		w.warnMu.Unlock()
	}
	s, err := Open(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
	w.log.mu.Lock()
	w.log.arrived = s.Arrived
	w.log.mu.Unlock()
}

func (w *world) close() {
	if err := w.s.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // a goroutine of goleveldb lives on so long
	for _, warn := range w.warns {
		w.t.Errorf("unexpected warning: %s", warn)
	}
}

// crash stops the service without letting it save.
func (w *world) crash() {
	w.s.mu.Lock()
	w.s.closing = true
	w.s.mu.Unlock()
	w.s.cancel()
	w.s.done.Wait()
}

// send stores a message as a broker would.
func (w *world) send(topic, body string, props ...string) (message.Position, Deferred) {
	w.t.Helper()
	pos, d, err := w.trySend(topic, body, props...)
	if err != nil {
		w.t.Fatalf("send %s: %v", body, err)
	}
	return pos, d
}

func (w *world) trySend(topic, body string, props ...string) (message.Position, Deferred, error) {
	w.n++
	m := message.Message{Topic: topic, QueueID: int32(w.n % 4), Body: []byte(body), BornTimestamp: w.now().UnixMilli()}
	m.Properties = m.Properties.Append(message.PropUniqueKey, "U-"+body)
	for i := 0; i < len(props); i += 2 {
		m.Properties = m.Properties.Append(props[i], props[i+1])
	}
	rules := *w.rules.Load()
	rules.Tail = w.s.LevelTail
	d, err := rules.Defer(&m, w.now())
	if err != nil {
		return 0, d, err
	}
	w.log.mu.Lock()
	pos := w.log.end
	w.log.mu.Unlock()
	return pos, d, w.log.append([]message.Message{m}, []int64{d.Code})
}

type arrival struct {
	body string
	at   int64 // store time
	wall int64 // by the clock of the moment
	view message.View
}

func (w *world) delivered() (list []arrival) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for i, v := range w.log.delivered {
		list = append(list, arrival{string(v.Body()), v.StoreTimestamp(), w.log.wall[i], v})
	}
	return list
}

// arrived returns when the i-th message came, by a clock that is never set.
func (w *world) arrived(i int) time.Time {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return w.log.came[i]
}

func (w *world) bodies() string {
	var b bytes.Buffer
	for _, a := range w.delivered() {
		fmt.Fprintf(&b, "%s ", a.body)
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

func (w *world) want(bodies string) {
	w.t.Helper()
	if got := w.bodies(); got != bodies {
		w.t.Fatalf("delivered %q, want %q", got, bodies)
	}
}
