package txn

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/merlinmq/merlin/message"
)

// Resolve ends a transaction by an operator's word.
func (c *Coordinator) Resolve(b Batch, id string, v Verdict, e End) (*Timeline, error) {
	if v != Commit && v != Rollback {
		return nil, fmt.Errorf("txn: an operator can say commit or rollback, not %s", v)
	}
	in, err := c.one(id)
	if err != nil {
		return nil, err
	}
	e.Group, e.Offset, e.Position, e.Verdict, e.Admin = in.Group, in.Offset, in.Position, v, true
	ends := []End{e}
	c.End(b, ends)
	if ends[0].Err != nil {
		return nil, ends[0].Err
	}
	return c.Show(id)
}

// CheckNow makes a pending half due at once. Checks that are used up come back.
func (c *Coordinator) CheckNow(id string) (*Timeline, error) {
	in, err := c.one(id)
	if err != nil {
		return nil, err
	}
	now := c.now().UnixMilli()
	maxChecks := int32(c.o.Rules().MaxChecks)
	c.mu.Lock()
	h, ok := c.pending[in.Offset]
	if ok && h.group >= 0 {
		h.checks = min(h.checks, maxChecks-1)
		c.groups.list[h.group].blocked = 0
		c.laterLocked(in.Offset, h, now)
		c.changed[in.Offset] = struct{}{}
	}
	c.mu.Unlock()
	switch {
	case !ok && in.State == "pending":
		return nil, fmt.Errorf("%w that can be checked yet: %s has just been stored", ErrNotFound, id)
	case !ok:
		return nil, fmt.Errorf("%w that is pending: %s has its outcome, %s", ErrNotFound, id, in.State)
	}
	return c.Show(id)
}

// one returns the newest half that an id names.
func (c *Coordinator) one(id string) (Info, error) {
	found, err := c.find(id)
	if err != nil {
		return Info{}, err
	}
	last := slices.MaxFunc(found, func(a, b message.View) int { return cmp.Compare(a.Position(), b.Position()) })
	key := last.Properties().Value(message.PropUniqueKey)
	for _, v := range found {
		if v.Properties().Value(message.PropUniqueKey) != key {
			return Info{}, fmt.Errorf("several transactions have the key %s; name one by its unique key or its offset", id)
		}
	}
	return c.info(last), nil
}

// Resume gives a half that was given up back to the checks, from the first on:
// it is stored again.
func (c *Coordinator) Resume(b Batch, pos message.Position) error {
	v, err := c.log.Record(pos)
	if err != nil {
		return fmt.Errorf("%w at position %d: %w", ErrNotFound, pos, err)
	}
	m := v.Message()
	if m.Topic != message.TopicHalf && m.Topic != message.TopicCheckMax || m.Properties.Value(message.PropRealTopic) == "" {
		return fmt.Errorf("%w at position %d: the message there, of %s, is no half", ErrNotFound, pos, m.Topic)
	}
	if m.Topic == message.TopicHalf {
		if in := c.info(v); in.State == "pending" {
			_, err := c.CheckNow(strconv.FormatInt(int64(in.Offset), 10))
			return err
		}
		return fmt.Errorf("%w at position %d that could be checked again: it has its outcome", ErrNotFound, pos)
	}
	m.Topic, m.QueueID = message.TopicHalf, 0
	m.Properties = noted(m.Properties.Without(message.PropPreparedOffset), message.PropCheckTimes, "0")
	m.PreparedPosition = 0
	// Its age begins anew; else it would be given up at once.
	m.BornTimestamp = c.now().UnixMilli()
	b.Reset()
	if err := b.Add(&m); err != nil {
		return err
	}
	return b.Append()
}
