package broker

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
	"github.com/merlinmq/merlin/txn"
)

// TransactionEnd is one end of a transaction: the producer's verdict.
type TransactionEnd = txn.End

// TransactionStats are numbers about transactions.
type TransactionStats = txn.Stats

// TransactionLatencyBounds are the bounds, in seconds, of TransactionStats.Latency.
var TransactionLatencyBounds = txn.LatencyBounds

// What a producer says.
const (
	TransactionUnknown  = txn.Unknown
	TransactionCommit   = txn.Commit
	TransactionRollback = txn.Rollback
)

// openTransactions finds the pending transactions and starts their checks.
func (b *Broker) openTransactions() (err error) {
	startHalf, okHalf := b.offsets.Query(message.GroupTransaction, message.TopicHalf, 0)
	startOp, okOp := b.offsets.Query(message.GroupTransaction, message.TopicOp, 0)
	if !okHalf || !okOp {
		startHalf, startOp = message.NoOffset, message.NoOffset
	}
	unsafe := message.NoPosition
	if !b.recovered.Clean {
		unsafe = b.recovered.From
	}
	b.txn, err = txn.Open(txn.Options{
		Log: txnLog{b}, Unsafe: unsafe, DB: b.db, Now: b.now, StartHalf: startHalf, StartOp: startOp,
		Rules: func() txn.Rules {
			return txn.Rules{
				Timeout: ms(b.cfg.TransactionTimeoutMs.Load()), Interval: ms(b.cfg.TransactionIntervalMs.Load()),
				MaxChecks: int(b.cfg.TransactionChecks.Load()), MaxAge: seconds(b.cfg.TransactionMaxAgeSec.Load()),
			}
		},
		Pick: func(group string) (txn.Producer, bool) {
			p, ok := b.clients.PickProducer(group)
			return txnProducer{p}, ok
		},
		Progress: func(half, op message.Offset) {
			b.offsets.Commit(message.GroupTransaction, message.TopicHalf, 0, half)
			if op >= 0 {
				b.offsets.Commit(message.GroupTransaction, message.TopicOp, 0, op)
			}
		},
		Events: b.transactionEvents(),
	})
	return err
}

func ms(n int64) time.Duration { return times(n, time.Millisecond) }

func seconds(n int64) time.Duration { return times(n, time.Second) }

// times returns n units, or the longest time there is where that is too long to
// be told: a setting that means never must not become one that means at once.
func times(n int64, unit time.Duration) time.Duration {
	return time.Duration(min(n, math.MaxInt64/int64(unit))) * unit
}

func (b *Broker) transactionEvents() txn.Events {
	return txn.Events{
		Refused: func(group string, why txn.Reason, text string) {
			b.events.Warn("a transactional request was refused", "group", group, "reason", string(why), "error", text)
		},
		NoProducer: func(group string, halves int) {
			b.events.Warn("transactions wait for a producer of their group to ask; none is connected", "group", group, "halves", halves)
		},
		Discarded: func(group, key string, checks int32, age time.Duration) {
			b.events.Warn("a transaction was given up, its message is in "+message.TopicCheckMax, "group", group, "key", key, "checks", checks, "age", age)
		},
		Failed: func(what string, err error) { b.events.Warn(what, "error", err) },
	}
}

// onArrive tells who waits for messages that they can be read. The dispatcher
// calls it.
func (b *Broker) onArrive(arrivals []store.Arrival) {
	for i := range arrivals {
		if a := &arrivals[i]; a.Topic == message.TopicHalf || a.Topic == message.TopicOp {
			b.txn.Arrived(a.Topic, a.Offset, a.Position, a.StoreTime)
		}
	}
	b.traffic.arrived(b.now, arrivals)
	b.deadArrived(arrivals)
	b.holds.arrived(arrivals)
	b.popsArrived(arrivals)
	b.delaysArrived(arrivals)
}

// beforeDrop keeps what waits before the log below a position is dropped.
func (b *Broker) beforeDrop(upto message.Position) error {
	return errors.Join(b.txn.Carry(upto), b.carryForward(upto), b.carryDead(upto))
}

// prepare makes a half of a transactional message. An old client's retry with
// a delay is none. One that is to be delayed is refused: Apache's broker takes
// it, and neither delivers it nor ever asks about it.
func (b *Broker) prepare(m *message.Message, found *foundProperties) error {
	if b.cfg.RejectTransactions.Load() {
		return refuse(KindNoPermission, "the broker[%s] sending transaction message is forbidden", b.cfg.Name)
	}
	if found.delay || found.timer || found.cron {
		group := m.Properties.Value(message.PropProducerGroup)
		text := "a transactional message cannot be delayed; send it without a delay, or a delayed message when the transaction is done"
		b.txn.Refused(group, txn.ReasonDelayed, text)
		return refuse(KindIllegalMessage, "%s", text)
	}
	if !b.txn.Room() {
		return refuse(KindBusy, "too many transactions are pending; end some of them, or look at 'merlin txn list'")
	}
	return txn.Prepare(m)
}

