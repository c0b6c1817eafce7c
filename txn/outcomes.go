package txn

import (
	"encoding/binary"
	"fmt"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// outcomes keeps the verdicts of ended halves in the DB, two bits each: an end
// that comes again, however late, is held against the one that stands. What is
// new waits in memory for the next snapshot. Guarded by Coordinator.mu, except
// for the bucket.
type outcomes struct {
	bucket  *kv.Bucket[[]byte]
	fresh   map[int64]*outcomePage
	writing map[int64]*outcomePage // in the snapshot that is being written
}

// outcomesPerPage is how many halves share a row of the DB.
const outcomesPerPage = 1024

// outcomePage holds verdicts: 0 is not known, the others are those of Verdict.
type outcomePage [outcomesPerPage / 4]byte

func (p *outcomePage) get(off message.Offset) Verdict {
	i := off % outcomesPerPage
	return Verdict(p[i/4] >> (i % 4 * 2) & 3)
}

func (p *outcomePage) set(off message.Offset, v Verdict) {
	i := off % outcomesPerPage
	shift := i % 4 * 2
	p[i/4] = p[i/4]&^(3<<shift) | byte(v)<<shift
}

func pageKey(page int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(page)) }

func (o *outcomes) init(db *kv.DB) {
	o.bucket = kv.NewBucket(db, "txn.outcome", kv.Bytes())
	o.fresh = map[int64]*outcomePage{}
}

// set notes a verdict, if it is one that ends: the others need no bits.
func (o *outcomes) set(off message.Offset, v Verdict) {
	if off < 0 || v != Commit && v != Rollback && v != Discarded {
		return
	}
	page := o.fresh[int64(off/outcomesPerPage)]
	if page == nil {
		page = new(outcomePage)
		o.fresh[int64(off/outcomesPerPage)] = page
	}
	page.set(off, v)
}

// stored reads a page from the DB; one that is not there is empty.
func (o *outcomes) stored(page int64) (*outcomePage, error) {
	b, _, err := o.bucket.Get(pageKey(page))
	p := new(outcomePage)
	copy(p[:], b)
	return p, err
}

// capture begins to write what is new; written or undo ends it.
func (o *outcomes) capture() map[int64]*outcomePage {
	o.writing, o.fresh = o.fresh, map[int64]*outcomePage{}
	return o.writing
}

func (o *outcomes) written() { o.writing = nil }

// undo takes back a capture that is not written.
func (o *outcomes) undo() {
	newer := o.fresh
	o.fresh, o.writing = o.writing, nil
	for n, p := range newer {
		for i := range message.Offset(outcomesPerPage) {
			o.set(message.Offset(n)*outcomesPerPage+i, p.get(i))
		}
	}
}

// putTo adds captured pages to a batch, laid over those that the DB has.
func (o *outcomes) putTo(w *kv.Batch, pages map[int64]*outcomePage) error {
	for n, fresh := range pages {
		page, err := o.stored(n)
		if err != nil {
			return fmt.Errorf("read the verdicts of earlier transactions: %w", err)
		}
		for i := range message.Offset(outcomesPerPage) {
			if v := fresh.get(i); v != Unknown {
				page.set(i, v)
			}
		}
		if err := o.bucket.PutTo(w, pageKey(n), page[:]); err != nil {
			return err
		}
	}
	return nil
}

// cut adds to a batch that the verdicts of halves from an offset on are
// forgotten: another half will have the offset.
func (o *outcomes) cut(w *kv.Batch, from message.Offset) error {
	page := int64(from / outcomesPerPage)
	if from%outcomesPerPage != 0 {
		p, err := o.stored(page)
		if err != nil {
			return err
		}
		for i := from; i%outcomesPerPage != 0; i++ {
			p.set(i, Unknown)
		}
		if err := o.bucket.PutTo(w, pageKey(page), p[:]); err != nil {
			return err
		}
		page++
	}
	return o.deleteTo(w, pageKey(page), nil)
}

// dropBefore adds to a batch that whole pages of halves below an offset go.
func (o *outcomes) dropBefore(w *kv.Batch, first message.Offset) error {
	return o.deleteTo(w, nil, pageKey(int64(first/outcomesPerPage)))
}

func (o *outcomes) deleteTo(w *kv.Batch, from, to []byte) error {
	return o.bucket.Range(from, to, func(key []byte, _ []byte) bool {
		o.bucket.DeleteTo(w, key)
		return true
	})
}

// outcomeLocked keeps a verdict, also for the places that the half had before.
func (c *Coordinator) outcomeLocked(off message.Offset, v Verdict) {
	if v == carried {
		return
	}
	c.outcomes.set(off, v)
	if len(c.moved) == 0 {
		return
	}
	for old, to := range c.moved {
		if to.off == off {
			delete(c.moved, old)
			c.goneMove = append(c.goneMove, old)
			c.outcomes.set(old, v)
			c.recent.add(old, v)
		}
	}
}

// outcome is the verdict of an ended half, also of one that was carried forward
// and ended then; Unknown or carried if nothing knows it any more.
func (c *Coordinator) outcome(off message.Offset) (Verdict, error) {
	n := int64(off / outcomesPerPage)
	c.mu.Lock()
	last, _ := c.recent.get(off)
	if last != Unknown && last != carried {
		c.mu.Unlock()
		return last, nil
	}
	for _, pages := range []map[int64]*outcomePage{c.outcomes.fresh, c.outcomes.writing} {
		if p := pages[n]; p != nil {
			if v := p.get(off); v != Unknown {
				c.mu.Unlock()
				return v, nil
			}
		}
	}
	c.mu.Unlock()
	p, err := c.outcomes.stored(n)
	if err != nil {
		return Unknown, fmt.Errorf("txn: read what became of the half %d: %w", off, err)
	}
	if v := p.get(off); v != Unknown {
		return v, nil
	}
	return last, nil
}
