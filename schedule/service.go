package schedule

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Options of Open. Log, DB and Rules are required.
type Options struct {
	Log   Log
	DB    *kv.DB
	Rules func() Rules     // asked for each call; its levels must stay the same
	Now   func() time.Time // default time.Now

	// NewID makes the unique key of a firing of a schedule.
	NewID func() string
	// Host is the address that is named as where firings were born.
	Host func() netip.AddrPort

	// Imported is how far each level was delivered by the broker that had the
	// folder before, by level; it counts for levels without progress of ours.
	Imported map[int32]message.Offset
	// Taken is how far that broker's timer was; it counts likewise.
	Taken Taken

	// Idle delivers nothing by itself: for HandOver.
	Idle bool

	MaxDue    int           // timed messages in memory, default 131,072
	MaxBatch  int           // messages of one append, default 32
	MaxBytes  int           // bytes of one append, as far as one message allows, default 1 MiB
	SaveEvery time.Duration // how often progress is made durable, default 1 s

	// Warn says what an operator should know; key-value pairs as in log/slog.
	Warn func(text string, pairs ...any)
}

// Taken is the progress of Apache's timer: what lies before the offset in the
// timer's queue and is due before the time was delivered.
type Taken struct {
	Offset message.Offset
	Time   int64 // ms since 1970
}

const (
	horizon     = 2 * time.Minute  // how far ahead rows are loaded
	longestNap  = time.Second      // how soon a step of the clock is noticed
	retryPause  = time.Second      // after an error
	leastPause  = time.Millisecond // of the deliverer between full batches
	maxPause    = 5 * time.Millisecond
	indexChunk  = 256  // records that the keeper indexes at a time
	deleteChunk = 4096 // rows that the saver removes with one write
)

// Service delivers what waits in a log. See the package comment.
type Service struct {
	o      Options
	log    Log
	rows   *rows
	levels []*level
	stats  stats

	wakeKeeper    chan struct{}
	wakeDeliverer chan struct{}
	cancel        context.CancelFunc
	done          sync.WaitGroup
	closeOnce     sync.Once
	closeErr      error

	// rowMu is held by who changes rows in the kv store: the keeper, the saver,
	// and changes that are asked for. It is taken before mu.
	rowMu       sync.Mutex
	indexed     message.Offset // of the timer's queue, next to be indexed; guarded by rowMu
	defsIndexed message.Offset // of the schedules' queue, likewise

	// deliverMu is held by the deliverer for the length of a batch.
	deliverMu sync.Mutex

	mu        sync.Mutex       // guards what follows, and the levels' progress
	due       dueRows          // all rows below loaded that are not away
	loaded    rowKey           // rows below are in memory
	caughtUp  bool             // everything from before the start is indexed
	rowFault  bool             // the last try to read or write rows failed
	carrying  message.Position // what is given back below is noted in gaveBack
	gaveBack  bool
	away      map[rowKey]struct{}        // taken for delivery; their rows are still there
	awayBy    map[string]int64           // of them delivered, by topic
	delivered []deliveredRow             // to be saved
	skip      map[message.Position]int64 // level messages that were recalled or moved: their due time
	skipped   []message.Position         // passed by the deliverer, to be forgotten
	schedules scheduleTable
	dirty     bool // levels or schedules went on since the last save
	closing   bool

	pending atomic.Int64 // rows, for statistics
}

// deliveredRow is a timed message that was delivered, whose row must go.
type deliveredRow struct {
	key   rowKey
	topic string
}

