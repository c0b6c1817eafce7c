package remoting

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

var writers = sync.Pool{New: func() any { return new(Writer) }}

// Reply begins the answer to a request of the running Serve.
func (c *Conn) Reply(r *Request, code int) *Writer {
	w := &c.writer
	r.settled = true
	w.begin(c, r.Ticket(), code)
	return w
}

// Later begins the answer to a request whose Serve has returned, from any
// goroutine. End appends it to the connection's queue and never waits for the
// socket.
func (c *Conn) Later(t Ticket, code int) *Writer {
	w := writers.Get().(*Writer)
	w.begin(c, t, code)
	w.late = true
	return w
}

func (w *Writer) begin(c *Conn, t Ticket, code int) {
	w.c, w.drop, w.late = c, t.OneWay || c.deafOrEnded(), false
	w.frame, w.body, w.copied = 0, 0, nil
	w.head.reset(t.Encoding, code, t.Opaque, flagResponse)
}

func (w *Writer) buffer() *[]byte {
	if w.late {
		return &w.fixed
	}
	return &w.c.out
}

const firstGuess = 192

func (c *Conn) headerGuess(encoding byte) int {
	if n := c.guess[encoding&1].Load(); n > 0 {
		return int(n)
	}
	return firstGuess
}

// assemble appends the frame to the output, or puts the header in front of the
// body that is there.
func (w *Writer) assemble() bool {
	out := w.buffer()
	limit := w.c.server.o.MaxFrame
	if w.body == 0 {
		start := len(*out)
		if need := preamble + binaryFixed + 128 + len(w.head.ext) + len(w.head.remark) + len(w.copied); cap(*out)-start < need {
			*out = grow(*out, need)[:start]
		}
		b, ok := w.head.appendFrame(*out, w.copied)
		if ok && len(b)-start > limit {
			b, ok = b[:start], false
		}
		*out = b
		return ok
	}
	return w.prepend(out, limit)
}

func (w *Writer) prepend(out *[]byte, limit int) bool {
	b := *out
	head := w.head.append(getBuf(preamble + 256)[:preamble])
	size := len(head) - preamble
	bodyLen := len(b) - w.body
	ok := !w.head.bad && size <= maxHeader && len(head)+bodyLen <= limit
	if ok {
		if at := w.frame + len(head); at != w.body {
			if at > w.body {
				b = grow(b, at-w.body)
			}
			copy(b[at:], b[w.body:w.body+bodyLen])
			b = b[:at+bodyLen]
		}
		copy(b[w.frame:], head)
		w.head.putLengths(b[w.frame:], size)
		w.c.guess[w.head.encoding&1].Store(int32(len(head)))
		w.c.bodyGuess.Store(int32(bodyLen))
		*out = b
	} else {
		*out = b[:w.frame]
	}
	putBuf(head)
	return ok
}

// refuse replaces an answer that no frame can carry by one that says so.
func (w *Writer) refuse() {
	w.head.reset(w.head.encoding, RespSystemError, w.head.opaque, w.head.flag)
	w.head.remark = "the answer is larger than a frame may be; ask for less at a time"
	w.body, w.copied = 0, nil
	w.assemble()
}

func (w *Writer) endNow() error {
	c := w.c
	if w.drop {
		c.out = c.out[:c.whole]
		return nil
	}
	var err error
	if !w.assemble() {
		w.refuse()
		err = ErrTooLarge
	}
	w.copied = nil
	c.whole = len(c.out)
	c.server.counters.framesOut.Add(1)
	if len(c.out) >= c.server.o.OutputHigh {
		if ferr := c.flush(); ferr != nil {
			return ferr
		}
	}
	return err
}

// Flush sends what Reply has written so far: for a Serve that has more to do
// when its answers are there. Only the running Serve may call it; as with End, it
// may wait for a slow reader.
func (c *Conn) Flush() error { return c.flush() }

