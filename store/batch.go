package store

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/message"
)

// Result is where a message was stored.
type Result struct {
	Offset    message.Offset // in its queue; 0 for what no queue shows
	Position  message.Position
	StoreTime int64 // ms
}

// Batch gathers messages for one Append. It encodes them at once, so what was
// added may change afterwards. It is for one goroutine at a time and may be
// used again after Reset; then it allocates nothing.
type Batch struct {
	store *Store
	log   commitlog.Batch
	items []dispatch
	end   message.Position
	topic *topic // of the last message

	// Awaited says that the caller asks for the fsync of what it appends, with
	// FlushAlone or WhenSafe, right after Append.
	Awaited bool

	// Bound once, so that no call allocates.
	assign func(i int, pos message.Position, storeTime int64, rec []byte)
	add    func(*message.Message) error

	assigned int // items that took an offset in this Append
}

// NewBatch returns an empty batch.
func (s *Store) NewBatch() *Batch {
	b := &Batch{store: s}
	b.assign, b.add = b.place, b.Add
	b.log.Settle = b.settle
	return b
}

// keptBatchBytes is what a Reset batch may keep: one huge message must not
// hold memory for the life of a connection.
const keptBatchBytes = 1 << 20

// Reset empties the batch and keeps its memory, up to a bound.
func (b *Batch) Reset() {
	if b.log.Size() > keptBatchBytes {
		settle := b.log.Settle
		b.log, b.items = commitlog.Batch{Settle: settle}, nil
	}
	b.log.Reset()
	clear(b.items) // lets go of long key lists and of topics
	b.items, b.end = b.items[:0], 0
}

// Add encodes m behind the messages that are there. m.StoreHost, if it is not
// set, becomes Options.StoreHost. On an error the batch is as before.
// Errors: message.ErrTooLarge, or a topic or queue that cannot be stored.
func (b *Batch) Add(m *message.Message) error {
	return b.addItem(m, nil, 0, false)
}

// Known is what the store must know of a message's properties: the values of
// TAGS, KEYS and UNIQ_KEY, nil for what is not there.
type Known struct{ Tags, Keys, Unique []byte }

// AddKnown is Add for properties that the caller has read already.
func (b *Batch) AddKnown(m *message.Message, k *Known) error {
	return b.addItem(m, k, 0, false)
}

// AddCode is Add with the code that the queue's entry holds in place of the
// hash of the tags. Options.TagCode must find the same in the record.
func (b *Batch) AddCode(m *message.Message, tagCode int64) error {
	return b.addItem(m, nil, tagCode, true)
}

func (b *Batch) addItem(m *message.Message, k *Known, tagCode int64, hasCode bool) error {
	if b.topic == nil || b.topic.name != m.Topic || b.topic.gone.Load() {
		if err := checkPlace(m.Topic, m.QueueID); err != nil {
			return err
		}
		b.topic = b.store.registry.find(m.Topic)
	}
	if m.QueueID < 0 {
		return checkPlace(m.Topic, m.QueueID)
	}
	if !m.StoreHost.IsValid() {
		hosted := *m
		hosted.StoreHost = b.store.o.StoreHost()
		m = &hosted
	}
	size := b.log.Size()
	if err := b.log.Add(m); err != nil {
		return fmt.Errorf("store: a message for %s: %w", m.Topic, err)
	}
	b.items = append(b.items, dispatch{size: int32(b.log.Size() - size)})
	d := &b.items[len(b.items)-1]
	kind := m.SysFlag.Transaction()
	if kind != message.FlagPrepared && kind != message.FlagRollback {
		d.queue = b.topic.queue(m.QueueID)
	}
	if k == nil {
		known := readProperties(m.Properties)
		k = &known
	}
	if kind != message.FlagRollback {
		d.addKeys(b.topic, k)
	}
	if hasCode {
		d.tagCode = tagCode
	} else {
		d.tagCode = message.TagCode(k.Tags)
	}
	return nil
}

// readProperties finds what the index and the entry need, in one pass. As in
// Apache's map, the last of several properties with one name counts.
func readProperties(p message.Properties) (k Known) {
	for name, value := range p.All() {
		switch string(name) {
		case message.PropTags:
			k.Tags = value
		case message.PropKeys:
			k.Keys = value
		case message.PropUniqueKey:
			k.Unique = value
		}
	}
	return k
}

// addKeys notes the hashes under which the index finds the message.
func (d *dispatch) addKeys(t *topic, k *Known) {
	if len(k.Unique) > 0 {
		d.addKey(message.ExtendHash(t.keyHash, k.Unique))
	}
	for keys := k.Keys; len(keys) > 0; {
		key := keys
		if i := bytes.IndexByte(keys, ' '); i >= 0 {
			key, keys = keys[:i], keys[i+1:]
		} else {
			keys = nil
		}
		if len(key) > 0 {
			d.addKey(message.ExtendHash(t.keyHash, key))
		}
	}
	if len(k.Tags) > 0 {
		d.addKey(message.ExtendHash(t.tagHash, k.Tags))
	}
}

// AddGroup adds the messages that fill hands to add; they get consecutive
// offsets, if they go to one queue, and share a segment. When fill returns an
// error, none of them is added, and AddGroup returns it.
func (b *Batch) AddGroup(fill func(add func(*message.Message) error) error) error {
	n := b.log.Len()
	b.log.BeginGroup()
	err := fill(b.add)
	if err != nil {
		b.log.Truncate(n)
		clear(b.items[n:])
		b.items = b.items[:n]
	}
	b.log.EndGroup()
	return err
}