func (o Options) withDefaults() (Options, error) {
	if o.Log == nil || o.DB == nil || o.Rules == nil {
		return o, errors.New("schedule: Log, DB and Rules are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Warn == nil {
		o.Warn = func(string, ...any) {}
	}
	if o.Host == nil {
		o.Host = func() netip.AddrPort { return netip.AddrPort{} }
	}
	if o.NewID == nil {
		ids := message.NewUniqueIDs(netip.Addr{}, uint32(o.Now().UnixNano()))
		o.NewID = func() string { return ids.Next(o.Now()) }
	}
	for _, n := range []struct {
		field *int
		value int
	}{{&o.MaxDue, 131_072}, {&o.MaxBatch, 32}, {&o.MaxBytes, 1 << 20}} {
		if *n.field == 0 {
			*n.field = n.value
		}
	}
	if o.SaveEvery == 0 {
		o.SaveEvery = time.Second
	}
	if o.MaxDue < 1 || o.MaxBatch < 1 || o.MaxBytes < 1 || o.SaveEvery < 0 {
		return o, errors.New("schedule: an option is negative; leave it out for its default")
	}
	return o, nil
}

// Open loads the progress and starts delivering.
func Open(o Options) (*Service, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Service{
		o: o, log: o.Log, rows: newRows(o.DB), loaded: rowKey{due: math.MinInt64},
		wakeKeeper: make(chan struct{}, 1), wakeDeliverer: make(chan struct{}, 1),
		away: make(map[rowKey]struct{}), awayBy: make(map[string]int64), skip: make(map[message.Position]int64),
		due: newDueRows(), schedules: newScheduleTable(),
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("schedule: load the progress of delayed messages: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	if o.Idle {
		return s, nil
	}
	s.done.Go(func() { s.runKeeper(ctx) })
	s.done.Go(func() { s.runDeliverer(ctx) })
	s.done.Go(func() { s.runSaver(ctx) })
	return s, nil
}

// load reads what the kv store knows.
func (s *Service) load() (err error) {
	if err = s.loadMarks(); err != nil {
		return err
	}
	if err = s.rows.load(); err != nil {
		return err
	}
	s.pending.Store(s.rows.total())
	err = s.rows.skips.Range(nil, nil, func(key []byte, due int64) bool {
		if pos, ok := parsePosition(key); ok {
			s.skip[pos] = due
		}
		return true
	})
	if err != nil {
		return err
	}
	return s.loadSchedules()
}

// loadMarks reads how far the queues were gone through. A mark that is behind
// the end of its queue, because a power cut took the end of the log, is set back
// on the disk too: after a crash it would skip what got those places since.
func (s *Service) loadMarks() error {
	var back kv.Batch
	read := func(mark []byte, topic string, queue int32, otherwise message.Offset) (message.Offset, error) {
		next, found, err := s.rows.marks.Get(mark)
		if err != nil {
			return 0, err
		}
		if !found {
			next = otherwise
		}
		first, end := s.log.Bounds(topic, queue)
		if next > end {
			if err := s.rows.marks.PutTo(&back, mark, end); err != nil {
				return 0, err
			}
		}
		return min(max(next, first), end), nil
	}
	var err error
	for i := range max(len(s.o.Rules().Levels), 18, s.storedLevels()) {
		l := &level{number: i + 1, queue: int32(i)}
		if l.next, err = read(l.mark(), message.TopicSchedule, l.queue, s.o.Imported[int32(l.number)]); err != nil {
			return err
		}
		s.levels = append(s.levels, l)
	}
	if s.indexed, err = read([]byte(markIndexed), message.TopicTimer, 0, 0); err != nil {
		return err
	}
	if s.defsIndexed, err = read([]byte(markDefinitions), TopicRecurring, 0, 0); err != nil {
		return err
	}
	if back.Len() == 0 {
		return nil
	}
	return s.o.DB.Write(&back, kv.Synced)
}

// storedLevels returns how many levels ever had progress: the table may have
// become shorter.
func (s *Service) storedLevels() int {
	n := 0
	for l := range s.o.Imported {
		n = max(n, min(int(l), 1024))
	}
	for n < 1024 {
		if _, end := s.log.Bounds(message.TopicSchedule, int32(n)); end == 0 {
			break
		}
		n++
	}
	return n
}

// Arrived tells that records were added to a queue. It is short and may be
// called by the log's dispatcher; queues that are none of the service's are
// ignored.
func (s *Service) Arrived(topic string) {
	switch topic {
	case message.TopicSchedule:
		wake(s.wakeDeliverer)
	case message.TopicTimer, TopicRecurring:
		wake(s.wakeKeeper)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close stops delivering and saves the progress. The log must still be open.
func (s *Service) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closing = true
		s.mu.Unlock()
		s.cancel()
		s.done.Wait()
		s.closeErr = s.save(kv.Synced)
	})
	return s.closeErr
}

// sleep waits until it is woken, the duration is over, or the context is done;
// then it returns false. The timer is reused.
func sleep(ctx context.Context, wakeUp <-chan struct{}, timer *time.Timer, d time.Duration) bool {
	timer.Reset(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wakeUp:
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// LevelProgress returns how far each level was delivered, by level, for the
// broker that has the folder next.
func (s *Service) LevelProgress() map[int32]message.Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	progress := make(map[int32]message.Offset)
	for _, l := range s.levels {
		if l.next > 0 {
			progress[int32(l.number)] = l.next
		}
	}
	return progress
}
