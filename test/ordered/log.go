// Package ordered follows the members of an orderly consumer group. Each is a
// process of its own that prints a line as it begins with a message and one as it
// has ended, "B QUEUE OFFSET NANOSECONDS" and "E ..." (since 1970, by the clock of
// the machine). Check then says where two members had one queue, or where one was
// out of order. Safe for concurrent use.
package ordered

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// event is the handling of one message.
type event struct {
	member     string
	queue      int
	offset     int64
	begin, end time.Time // end is zero while it goes on
}

// Log is what the members of a group have handled.
type Log struct {
	mu     sync.Mutex
	events []*event        // guarded by mu; by begin, per member
	gaps   map[string]*gap // guarded by mu; by member
}

// gap is a time in which a member does nothing, and gives nothing back.
type gap struct{ from, to time.Time } // to is zero for good

// Member is the process of one member.
type Member struct {
	name string
	log  *Log
	cmd  *exec.Cmd
}

// Start starts a member, whose process ends with the test.
func (l *Log) Start(t testing.TB, name string, cmd *exec.Cmd) *Member {
	t.Helper()
	m := &Member{name: name, log: l, cmd: cmd}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		l.read(name, out)
	}()
	t.Cleanup(func() {
		// It may be dead already, and is killed in any case.
		_ = errors.Join(cmd.Process.Signal(syscall.SIGCONT), cmd.Process.Kill())
		<-read
		_ = cmd.Wait()
	})
	return m
}

// read takes in what a member prints, until it ends.
func (l *Log) read(member string, r io.Reader) {
	type place struct {
		queue  int
		offset int64
	}
	open := map[place]*event{}
	in := bufio.NewScanner(r)
	for in.Scan() {
		var what string
		var p place
		var at int64
		if _, err := fmt.Sscan(in.Text(), &what, &p.queue, &p.offset, &at); err != nil {
			continue // a line of the client's log
		}
		l.mu.Lock()
		if what == "B" {
			open[p] = &event{member: member, queue: p.queue, offset: p.offset, begin: time.Unix(0, at)}
			l.events = append(l.events, open[p])
		} else if e := open[p]; what == "E" && e != nil {
			e.end = time.Unix(0, at)
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range open { // it died over these
		if e.end.IsZero() {
			e.end = time.Now()
			if g := l.gaps[member]; g != nil && g.to.IsZero() {
				e.end = g.from
			}
		}
	}
}

func (l *Log) gap(member string, g *gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gaps == nil {
		l.gaps = map[string]*gap{}
	}
	l.gaps[member] = g
}

// Kill ends the member as kill -9 does and returns when.
func (m *Member) Kill(t testing.TB) time.Time {
	t.Helper()
	return m.stop(t, syscall.SIGKILL)
}

// Freeze makes the member stand still until Thaw and returns since when.
func (m *Member) Freeze(t testing.TB) time.Time {
	t.Helper()
	return m.stop(t, syscall.SIGSTOP)
}

func (m *Member) stop(t testing.TB, s syscall.Signal) time.Time {
	t.Helper()
	at := time.Now()
	m.log.gap(m.name, &gap{from: at})
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return at
}

// Thaw lets a member that stands still go on and returns since when.
func (m *Member) Thaw(t testing.TB) time.Time {
	t.Helper()
	at := time.Now()
	m.log.mu.Lock()
	m.log.gaps[m.name].to = at
	m.log.mu.Unlock()
	if err := m.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	return at
}

// QueuesOf returns of how many queues a member has handled messages since.
func (l *Log) QueuesOf(member string, since time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	queues := map[int]bool{}
	for _, e := range l.events {
		if e.member == member && e.begin.After(since) {
			queues[e.queue] = true
		}
	}
	return len(queues)
}

// Handled returns how many different messages have been handled to the end.
func (l *Log) Handled() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	done := map[[2]int64]bool{}
	for _, e := range l.events {
		if !e.end.IsZero() {
			done[[2]int64{int64(e.queue), e.offset}] = true
		}
	}
	return len(done)
}
