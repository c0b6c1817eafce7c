package remoting

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// batch is what decoding one read needs; it is lent to a connection for as long
// as it is fed.
type batch struct {
	Decoder
	frames []Request
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// maxKept is how many fields, and how many frames, a batch may have room for and
// be kept for another read.
const maxKept = 16 << 10

// release gives the batch back. One that a rare read made large is left to the
// garbage collector.
func (w *batch) release() {
	if cap(w.fields) <= maxKept && cap(w.frames) <= maxKept {
		batches.Put(w)
	}
}

// maxServed is how many requests one Serve gets at most.
const maxServed = 256

// feed takes what one read brought: it serves all whole frames, keeps the
// beginning of an unfinished one, and sends the answers. It returns false when
// the connection has to end. b may be changed and is free afterwards.
func (c *Conn) feed(b []byte) bool {
	s := c.server
	if c.deaf.Load() {
		if c.leftover += len(b); c.leftover > maxLeftover {
			c.kill(CausePeer, nil)
			return false
		}
	}
	s.enter()
	c.feeding.Store(true)
	s.counters.bytesIn.Add(int64(len(b)))
	c.last.Store(s.clock.Load())
	ok := s.quiet.Load() || c.waitForReader() && c.take(b)
	c.flush()
	_, within := c.overload() // what was kept of the last frame counts too
	c.fed()
	s.leave()
	if c.closing.Load() {
		c.mu.Lock()
		draining := c.draining
		c.mu.Unlock()
		if !draining { // else drain ends the connection
			c.kill(Cause(c.closeCause.Load()), nil)
		}
	}
	return ok && within && c.cause.Load() == 0
}

// backlog is what the connection has received and nobody has served.
func (c *Conn) backlog() int { return c.sock.pending() + cap(c.partial) }

func (c *Conn) setHeld(n int) {
	if old := c.held.Swap(int64(n)); old != int64(n) {
		c.server.counters.input.Add(int64(n) - old)
	}
}

// waitForReader waits while the peer reads its answers too slowly. The next
// requests wait with it, and the watchdog bounds what they take.
func (c *Conn) waitForReader() bool {
	c.mu.Lock()
	for c.unsent.Load() > int64(c.server.o.OutputHigh) && !c.closed && c.cause.Load() == 0 {
		c.drained.Wait()
	}
	ok := !c.closed
	c.mu.Unlock()
	return ok
}

func (c *Conn) take(b []byte) bool {
	if n := min(c.skip, len(b)); n > 0 {
		c.skip -= n
		b = b[n:]
	}
	reason, ok := c.overload()
	if !ok {
		return false
	}
	w := batches.Get().(*batch)
	w.frames = w.frames[:0]
	w.Reset()
	defer w.release()

	fromPartial := false
	if len(c.partial) > 0 {
		n, whole, err := c.complete(b)
		if err != nil {
			return c.broken(err)
		}
		b = b[n:]
		if !whole {
			return true
		}
		if err := c.decode(w, c.partial[4:]); err != nil {
			return c.broken(err)
		}
		fromPartial = true
	}
	b, err := c.split(w, b)
	c.dispatch(w, reason)
	if fromPartial {
		c.dropPartial()
	}
	if err != nil {
		return c.broken(err)
	}
	if len(b) > 0 {
		c.keep(w, b, reason)
	}
	return true
}

// split decodes all whole frames that b begins with and returns the rest. It is
// an error when that can be no frame's beginning.
func (c *Conn) split(w *batch, b []byte) ([]byte, error) {
	for len(b) >= 4 {
		n, err := frameLength(b, c.server.o.MaxFrame)
		if err != nil {
			return nil, err
		}
		if len(b)-4 < n {
			break
		}
		if err := c.decode(w, b[4:4+n]); err != nil {
			return nil, err
		}
		b = b[4+n:]
	}
	return b, nil
}

// decode adds a frame to the batch. A header that cannot be read is answered
// here and costs the peer only this frame; an error is a *FramingError.
func (c *Conn) decode(w *batch, frame []byte) error {
	s := c.server
	w.frames = append(w.frames, Request{})
	r := &w.frames[len(w.frames)-1]
	err := w.Decode(frame, r)
	if err == nil {
		return nil
	}
	encoding := r.Encoding
	w.frames = w.frames[:len(w.frames)-1]
	bad, ok := err.(*HeaderError)
	if !ok {
		return err
	}
	s.counters.badFrames.Add(1)
	if bad.HasOpaque && !bad.IsResponse {
		c.Answer(&Request{Opaque: bad.Opaque, Encoding: encoding}, Response{Code: RespSystemError, Remark: bad.Error()})
	} else {
		s.counters.unanswered.Add(1)
	}
	if s.o.Events.BadFrame != nil {
		s.o.Events.BadFrame(c.remote, err)
	}
	return nil
}

// broken ends a connection whose frames can no longer be told apart.
func (c *Conn) broken(err error) bool {
	c.flush()
	c.kill(CauseFraming, err)
	return false
}

// complete goes on with the partial frame and says how much of b it took and
// whether the frame is whole.
func (c *Conn) complete(b []byte) (taken int, whole bool, err error) {
	if len(c.partial) < 4 {
		taken = min(4-len(c.partial), len(b))
		c.partial = append(c.partial, b[:taken]...)
		if len(c.partial) < 4 {
			return taken, false, nil
		}
	}
	n, err := frameLength(c.partial, c.server.o.MaxFrame)
	if err != nil {
		return taken, false, err
	}
	rest := min(4+n-len(c.partial), len(b)-taken)
	c.reserve(len(c.partial)+rest, 4+n)
	c.partial = append(c.partial, b[taken:taken+rest]...)
	return taken + rest, len(c.partial) == 4+n, nil
}

// reserve makes room for have bytes of a frame that will have whole. It runs
// ahead of what has come by a factor only: what a length promises costs the
// sender nothing, so it must not cost us.
func (c *Conn) reserve(have, whole int) {
	if cap(c.partial) >= have {
		return
	}
	bigger := getBuf(max(have, min(whole, 2*have)))
	bigger = append(bigger, c.partial...)
	c.dropPartial()
	c.partial = bigger
}

func (c *Conn) dropPartial() {
	if c.partial != nil {
		putBuf(c.partial)
		c.partial = nil
	}
}

// keep stores the beginning of a frame. While requests are rejected anyway and
// the header is there, the frame is rejected at once and its body never kept.
func (c *Conn) keep(w *batch, b []byte, reason string) {
	if reason != "" && len(b) >= preamble {
		n, err := frameLength(b, c.server.o.MaxFrame)
		size := int(binary.BigEndian.Uint32(b[4:]) & maxHeader)
		if err == nil && len(b) >= preamble+size && size <= n-4 {
			w.frames = w.frames[:0]
			if c.decode(w, b[4:preamble+size]) == nil {
				c.skip = 4 + n - len(b)
				c.dispatch(w, reason)
				return
			}
		}
	}
	whole := len(b)
	if len(b) >= 4 {
		whole = 4 + int(binary.BigEndian.Uint32(b))
	}
	c.reserve(len(b), whole)
	c.partial = append(c.partial, b...)
}

// overload compares what is buffered with the bounds. A reason means that
// requests are to be rejected for now, ok false that the connection was ended.
func (c *Conn) overload() (reason string, ok bool) {
	s := c.server
	n := c.backlog()
	c.setHeld(n)
	total := s.counters.input.Load()
	busy, totalBusy := s.busyBounds()
	greedy := total > totalBusy && int64(n) > s.share(totalBusy)
	switch {
	case n > s.o.InputHard:
		c.kill(CauseInput, fmt.Errorf("remoting: %d bytes wait on this connection, above the bound of %d", n, s.o.InputHard))
		return "", false
	case greedy && total > s.o.TotalInputHard:
		c.kill(CauseInput, fmt.Errorf("remoting: %d bytes wait on all connections, above the bound of %d, and %d of them on this one", total, s.o.TotalInputHard, n))
		return "", false
	case n > busy:
		reason = fmt.Sprintf("[OVERLOAD] %d bytes of this connection wait to be served, above the bound of %d; send fewer at a time and try again", n, busy)
	case greedy:
		reason = fmt.Sprintf("[OVERLOAD] %d bytes of all connections wait to be served, above the bound of %d; try again in a moment", total, totalBusy)
	}
	if reason != "" && !c.busy && s.o.Events.Busy != nil {
		s.o.Events.Busy(c.remote, reason)
	}
	c.busy = reason != ""
	return reason, true
}

// busyBounds are the bounds past which requests are rejected. Where a peer can
// be kept from sending it hardly comes to that.
func (s *Server) busyBounds() (conn int, total int64) {
	if !s.brakes() {
		return s.o.InputSoft, s.o.TotalInputSoft
	}
	return (s.o.InputSoft + s.o.InputHard) / 2, (s.o.TotalInputSoft + s.o.TotalInputHard) / 2
}

func (s *Server) brakes() bool {
	return canBrake && !s.o.noBrake && s.o.Transport == TransportNetpoll
}

// dispatch routes the answers in the batch to those who wait for them and
// serves the requests, or rejects them where there is a reason to.
func (c *Conn) dispatch(w *batch, reason string) {
	frames := w.frames
	c.server.counters.framesIn.Add(int64(len(frames)))
	k := 0
	for i := range frames {
		if frames[i].IsResponse() {
			c.route(&frames[i])
			continue
		}
		if k != i {
			frames[k] = frames[i]
		}
		k++
	}
	frames = frames[:k]
	if reason == "" {
		// In parts, so that a connection that has ended meanwhile is not served
		// for long.
		for len(frames) > 0 && c.cause.Load() == 0 {
			n := min(len(frames), maxServed)
			c.serve(frames[:n])
			frames = frames[n:]
		}
		return
	}
	c.server.counters.busy.Add(int64(k))
	for i := range frames {
		c.Answer(&frames[i], Response{Code: RespSystemBusy, Remark: reason})
	}
}

// serve calls the handler. After a panic the first request without an answer is
// taken for its cause, and the ones behind it get another call.
func (c *Conn) serve(frames []Request) {
	for len(frames) > 0 {
		p := c.server.guard(c, func() { c.server.handler.Serve(c, frames) })
		if p == nil {
			return
		}
		c.out = c.out[:c.whole]
		i := 0
		for i < len(frames) && frames[i].settled {
			i++
		}
		if i == len(frames) {
			return
		}
		c.Answer(&frames[i], Response{Code: RespSystemError, Remark: fmt.Sprintf("the server failed at this %s: %v; its log says where", CodeName(frames[i].Code), p)})
		frames = frames[i+1:]
	}
}