// Ender gathers ends of transactions that arrived together and applies them
// with one write. Each connection has its own; it is not safe for concurrent use.
type Ender struct {
	broker *Broker
	batch  *txnBatch
	ends   []TransactionEnd
}

// NewEnder returns an Ender.
func (b *Broker) NewEnder() *Ender { return &Ender{broker: b, batch: b.newTxnBatch()} }

// Add adds an end for the next Commit.
func (e *Ender) Add(end TransactionEnd) { e.ends = append(e.ends, end) }

// Len returns how many ends were added since the last Reset.
func (e *Ender) Len() int { return len(e.ends) }

// Reset forgets the ends.
func (e *Ender) Reset() {
	clear(e.ends)
	e.ends = e.ends[:0]
}

// Commit applies the ends and returns them in order, each with its Err: an
// *Error, or nil. They are valid until the next Reset.
func (e *Ender) Commit() []TransactionEnd {
	e.broker.txn.End(e.batch, e.ends)
	for i := range e.ends {
		e.ends[i].Err = e.broker.endRefusal(e.ends[i].Err)
	}
	return e.ends
}

// Waits tells whether what was committed is safe only after an fsync.
func (e *Ender) Waits() bool { return e.broker.store.SyncFlush() && e.batch.batch.Len() > 0 }

// WhenSafe calls fn once what was committed is safe, or cannot be made so.
func (e *Ender) WhenSafe(fn func(error)) { e.broker.store.WhenSafe(e.batch.batch.End(), fn) }

func (b *Broker) endRefusal(err error) error {
	if err == nil {
		return nil
	}
	var end *txn.EndError
	if errors.As(err, &end) {
		kind := KindSystem
		if end.Reason == txn.ReasonLate {
			kind = KindIllegalOperation
		}
		return fail(kind, nil, "%s", end.Error())
	}
	return b.illegal(err)
}

// MalformedEnd counts and tells of an end of a group that cannot be read. It is
// safe for concurrent use.
func (b *Broker) MalformedEnd(group string, err error) {
	b.txn.Refused(group, txn.ReasonMalformed, "an end of a transaction cannot be read: "+err.Error())
}

// TransactionStats returns numbers about transactions.
func (b *Broker) TransactionStats() TransactionStats { return b.txn.Stats() }

// txnProducer is a producer that can be asked.
type txnProducer struct{ info ClientInfo }

func (p txnProducer) ID() string           { return p.info.ID }
func (p txnProducer) Addr() netip.AddrPort { return p.info.Client.RemoteAddr() }

func (p txnProducer) Check(c *txn.Check) error {
	return p.info.Client.CheckTransaction(&TransactionCheck{
		Group: c.Group, Topic: message.TopicHalf, HalfOffset: c.Offset, Position: c.Position,
		MessageID: c.Key, OffsetID: c.OffsetID, Transaction: c.Key, Record: c.Record,
	})
}

// txnLog gives transactions the store.
type txnLog struct{ b *Broker }

func (l txnLog) End() message.Position     { return l.b.store.Max() }
func (l txnLog) Flushed() message.Position { return l.b.store.Flushed() }
func (l txnLog) NewBatch() txn.Batch       { return l.b.newTxnBatch() }

// Record implements txn.Log: what is damaged is gone.
func (l txnLog) Record(pos message.Position) (message.View, error) {
	v, err := l.b.store.Record(pos)
	var corrupt *store.CorruptError
	if errors.Is(err, store.ErrNotFound) || errors.As(err, &corrupt) {
		err = fmt.Errorf("%w: %w", txn.ErrGone, err)
	}
	return v, err
}

func (l txnLog) Bounds(topic string) (first, next message.Offset) {
	return l.b.store.QueueMin(topic, 0), l.b.store.QueueMax(topic, 0)
}

// Behind implements txn.Log: it goes back through the queue.
func (l txnLog) Behind(topic string, queue int32, from message.Position, fn func(message.View)) error {
	s := l.b.store
	var rows [256]store.Entry
	for end := s.QueueMax(topic, queue); end > s.QueueMin(topic, queue); {
		start := max(end-message.Offset(len(rows)), s.QueueMin(topic, queue))
		n, err := s.Entries(topic, queue, start, rows[:end-start])
		if err != nil {
			return err
		}
		for _, row := range rows[:n] {
			if row.Filler() || row.Position < from {
				continue
			}
			if v, err := s.Record(row.Position); err == nil {
				fn(v)
			}
		}
		if n > 0 && !rows[0].Filler() && rows[0].Position < from {
			return nil
		}
		end = start
	}
	return nil
}

