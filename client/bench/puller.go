package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// span is a piece of a queue: offsets from (included) to (excluded).
type span struct {
	queue    int
	from, to int64
}

// spans is the work of a read: pieces of queues, each taken by one request
// slot at a time. Safe for concurrent use.
type spans struct {
	mu    sync.Mutex
	list  []span
	next  int  // first piece not taken yet
	again bool // starts from the beginning when all are taken
}

// newSpans cuts queues into pieces of a size that keeps readers busy to the
// end, in whole pulls.
func newSpans(from, to []int64, readers, pull int, again bool) *spans {
	var total int64
	for q := range from {
		total += max(0, to[q]-from[q])
	}
	piece := max(total/int64(readers*8), int64(pull*100))
	piece -= piece % int64(pull)
	s := &spans{again: again && total > 0}
	// Round by round over the queues, so that the readers spread over them.
	for at := int64(0); ; at += piece {
		more := false
		for q := range from {
			if lo := from[q] + at; lo < to[q] {
				s.list = append(s.list, span{queue: q, from: lo, to: min(lo+piece, to[q])})
				more = true
			}
		}
		if !more {
			return s
		}
	}
}

func (s *spans) take() (span, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == len(s.list) {
		if !s.again {
			return span{}, false
		}
		s.next = 0
	}
	p := s.list[s.next]
	s.next++
	return p, true
}

// pulling is what the connections of one read share.
type pulling struct {
	addr, group, topic string
	pull               int  // messages asked for at a time
	sql                bool // the group's subscription filters; messages count when they were scanned
	inflight           int
	rate               float64 // messages a second on each connection; 0 is as fast as answers come
	work               *spans
	clock              clock
	from, to           int64 // the measured window on the clock
	timeout            time.Duration
	stop               atomic.Bool
	each               func(queue int, record []byte) // nil to count only; called from all connections
}

// pullSlot is one pull in flight and the piece it works on.
type pullSlot struct {
	busy    bool
	opaque  int32
	piece   span
	next    int64
	planned int64 // when it was due
	sent    int64
	since   int64 // when this place was first asked for
}

// puller is one connection of a read.
type puller struct {
	run   *pulling
	conn  net.Conn
	slots []pullSlot
	out   []byte
	in    answers
	gen   int32
	busy  int
	heard int64
	pace  pace // of messages

	counters counters
	latency  *hdrhistogram.Histogram
	pulls    int64
	empty    int64 // pulls that brought nothing
	bytes    int64 // of records
	skipped  int64 // offsets that the server said are gone
	matched  int64 // messages that came
	err      error
}

func newPuller(run *pulling, conn net.Conn) *puller {
	p := &puller{run: run, conn: conn, slots: make([]pullSlot, run.inflight), in: answers{buf: make([]byte, 512<<10)}, latency: newHistogram()}
	if run.rate > 0 {
		p.pace.interval = 1e9 / run.rate
	}
	return p
}

// loop pulls until there is no work left, or the run is over.
func (p *puller) loop() error {
	for {
		now := p.run.clock.now()
		over := p.run.stop.Load()
		p.out = p.out[:0]
		for i := range p.slots {
			if s := &p.slots[i]; !over && !s.busy && p.due(now) {
				p.ask(i, s, now)
			}
		}
		if p.busy == 0 {
			if over || p.due(now) {
				return nil
			}
			// Short, so that a run that is stopped ends soon.
			time.Sleep(min(time.Duration(int64(p.pace.next)-now), 20*time.Millisecond))
			continue
		}
		if len(p.out) > 0 {
			if _, err := p.conn.Write(p.out); err != nil {
				return err
			}
		}
		if err := p.read(now); err != nil {
			return err
		}
	}
}

// due tells whether the next pull may leave.
func (p *puller) due(now int64) bool { return p.pace.interval == 0 || now >= int64(p.pace.next) }

