package broker

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// DeadFilter says which dead letters are meant. Zero values match all.
type DeadFilter struct {
	From       int64             `json:"from,omitempty"` // died at or after, ms
	To         int64             `json:"to,omitempty"`   // died before, ms
	Topic      string            `json:"topic,omitempty"`
	Key        string            `json:"key,omitempty"` // one of the keys, or the unique key
	Tag        string            `json:"tag,omitempty"`
	ID         string            `json:"id,omitempty"` // unique key, or an offset id: its own or the original's
	Reason     string            `json:"reason,omitempty"`
	Properties map[string]string `json:"properties,omitempty"` // all of them
}

func (f *DeadFilter) matches(d *deadView) bool {
	switch {
	case f.From != 0 && d.since < f.From, f.To != 0 && d.since >= f.To,
		f.Topic != "" && d.topic != f.Topic,
		f.Tag != "" && string(d.tags) != f.Tag,
		f.Reason != "" && d.reason != f.Reason,
		f.Key != "" && d.unique != f.Key && !hasKey(d.keys, f.Key),
		f.ID != "" && d.unique != f.ID && d.origin != f.ID && d.OffsetID() != f.ID:
		return false
	}
	for name, want := range f.Properties {
		if got, ok := d.Properties().Get(name); !ok || string(got) != want {
			return false
		}
	}
	return true
}

func hasKey(keys []byte, key string) bool {
	for k := range bytes.SplitSeq(keys, []byte{' '}) {
		if string(k) == key {
			return true
		}
	}
	return false
}

// DeadTopic counts the dead letters of an original topic.
type DeadTopic struct {
	Topic string `json:"topic"`
	Count int64  `json:"count"`
}

// DeadGroup sums up the dead letters of a group.
type DeadGroup struct {
	Group    string      `json:"group"`
	Messages int64       `json:"messages"`
	Oldest   int64       `json:"oldest,omitempty"` // when it died, ms; 0 if there is none
	Newest   int64       `json:"newest,omitempty"`
	Topics   []DeadTopic `json:"topics"`            // original ones, most letters first
	Sampled  bool        `json:"sampled,omitempty"` // Topics counts the oldest and newest alone
	Running  int         `json:"running,omitempty"` // re-drives under way
}

// deadSample is how many of the oldest, and of the newest, dead letters are
// looked at for their topics.
const deadSample = 500

// DeadGroups sums up the dead letters of all groups that have had some, by
// name; of one group if it is named. KindGroupNotExist if there is none of the
// name.
func (b *Broker) DeadGroups(group string) ([]DeadGroup, error) {
	list := []DeadGroup{}
	if group != "" {
		if err := b.hasDead(group); err != nil {
			return nil, err
		}
		g, err := b.deadGroup(group)
		return append(list, g), err
	}
	for _, t := range b.topics.All() {
		if !message.IsDLQTopic(t.Name) {
			continue
		}
		g, err := b.deadGroup(strings.TrimPrefix(t.Name, message.DLQPrefix))
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, nil
}

// hasDead returns why a group has no dead letters here, or nil.
func (b *Broker) hasDead(group string) error {
	switch {
	case b.topics.LookupString(message.DLQTopic(group)) != nil:
		return nil
	case b.groups.Lookup(group) == nil:
		return refuse(KindGroupNotExist, "subscription group [%s] does not exist here; 'merlin dlq list' shows the groups with dead letters", group)
	}
	return refuse(KindNotFound, "the group %s has no dead letters here; 'merlin dlq list' shows the groups that have some", group)
}

func (b *Broker) deadGroup(group string) (DeadGroup, error) {
	topic := message.DLQTopic(group)
	lo, hi := b.store.QueueMin(topic, 0), b.store.QueueMax(topic, 0)
	g := DeadGroup{Group: group, Messages: int64(hi - lo), Topics: []DeadTopic{}, Running: b.redrives.runningOf(group)}
	counts := map[string]int64{}
	look := func(from, to message.Offset) error {
		return b.eachDead(topic, from, to, func(d *deadView) bool {
			if g.Oldest == 0 || d.since < g.Oldest {
				g.Oldest = d.since
			}
			g.Newest = max(g.Newest, d.since)
			counts[d.topic]++
			return true
		})
	}
	mid := min(hi, lo+deadSample)
	err := look(lo, mid)
	if rest := max(mid, hi-deadSample); err == nil && rest < hi {
		g.Sampled = rest > mid
		err = look(rest, hi)
	}
	for name, n := range counts {
		g.Topics = append(g.Topics, DeadTopic{name, n})
	}
	slices.SortFunc(g.Topics, func(x, y DeadTopic) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), strings.Compare(x.Topic, y.Topic))
	})
	return g, err
}

