package txn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/heap"
	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Verdict is the outcome of a transaction.
type Verdict uint8

// The verdicts.
const (
	Unknown   Verdict = iota // the producer does not know yet
	Commit                   // the message is delivered
	Rollback                 // it is not
	Discarded                // nobody said; it is in the topic of discarded halves
	carried                  // the half was stored again
	lost                     // its record cannot be read, or not be stored again
)

var verdictNames = [...]string{"unknown", "commit", "rollback", "discarded", "carried", "lost"}

// String returns the verdict's name.
func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return fmt.Sprintf("Verdict(%d)", v)
	}
	return verdictNames[v]
}

var (
	// ErrGone is wrapped by a Log that has no good record at a position, now and
	// for ever.
	ErrGone = errors.New("there is no record")
	// ErrIllegal is wrapped by a Batch for a message that can never be stored.
	ErrIllegal = errors.New("the message cannot be stored")
)

// Log is what a Coordinator needs of a store. Halves and marks are in queue 0
// of their topics.
type Log interface {
	// Record returns a copy of the record at a position, or wraps ErrGone.
	Record(pos message.Position) (message.View, error)
	// Bounds returns the first offset of a topic's queue and the next one.
	Bounds(topic string) (first, next message.Offset)
	// Place returns the position of an entry of a topic's queue.
	Place(topic string, off message.Offset) (message.Position, error)
	// Read calls fn for records of a topic's queue from an offset on and returns
	// where to go on, which is the offset itself at the end. The View dies when
	// fn returns.
	Read(topic string, from message.Offset, fn func(message.View)) (message.Offset, error)
	// Find returns copies of records of a topic that have a key.
	Find(topic, key string) ([]message.View, error)
	// Behind calls fn for the records of a topic's queue at a position or behind
	// it, in any order. Those that cannot be read are left out.
	Behind(topic string, queue int32, from message.Position, fn func(message.View)) error
	// End is where the next record goes; Flushed, what survives a power cut.
	End() message.Position
	Flushed() message.Position
	NewBatch() Batch
}

// Batch gathers records for one write. It is for one goroutine at a time.
type Batch interface {
	Reset()
	// Final adds a committed message, which may be delayed.
	Final(m *message.Message) error
	// Add adds any other message, or wraps ErrIllegal.
	Add(m *message.Message) error
	Len() int
	// Append stores all or none; ErrIllegal as for Add.
	Append() error
	// Result tells where the i-th record went.
	Result(i int) (message.Offset, message.Position)
}

// Producer is a live member of a producer group.
type Producer interface {
	ID() string
	Addr() netip.AddrPort
	// Check asks what became of a transaction. An error says that the question
	// was not sent.
	Check(c *Check) error
}

// Check is a question for a producer.
type Check struct {
	Group    string
	Offset   message.Offset   // of the half in its queue
	Position message.Position // of the half
	Key      string           // unique key
	OffsetID string
	Number   int32  // of the check, from 1
	Record   []byte // with the real topic and queue
}

// Rules are the settings, which may change from one call to the next.
type Rules struct {
	Timeout   time.Duration // from birth to the first check
	Interval  time.Duration // between checks
	MaxChecks int
	MaxAge    time.Duration // from birth
}

// Events tell what happens. They must be short. Nil ones are skipped.
type Events struct {
	// Refused: an end was refused or changed nothing though it should have. Told
	// ten times a second at most; Stats counts them all.
	Refused func(group string, why Reason, text string)
	// NoProducer: halves of a group wait for a producer; told once a minute.
	NoProducer func(group string, halves int)
	// Discarded: a half was given up.
	Discarded func(group, key string, checks int32, age time.Duration)
	// Failed: something did not work and is tried again.
	Failed func(what string, err error)
}

// Options of Open.
type Options struct {
	Log   Log
	DB    *kv.DB
	Now   func() time.Time // default time.Now
	Rules func() Rules
	// Pick returns a live producer of a group, another one each time.
	Pick func(group string) (Producer, bool)
	// Start is where Apache's broker stood in the half and the op queue; used
	// when the DB knows nothing. Negative: at the beginning.
	StartHalf, StartOp message.Offset
	// Unsafe is where the log may have holes after a crash: a mark behind it
	// does not say that the final message is there. NoPosition: nowhere.
	Unsafe message.Position
	// Progress is told where Apache's broker would have to go on.
	Progress func(half, op message.Offset)
	Events   Events
	// MaxPending bounds the halves in memory; default 2,000,000. Sends beyond
	// are refused, see Room.
	MaxPending int
}

// half is a pending half. Without pointers, so that many cost the collector nothing.
type half struct {
	pos    message.Position
	stored int64 // ms
	born   int64 // ms; 0 until adopted
	due    int64 // ms; when something is to be done next
	group  int32 // in groups.list; -1 until adopted
	checks int32
	kept   bool // in the DB
}

// Coordinator knows what is pending. See the package comment.
type Coordinator struct {
	o       Options
	log     Log
	now     func() time.Time
	state   *state
	stop    context.CancelFunc
	done    sync.WaitGroup
	stopped sync.Once
	once    sync.Once
	closed  error

	// moving is held for writing while halves get another place, for reading
	// while ends are applied.
	moving sync.RWMutex

	mu       sync.Mutex // guards what follows
	pending  map[message.Offset]half
	settling map[message.Offset]Verdict // being stored now
	recent   recentEnds
	outcomes outcomes
	moved    map[message.Offset]movedTo
	nextHalf message.Offset // halves below it have arrived
	nextOp   message.Offset // marks below it have arrived
	flights  map[*message.Offset]struct{}
	cursor   message.Offset // halves below it are adopted or settled
	due      heap.Heap[dueItem]
	groups   groups
	windows  map[netip.AddrPort]*window
	asked    map[message.Offset]*CheckEvent // sent and not answered
	changed  map[message.Offset]struct{}    // to be written to the DB
	gone     []message.Offset               // to be deleted from it
	goneMove []message.Offset
	events   []keyedEvent // to be written to it
	opMarks  []opMark
	maxMark  message.Offset

	movesChanged bool

	working sync.Mutex // guards what follows; taken before moving and mu
	work    Batch
	saved   [2]message.Offset // the marks as they were written last
	waiting *snapshot
	flushed time.Time
	pruned  time.Time

	stats counters
}