// ask appends the next pull of a slot, taking a new piece if it has none.
func (p *puller) ask(i int, s *pullSlot, now int64) {
	if s.next >= s.piece.to {
		piece, found := p.run.work.take()
		if !found {
			return
		}
		s.piece, s.next, s.since = piece, piece.from, now
	}
	p.gen++
	s.busy, s.planned, s.sent = true, now, now
	if p.pace.interval > 0 {
		s.planned = int64(p.pace.next)
		p.pace.next += p.pace.interval * float64(p.run.pull) // answered takes back what does not come
	}
	s.opaque = opaqueBase | (p.gen<<16|int32(i))&opaqueMask
	p.busy++
	p.out = appendPull(p.out, p.run.group, p.run.topic, s.piece.queue, s.next, p.run.pull, s.opaque, p.run.sql)
}

func (p *puller) read(now int64) error {
	if p.heard == 0 || now-p.heard > int64(time.Second) {
		p.heard = now
		if err := p.conn.SetReadDeadline(time.Now().Add(p.run.timeout + time.Second)); err != nil {
			return err
		}
	}
	err := p.in.fill(p.conn)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer for %s with %d pulls outstanding", p.run.timeout, p.busy)
	case err == io.EOF:
		return fmt.Errorf("the server closed the connection with %d pulls outstanding: %w", p.busy, io.ErrUnexpectedEOF)
	case err != nil:
		return err
	}
	now = p.run.clock.now()
	got := int64(0)
	err = p.in.each(func(a *answer) error {
		n, err := p.answered(a, now)
		got += n
		return err
	})
	if got > 0 {
		p.counters.answered.Add(got)
	}
	return err
}

// answered settles a pull and returns how many messages of its piece came.
func (p *puller) answered(a *answer, now int64) (int64, error) {
	id := int(a.opaque & 0xFFFF)
	if id >= len(p.slots) || !p.slots[id].busy || p.slots[id].opaque != a.opaque {
		return 0, fmt.Errorf("%w: an answer to opaque %d, which is not outstanding", errFrame, a.opaque)
	}
	s := &p.slots[id]
	s.busy = false
	p.busy--
	p.pulls++
	if s.sent >= p.run.from && s.sent < p.run.to {
		record(p.latency, now-s.planned, 1)
	}
	switch a.code {
	case ok, pullNotFound, pullRetry, pullOffsetMoved:
	default:
		return 0, &ServerError{Addr: p.run.addr, Did: fmt.Sprintf("pulling queue %d of topic %s at offset %d", s.piece.queue, p.run.topic, s.next), Code: a.code, Remark: a.remark()}
	}
	next, found := a.int(`"nextBeginOffset":`)
	if !found {
		return 0, fmt.Errorf("%w: a pull's answer without nextBeginOffset: %q", errFrame, clip(a.header))
	}
	var n int64
	if a.code == ok {
		var err error
		if n, err = p.records(a.body, s); err != nil {
			return n, err
		}
	} else {
		p.empty++
		if a.code == pullOffsetMoved && next > s.next {
			p.skipped += min(next, s.piece.to) - s.next
		}
	}
	p.matched += n
	if p.run.sql {
		n = max(0, min(next, s.piece.to)-s.next)
	}
	p.pace.next += p.pace.interval * float64(n-int64(p.run.pull))
	if next > s.next {
		s.next, s.since = next, now
	} else if now-s.since > int64(p.run.timeout) {
		return n, fmt.Errorf("queue %d of topic %s stands still at offset %d, which should be there up to %d (code %d %s)",
			s.piece.queue, p.run.topic, s.next, s.piece.to, a.code, a.remark())
	} else {
		time.Sleep(time.Millisecond) // what is acknowledged may become visible a moment later
	}
	return n, nil
}

// records walks over the records of a pull and hands those of the piece on.
func (p *puller) records(body []byte, s *pullSlot) (n int64, err error) {
	for len(body) > 0 {
		if len(body) < 28 {
			return n, fmt.Errorf("%w: %d bytes behind the last record of a pull", errFrame, len(body))
		}
		size := int(binary.BigEndian.Uint32(body))
		if size < 28 || size > len(body) {
			return n, fmt.Errorf("%w: a record of %d bytes in a pull's last %d", errFrame, size, len(body))
		}
		if offset := int64(binary.BigEndian.Uint64(body[20:])); offset >= s.next && offset < s.piece.to {
			n++
			p.bytes += int64(size)
			if p.run.each != nil {
				p.run.each(s.piece.queue, body[:size])
			}
		}
		body = body[size:]
	}
	return n, nil
}
