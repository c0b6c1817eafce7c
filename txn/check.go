package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/merlinmq/merlin/message"
)

const (
	tickEvery = 100 * time.Millisecond
	saveEvery = 500 * time.Millisecond
	// linger is how old a half is when it is first looked at: most are ended by then.
	linger = time.Second
	// adoptChunk is how many halves are passed under one lock.
	adoptChunk = 1024
	// asksPerTick and stepsPerTick bound the work of a tick.
	asksPerTick  = 500
	stepsPerTick = 20_000
	// windowMax is how many checks a client may owe an answer, for windowLife:
	// clients drop what they cannot queue.
	windowMax  = 1000
	windowLife = 5 * time.Second
	// retryWithout is when a group without a producer is looked at again.
	retryWithout = 5 * time.Second
	warnEvery    = time.Minute
)

// ErrClosed is returned after Close.
var ErrClosed = errors.New("txn: closed")

// window counts the checks that a connection has not answered.
type window struct {
	open int
	last time.Time
}

type dueItem struct {
	at  int64 // ms
	off message.Offset
}

func (a dueItem) before(b dueItem) bool { return a.at < b.at }

// run checks and writes behind until the context ends.
func (c *Coordinator) run(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.tick(c.now())
		}
	}
}

// tick does what is due.
func (c *Coordinator) tick(now time.Time) {
	c.working.Lock()
	defer c.working.Unlock()
	c.adopt(now)
	c.checkDue(now)
	if now.Sub(c.flushed) >= saveEvery || now.Before(c.flushed) {
		c.flushed = now
		if err := c.save(false); err != nil {
			c.failed("saving which transactions are pending", err)
		}
	}
	if now.Sub(c.pruned) >= time.Minute || now.Before(c.pruned) {
		c.pruned = now
		if err := c.prune(); err != nil {
			c.failed("forgetting the history of old transactions", err)
		}
		c.sweepWindows(now)
	}
}

// adopt looks at the halves that linger: from then on the checks know them.
func (c *Coordinator) adopt(now time.Time) {
	for range stepsPerTick / adoptChunk {
		if !c.adoptSome(now) {
			return
		}
	}
}

// adoptSome goes on for a stretch of the half queue and tells whether there is more.
func (c *Coordinator) adoptSome(now time.Time) (more bool) {
	type found struct {
		off  message.Offset
		half half
	}
	var list []found
	young := now.Add(-linger).UnixMilli()
	c.mu.Lock()
	at, end := c.cursor, min(c.cursor+adoptChunk, c.nextHalf)
	more = end < c.nextHalf
	for ; at < end; at++ {
		h, ok := c.pending[at]
		if !ok {
			continue
		}
		if h.stored > young && h.stored <= now.UnixMilli() {
			more = false
			break
		}
		if h.group < 0 {
			list = append(list, found{at, h})
		}
	}
	c.mu.Unlock()
	for _, f := range list {
		v, err := c.log.Record(f.half.pos)
		c.mu.Lock()
		if _, ok := c.pending[f.off]; ok {
			if err == nil {
				c.adoptViewLocked(f.off, f.half, v)
			}
		}
		c.mu.Unlock()
		if err != nil {
			c.lose(f.off, err)
		}
	}
	c.mu.Lock()
	c.cursor = at
	c.mu.Unlock()
	return more
}

// adoptViewLocked makes a half known to the checks, from its record.
func (c *Coordinator) adoptViewLocked(off message.Offset, h half, v message.View) {
	p := v.Properties()
	rules := c.o.Rules()
	d, _ := immunity(p, rules.Timeout)
	h.born = v.BornTimestamp()
	h.due = h.born + d.Milliseconds()
	if n := checkTimes(p); n > 0 {
		h.checks = n
		h.due = max(h.due, h.stored+rules.Interval.Milliseconds())
	}
	c.adoptLocked(off, h, p.Value(message.PropProducerGroup))
	c.changed[off] = struct{}{}
}

func (c *Coordinator) adoptLocked(off message.Offset, h half, group string) {
	if old, ok := c.pending[off]; ok {
		c.groups.leave(old.group)
	}
	h.group = c.groups.join(group)
	c.pending[off] = h
	c.due.Push(dueItem{h.due, off})
}

// laterLocked sets when a half is looked at again.
func (c *Coordinator) laterLocked(off message.Offset, h half, at int64) {
	h.due = at
	c.pending[off] = h
	c.due.Push(dueItem{at, off})
}