// eachDead calls fn for the dead letters of a queue from an offset to another,
// until it returns false. What cannot be read is left out.
func (b *Broker) eachDead(topic string, from, to message.Offset, fn func(*deadView) bool) error {
	var rows [256]store.Entry
	for from < to {
		from = max(from, b.store.QueueMin(topic, 0))
		n, err := b.store.Entries(topic, 0, from, rows[:min(len(rows), max(0, int(to-from)))])
		if errors.Is(err, store.ErrNotFound) && from < b.store.QueueMin(topic, 0) {
			continue // trimmed meanwhile
		}
		if errors.Is(err, store.ErrNotFound) || err == nil && n == 0 {
			return nil
		}
		if err != nil {
			return fail(KindSystem, err, "reading the dead letters in %s", topic)
		}
		for i, row := range rows[:n] {
			d, err := b.deadAt(topic, from+message.Offset(i), row)
			if err != nil {
				return err
			}
			if d.View != nil && !fn(&d) {
				return nil
			}
		}
		from += message.Offset(n)
	}
	return nil
}

// deadAt reads the dead letter of a row; its View is nil if there is none.
func (b *Broker) deadAt(topic string, off message.Offset, row store.Entry) (deadView, error) {
	if row.Filler() {
		return deadView{}, nil
	}
	v, err := b.store.Record(row.Position)
	var corrupt *store.CorruptError
	switch {
	case errors.Is(err, store.ErrNotFound), errors.As(err, &corrupt), err == nil && string(v.Topic()) != topic:
		return deadView{}, nil
	case err != nil:
		return deadView{}, fail(KindSystem, err, "reading the dead letter %d of %s", off, topic)
	}
	return readDead(v, off), nil
}

// DeadQuery asks for a page of dead letters.
type DeadQuery struct {
	Group  string         `json:"group"`
	Filter DeadFilter     `json:"filter"`
	After  message.Offset `json:"after,omitempty"` // DeadPage.Next of the page before
	Max    int            `json:"max,omitempty"`   // default 100, at most 1000
	Full   bool           `json:"full,omitempty"`  // with properties and body
}

// DeadPage is a page of dead letters in the order in which they died.
type DeadPage struct {
	Letters []DeadLetter   `json:"letters"`
	Next    message.Offset `json:"next"` // where the next page begins
	More    bool           `json:"more"` // there may be more
}

// Bounds of one page.
const (
	deadPageMax   = 1000
	deadPageScan  = 5000
	deadPageBytes = 2 << 20
)

// DeadLetters returns a page of a group's dead letters. A page may be empty
// while more follow: it looks at a bounded number.
func (b *Broker) DeadLetters(q *DeadQuery) (DeadPage, error) {
	if err := b.hasDead(q.Group); err != nil {
		return DeadPage{}, err
	}
	topic := message.DLQTopic(q.Group)
	limit := min(cmp.Or(max(q.Max, 0), 100), deadPageMax)
	from, end := max(q.After, b.store.QueueMin(topic, 0)), b.store.QueueMax(topic, 0)
	page := DeadPage{Letters: []DeadLetter{}, Next: min(from+deadPageScan, max(end, from))}
	size := 0
	err := b.eachDead(topic, from, page.Next, func(d *deadView) bool {
		if !q.Filter.matches(d) {
			return true
		}
		if size += d.Size(); q.Full && size > deadPageBytes && len(page.Letters) > 0 {
			page.Next = d.offset
			return false
		}
		l := d.letter(q.Full)
		page.Letters = append(page.Letters, l)
		if len(page.Letters) == limit {
			page.Next = d.offset + 1
			return false
		}
		return true
	})
	page.More = page.Next < end
	return page, err
}

// PurgeRequest asks that dead letters are not seen any more.
type PurgeRequest struct {
	Group  string `json:"group"`
	Before int64  `json:"before,omitempty"`  // those that died before, ms; 0: all of now
	DryRun bool   `json:"dry_run,omitempty"` // only count them
}

