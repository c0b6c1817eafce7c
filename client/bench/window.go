package bench

import (
	"context"
	"os"
	"sync/atomic"
	"time"
)

// Process is what a process took over the measured window.
type Process struct {
	PID          int     `json:"pid"`
	CPUSeconds   float64 `json:"cpu_seconds"`
	CPUPerMsg    float64 `json:"cpu_us_per_message"`
	RssAnon      int64   `json:"rss_anon_bytes"`      // at the window's end
	RssAnonPeak  int64   `json:"rss_anon_peak_bytes"` // highest of the samples, five a second
	RssAnonStart int64   `json:"rss_anon_start_bytes"`
}

// Window is what was measured, warm-up left out.
type Window struct {
	Messages  int64    `json:"messages"`
	Seconds   float64  `json:"seconds"`
	PerSecond float64  `json:"messages_per_second"`
	MBPerSec  float64  `json:"mb_per_second"` // bodies sent, whole records read
	Server    *Process `json:"server,omitempty"`
	Load      *Process `json:"load,omitempty"` // the generator itself
}

// Progress is told to Options.Progress a few times a second.
type Progress struct {
	Phase string        // "warm up", "measure", "finish", "wait", "read back"
	Done  int64         // messages so far in this phase
	Total int64         // messages of this phase, 0 if unknown or timed
	Spent time.Duration // in this phase
	Of    time.Duration // how long a timed phase is, 0 of others
}

// counters is what a connection's goroutine publishes, once per read.
type counters struct {
	answered atomic.Int64 // messages
	_        [56]byte     // keeps neighbours off the cache line
}

// clock measures time since the start of a run.
type clock struct{ start time.Time }

func (c clock) now() int64 { return int64(time.Since(c.start)) }

// meter takes both readings of a window.
type meter struct {
	pid      int
	clock    clock
	counts   []*counters
	progress func(Progress)

	begun        int64
	beginCount   int64
	server, self usage
	peak         int64
}

func (m *meter) total() int64 {
	var n int64
	for _, c := range m.counts {
		n += c.answered.Load()
	}
	return n
}

// begin takes the first reading.
func (m *meter) begin() error {
	var err error
	if m.pid != 0 {
		if m.server, err = processUsage(m.pid); err != nil {
			return err
		}
		m.peak = m.server.rssAnon
	}
	// Without /proc the load's own share is left out of the result.
	m.self, _ = processUsage(os.Getpid())
	m.begun, m.beginCount = m.clock.now(), m.total()
	return nil
}

// end takes the second reading. bodySize is a message's body in bytes.
func (m *meter) end(bodySize int) (Window, error) {
	now, count := m.clock.now(), m.total()
	w := Window{Messages: count - m.beginCount, Seconds: float64(now-m.begun) / 1e9}
	if w.Seconds > 0 {
		w.PerSecond = float64(w.Messages) / w.Seconds
		w.MBPerSec = w.PerSecond * float64(bodySize) / 1e6
	}
	if m.pid != 0 {
		u, err := processUsage(m.pid)
		if err != nil {
			return w, err
		}
		w.Server = processOver(m.pid, m.server, u, w.Messages)
		w.Server.RssAnonPeak = max(m.peak, u.rssAnon)
	}
	if u, err := processUsage(os.Getpid()); err == nil {
		w.Load = processOver(os.Getpid(), m.self, u, w.Messages)
		w.Load.RssAnonPeak = u.rssAnon
	}
	return w, nil
}

func processOver(pid int, from, to usage, messages int64) *Process {
	p := &Process{PID: pid, CPUSeconds: (to.cpu - from.cpu).Seconds(), RssAnon: to.rssAnon, RssAnonStart: from.rssAnon}
	if messages > 0 {
		p.CPUPerMsg = p.CPUSeconds * 1e6 / float64(messages)
	}
	return p
}

// waitUntil sleeps to a moment of the clock, samples memory and tells progress
// on the way. It returns early when done closes or ctx ends. at 0 means: until
// done, which is expected at total messages.
func (m *meter) waitUntil(ctx context.Context, done <-chan struct{}, phase string, at, total int64) {
	from, count := m.clock.now(), m.total()
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	end := make(<-chan time.Time)
	if at > 0 {
		t := time.NewTimer(time.Duration(at - from))
		defer t.Stop()
		end = t.C
	}
	for {
		select {
		case <-end:
			return
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-every.C:
			if m.pid != 0 {
				if u, err := processUsage(m.pid); err == nil {
					m.peak = max(m.peak, u.rssAnon)
				}
			}
			if m.progress != nil {
				p := Progress{Phase: phase, Done: m.total() - count, Total: total, Spent: time.Duration(m.clock.now() - from)}
				if at > 0 {
					p.Of = time.Duration(at - from)
				}
				m.progress(p)
			}
		}
	}
}
