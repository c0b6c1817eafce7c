package bench

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// producing is what the connections of one run share. It is not written once
// they have started, but for stop.
type producing struct {
	shape    shape
	addr     string
	inflight int
	clock    clock
	from, to int64 // the measured window on the clock; to is far away with a count
	timeout  time.Duration
	read     atomic.Bool // the window has been read: what is due in it is still sent
	stop     atomic.Bool // nothing more is sent
}

// slot is one request in flight.
type slot struct {
	busy    bool
	ending  bool // a transaction whose half message is stored
	opaque  int32
	seq     uint64
	planned int64 // when it was due, on the clock
	sent    int64 // when it left
}

// pace says when the next frame is due; interval 0 means at once.
type pace struct {
	interval float64 // ns
	next     float64
}

// sender is one connection of a produce run. Everything but the counters
// belongs to its goroutine until it has ended.
type sender struct {
	run    *producing
	conn   net.Conn
	frames sendFrames
	pace   pace
	quota  int64 // messages to send from run.from on; -1 without a limit

	slots    []slot
	free     []int32
	bits     int // of an opaque that name the slot
	gen      int32
	seq      uint64 // messages sent so far
	queue    int
	ends     []byte // END_TRANSACTION frames waiting for the next write
	in       answers
	deadline int64 // read deadline in force, on the clock; 0 none
	heard    int64 // last answer

	counters counters
	latency  *hdrhistogram.Histogram
	service  *hdrhistogram.Histogram
	acked    ledger
	codes    map[int]*CodeCount
	failed   int64 // messages answered with a code that stores nothing
	lost     int64 // messages never answered
	err      error
}

func newSender(run *producing, conn net.Conn, id identity, index int) *sender {
	s := &sender{
		run:     run,
		conn:    conn,
		frames:  newSendFrames(run.shape, id, run.inflight, time.Now()),
		quota:   -1,
		slots:   make([]slot, run.inflight),
		bits:    bits.Len(uint(run.inflight - 1)),
		queue:   index % run.shape.queues,
		in:      answers{buf: make([]byte, 64<<10)},
		latency: newHistogram(),
		service: newHistogram(),
		codes:   map[int]*CodeCount{},
	}
	for i := range s.slots {
		s.free = append(s.free, int32(len(s.slots)-1-i))
	}
	return s
}

// loop sends and receives until the run is over and everything is answered.
func (s *sender) loop() error {
	for {
		now := s.run.clock.now()
		over := s.over()
		if !over {
			if err := s.write(now); err != nil {
				return err
			}
		} else if len(s.free) == len(s.slots) {
			return nil
		}
		if err := s.flushEnds(); err != nil {
			return err
		}
		if err := s.read(now, over); err != nil {
			return err
		}
	}
}

// over tells whether nothing new is to be sent. The load goes on until the
// window's end has been read, which may be a little late on a busy machine: so
// the window holds no moment without load.
func (s *sender) over() bool {
	if s.run.stop.Load() || s.quota == 0 {
		return true
	}
	return s.run.read.Load() && (s.pace.interval == 0 || int64(s.pace.next) >= s.run.to)
}

// write sends every frame that is due and has a slot, in one write.
func (s *sender) write(now int64) error {
	room := min(len(s.free), s.frames.count)
	if s.pace.interval > 0 {
		if now < int64(s.pace.next) {
			return nil
		}
		due := 1 + int((float64(now)-s.pace.next)/s.pace.interval)
		room = min(room, due)
	}
	if room == 0 {
		return nil
	}
	bornMs := s.run.clock.start.UnixMilli() + now/1e6
	n := 0
	for n < room {
		planned := now
		if s.pace.interval > 0 {
			planned = int64(s.pace.next)
			if planned >= s.run.to && s.run.read.Load() {
				break
			}
			s.pace.next += s.pace.interval
		}
		if s.quota > 0 && planned >= s.run.from {
			s.quota -= min(s.quota, int64(s.run.shape.batch))
		} else if s.quota == 0 {
			break
		}
		id := s.take()
		sl := &s.slots[id]
		sl.ending, sl.seq, sl.planned, sl.sent = false, s.seq, planned, now
		s.frames.patch(n, sl.opaque, s.queue, bornMs, s.seq)
		s.seq += uint64(s.run.shape.batch)
		if s.queue++; s.queue == s.run.shape.queues {
			s.queue = 0
		}
		n++
	}
	if n == 0 {
		return nil
	}
	_, err := s.conn.Write(s.frames.buf[:n*s.frames.size])
	return err
}

// take makes a free slot busy under a new opaque.
func (s *sender) take() int32 {
	id := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.slots[id].busy = true
	s.renew(id)
	return id
}

