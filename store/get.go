package store

import (
	"errors"
	"fmt"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/message"
)

// GetStatus says what came of a Get.
type GetStatus int

// The outcomes of a Get.
const (
	GetFound           GetStatus = iota // records are in the body
	GetNoMatch                          // nothing of what was scanned matches: go on at Next
	GetBeingRemoved                     // what was scanned leads to no record any more: go on at Next
	GetGap                              // the queue's row cannot be read there: go on at Next
	GetOffsetAtEnd                      // the offset is the queue's end: nothing is there yet
	GetOffsetBeyondEnd                  // the offset is above the queue's end: Next is the end
	GetOffsetTooSmall                   // the offset is below the queue's first: Next is the first
	GetEmptyQueue                       // the queue never had a message: Next is 0
	GetNoQueue                          // there is no such queue: Next is 0
)

var getStatusNames = [...]string{
	"FOUND", "NO_MATCHED_MESSAGE", "MESSAGE_WAS_REMOVING", "OFFSET_FOUND_NULL", "OFFSET_OVERFLOW_ONE",
	"OFFSET_OVERFLOW_BADLY", "OFFSET_TOO_SMALL", "NO_MESSAGE_IN_QUEUE", "NO_MATCHED_LOGIC_QUEUE",
}

// String returns Apache's name of the status, which clients show.
func (s GetStatus) String() string {
	if s < 0 || int(s) >= len(getStatusNames) {
		return fmt.Sprintf("GetStatus(%d)", int(s))
	}
	return getStatusNames[s]
}

// GetQuery says what to read.
type GetQuery struct {
	Topic    string
	Queue    int32
	Offset   message.Offset
	MaxCount int // messages; Options.Transfer bounds them, too
	MaxBytes int // 0: no limit of the caller's; at least one message is given

	MatchTag    func(code int64) bool   // nil: all
	MatchRecord func(message.View) bool // nil: all; the View dies when it returns, and may be mapped: hold no lock in it
	// MatchProperties goes before MatchRecord, which must be set, too: it is
	// faster. The properties die when it returns.
	MatchProperties func(message.Properties) bool
	MaxScan         int // with MatchRecord, entries to look at; at least 800
}

// GetResult is the outcome of a Get.
type GetResult struct {
	Status GetStatus
	Next   message.Offset // where to go on
	Min    message.Offset // of the queue
	Max    message.Offset // of the queue
	Count  int            // messages in Body
	Body   []byte         // the caller's buffer with the records appended
	Cold   bool           // the last record read is further behind the end than HotBytes
	Behind int64          // bytes from the last record read to the end of the log
}

// How much one Get looks at, and how many records it reads together.
const (
	minScan    = 16000 / consumequeue.EntrySize // entries, as Apache has it
	fillerScan = 100_000                        // entries, when there is nothing else
	readSpans  = 32                             // records of a round
)

// Get reads messages of a queue from an offset on and appends their records,
// as they are stored, to dst. Entries that lead to no record of the queue are
// stepped over and reported. With enough room in dst it allocates nothing. An
// error is one of the file system, or ErrClosed; what a query finds, or does
// not, is told by the status.
func (s *Store) Get(q *GetQuery, dst []byte) (GetResult, error) {
	r := GetResult{Body: dst}
	cq := s.table.Lookup(q.Topic, q.Queue)
	if cq == nil {
		r.Status = GetNoQueue
		s.counts.getMisses.Add(1)
		return r, nil
	}
	r.Min, r.Max, r.Next = cq.Min(), cq.Max(), q.Offset
	switch {
	case r.Max == 0:
		r.Status, r.Next = GetEmptyQueue, 0
	case q.Offset < r.Min:
		r.Status, r.Next = GetOffsetTooSmall, r.Min
	case q.Offset == r.Max:
		r.Status = GetOffsetAtEnd
	case q.Offset > r.Max:
		r.Status, r.Next = GetOffsetBeyondEnd, r.Max
	case q.MatchRecord != nil:
		var err error
		if r, err = s.scan(q, cq, r); err != nil {
			return r, err
		}
	default:
		// By value: what g points to would be moved to the heap.
		g := getter{store: s, query: *q, queue: cq, result: r, logMin: s.log.Min(), logMax: s.log.Max(), limits: s.o.Transfer.now()}
		err := g.run()
		if r = g.result; err != nil {
			return r, err
		}
	}
	if r.Count == 0 {
		s.counts.getMisses.Add(1)
	} else {
		s.counts.getMessages.Add(int64(r.Count))
		s.counts.getBytes.Add(int64(len(r.Body) - len(dst)))
	}
	return r, nil
}

// getter is one Get under way. It works in rounds: choose entries, read their
// records together, keep those that match.
type getter struct {
	store          *Store
	query          GetQuery
	queue          *consumequeue.Queue
	result         GetResult
	logMin, logMax message.Position
	limits         limits

	bytes   int              // of the records that are kept
	scanned int              // entries looked at
	empty   int              // of them fillers
	gone    bool             // an entry led to no record
	full    bool             // no more fits
	last    message.Position // of the last entry chosen

	spans   [readSpans]commitlog.Span
	offsets [readSpans]message.Offset
	chosen  int
}

func (g *getter) run() error {
	r := &g.result
	maxCount := max(g.query.MaxCount, 1)
	scanLimit := max(minScan, maxCount)
	g.last = message.NoPosition
	for r.Next < r.Max && !g.full && r.Count < maxCount && g.scanned-g.empty < scanLimit && g.empty < fillerScan {
		stuck, err := g.choose(maxCount, scanLimit)
		if err != nil {
			return err
		}
		if err := g.readChosen(); err != nil {
			return err
		}
		if stuck {
			break
		}
	}
	g.finish()
	return nil
}

