package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Offsets keeps how far each group has consumed each queue. Commits go to
// memory; Flush writes what changed since, so that a kill loses no more than
// the time between two flushes. A commit may go backwards, which is counted.
// Pull offsets, which some consumers keep apart, are a table of their own.
// Safe for concurrent use.
type Offsets struct {
	committed offsetTable
	pulled    offsetTable
	backwards atomic.Int64
	now       func() time.Time
	versions  *kv.Bucket[DataVersion]

	mu      sync.Mutex // guards version
	version DataVersion
}

const offsetsVersionKey = "offsets"

// openOffsets loads the stored offsets.
func openOffsets(db *kv.DB, now func() time.Time) (*Offsets, error) {
	o := &Offsets{now: now, versions: kv.NewBucket(db, "version", kv.JSON[DataVersion]())}
	var found bool
	var err error
	if o.version, found, err = o.versions.Get([]byte(offsetsVersionKey)); err != nil {
		return nil, err
	}
	if !found {
		o.version = DataVersion{Timestamp: now().UnixMilli()}
	}
	err = errors.Join(o.committed.load(db, "offset"), o.pulled.load(db, "pulloffset"))
	return o, err
}

// Version returns the data version, which counts the flushes that wrote something.
func (o *Offsets) Version() DataVersion {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.version
}

// Commit stores how far the group has consumed the queue.
func (o *Offsets) Commit(group, topic string, queue int32, offset message.Offset) {
	if o.committed.set(group, topic, queue, offset) > offset {
		o.backwards.Add(1)
	}
}

// Backwards returns how many commits went back since the start.
func (o *Offsets) Backwards() int64 { return o.backwards.Load() }

// Query returns how far the group has consumed the queue; false if it never said.
func (o *Offsets) Query(group, topic string, queue int32) (message.Offset, bool) {
	return o.committed.get(group, topic, queue)
}

// CommitPull stores how far the group has pulled the queue.
func (o *Offsets) CommitPull(group, topic string, queue int32, offset message.Offset) {
	o.pulled.set(group, topic, queue, offset)
}

// QueryPull returns how far the group has pulled the queue.
func (o *Offsets) QueryPull(group, topic string, queue int32) (message.Offset, bool) {
	return o.pulled.get(group, topic, queue)
}

// OfTopic returns the group's committed offsets in a topic, by queue; nil if
// there are none.
func (o *Offsets) OfTopic(group, topic string) map[int32]message.Offset {
	return o.committed.ofTopic(group, topic)
}

// TopicsOf returns the topics in which the group has committed offsets, sorted.
func (o *Offsets) TopicsOf(group string) []string {
	return o.committed.names(func(k groupTopic) (string, bool) { return k.topic, k.group == group })
}

// GroupsOf returns the groups that have committed offsets in the topic, sorted.
func (o *Offsets) GroupsOf(topic string) []string {
	return o.committed.names(func(k groupTopic) (string, bool) { return k.group, k.topic == topic })
}

// Clone copies the offsets of one group in a topic to another group.
func (o *Offsets) Clone(from, to, topic string) {
	for queue, offset := range o.committed.ofTopic(from, topic) {
		o.committed.set(to, topic, queue, offset)
	}
}

// DeleteGroup forgets all offsets of a group.
func (o *Offsets) DeleteGroup(group string) error {
	which := func(k groupTopic) bool { return k.group == group }
	return errors.Join(o.committed.delete(which), o.pulled.delete(which))
}

// DeleteTopic forgets all offsets in a topic.
func (o *Offsets) DeleteTopic(topic string) error {
	which := func(k groupTopic) bool { return k.topic == topic }
	return errors.Join(o.committed.delete(which), o.pulled.delete(which))
}

// Delete forgets the offsets of one group in one topic.
func (o *Offsets) Delete(group, topic string) error {
	which := func(k groupTopic) bool { return k == groupTopic{topic, group} }
	return errors.Join(o.committed.delete(which), o.pulled.delete(which))
}