func (s *sender) renew(id int32) {
	s.gen++
	s.slots[id].opaque = opaqueBase | (s.gen<<s.bits|id)&opaqueMask
}

func (s *sender) flushEnds() error {
	if len(s.ends) == 0 {
		return nil
	}
	_, err := s.conn.Write(s.ends)
	s.ends = s.ends[:0]
	return err
}

// read waits for answers, or with a pace until the next frame is due, and
// handles all that came.
func (s *sender) read(now int64, over bool) error {
	waiting := len(s.free) < len(s.slots)
	if waiting && s.heard > 0 && now-s.heard > int64(s.run.timeout) && now-s.oldest() > int64(s.run.timeout) {
		return fmt.Errorf("no answer for %s with %d requests outstanding", s.run.timeout, len(s.slots)-len(s.free))
	}
	if s.heard == 0 {
		s.heard = now
	}
	// Setting a deadline costs; without a pace once a second is enough to
	// notice a server that has stopped answering.
	until := now + int64(2*time.Second)
	if s.pace.interval > 0 && !over && len(s.free) > 0 {
		until = min(until, max(int64(s.pace.next), now+1))
	}
	if s.deadline > until || s.deadline < now+int64(time.Second) {
		s.deadline = until
		if err := s.conn.SetReadDeadline(s.run.clock.start.Add(time.Duration(until))); err != nil {
			return err
		}
	}
	err := s.in.fill(s.conn)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.deadline = 0
			return nil
		}
		if err == io.EOF {
			return fmt.Errorf("the server closed the connection with %d requests outstanding: %w", len(s.slots)-len(s.free), io.ErrUnexpectedEOF)
		}
		return err
	}
	return s.handle()
}

// oldest returns when the longest outstanding request left.
func (s *sender) oldest() int64 {
	at := int64(math.MaxInt64)
	for i := range s.slots {
		if s.slots[i].busy {
			at = min(at, s.slots[i].sent)
		}
	}
	return at
}

// handle takes every whole answer out of the buffer.
func (s *sender) handle() error {
	now := s.run.clock.now()
	s.heard = now
	done := int64(0)
	err := s.in.each(func(a *answer) error {
		n, err := s.answered(a, now)
		done += n
		return err
	})
	if done > 0 {
		s.counters.answered.Add(done)
	}
	return err
}

// answered settles the request of one answer and returns how many messages
// are acknowledged by it.
func (s *sender) answered(a *answer, now int64) (int64, error) {
	id := a.opaque & (1<<s.bits - 1)
	if int(id) >= len(s.slots) || !s.slots[id].busy || s.slots[id].opaque != a.opaque {
		return 0, fmt.Errorf("%w: an answer to opaque %d, which is not outstanding", errFrame, a.opaque)
	}
	sl := &s.slots[id]
	n := int64(s.run.shape.batch)
	if a.code != ok {
		s.count(a, n)
	}
	if !stored(a.code) {
		s.failed += n
		s.release(id)
		return 0, s.hopeless(a)
	}
	if s.run.shape.txn && !sl.ending {
		sl.ending = true
		s.renew(id)
		var err error
		s.ends, err = appendEndTransaction(s.ends, &s.run.shape, sl.opaque, a)
		return 0, err
	}
	s.acked.add(sl.seq, int(n))
	if sl.planned >= s.run.from && sl.planned < s.run.to {
		record(s.latency, now-sl.planned, n)
		if s.pace.interval > 0 {
			record(s.service, now-sl.sent, n)
		}
	}
	s.release(id)
	return n, nil
}

func (s *sender) release(id int32) {
	s.slots[id].busy = false
	s.free = append(s.free, id)
}

func (s *sender) count(a *answer, n int64) {
	c := s.codes[a.code]
	if c == nil {
		c = &CodeCount{Code: a.code, Remark: a.remark()}
		s.codes[a.code] = c
	}
	c.Messages += n
}

// hopeless ends a connection whose every request is refused: a load of
// refusals measures nothing.
func (s *sender) hopeless(a *answer) error {
	if s.failed < 100*int64(s.run.shape.batch) || s.counters.answered.Load() > 0 {
		return nil
	}
	return &ServerError{Addr: s.run.addr, Did: fmt.Sprintf("sending to topic %s (%d messages, none accepted)", s.run.shape.topic, s.failed), Code: a.code, Remark: a.remark()}
}

// unanswered returns the messages that were sent and never answered.
func (s *sender) unanswered() int64 {
	return int64(len(s.slots)-len(s.free)) * int64(s.run.shape.batch)
}
