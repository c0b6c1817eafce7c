package store

import (
	"sync"
	"sync/atomic"

	"github.com/merlinmq/merlin/message"
)

// dispatch is what the views must know of a record that is in the log.
type dispatch struct {
	queue     *queue // nil: the record gets no entry
	offset    message.Offset
	position  message.Position
	size      int32
	keyCount  int32
	keys      [4]int32 // hashes of the index keys
	moreKeys  []int32  // those that found no room
	tagCode   int64
	storeTime int64
}

func (d *dispatch) end() message.Position { return d.position + message.Position(d.size) }

func (d *dispatch) addKey(hash int32) {
	if int(d.keyCount) < len(d.keys) {
		d.keys[d.keyCount] = hash
		d.keyCount++
		return
	}
	d.moreKeys = append(d.moreKeys, hash)
}

// pending is the way from appends to the dispatcher: bounded, in log order.
type pending struct {
	limit int

	mu       sync.Mutex // guards what follows
	room     sync.Cond  // reserved fell, or refuse or pause was set
	news     sync.Cond  // items, closed, or appending came to 0
	items    []dispatch
	ask      bool  // for an fsync of what the items are: nobody else does
	reserved int   // messages that have room: promised, waiting, or being dispatched
	appends  int   // between reserve and push or release
	waiting  int   // appends that wait for room
	refuse   error // why no append is taken any more
	pause    error // why none is taken for now
	closed   bool

	blocked atomic.Pointer[error] // refuse, or else pause
}

func newPending(limit int) *pending {
	p := &pending{limit: limit}
	p.room.L, p.news.L = &p.mu, &p.mu
	return p
}

// reserve waits until there is room for n messages. One append may go above
// the limit when it is alone.
func (p *pending) reserve(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.refuse == nil && p.pause == nil && p.reserved > 0 && p.reserved+n > p.limit {
		p.waiting++
		p.room.Wait()
		p.waiting--
	}
	if p.refuse != nil {
		return p.refuse
	}
	if p.pause != nil {
		return p.pause
	}
	p.reserved += n
	p.appends++
	return nil
}

// push hands over what reserve made room for. It is called under the append
// lock, so that the order is the log's. Awaited items are not told of: somebody
// sees to their fsync, after which flushed does.
func (p *pending) push(items []dispatch, awaited bool) {
	p.mu.Lock()
	p.items = append(p.items, items...)
	p.ask = p.ask || !awaited
	p.mu.Unlock()
	if !awaited {
		p.news.Signal()
	}
}

// flushed tells of what was pushed without telling.
func (p *pending) flushed() { p.news.Signal() }

// appended ends what reserve began; stored is false when nothing was pushed.
func (p *pending) appended(n int, stored bool) {
	p.mu.Lock()
	p.appends--
	if !stored {
		p.giveBackLocked(n)
	}
	last := p.refuse != nil && p.appends == 0
	p.mu.Unlock()
	if last {
		p.news.Broadcast()
	}
}

func (p *pending) giveBackLocked(n int) {
	p.reserved -= n
	if p.waiting > 0 {
		p.room.Broadcast()
	}
}

// take waits for items and returns them all, and whether an fsync of them is to
// be asked for; spare becomes the next buffer. It returns nil when there will be
// no more.
func (p *pending) take(spare []dispatch) (items []dispatch, ask bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.items) == 0 && !p.closed {
		p.news.Wait()
	}
	items, ask = p.items, p.ask
	p.items, p.ask = spare[:0], false
	if len(items) == 0 {
		return nil, false
	}
	return items, ask
}

// done gives the room of n dispatched messages back.
func (p *pending) done(n int) {
	p.mu.Lock()
	p.giveBackLocked(n)
	p.mu.Unlock()
}

// stop refuses appends from now on; the first reason stays.
func (p *pending) stop(err error) {
	p.mu.Lock()
	if p.refuse == nil {
		p.refuse = err
	}
	p.tellLocked()
	p.mu.Unlock()
	p.room.Broadcast()
}

// hold refuses appends with err until it is called with nil.
func (p *pending) hold(err error) {
	p.mu.Lock()
	p.pause = err
	p.tellLocked()
	p.mu.Unlock()
	p.room.Broadcast()
}

// tellLocked keeps blocked true to refuse and pause.
func (p *pending) tellLocked() {
	switch {
	case p.refuse != nil:
		p.blocked.Store(&p.refuse) // it does not change any more
	case p.pause != nil:
		err := p.pause
		p.blocked.Store(&err)
	default:
		p.blocked.Store(nil)
	}
}

// refused returns why no append is taken now, or nil. It takes no lock.
func (p *pending) refused() error {
	if err := p.blocked.Load(); err != nil {
		return *err
	}
	return nil
}

// drain waits until no append is under way; stop must have been called.
func (p *pending) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.appends > 0 {
		p.news.Wait()
	}
}

// close lets take end once it has given everything out.
func (p *pending) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.news.Broadcast()
}

// held returns how many messages have room.
func (p *pending) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reserved
}
