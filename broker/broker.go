package broker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
	"github.com/merlinmq/merlin/store"
	"github.com/merlinmq/merlin/txn"
)

// Options of Open. The zero value of a field means its default.
type Options struct {
	FS       vfs.FS           // default vfs.OS
	Now      func() time.Time // default time.Now
	Settings *Settings        // default DefaultSettings()

	// StoreHost is the address that message ids name where the connection of
	// the producer does not tell it.
	StoreHost netip.AddrPort
	// OnTopics is called after topics changed, to register them.
	OnTopics func(TopicChange)
	// OnWritable is called when the broker begins or ceases to take messages.
	OnWritable func(writable bool)
	// Progress is called while the log is recovered, with bytes.
	Progress func(done, total int64)
	// Context ends an Open that is recovering the log; see store.Options.
	Context context.Context
	// AcceptLoss goes on where files of the log are missing, see store.Options,
	// or the small state is.
	AcceptLoss bool
	Events     Events
}

// Events tell what happens inside a broker, for logs. Nil ones are skipped.
type Events struct {
	Store store.Events
	// Warn says what an operator should know; key-value pairs as in log/slog.
	Warn func(text string, pairs ...any)
}

// Broker is an open data folder and what serves it. See the package comment.
type Broker struct {
	cfg        *Settings
	now        func() time.Time
	started    time.Time
	events     Events
	ids        *message.UniqueIDs
	stamp      []byte // the properties that the broker adds to each message
	onTopics   func(TopicChange)
	onWritable func(bool)
	retain     retainer

	db         *kv.DB
	store      *store.Store
	topics     *Topics
	groups     *Groups
	offsets    *Offsets
	clients    *Clients
	locks      *Locks
	requesters requesters
	modes      requestModes
	alone      atomic.Bool
	traffic    traffic
	apache     ApacheImport
	holds      *holds
	pulls      pullLog
	filters    filterCache
	stats      *Stats
	delays     atomic.Pointer[schedule.Service] // set at the end of open
	levelTail  func(queue int32) int64          // tailOfLevel, bound once
	meters     meters
	txn        *txn.Coordinator
	dead       deadLetters
	redrives   *redrives // set at the end of open
	// recovered is what the store found when it was opened.
	recovered store.Recovery
	popping
	refusedHolds, refusedPops refusals

	storeHost atomic.Pointer[netip.AddrPort]
	stop      context.CancelFunc
	jobs      sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

// Open opens the data folder and starts what a broker does by itself. It
// returns a broker that is ready: recovered, its queues agreeing with its log.
func Open(dir string, o Options) (*Broker, error) {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Settings == nil {
		o.Settings = DefaultSettings()
	}
	if o.Events.Warn == nil {
		o.Events.Warn = func(string, ...any) {}
	}
	b := &Broker{
		cfg: o.Settings, now: o.Now, started: o.Now(), events: o.Events, onTopics: o.OnTopics, onWritable: o.OnWritable,
		holds: newHolds(o.Settings.MaxHolds), stats: newStats(o.Now()),
		ids: message.NewUniqueIDs(o.StoreHost.Addr(), uint32(o.Now().UnixNano())),
	}
	b.SetStoreHost(o.StoreHost)
	b.stamp = stamp(o.Settings)
	b.levelTail = b.tailOfLevel
	if err := b.openAll(dir, o); err != nil {
		return nil, errors.Join(err, b.closeParts())
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.holds.start()
	b.jobs.Go(func() { b.runJobs(ctx) })
	return b, nil
}

func stamp(s *Settings) []byte {
	var p message.Properties
	p = p.Append(message.PropRegion, s.Region)
	p = p.Append(message.PropTraceOn, fmt.Sprint(s.TraceOn))
	return p.Append(message.PropCluster, s.Cluster)
}

// openAll opens the parts; closeParts ends those that are open, also after an
// error.
func (b *Broker) openAll(dir string, o Options) error {
	if err := b.open(dir, o); err != nil {
		return err
	}
	if err := b.openDelays(o.FS, dir); err != nil {
		return err
	}
	if err := errors.Join(b.openDead(), b.openRedrives()); err != nil {
		return err
	}
	if err := b.startRetention(); err != nil {
		return err
	}
	return b.openPops()
}

func (b *Broker) open(dir string, o Options) (err error) {
	tell := o.Events.Store.Recovered
	o.Events.Store.Recovered = func(r store.Recovery) {
		b.recovered = r
		if tell != nil {
			tell(r)
		}
	}
	if err = b.checkState(dir, o); err != nil { // before anything is changed
		return err
	}
	if b.store, err = store.Open(dir, b.storeOptions(o)); err != nil {
		return err
	}
	if err = b.openTables(o.FS, dir); err != nil {
		return err
	}
	return b.openTransactions()
}

func (b *Broker) storeOptions(o Options) store.Options {
	s := o.Settings
	return store.Options{
		FS: o.FS, Now: o.Now, SegmentSize: s.SegmentSize, HotBytes: s.HotBytes, QueueFileEntries: s.QueueFileEntries,
		IndexSlots: s.IndexSlots, IndexItems: s.IndexItems, SyncFlush: s.SyncFlush, NoIndex: s.NoIndex, FlushEvery: s.FlushEvery,
		CheckpointEvery: s.CheckpointEvery, Transfer: &s.Transfer,
		StoreHost: b.StoreHost, Progress: o.Progress, Context: o.Context, Events: o.Events.Store,
		OnArrive: b.onArrive,
		TagCode:  s.DelayLevels.EntryCode, BeforeDrop: b.beforeDrop, AcceptLoss: o.AcceptLoss,
	}
}

func (b *Broker) topicsChanged(c TopicChange) {
	if b.onTopics != nil {
		b.onTopics(c)
	}
}

// StoreHost returns the address that message ids name by default.
func (b *Broker) StoreHost() netip.AddrPort { return *b.storeHost.Load() }

// SetStoreHost sets the address that message ids name by default, once the
// listener's port is known.
func (b *Broker) SetStoreHost(a netip.AddrPort) { b.storeHost.Store(&a) }

// Settings returns the broker's settings; the atomic ones may be changed.
func (b *Broker) Settings() *Settings { return b.cfg }

// Topics returns the table of topics.
func (b *Broker) Topics() *Topics { return b.topics }

// Groups returns the table of consumer groups.
func (b *Broker) Groups() *Groups { return b.groups }

// Offsets returns the committed offsets.
func (b *Broker) Offsets() *Offsets { return b.offsets }

// Clients returns the table of connected producers and consumers.
func (b *Broker) Clients() *Clients { return b.clients }

// Locks returns the queue locks of orderly consumers.
func (b *Broker) Locks() *Locks { return b.locks }

// Store returns the store, for reading.
func (b *Broker) Store() *store.Store { return b.store }

// Started returns when the broker was opened.
func (b *Broker) Started() time.Time { return b.started }

// Holds returns how many pulls are parked.
func (b *Broker) Holds() int { return b.holds.Len() }

// runJobs does what is due from time to time: saving offsets, forgetting
// clients that went silent.
func (b *Broker) runJobs(ctx context.Context) {
	save := time.NewTicker(b.cfg.OffsetFlushEvery)
	defer save.Stop()
	sweep := time.NewTicker(time.Second)
	defer sweep.Stop()
	scan := time.NewTicker(10 * time.Second)
	defer scan.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			b.sweepPops()
		case <-save.C:
			b.publishPops()
			if err := b.offsets.Flush(); err != nil {
				b.events.Warn("committed offsets could not be saved; they are tried again", "error", err)
			}
		case <-scan.C:
			b.clients.Expire()
			if err := b.locks.Sweep(); err != nil {
				b.events.Warn("locks that are over could not be removed; they are tried again", "error", err)
			}
			b.pulls.sweep(b.now())
			b.meters.sample(b.meterNow())
			b.traffic.sample(b.now())
		}
	}
}

