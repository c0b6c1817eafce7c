//go:build !windows

package remoting

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"github.com/cloudwego/netpoll"
)

// workers runs netpoll's handlers on goroutines that stay: a new goroutine for
// each read would grow its stack anew each time. The last one to rest is the
// first to go on, so that few of them are warm. Netpoll has one runner in a
// process, so the servers of a process share them; with the last server they
// end.
type workers struct {
	once   sync.Once // gives them to netpoll
	failed error     // what came of that; written in once alone

	mu      sync.Mutex // guards what follows
	servers int
	resting []chan func() // each with one worker behind it
}

var netpollWorkers workers

// maxResting bounds the workers that are kept for later.
const maxResting = 64

// join is called for each server before its first connection, leave after its
// last one, also if join fails.
func (p *workers) join() error {
	p.once.Do(func() {
		p.failed = netpoll.Configure(netpoll.Config{
			Runner:      func(_ context.Context, f func()) { p.run(f) },
			LoadBalance: -1, // leave it as it is
		})
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers++
	return p.failed
}

func (p *workers) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.servers--; p.servers == 0 {
		for _, w := range p.resting {
			close(w)
		}
		clear(p.resting)
		p.resting = p.resting[:0]
	}
}

// run starts f without waiting for it.
func (p *workers) run(f func()) {
	p.mu.Lock()
	if n := len(p.resting); n > 0 {
		w := p.resting[n-1]
		p.resting = p.resting[:n-1]
		p.mu.Unlock()
		w <- f
		return
	}
	p.mu.Unlock()
	go p.work(f)
}

func (p *workers) work(f func()) {
	next := make(chan func(), 1) // whoever hands over work does not wait
	for {
		survive(f)
		if !p.rest(next) {
			return
		}
		var more bool
		if f, more = <-next; !more {
			return
		}
	}
}

// survive runs f. A panic in it is a bug of the transport, those of handlers
// are caught before: it is written where netpoll would write it, and costs one
// connection, not the process.
func survive(f func()) {
	defer func() {
		if v := recover(); v != nil {
			fmt.Fprintf(os.Stderr, "remoting: panic in the transport: %v\n%s", v, debug.Stack())
		}
	}()
	f()
}

// rest offers the worker behind next for more work, or says that it is not
// needed.
func (p *workers) rest(next chan func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.servers == 0 || len(p.resting) >= maxResting {
		return false
	}
	p.resting = append(p.resting, next)
	return true
}