// finish tells what came of it.
func (g *getter) finish() {
	r := &g.result
	switch {
	case r.Count > 0:
		r.Status = GetFound
	case g.gone || g.empty == g.scanned:
		r.Status = GetBeingRemoved
	default:
		r.Status = GetNoMatch
	}
	if g.scanned == 0 {
		r.Status = GetGap
	}
	if g.last != message.NoPosition {
		r.Behind = int64(g.logMax - g.last)
		r.Cold = r.Behind > g.store.o.HotBytes
	}
}

// choose looks at entries from Next on and notes which records to read, until
// they fill the answer. stuck says that the row gave nothing.
func (g *getter) choose(maxCount, scanLimit int) (stuck bool, err error) {
	r := &g.result
	var entries [64]Entry
	g.chosen = 0
	chosenBytes := 0
	want := min(len(entries), int(r.Max-r.Next))
	if g.query.MatchTag == nil {
		want = min(want, maxCount-r.Count)
	}
	n, err := g.queue.Read(r.Next, entries[:want])
	if errors.Is(err, consumequeue.ErrOutside) || errors.Is(err, consumequeue.ErrDeleted) {
		r.Min, r.Max = g.queue.Min(), g.queue.Max() // trimmed meanwhile
		r.Next = min(max(r.Next, r.Min), r.Max)
		return true, nil
	}
	if err != nil {
		return false, g.store.readError(err)
	}
	for i := range entries[:n] {
		e := &entries[i]
		if e.Filler() {
			g.empty++
		} else if g.scanned-g.empty >= scanLimit {
			return false, nil
		} else if e.Position < g.logMin {
			g.gone = true
		} else if g.isFull(e, maxCount, chosenBytes) {
			g.full = true
			return false, nil
		} else if g.chosen == readSpans {
			return false, nil // the next round goes on here
		} else if g.query.MatchTag == nil || g.query.MatchTag(e.TagCode) {
			g.spans[g.chosen] = commitlog.Span{Position: e.Position, Size: e.Size}
			g.offsets[g.chosen] = r.Next
			g.chosen++
			chosenBytes += int(e.Size)
			g.last = e.Position
		}
		g.scanned++
		r.Next++
	}
	return n == 0, nil
}

// isFull tells whether the record must wait for the next Get.
func (g *getter) isFull(e *Entry, maxCount, chosenBytes int) bool {
	count, bytes := g.result.Count+g.chosen, g.bytes+chosenBytes
	if count == 0 {
		return false
	}
	limitCount, limitBytes := g.limits.of(int64(g.logMax-e.Position) > g.store.o.HotBytes)
	if g.query.MaxBytes > 0 {
		limitBytes = min(limitBytes, g.query.MaxBytes)
	}
	return count >= min(limitCount, maxCount) || bytes+int(e.Size) > limitBytes
}

// readChosen reads the chosen records and keeps those that are what the queue
// says and match.
func (g *getter) readChosen() error {
	r := &g.result
	for from := 0; from < g.chosen; {
		start := len(r.Body)
		out, n, err := g.store.log.ReadMany(g.spans[from:g.chosen], 0, r.Body)
		r.Body = out
		g.keep(start, from, n)
		from += n
		if from == g.chosen {
			return nil
		}
		if errors.Is(err, commitlog.ErrClosed) {
			return g.store.readError(err)
		}
		if err == nil {
			err = errors.New("nothing was read")
		}
		g.skip(from, err)
		from++
	}
	return nil
}

// keep goes through n records that were read to Body from start on.
func (g *getter) keep(start, from, n int) {
	r := &g.result
	to := start
	at := start
	for i := from; i < from+n; i++ {
		rec := r.Body[at : at+int(g.spans[i].Size)]
		at += len(rec)
		if _, err := g.check(rec, g.spans[i]); err != nil {
			g.skip(i, err)
			continue
		}
		if at-len(rec) != to {
			copy(r.Body[to:], rec)
		}
		to += len(rec)
		g.bytes += len(rec)
		r.Count++
	}
	r.Body = r.Body[:to]
}

// check makes sure that the bytes are the record that the entry means.
func (g *getter) check(rec []byte, span commitlog.Span) (message.View, error) {
	v, err := message.Parse(rec)
	switch {
	case err != nil:
		return nil, err
	case len(v) != len(rec):
		return nil, fmt.Errorf("the record there has %d bytes, the entry says %d", len(v), len(rec))
	case v.Position() != span.Position:
		return nil, fmt.Errorf("the record there says that it stands at %d", v.Position())
	case v.QueueID() != g.query.Queue || string(v.Topic()) != g.query.Topic:
		return nil, fmt.Errorf("the record there belongs to %q queue %d", v.Topic(), v.QueueID())
	}
	return v, nil
}

// skip steps over the i-th chosen entry and reports it.
func (g *getter) skip(i int, err error) {
	g.gone = true
	if g.spans[i].Position < g.store.log.Min() {
		return // dropped by retention meanwhile
	}
	g.store.skipped(g.query.Topic, g.query.Queue, g.offsets[i], err)
}

func (s *Store) skipped(topic string, queue int32, off message.Offset, err error) {
	s.counts.skipped.Add(1)
	if s.o.Events.Skipped != nil {
		s.o.Events.Skipped(&RecordError{Topic: topic, Queue: queue, Offset: int64(off), Err: err})
	}
}

// readError gives errors of reads the store's words.
func (s *Store) readError(err error) error {
	if errors.Is(err, commitlog.ErrClosed) || errors.Is(err, consumequeue.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if errors.Is(err, commitlog.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
