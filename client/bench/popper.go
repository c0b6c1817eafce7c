package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// popSlot is a pop in flight, or the acknowledgement that follows it.
type popSlot struct {
	busy   bool
	opaque int32
	acking int // messages whose acknowledgement is in flight; 0: it is a pop
	began  int64
}

// popper is one connection of a run of Pop.
type popper struct {
	run   *popping
	conn  net.Conn
	slots []popSlot
	out   []byte
	in    answers
	given given
	acks  []byte // a batch's body, used again
	gen   int32
	last  int64 // when a message came last

	counters counters
	latency  *hdrhistogram.Histogram
	pops     int64
	empty    int64
	twice    int64
	bytes    int64
}

func newPopper(run *popping, conn net.Conn) *popper {
	return &popper{run: run, conn: conn, slots: make([]popSlot, run.InFlight), in: answers{buf: make([]byte, 512<<10)}, latency: newHistogram()}
}

// popPoll is how long a pop waits at the server: at the end of a run only.
const popPoll = time.Second

// loop pops and acknowledges until the run stops, or the connection breaks.
func (p *popper) loop() error {
	for !p.run.stop.Load() {
		now := p.run.clock.now()
		for i := range p.slots {
			if s := &p.slots[i]; !s.busy {
				s.busy, s.acking, s.began = true, 0, now
				p.out = p.appendPop(p.out, p.opaque(i))
			}
		}
		if len(p.out) > 0 {
			if _, err := p.conn.Write(p.out); err != nil {
				return err
			}
			p.out = p.out[:0]
		}
		if err := p.read(); err != nil {
			return err
		}
	}
	return nil
}

func (p *popper) opaque(i int) int32 {
	p.gen++
	p.slots[i].opaque = opaqueBase | (p.gen<<16|int32(i))&opaqueMask
	return p.slots[i].opaque
}

func (p *popper) read() error {
	if err := p.conn.SetReadDeadline(time.Now().Add(p.run.Timeout)); err != nil {
		return err
	}
	err := p.in.fill(p.conn)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer for %s", p.run.Timeout)
	case err == io.EOF:
		return fmt.Errorf("the server closed the connection: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return err
	}
	now := p.run.clock.now()
	return p.in.each(func(a *answer) error { return p.answered(a, now) })
}

// answered settles a pop by asking for its acknowledgement, or that.
func (p *popper) answered(a *answer, now int64) error {
	i := int(a.opaque & 0xFFFF)
	if i >= len(p.slots) || !p.slots[i].busy || p.slots[i].opaque != a.opaque {
		return fmt.Errorf("%w: an answer to opaque %d, which is not outstanding", errFrame, a.opaque)
	}
	s := &p.slots[i]
	if s.acking > 0 {
		if a.code != ok {
			return &ServerError{Addr: p.run.Addr, Did: "acknowledging messages of " + p.run.Topic, Code: a.code, Remark: a.remark()}
		}
		p.acked(s, now)
		return nil
	}
	p.pops++
	switch a.code {
	case ok:
		if err := p.given.parse(a); err != nil {
			return err
		}
		p.last, s.acking = now, p.given.count
		p.bytes += int64(len(a.body))
		p.note()
		p.acknowledge(i)
		return nil
	case popPollingFull, popPollingTimeout, pullNotFound:
		p.empty++
		s.busy = false
		if now-max(p.last, 0) > int64(p.run.Timeout) {
			return fmt.Errorf("nothing came for %s", p.run.Timeout)
		}
		return nil
	}
	return &ServerError{Addr: p.run.Addr, Did: "popping " + p.run.Topic, Code: a.code, Remark: a.remark()}
}

// note counts the messages that came before.
func (p *popper) note() {
	for i := range p.given.queues {
		q := &p.given.queues[i]
		for _, off := range q.offsets {
			if string(q.flag) != "0" || !p.run.mark(int(q.queue), off) {
				p.twice++
			}
		}
	}
}

// acknowledge asks for what was given: in one request, or in one for each
// message, whose answers come in any order.
func (p *popper) acknowledge(slot int) {
	if !p.run.AckEach {
		p.acks = p.given.appendBatch(p.acks[:0], p.run)
		var w requestWriter
		w.begin(p.out, codeBatchAck)
		p.out, _ = w.end(p.opaque(slot), p.acks)
		return
	}
	opaque := p.opaque(slot)
	for i := range p.given.queues {
		q := &p.given.queues[i]
		for _, off := range q.offsets {
			p.out = p.given.appendOne(p.out, p.run, q, off, opaque)
		}
	}
}

// acked settles one answer to acknowledge.
func (p *popper) acked(s *popSlot, now int64) {
	n := int64(s.acking)
	if p.run.AckEach {
		n = 1
	}
	s.acking -= int(n)
	p.counters.answered.Add(n)
	if left := p.run.left.Add(-n); left <= 0 && left+n > 0 {
		close(p.run.all)
	}
	if s.acking == 0 {
		record(p.latency, now-s.began, 1)
		s.busy = false
	}
}

// appendPop appends a pop from any queue.
func (p *popper) appendPop(dst []byte, opaque int32) []byte {
	var w requestWriter
	w.begin(dst, codePop)
	w.text("consumerGroup", p.run.Group)
	w.text("topic", p.run.Topic)
	w.int("queueId", -1)
	w.int("maxMsgNums", int64(p.run.Batch))
	w.int("invisibleTime", p.run.Invisible.Milliseconds())
	w.int("pollTime", popPoll.Milliseconds())
	w.int("bornTime", time.Now().UnixMilli())
	w.int("initMode", 0)
	w.text("expType", "TAG")
	w.text("exp", "*")
	w.text("order", "false")
	frame, _ := w.end(opaque, nil)
	return frame
}