// checkDue asks about, or gives up, the halves that are due.
func (c *Coordinator) checkDue(now time.Time) {
	rules := c.o.Rules()
	ms := now.UnixMilli()
	asks := 0
	for range stepsPerTick {
		c.mu.Lock()
		if c.due.Len() == 0 || c.due.First().at > ms || asks >= asksPerTick {
			c.mu.Unlock()
			return
		}
		item := c.due.Pop()
		h, ok := c.pending[item.off]
		if !ok || h.due != item.at || h.group < 0 {
			c.mu.Unlock()
			continue
		}
		g := &c.groups.list[h.group]
		name, age := g.name, time.Duration(ms-h.born)*time.Millisecond
		switch {
		case c.settling[item.off] != Unknown:
			c.laterLocked(item.off, h, ms+1000)
		case age >= rules.MaxAge || int(h.checks) >= rules.MaxChecks:
			c.laterLocked(item.off, h, ms+rules.Interval.Milliseconds()) // if it fails
			c.mu.Unlock()
			asks++
			c.discard(item.off, h, name, age, now)
			continue
		case g.blocked > ms:
			c.laterLocked(item.off, h, min(g.blocked, h.born+rules.MaxAge.Milliseconds()))
		default:
			c.mu.Unlock()
			asks++
			c.ask(item.off, h, name, rules, now)
			continue
		}
		c.mu.Unlock()
	}
}

// ask sends one check, or says when to try again.
func (c *Coordinator) ask(off message.Offset, h half, group string, rules Rules, now time.Time) {
	ms := now.UnixMilli()
	p, ok := c.o.Pick(group)
	if !ok {
		c.without(off, h, group, rules, now)
		return
	}
	v, err := c.log.Record(h.pos)
	var m message.Message
	if err == nil {
		m, err = restore(v, h.checks+1)
	}
	var record []byte
	if err == nil {
		record, err = message.AppendRecord(nil, &m)
	}
	if errors.Is(err, ErrGone) {
		c.lose(off, err)
		return
	}
	if err != nil {
		c.failed(fmt.Sprintf("the half %d of the group %s cannot be asked about", off, group), err)
		c.mu.Lock()
		if _, ok := c.pending[off]; ok {
			c.laterLocked(off, h, ms+rules.Interval.Milliseconds())
		}
		c.mu.Unlock()
		return
	}
	if !c.reserve(off, h, p, rules, now) {
		return
	}
	err = p.Check(&Check{
		Group: group, Offset: off, Position: h.pos, Key: v.Properties().Value(message.PropUniqueKey),
		OffsetID: v.OffsetID(), Number: h.checks + 1, Record: record,
	})
	if err != nil {
		c.unreserve(off, h, p, ms)
		return
	}
	c.stats.checks.Add(1)
}

// reserve counts a check that is about to be sent, unless the client owes too
// many answers: the answer may come before the sending returns.
func (c *Coordinator) reserve(off message.Offset, h half, p Producer, rules Rules, now time.Time) bool {
	ms := now.UnixMilli()
	c.mu.Lock()
	defer c.mu.Unlock()
	now2, ok := c.pending[off]
	if !ok {
		return false
	}
	g := &c.groups.list[h.group]
	g.without = 0
	w := c.windows[p.Addr()]
	if w == nil {
		w = &window{}
		c.windows[p.Addr()] = w
	}
	if now.Sub(w.last) >= windowLife {
		w.open = 0
	}
	if w.open >= windowMax {
		g.blocked = ms + 2*tickEvery.Milliseconds()
		c.laterLocked(off, now2, g.blocked)
		return false
	}
	w.open++
	w.last = now
	now2.checks++
	c.laterLocked(off, now2, ms+rules.Interval.Milliseconds())
	c.changed[off] = struct{}{}
	e := &CheckEvent{At: now, What: "check", Number: now2.checks, Client: p.ID(), Addr: addrText(p.Addr())}
	c.asked[off] = e
	if len(c.events) < maxEvents {
		c.events = append(c.events, keyedEvent{off, e.Number, e})
	}
	return true
}

// unreserve takes back a check that was not sent.
func (c *Coordinator) unreserve(off message.Offset, h half, p Producer, ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.windows[p.Addr()]; w != nil && w.open > 0 {
		w.open--
	}
	if e := c.asked[off]; e != nil {
		e.Text = "could not be sent"
		delete(c.asked, off)
	}
	if now2, ok := c.pending[off]; ok {
		now2.checks = h.checks
		c.groups.list[now2.group].blocked = ms + 2*tickEvery.Milliseconds()
		c.laterLocked(off, now2, ms+time.Second.Milliseconds())
	}
}

// without notes that a group has no producer.
func (c *Coordinator) without(off message.Offset, h half, group string, rules Rules, now time.Time) {
	ms := now.UnixMilli()
	warn, n := false, 0
	c.mu.Lock()
	if h, ok := c.pending[off]; ok {
		g := &c.groups.list[h.group]
		if g.without == 0 {
			g.without = ms
		}
		g.blocked = ms + min(rules.Interval, retryWithout).Milliseconds()
		if ms-g.warned >= warnEvery.Milliseconds() {
			g.warned, warn, n = ms, true, g.pending
		}
		c.laterLocked(off, h, min(g.blocked, h.born+rules.MaxAge.Milliseconds()))
	}
	c.mu.Unlock()
	if warn && c.o.Events.NoProducer != nil {
		c.o.Events.NoProducer(group, n)
	}
}

func (c *Coordinator) sweepWindows(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, w := range c.windows {
		if now.Sub(w.last) > time.Minute {
			delete(c.windows, addr)
		}
	}
}
