package store

import (
	"errors"
	"sync"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/message"
)

// A Get with MatchRecord looks at the records where they are mapped and copies
// those that match: of a selective filter, nearly nothing.

// scanChunk is how many entries one round of a scan reads.
const scanChunk = 200

// scanner is a Get with MatchRecord under way. It works in rounds: read
// entries, look at their records together.
type scanner struct {
	getter
	entries [scanChunk]Entry
	looked  [scanChunk]commitlog.Span
	places  [scanChunk]message.Offset
	from    int    // what Look calls span 0
	room    []byte // for records that are not mapped
}

// scanners keep the room of scanners. maxScanRoom bounds what is kept of it.
var scanners = sync.Pool{New: func() any { return new(scanner) }}

const maxScanRoom = 1 << 20

// scan is Get for a query with MatchRecord whose offset is inside the queue.
func (s *Store) scan(q *GetQuery, cq *consumequeue.Queue, r GetResult) (GetResult, error) {
	c := scanners.Get().(*scanner)
	c.getter = getter{store: s, query: *q, queue: cq, result: r, logMin: s.log.Min(), logMax: s.log.Max(), limits: s.o.Transfer.now(), last: message.NoPosition}
	err := c.scan()
	if err == nil {
		c.finish()
	}
	r = c.result
	if c.getter = (getter{}); cap(c.room) > maxScanRoom {
		c.room = nil
	}
	scanners.Put(c)
	return r, err
}

func (c *scanner) scan() error {
	r := &c.result
	maxCount := max(c.query.MaxCount, 1)
	limit := max(minScan, maxCount, c.query.MaxScan)
	for r.Next < r.Max && !c.full && r.Count < maxCount && c.scanned-c.empty < limit && c.empty < fillerScan {
		more, err := c.round(limit)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	return nil
}

// round looks at the next entries. It returns false if the queue gave nothing.
func (c *scanner) round(limit int) (more bool, err error) {
	r := &c.result
	want := min(scanChunk, int(r.Max-r.Next), limit-(c.scanned-c.empty))
	n, err := c.queue.Read(r.Next, c.entries[:want])
	if errors.Is(err, consumequeue.ErrOutside) || errors.Is(err, consumequeue.ErrDeleted) {
		r.Min, r.Max = c.queue.Min(), c.queue.Max() // trimmed meanwhile
		r.Next = min(max(r.Next, r.Min), r.Max)
		return false, nil
	}
	if err != nil {
		return false, c.store.readError(err)
	}
	first, k := r.Next, 0
	for i := range c.entries[:n] {
		e := &c.entries[i]
		switch {
		case e.Filler():
			c.empty++
		case e.Position < c.logMin:
			c.gone = true
		case c.query.MatchTag == nil || c.query.MatchTag(e.TagCode):
			c.looked[k] = commitlog.Span{Position: e.Position, Size: e.Size}
			c.places[k] = first + message.Offset(i)
			k++
		}
	}
	r.Next, c.scanned = first+message.Offset(n), c.scanned+n
	return n > 0, c.walk(k)
}

// walk goes through the first k spans.
func (c *scanner) walk(k int) error {
	for c.from = 0; c.from < k && !c.full; {
		room, n, err := c.store.log.Walk(c.looked[c.from:k], c, c.room)
		c.room = room
		if c.from += n; err == nil {
			continue
		}
		if errors.Is(err, commitlog.ErrClosed) {
			return c.store.readError(err)
		}
		c.lost(c.from, err)
		c.from++
	}
	return nil
}

// Look implements commitlog.Looker: it copies a record that matches. If that
// one does not fit, the next Get begins with it.
func (c *scanner) Look(i int, rec []byte) bool {
	i += c.from
	span := c.looked[i]
	topic, p, ok := message.Split(rec)
	v := message.View(rec)
	if !ok || v.Position() != span.Position || v.QueueID() != c.query.Queue || string(topic) != c.query.Topic {
		if _, err := c.check(rec, span); err != nil {
			c.lost(i, err)
			return true
		}
	}
	c.last = span.Position
	if match := c.query.MatchProperties; match != nil {
		ok = match(p)
	} else {
		ok = c.query.MatchRecord(v)
	}
	if !ok {
		return true
	}
	r := &c.result
	if r.Count > 0 && c.over(int64(span.Position), len(rec)) {
		r.Next, c.full = c.places[i], true
		return false
	}
	r.Body = append(r.Body, rec...)
	c.bytes += len(rec)
	if r.Count++; r.Count == max(c.query.MaxCount, 1) {
		r.Next, c.full = c.places[i]+1, true
		return false
	}
	return true
}

// over tells whether one more record makes the answer too large.
func (c *scanner) over(pos int64, size int) bool {
	count, bytes := c.limits.of(int64(c.logMax)-pos > c.store.o.HotBytes)
	if c.query.MaxBytes > 0 {
		bytes = min(bytes, c.query.MaxBytes)
	}
	return c.result.Count >= count || c.bytes+size > bytes
}

// lost steps over a record that is not what its entry means, and reports it.
func (c *scanner) lost(i int, err error) {
	c.gone = true
	if c.looked[i].Position < c.store.log.Min() {
		return // dropped by retention meanwhile
	}
	c.store.skipped(c.query.Topic, c.query.Queue, c.places[i], err)
}
