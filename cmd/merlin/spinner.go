package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// spinner is a line on a terminal that tells that a command is still at work.
// It appears when the command has worked in silence for barAfter, and gives way
// for good to whatever the command writes by itself, a bar too.
type spinner struct {
	terminal io.Writer
	what     string
	quit     chan struct{}
	ended    chan struct{}

	mu    sync.Mutex // guards what follows, and writes to the terminal
	shown int        // bytes of the line that stands there
	over  bool
}

// spin shows a spinner on standard error, if that is a terminal, until the
// function that it returns is called.
func (a *app) spin(what string) (stop func()) {
	if !a.errTerminal {
		return func() {}
	}
	s := &spinner{terminal: a.err, what: what, quit: make(chan struct{}), ended: make(chan struct{})}
	go s.run()
	out, err := a.out, a.err
	a.err = shy{s, err}
	if a.outTerminal {
		a.out = shy{s, out}
	}
	return func() {
		s.hide()
		close(s.quit)
		<-s.ended
		a.out, a.err = out, err
	}
}

func (s *spinner) run() {
	defer close(s.ended)
	start := time.Now()
	first := time.NewTimer(barAfter)
	defer first.Stop()
	select {
	case <-s.quit:
		return
	case <-first.C:
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for turn := 0; s.draw(turn, time.Since(start)); turn++ {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
	}
}

// draw writes the line over the one before. It returns false when none is to
// come any more.
func (s *spinner) draw(turn int, spent time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	line := fmt.Sprintf("%c %s, %d s", `|/-\`[turn%4], s.what, int(spent.Seconds()))
	_, err := fmt.Fprintf(s.terminal, "\r%s", line)
	s.shown = len(line)
	return err == nil // a line that cannot be drawn stops nothing
}

// hide takes the line away for good.
func (s *spinner) hide() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over && s.shown > 0 {
		_, _ = fmt.Fprintf(s.terminal, "\r%*s\r", s.shown, "") // as in draw
	}
	s.over = true
}

// shy writes where a spinner may stand.
type shy struct {
	*spinner
	to io.Writer
}

func (w shy) Write(p []byte) (int, error) {
	w.hide()
	return w.to.Write(p)
}