func (l txnLog) Place(topic string, off message.Offset) (message.Position, error) {
	var row [1]store.Entry
	if n, err := l.b.store.Entries(topic, 0, off, row[:]); err != nil || n == 0 || row[0].Filler() {
		return message.NoPosition, errors.Join(err, store.ErrNotFound)
	}
	return row[0].Position, nil
}

func (l txnLog) Read(topic string, from message.Offset, fn func(message.View)) (message.Offset, error) {
	res, err := l.b.store.Get(&store.GetQuery{Topic: topic, Offset: from, MaxCount: 32}, nil)
	if err != nil {
		return from, err
	}
	for rest := res.Body; len(rest) > 0; {
		v, err := message.Parse(rest)
		if err != nil {
			return from, err
		}
		fn(v)
		rest = rest[v.Size():]
	}
	return res.Next, nil
}

func (l txnLog) Find(topic, key string) ([]message.View, error) {
	res, err := l.b.store.Query(&store.KeyQuery{Topic: topic, Key: key, Max: 64}, nil)
	var list []message.View
	for rest := res.Body; err == nil && len(rest) > 0; {
		var v message.View
		if v, err = message.Parse(rest); err == nil {
			list = append(list, v)
			rest = rest[v.Size():]
		}
	}
	return list, err
}

// txnBatch implements txn.Batch.
type txnBatch struct {
	b     *Broker
	batch *store.Batch
}

func (b *Broker) newTxnBatch() *txnBatch { return &txnBatch{b, b.store.NewBatch()} }

func (t *txnBatch) Reset()        { t.batch.Reset() }
func (t *txnBatch) Len() int      { return t.batch.Len() }
func (t *txnBatch) Append() error { return illegalHalf(t.b.store.Append(t.batch)) }

func (t *txnBatch) Result(i int) (message.Offset, message.Position) {
	r := t.batch.Result(i)
	return r.Offset, r.Position
}

func (t *txnBatch) Final(m *message.Message) error { return t.b.storeFinal(t.batch, m) }

func (t *txnBatch) Add(m *message.Message) error {
	if m.Topic == message.TopicCheckMax {
		if _, err := t.b.topics.CreateOwn(m.Topic, 1); err != nil {
			return err
		}
	}
	if !m.BornHost.IsValid() {
		m.BornHost = t.b.StoreHost()
	}
	return illegalHalf(t.batch.Add(m))
}

// illegalHalf gives errors of the store the words of txn.
func illegalHalf(err error) error {
	if errors.Is(err, message.ErrTooLarge) || errors.Is(err, store.ErrTooLarge) {
		return fmt.Errorf("%w: %w", txn.ErrIllegal, err)
	}
	return err
}

// TransactionFilter, TransactionInfo and TransactionTimeline are what tools ask
// for and see.
type (
	TransactionFilter   = txn.Filter
	TransactionInfo     = txn.Info
	TransactionTimeline = txn.Timeline
)

// Transactions returns pending transactions, oldest first, and how many are
// pending in all; with a key also those that have ended.
func (b *Broker) Transactions(f TransactionFilter) ([]TransactionInfo, int, error) {
	list, pending, err := b.txn.List(f)
	return list, pending, b.transactionRefusal(err)
}

// Transaction returns what happened to a transaction. The id may be a unique
// key, a key, an offset id, or an offset in the half queue.
func (b *Broker) Transaction(id string) (*TransactionTimeline, error) {
	t, err := b.txn.Show(id)
	return t, b.transactionRefusal(err)
}

// ResolveTransaction ends a transaction by the word of the operator at an address.
func (b *Broker) ResolveTransaction(id string, commit bool, who netip.AddrPort) (*TransactionTimeline, error) {
	v := TransactionRollback
	if commit {
		v = TransactionCommit
	}
	if err := b.mayStore(); err != nil {
		return nil, err
	}
	t, err := b.txn.Resolve(b.newTxnBatch(), id, v, TransactionEnd{Client: who})
	return t, b.transactionRefusal(err)
}

// CheckTransaction asks a producer about a pending transaction as soon as may be.
func (b *Broker) CheckTransaction(id string) (*TransactionTimeline, error) {
	t, err := b.txn.CheckNow(id)
	return t, b.transactionRefusal(err)
}

// ResumeTransaction gives a half that was given up back to the checks.
func (b *Broker) ResumeTransaction(pos message.Position) error {
	if err := b.mayStore(); err != nil {
		return err
	}
	return b.transactionRefusal(b.txn.Resume(b.newTxnBatch(), pos))
}

func (b *Broker) transactionRefusal(err error) error {
	if errors.Is(err, txn.ErrNotFound) {
		return fail(KindNotFound, nil, "%s", err)
	}
	return b.endRefusal(err)
}