// flush sends the output of the running Serve.
func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	n := int64(len(c.out))
	c.addUnsent(n)
	err := c.write(c.out)
	c.addUnsent(-n)
	if err == nil { // else the transport may still refer to it
		putBuf(c.out)
	}
	c.out, c.whole = nil, 0
	return err
}

// maxLeftover bounds what is served of a peer that has left: enough for
// thousands of commits, little of a flood.
const maxLeftover = 1 << 20

// write gives b to the socket, and ends the connection where that fails. Where
// it fails because the peer has left, the connection goes on without answers:
// what the peer sent before, such as commits that want none, lies in buffers
// that are bounded and gets no more, and the transport ends it at their end.
func (c *Conn) write(b []byte) error {
	s := c.server
	c.writeMu.Lock()
	err := ErrClosed
	if !c.gone && !c.deafOrEnded() {
		c.writing.Store(s.now())
		err = c.sock.write(b)
		c.writing.Store(0)
	}
	c.writeMu.Unlock()
	if err != nil {
		if cause, err := socketCause(err); cause == CausePeer {
			c.deaf.Store(true)
		} else {
			c.kill(cause, err)
		}
		return ErrClosed
	}
	s.counters.bytesOut.Add(int64(len(b)))
	c.last.Store(s.clock.Load())
	return nil
}

// addUnsent counts what is written to the connection and not in the kernel yet.
func (c *Conn) addUnsent(n int64) {
	c.unsent.Add(n)
	c.server.counters.output.Add(n)
}

// socketCause tells a peer that left from a socket that failed.
func socketCause(err error) (Cause, error) {
	switch {
	case err == ErrClosed, errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return CausePeer, nil
	}
	return CauseError, err
}

func (w *Writer) endLate() error {
	c, drop := w.c, w.drop
	var err error
	if !drop {
		if !w.assemble() {
			w.refuse()
			err = ErrTooLarge
		}
		c.server.counters.framesOut.Add(1)
		if e := c.enqueue(w.fixed); e != nil {
			err = e
		}
	}
	const keep = 64 << 10
	if cap(w.fixed) > keep {
		putBuf(w.fixed)
		w.fixed = nil
	}
	w.fixed = w.fixed[:0]
	w.c, w.copied = nil, nil
	writers.Put(w)
	return err
}

// enqueue appends a frame to the queue and sees to it that somebody sends it.
func (c *Conn) enqueue(frame []byte) error {
	s := c.server
	n := int64(len(frame))
	c.mu.Lock()
	if c.closed || c.deafOrEnded() {
		c.mu.Unlock()
		return ErrClosed
	}
	size := c.unsent.Load() + n
	if size > int64(s.o.OutputHard) && size > n ||
		s.counters.output.Load() > s.o.TotalOutput && size > s.share(s.o.TotalOutput) {
		c.mu.Unlock()
		c.kill(CauseOutput, ErrOutputFull)
		return ErrOutputFull
	}
	old := len(c.queue)
	c.queue = grow(c.queue, len(frame))
	copy(c.queue[old:], frame)
	c.addUnsent(n)
	start := !c.draining
	if start {
		c.draining = true
		s.work.Add(1)
	}
	c.mu.Unlock()
	if start {
		go c.drain()
	}
	return nil
}

// drain sends the queue until it is empty. It is the one goroutine that does,
// and lives only as long as there is something.
func (c *Conn) drain() {
	s := c.server
	defer s.work.Done()
	s.enter()
	defer s.leave()
	for {
		c.mu.Lock()
		b := c.queue
		c.queue = nil
		if len(b) == 0 {
			c.draining = false
			c.mu.Unlock()
			break
		}
		c.mu.Unlock()
		// An error ends the connection, which ends this loop.
		if c.write(b) == nil {
			putBuf(b)
		}
		c.addUnsent(-int64(len(b)))
		c.mu.Lock()
		c.drained.Broadcast()
		c.mu.Unlock()
	}
	if c.closing.Load() && !c.feeding.Load() {
		c.kill(Cause(c.closeCause.Load()), nil)
	}
}