// Flush writes what was committed since the last Flush and waits until it is
// safe. What could not be written is written by the next one.
func (o *Offsets) Flush() error {
	wrote, err := o.committed.flush()
	_, pullErr := o.pulled.flush()
	if err = errors.Join(err, pullErr); err != nil || !wrote {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.version = o.version.next(o.now())
	if err := o.versions.Put([]byte(offsetsVersionKey), o.version, kv.Buffered); err != nil {
		return fail(KindSystem, err, "storing the version of consumer offsets")
	}
	return nil
}

// beyond is an offset that was behind the end of its queue.
type beyond struct {
	Group, Topic string
	Queue        int32
	Offset, End  message.Offset
}

// fit sets offsets that are behind the end of their queues to the ends, and
// returns how many there were and one of them. A power cut can take the end of
// the log and leave offsets that were committed in it: messages that get those
// places again would never be consumed. What it sets is durable when it returns.
func (o *Offsets) fit(end func(topic string, queue int32) message.Offset) (n int, one beyond, err error) {
	for _, t := range []*offsetTable{&o.committed, &o.pulled} {
		t.eachPair(func(group, topic string, queues map[int32]message.Offset) {
			for queue, offset := range queues {
				if last := end(topic, queue); offset > last {
					t.set(group, topic, queue, last)
					n, one = n+1, beyond{group, topic, queue, offset, last}
				}
			}
		})
	}
	if n > 0 {
		err = o.Flush()
	}
	return n, one, err
}

// Each calls fn for every group and topic that has committed offsets.
func (o *Offsets) Each(fn func(group, topic string, offsets map[int32]message.Offset)) {
	o.committed.eachPair(fn)
}

// EachPull is Each for pull offsets.
func (o *Offsets) EachPull(fn func(group, topic string, offsets map[int32]message.Offset)) {
	o.pulled.eachPair(fn)
}

type groupTopic struct{ topic, group string }

type offsetTable struct {
	db     *kv.DB
	stored *kv.Bucket[message.Offset]

	flushing sync.Mutex // keeps flush and delete apart; taken before mu

	mu    sync.RWMutex // guards the map, not its values
	pairs map[groupTopic]*groupOffsets
}

type groupOffsets struct {
	mu     sync.Mutex // guards what follows
	queues map[int32]message.Offset
	dirty  map[int32]struct{}
}

func (t *offsetTable) load(db *kv.DB, bucket string) error {
	t.db, t.stored = db, kv.NewBucket(db, bucket, kv.Int64[message.Offset]())
	t.pairs = map[groupTopic]*groupOffsets{}
	return t.stored.Range(nil, nil, func(key []byte, offset message.Offset) bool {
		if k, queue, ok := parseOffsetKey(key); ok {
			t.pair(k).queues[queue] = offset
		}
		return true
	})
}

// offsetKey is topic, zero, group, zero, queue in 4 bytes: names hold no zero.
func offsetKey(k groupTopic, queue int32) []byte {
	b := make([]byte, 0, len(k.topic)+len(k.group)+6)
	b = append(append(b, k.topic...), 0)
	b = append(append(b, k.group...), 0)
	return binary.BigEndian.AppendUint32(b, uint32(queue))
}

func parseOffsetKey(key []byte) (k groupTopic, queue int32, ok bool) {
	i := bytes.IndexByte(key, 0)
	j := len(key) - 5
	if i < 0 || j <= i || key[j] != 0 {
		return k, 0, false
	}
	return groupTopic{string(key[:i]), string(key[i+1 : j])}, int32(binary.BigEndian.Uint32(key[j+1:])), true
}

func (t *offsetTable) find(k groupTopic) *groupOffsets {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.pairs[k]
}

// pair returns the offsets of the pair, making room for them.
func (t *offsetTable) pair(k groupTopic) *groupOffsets {
	if p := t.find(k); p != nil {
		return p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pairs[k]
	if p == nil {
		p = &groupOffsets{queues: map[int32]message.Offset{}, dirty: map[int32]struct{}{}}
		t.pairs[k] = p
	}
	return p
}

// set returns the offset that was there before, 0 if none.
func (t *offsetTable) set(group, topic string, queue int32, offset message.Offset) message.Offset {
	p := t.pair(groupTopic{topic, group})
	p.mu.Lock()
	defer p.mu.Unlock()
	before, found := p.queues[queue]
	if !found || before != offset {
		p.queues[queue] = offset
		p.dirty[queue] = struct{}{}
	}
	return before
}

func (t *offsetTable) get(group, topic string, queue int32) (message.Offset, bool) {
	p := t.find(groupTopic{topic, group})
	if p == nil {
		return 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	offset, found := p.queues[queue]
	return offset, found
}

func (t *offsetTable) ofTopic(group, topic string) map[int32]message.Offset {
	p := t.find(groupTopic{topic, group})
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.queues)
}

func (t *offsetTable) names(of func(groupTopic) (string, bool)) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var names []string
	for k := range t.pairs {
		if name, ok := of(k); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (t *offsetTable) snapshot() map[groupTopic]*groupOffsets {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.pairs)
}

func (t *offsetTable) eachPair(fn func(group, topic string, offsets map[int32]message.Offset)) {
	for k, p := range t.snapshot() {
		p.mu.Lock()
		queues := maps.Clone(p.queues)
		p.mu.Unlock()
		fn(k.group, k.topic, queues)
	}
}

// flushBatch bounds one write, in offsets.
const flushBatch = 4096

// flush tells whether it wrote something.
func (t *offsetTable) flush() (wrote bool, err error) {
	t.flushing.Lock()
	defer t.flushing.Unlock()
	var w kv.Batch
	var taken []func() // undoes, should the write fail
	write := func() error {
		if w.Len() == 0 {
			return nil
		}
		if err := t.db.Write(&w, kv.Synced); err != nil {
			for _, undo := range taken {
				undo()
			}
			return fail(KindSystem, err, "storing consumer offsets")
		}
		wrote = true
		w.Reset()
		taken = taken[:0]
		return nil
	}
	for k, p := range t.snapshot() {
		if queues := t.take(&w, k, p); len(queues) > 0 {
			taken = append(taken, func() { p.markDirty(queues) })
		}
		if w.Len() >= flushBatch {
			if err := write(); err != nil {
				return wrote, err
			}
		}
	}
	return wrote, write()
}

// take adds the changed offsets of the pair to the batch and returns their queues.
func (t *offsetTable) take(w *kv.Batch, k groupTopic, p *groupOffsets) []int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.dirty) == 0 {
		return nil
	}
	queues := slices.Collect(maps.Keys(p.dirty))
	for _, queue := range queues {
		_ = t.stored.PutTo(w, offsetKey(k, queue), p.queues[queue]) // a number always encodes
	}
	clear(p.dirty)
	return queues
}

func (p *groupOffsets) markDirty(queues []int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, queue := range queues {
		p.dirty[queue] = struct{}{}
	}
}

// delete forgets the pairs that which names, in memory and on the disk.
func (t *offsetTable) delete(which func(groupTopic) bool) error {
	t.flushing.Lock()
	defer t.flushing.Unlock()
	var w kv.Batch
	t.mu.Lock()
	for k, p := range t.pairs {
		if !which(k) {
			continue
		}
		delete(t.pairs, k)
		p.mu.Lock()
		for queue := range p.queues {
			t.stored.DeleteTo(&w, offsetKey(k, queue))
		}
		p.mu.Unlock()
	}
	t.mu.Unlock()
	if w.Len() == 0 {
		return nil
	}
	if err := t.db.Write(&w, kv.Synced); err != nil {
		return fail(KindSystem, err, "removing consumer offsets")
	}
	return nil
}
