package remoting

import (
	"fmt"
	"sort"
	"time"
)

const (
	watchBusy = 5 * time.Millisecond // while something is served or sent
	watchIdle = time.Second
	stayAwake = 200 // looks without anything going on until it goes to sleep
)

// now is the server's clock read freshly: milliseconds since its start, from 1.
func (s *Server) now() int64 { return int64(time.Since(s.start)/time.Millisecond) + 1 }

// enter and leave stand around the feeding and draining of a connection, so
// that the watchdog knows when there is something to watch.
func (s *Server) enter() {
	if s.active.Add(1) == 1 && s.asleep.Load() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *Server) leave() { s.active.Add(-1) }

// watchdog bounds what a connection can pile up while its own goroutine is busy
// or waits for the peer, and ends the idle ones. netpoll goes on reading
// whatever the handler does, so somebody else has to look.
func (s *Server) watchdog() {
	defer s.watch.Done()
	s.mu.Lock()
	stop := s.stop
	s.mu.Unlock()
	if stop == nil {
		return
	}
	timer := time.NewTimer(watchIdle)
	defer timer.Stop()
	quiet, lastIdle := 0, int64(0)
	for {
		select {
		case <-stop:
			return
		case <-s.wake:
		case <-timer.C:
		}
		now := s.now()
		s.clock.Store(now)
		if s.active.Load() > 0 || s.braked.Load() > 0 {
			quiet = 0
			s.lookAtBusy(now)
		} else {
			quiet++
		}
		if now-lastIdle >= s.idleEvery() {
			lastIdle = now
			s.endIdle(now)
		}
		if quiet > stayAwake {
			s.asleep.Store(true)
			timer.Reset(min(watchIdle, time.Duration(s.idleEvery())*time.Millisecond))
		} else {
			s.asleep.Store(false)
			timer.Reset(watchBusy)
		}
	}
}

func (s *Server) idleEvery() int64 {
	if s.o.IdleTimeout < 0 {
		return int64(watchIdle / time.Millisecond)
	}
	return min(int64(watchIdle/time.Millisecond), max(1, int64(s.o.IdleTimeout/time.Millisecond)/4))
}

// lookAtBusy compares what the connections at work hold with the bounds.
func (s *Server) lookAtBusy(now int64) {
	writeLimit := int64(s.o.WriteTimeout / time.Millisecond)
	total := s.o.TotalInputHard
	outputOver := s.counters.output.Load() > s.o.TotalOutput
	var stuck []*Conn
	s.mu.Lock()
	for _, c := range s.conns {
		since := c.writing.Load()
		if since > 0 && now-since > writeLimit {
			c.kill(CauseStalled, fmt.Errorf("remoting: the peer did not take what was written to it within %s", s.o.WriteTimeout))
			continue
		}
		if since > 0 && outputOver && now-since > 100 {
			stuck = append(stuck, c)
		}
		feeding := c.feeding.Load()
		if !feeding && !c.braked.Load() {
			continue
		}
		n := c.sock.pending()
		s.steer(c, n)
		if !feeding {
			continue
		}
		if n > s.o.InputHard {
			c.kill(CauseInput, fmt.Errorf("remoting: %d bytes wait while the connection is being served, above the bound of %d", n, s.o.InputHard))
			continue
		}
		c.setHeld(n)
		if s.counters.input.Load() > total && int64(n) > s.share(total) {
			c.kill(CauseInput, fmt.Errorf("remoting: the bytes that wait on all connections are above the bound of %d, and %d of them wait on this one", total, n))
		}
	}
	s.mu.Unlock()
	s.relieve(stuck)
}

// steer keeps a peer from sending past the soft bounds, until a quarter is left
// of what waits.
func (s *Server) steer(c *Conn, n int) {
	over := s.counters.input.Load() > s.o.TotalInputSoft && int64(n) > s.share(s.o.TotalInputSoft)
	switch braked := c.braked.Load(); {
	case !braked && s.brakes() && (n > s.o.InputSoft || over) && c.sock.brake(true):
		c.braked.Store(true)
		s.braked.Add(1)
		s.counters.braked.Add(1)
	case braked && !over && n <= s.o.InputSoft/4:
		c.sock.brake(false)
		c.braked.Store(false)
		s.braked.Add(-1)
	}
}

// relieve ends the connections that hold most of the output that nobody takes,
// until the total is within its bound.
func (s *Server) relieve(stuck []*Conn) {
	sort.Slice(stuck, func(i, j int) bool { return stuck[i].unsent.Load() > stuck[j].unsent.Load() })
	over := s.counters.output.Load() - s.o.TotalOutput
	for _, c := range stuck {
		if over <= 0 {
			return
		}
		over -= c.unsent.Load()
		c.kill(CauseOutput, ErrOutputFull)
	}
}

func (s *Server) endIdle(now int64) {
	if s.o.IdleTimeout < 0 {
		return
	}
	limit := int64(s.o.IdleTimeout / time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if !c.feeding.Load() && c.writing.Load() == 0 && now-c.last.Load() > limit {
			c.kill(CauseIdle, nil)
		}
	}
}