// Len returns the number of messages.
func (b *Batch) Len() int { return len(b.items) }

// Size returns the encoded size in bytes.
func (b *Batch) Size() int { return b.log.Size() }

// Result returns where the i-th message was stored, after an Append that
// returned nil and before Reset.
func (b *Batch) Result(i int) Result {
	d := &b.items[i]
	return Result{Offset: d.offset, Position: d.position, StoreTime: d.storeTime}
}

// Record returns the i-th message as it was stored, in place; see Result.
func (b *Batch) Record(i int) message.View { return b.log.Record(i) }

// End returns the position behind the last message, after Append: WhenSafe
// tells when everything before it is safe.
func (b *Batch) End() message.Position { return b.end }

// Append stores all messages of b, or none, with one write. The results are
// in b. When it returns nil the messages are in the log; a crash of the machine
// can still take them away until they are safe. It waits when the dispatcher is
// behind. Errors: ErrNoSpace, ErrTooLarge, ErrFailed, ErrClosed.
func (s *Store) Append(b *Batch) error {
	n := len(b.items)
	if n == 0 {
		b.end = s.log.Max()
		return nil
	}
	if err := s.pending.reserve(n); err != nil {
		return err
	}
	end, err := s.log.Append(&b.log, b.assign)
	s.pending.appended(n, err == nil)
	if err != nil {
		return s.appendError(err)
	}
	b.end = end
	s.counts.putMessages.Add(int64(n))
	s.counts.putBytes.Add(int64(b.log.Size()))
	return nil
}

// place takes the i-th message's offset, under the log's append lock.
func (b *Batch) place(i int, pos message.Position, storeTime int64, rec []byte) {
	d := &b.items[i]
	if i == 0 {
		b.assigned = 0
	}
	b.assigned++
	d.position, d.storeTime, d.offset = pos, storeTime, 0
	if q := d.queue; q != nil {
		if q.topic.gone.Load() {
			q = b.store.registry.find(q.topic.name).queue(q.id)
			d.queue = q
		}
		d.offset = q.next
		q.next++
	}
	message.Patch(rec, d.offset, pos, storeTime)
}

// settle hands the messages to the dispatcher, or gives their offsets back. It
// runs under the append lock.
func (b *Batch) settle(err error) {
	if err == nil {
		b.store.pending.push(b.items, b.Awaited && b.store.o.SyncFlush)
		return
	}
	for i := range b.items[:b.assigned] {
		if q := b.items[i].queue; q != nil {
			q.next--
		}
	}
	b.assigned = 0
}

// appendError gives the log's error the store's words.
func (s *Store) appendError(err error) error {
	switch {
	case errors.Is(err, commitlog.ErrClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, commitlog.ErrFailed):
		return s.fail(err)
	}
	return err
}

// WhenSafe calls fn once: with nil when the log is safe up to end, fsynced with
// SyncFlush, else written; with ErrFailed or ErrClosed when it never will be.
// At once on this goroutine if that is known, else on the flusher: fn must be
// short and must not call Append.
func (s *Store) WhenSafe(end message.Position, fn func(error)) {
	if s.log.Safe() >= end {
		s.pending.flushed() // the fsync may have ended before the messages were pushed
	}
	s.log.WhenSafe(end, fn)
}

// FlushAlone makes everything safe that was appended, on this goroutine, if
// nobody else is about to: alone is true then, and err what came of it. With
// false, WhenSafe tells. begun, if it is not nil, is called before the fsync.
// If it was alone, Show must be called then.
func (s *Store) FlushAlone(begun func()) (alone bool, err error) {
	alone, err = s.log.FlushAlone(begun)
	if err != nil {
		err = s.appendError(err)
	}
	return alone, err
}

// Show lets queues and index have what FlushAlone made safe. It is apart from
// it so that an answer can leave before others get the processor.
func (s *Store) Show() { s.pending.flushed() }

// Put stores one message and waits until it is safe, unless its WAIT property
// is false.
func (s *Store) Put(m *message.Message) (Result, error) { return s.put(m, 0, false) }

// PutCode is Put with AddCode.
func (s *Store) PutCode(m *message.Message, tagCode int64) (Result, error) {
	return s.put(m, tagCode, true)
}

// waits tells whether a producer waits until a message with these properties is
// safe.
func waits(p message.Properties) bool {
	wait, ok := p.Get(message.PropWait)
	return !ok || !bytes.EqualFold(wait, []byte("false"))
}

type putter struct {
	batch *Batch
	safe  chan error
	tell  func(error)
}

func (s *Store) put(m *message.Message, tagCode int64, hasCode bool) (Result, error) {
	p, _ := s.putters.Get().(*putter)
	if p == nil {
		p = &putter{batch: s.NewBatch(), safe: make(chan error, 1)}
		p.tell = func(err error) { p.safe <- err }
	}
	defer s.putters.Put(p)
	p.batch.Reset()
	if err := p.batch.addItem(m, nil, tagCode, hasCode); err != nil {
		return Result{}, err
	}
	p.batch.Awaited = s.o.SyncFlush && waits(m.Properties)
	if err := s.Append(p.batch); err != nil {
		return Result{}, err
	}
	r := p.batch.Result(0)
	if !p.batch.Awaited {
		return r, nil
	}
	if alone, err := s.FlushAlone(nil); alone {
		s.Show()
		return r, err
	}
	s.WhenSafe(p.batch.end, p.tell)
	if err := <-p.safe; err != nil {
		return r, s.appendError(err)
	}
	return r, nil
}