// AnswerParked answers the pulls and pops that wait as if their time were up;
// from now on none waits. Close does it too, when connections may be gone.
func (b *Broker) AnswerParked() {
	b.holds.close()
	b.popWaits.Load().Close()
}

// Close answers the parked pulls, saves what is to be saved and closes the
// folder. It returns the errors of all of that; later calls return the same.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		b.AnswerParked()
		b.stop()
		b.jobs.Wait()
		b.closeErr = b.closeParts()
	})
	return b.closeErr
}

// closeParts ends what openAll began: first what works by itself.
func (b *Broker) closeParts() error {
	var errs []error
	b.stopRetention()
	b.redrives.close()
	if delays := b.delays.Load(); delays != nil {
		errs = append(errs, delays.Close()) // while the store can still make durable what was delivered
	}
	if b.txn != nil {
		b.txn.Stop()
	}
	if b.store != nil {
		errs = append(errs, b.store.Close())
	}
	if b.txn != nil {
		errs = append(errs, b.txn.Close()) // saves as far as the store has made durable
	}
	if b.pops != nil {
		b.publishPops()
		errs = append(errs, b.pops.Close())
	}
	if b.offsets != nil {
		errs = append(errs, b.offsets.Flush())
	}
	if b.db != nil {
		errs = append(errs, b.db.Close())
	}
	return errors.Join(errs...)
}

// storeRefusal turns an error of the store into a refusal.
func (b *Broker) storeRefusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNoSpace):
		return b.noSpace(err)
	case errors.Is(err, store.ErrFailed):
		return fail(KindUnavailable, err, "the broker takes no messages since a write to its disk failed; it must be restarted")
	case errors.Is(err, store.ErrTooLarge), errors.Is(err, message.ErrTooLarge):
		return fail(KindIllegalMessage, err, "the message is too large")
	case errors.Is(err, store.ErrClosed):
		return fail(KindUnavailable, nil, "the broker is shutting down")
	}
	return fail(KindSystem, err, "storing the message")
}

// illegal turns an error of encoding a message into a refusal.
func (b *Broker) illegal(err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return b.storeRefusal(err)
}