// movedTo says where a half is that was carried forward.
type movedTo struct {
	off message.Offset
	old message.Position
}

// Open loads what is pending and starts the checker.
func Open(o Options) (*Coordinator, error) {
	c, err := load(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	c.done.Go(func() { c.run(ctx) })
	return c, nil
}

// load is Open without the goroutine.
func load(o Options) (*Coordinator, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxPending == 0 {
		o.MaxPending = 2_000_000
	}
	if o.Log == nil || o.DB == nil || o.Rules == nil || o.Pick == nil {
		return nil, errors.New("txn: Log, DB, Rules and Pick must be given")
	}
	c := &Coordinator{
		o: o, log: o.Log, now: o.Now, state: newState(o.DB),
		pending: map[message.Offset]half{}, settling: map[message.Offset]Verdict{}, moved: map[message.Offset]movedTo{},
		flights: map[*message.Offset]struct{}{}, windows: map[netip.AddrPort]*window{}, asked: map[message.Offset]*CheckEvent{},
		changed: map[message.Offset]struct{}{}, due: heap.New(dueItem.before, nil), work: o.Log.NewBatch(), stop: func() {},
	}
	c.groups.byName = map[string]int32{}
	c.recent.init()
	c.outcomes.init(o.DB)
	c.stats.init()
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("txn: find the pending transactions: %w", err)
	}
	return c, nil
}

// Stop ends the checks and waits for the one that is under way. It looks at the
// youngest halves once more, so that the next start need not. The log must
// still be open.
func (c *Coordinator) Stop() {
	c.stopped.Do(func() {
		c.stop()
		c.done.Wait()
		c.working.Lock()
		defer c.working.Unlock()
		for now := c.now().Add(2 * linger); c.adoptSome(now); {
		}
	})
}

// Close saves what is pending. Halves and ends must not come any more, and the
// log should be closed: what it has not made durable is left out, and found
// again by the next Open.
func (c *Coordinator) Close() error {
	c.once.Do(func() {
		c.Stop()
		c.working.Lock()
		defer c.working.Unlock()
		c.closed = c.save(true)
	})
	return c.closed
}

// Room tells whether another half fits.
func (c *Coordinator) Room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) < c.o.MaxPending
}

// Arrived is told, in log order, of entries of the half and the op queue as
// they become visible. It is short and calls nothing.
func (c *Coordinator) Arrived(topic string, off message.Offset, pos message.Position, stored int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if topic == message.TopicOp {
		c.nextOp = max(c.nextOp, off+1)
		return
	}
	if off < c.nextHalf {
		return
	}
	c.nextHalf = off + 1
	if _, ended := c.recent.get(off); !ended {
		c.pending[off] = half{pos: pos, stored: stored, group: -1}
	}
}

// recentEnds remembers the last verdicts. It holds more than can be on its way
// through the store's dispatcher, so that a half that is ended before it
// arrives is known then.
type recentEnds struct {
	verdicts map[message.Offset]Verdict
	ring     []message.Offset
	at       int
}

const recentEndsMax = 1 << 16

func (r *recentEnds) init() { r.verdicts = make(map[message.Offset]Verdict) }

func (r *recentEnds) get(off message.Offset) (Verdict, bool) {
	v, ok := r.verdicts[off]
	return v, ok
}

func (r *recentEnds) add(off message.Offset, v Verdict) {
	if len(r.ring) < recentEndsMax {
		r.ring = append(r.ring, off)
	} else {
		delete(r.verdicts, r.ring[r.at])
		r.ring[r.at] = off
		r.at = (r.at + 1) % recentEndsMax
	}
	r.verdicts[off] = v
}

// groups numbers the producer groups that have pending halves.
type groups struct {
	list   []group
	byName map[string]int32
	free   []int32
}

type group struct {
	name    string
	pending int
	without int64 // ms; since when no producer was there, 0 if there is one
	warned  int64 // ms
	blocked int64 // ms; nothing can be asked before it
}

func (g *groups) join(name string) int32 {
	i, ok := g.byName[name]
	if !ok {
		if n := len(g.free); n > 0 {
			i, g.free = g.free[n-1], g.free[:n-1]
			g.list[i] = group{name: name}
		} else {
			i = int32(len(g.list))
			g.list = append(g.list, group{name: name})
		}
		g.byName[name] = i
	}
	g.list[i].pending++
	return i
}

func (g *groups) leave(i int32) {
	if i < 0 {
		return
	}
	if g.list[i].pending--; g.list[i].pending == 0 {
		delete(g.byName, g.list[i].name)
		g.free = append(g.free, i)
	}
}

// settledLocked forgets a half that has its outcome.
func (c *Coordinator) settledLocked(off message.Offset, v Verdict) {
	if h, ok := c.pending[off]; ok {
		delete(c.pending, off)
		c.groups.leave(h.group)
		if h.kept {
			c.gone = append(c.gone, off)
		}
		delete(c.changed, off)
	}
	delete(c.asked, off)
	c.outcomeLocked(off, v)
	c.maxMark = max(c.maxMark, off)
	c.recent.add(off, v)
}
