package txn

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/merlinmq/merlin/message"
)

var testHost = netip.MustParseAddrPort("10.0.0.1:10911")

// memLog is a log in memory that a test can cut. Its records are told to the
// coordinator by dispatch, not at once.
type memLog struct {
	mu      sync.Mutex
	now     func() int64
	records []message.View // all, in order
	queues  map[string][]int
	flushed message.Position
	end     message.Position
	told    int // records that were dispatched
	fail    error
	minimum message.Position
	damaged map[message.Position]bool
}

func newMemLog(now func() int64) *memLog {
	return &memLog{now: now, queues: map[string][]int{}, damaged: map[message.Position]bool{}}
}

var errGone = fmt.Errorf("%w: no record there", ErrGone)

func (l *memLog) Record(pos message.Position) (message.View, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pos < l.minimum || l.damaged[pos] {
		return nil, errGone
	}
	for lo, hi := 0, len(l.records); lo < hi; {
		mid := (lo + hi) / 2
		switch p := l.records[mid].Position(); {
		case p == pos:
			return l.records[mid], nil
		case p < pos:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return nil, errGone
}

func (l *memLog) Bounds(topic string) (first, next message.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[topic]
	for int(first) < len(q) && l.records[q[first]].Position() < l.minimum {
		first++
	}
	n := len(q)
	for n > 0 && q[n-1] >= l.told {
		n--
	}
	return first, message.Offset(n)
}

func (l *memLog) Place(topic string, off message.Offset) (message.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[topic]
	if off < 0 || int(off) >= len(q) || l.records[q[off]].Position() < l.minimum {
		return 0, errGone
	}
	return l.records[q[off]].Position(), nil
}

func (l *memLog) Read(topic string, from message.Offset, fn func(message.View)) (message.Offset, error) {
	_, next := l.Bounds(topic)
	for n := 0; n < 7 && from < next; n, from = n+1, from+1 {
		fn(l.records[l.queues[topic][from]])
	}
	return from, nil
}

func (l *memLog) Find(topic, key string) (list []message.View, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.queues[topic] {
		if v := l.records[i]; v.Properties().Value(message.PropUniqueKey) == key && v.Position() >= l.minimum {
			list = append(list, v)
		}
	}
	return list, nil
}

func (l *memLog) Behind(topic string, _ int32, from message.Position, fn func(message.View)) error {
	for _, i := range l.queues[topic] {
		if v := l.records[i]; v.Position() >= from && !l.damaged[v.Position()] {
			fn(v)
		}
	}
	return nil
}

func (l *memLog) End() message.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (l *memLog) Flushed() message.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushed
}

func (l *memLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushed = l.end
}

// dispatch tells the coordinator of up to n records.
func (l *memLog) dispatch(c *Coordinator, n int) {
	for ; n > 0; n-- {
		l.mu.Lock()
		if l.told == len(l.records) {
			l.mu.Unlock()
			return
		}
		v := l.records[l.told]
		l.told++
		l.mu.Unlock()
		if t := string(v.Topic()); t == message.TopicHalf || t == message.TopicOp {
			c.Arrived(t, v.QueueOffset(), v.Position(), v.StoreTimestamp())
		}
	}
}

// cut returns what a power cut leaves: the first n records.
func (l *memLog) cut(n int) *memLog {
	next := newMemLog(l.now)
	next.minimum, next.damaged = l.minimum, l.damaged
	for _, v := range l.records[:n] {
		next.addLocked(v)
	}
	next.told = n
	next.flushed = next.end
	return next
}

func (l *memLog) addLocked(v message.View) {
	t := string(v.Topic())
	l.queues[t] = append(l.queues[t], len(l.records))
	l.records = append(l.records, v)
	l.end = v.Position() + message.Position(v.Size())
}

func (l *memLog) NewBatch() Batch { return &memBatch{log: l} }

type memBatch struct {
	log    *memLog
	list   [][]byte
	topics []string
	stored []message.View
}

func (b *memBatch) Reset()   { b.list, b.topics, b.stored = nil, nil, nil }
func (b *memBatch) Len() int { return len(b.list) }

func (b *memBatch) Final(m *message.Message) error { return b.Add(m) }

func (b *memBatch) Add(m *message.Message) error {
	if !m.StoreHost.IsValid() {
		m.StoreHost, m.BornHost = testHost, testHost
	}
	rec, err := message.AppendRecord(nil, m)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrIllegal, err)
	}
	b.list, b.topics = append(b.list, rec), append(b.topics, m.Topic)
	return err
}

func (b *memBatch) Append() error {
	l := b.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	for i, rec := range b.list {
		message.Patch(rec, message.Offset(len(l.queues[b.topics[i]])), l.end, l.now())
		l.addLocked(rec)
		b.stored = append(b.stored, rec)
	}
	return nil
}

func (b *memBatch) Result(i int) (message.Offset, message.Position) {
	return b.stored[i].QueueOffset(), b.stored[i].Position()
}