// PurgeDead makes the dead-letter queue of a group begin behind those that
// died before a time, durably: lists, re-drives and consumers do not see them
// any more. Those that died later and stand among them are stored anew at its
// end. The records stay in the log until their segment goes, and can be found
// by id. It returns how many went.
func (b *Broker) PurgeDead(r *PurgeRequest) (int64, error) {
	if err := b.hasDead(r.Group); err != nil {
		return 0, err
	}
	topic := message.DLQTopic(r.Group)
	b.dead.mu.Lock()
	defer b.dead.mu.Unlock()
	lo, upto := b.store.QueueMin(topic, 0), b.store.QueueMax(topic, 0)
	went := int64(upto - lo)
	if r.Before > 0 {
		var err error
		if upto, went, err = b.diedBefore(topic, r.Before); err != nil {
			return 0, err
		}
	}
	if r.DryRun || upto <= lo {
		return max(went, 0), nil
	}
	if id := b.redrives.needs(r.Group, upto); id != "" {
		return 0, refuse(KindIllegalOperation, "the re-drive %s still has to read dead letters of %s that would be purged; wait for it, or stop it with: merlin dlq redrive --id %s --cancel", id, r.Group, id)
	}
	var err error
	if went == int64(upto-lo) {
		err = b.hideDead(topic, func(m *deadMark) { m.Begin = upto })
	} else {
		err = b.carryQueue(topic, upto, r.Before, false)
	}
	if err != nil {
		return 0, err
	}
	return went, nil
}

// diedBefore returns how many letters of a queue died before a time, in ms, and
// the offset behind the last of them. dead.mu is held.
func (b *Broker) diedBefore(topic string, before int64) (upto message.Offset, n int64, err error) {
	lo, hi := b.store.QueueMin(topic, 0), b.store.QueueMax(topic, 0)
	at, err := b.store.OffsetByTime(topic, 0, before, store.Lower)
	if err != nil {
		return 0, 0, fail(KindSystem, err, "finding the dead letters in %s by time", topic)
	}
	upto = max(at, lo)
	n = int64(upto - lo)
	mark, _, err := b.dead.marks.Get([]byte(topic))
	if err != nil {
		return 0, 0, fail(KindSystem, err, "reading where %s begins", topic)
	}
	if mark.Carried == 0 {
		return upto, n, nil // each died when it was stored
	}
	err = b.eachDead(topic, upto, hi, func(d *deadView) bool {
		if d.since < before {
			upto, n = d.offset+1, n+1
		}
		return true
	})
	return upto, n, err
}

// deadMark is what is kept of a dead-letter queue.
type deadMark struct {
	Begin message.Offset `json:"begin"` // where it begins
	// While dead letters are carried forward: those that stood below Upto are
	// appended at or behind the position From.
	Upto    message.Offset   `json:"upto,omitempty"`
	From    message.Position `json:"from,omitempty"`
	Carried int64            `json:"carried,omitempty"` // how often something was carried
}

// deadLetters is what a broker keeps about dead-letter queues.
type deadLetters struct {
	mu    sync.Mutex // held while a mark changes
	marks *kv.Bucket[deadMark]

	countMu sync.Mutex           // guards what follows
	meter   map[string]deadMeter // by group
	arrived map[string]int64     // by group, since the start
}

// hideDead changes the mark of a queue durably, so that it begins there. It
// never goes back. dead.mu is held.
func (b *Broker) hideDead(topic string, change func(*deadMark)) error {
	// What is hidden must be durable: or else later letters, which got its
	// offsets after a power cut, would be hidden as well.
	if err := b.store.Sync(); err != nil {
		return b.storeRefusal(err)
	}
	m, _, err := b.dead.marks.Get([]byte(topic))
	if err != nil {
		return fail(KindSystem, err, "reading where %s begins", topic)
	}
	begin := m.Begin
	change(&m)
	m.Begin = max(m.Begin, begin)
	if err := b.dead.marks.Put([]byte(topic), m, kv.Synced); err != nil {
		return fail(KindSystem, err, "storing where %s begins", topic)
	}
	if _, err := b.store.ForgetTo(topic, 0, m.Begin); err != nil {
		return fail(KindSystem, err, "hiding the beginning of %s", topic)
	}
	return nil
}
