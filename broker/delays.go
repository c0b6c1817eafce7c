package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
	"github.com/merlinmq/merlin/store"
)

// delayRules says what of delays is in force now.
func (b *Broker) delayRules() schedule.Rules {
	return schedule.Rules{
		Levels: b.cfg.DelayLevels, Timer: b.cfg.Timer, Longest: time.Duration(b.cfg.TimerMaxDelaySec.Load()) * time.Second,
		Tail: b.levelTail,
	}
}

// tailOfLevel tells until when a queue of the schedule topic is taken.
func (b *Broker) tailOfLevel(queue int32) int64 {
	if delays := b.delays.Load(); delays != nil {
		return delays.LevelTail(queue)
	}
	return 0
}

// deferred rewrites m to where it waits, if it is to be delayed or recurs.
func (b *Broker) deferred(m *message.Message) (schedule.Deferred, error) {
	rules := b.delayRules()
	d, err := rules.Defer(m, b.now())
	if err != nil {
		return d, b.delayRefusal(err)
	}
	if delays := b.delays.Load(); d.Recurring && delays != nil && !delays.ScheduleRoom(m.Properties.Value(schedule.PropCronName)) {
		return d, refuse(KindIllegalMessage, "there are %d recurring messages, which is the most; remove one first", schedule.MaxSchedules)
	}
	return d, nil
}

// addDeferred adds m to the batch, to wait for its time or as it is.
func (b *Broker) addDeferred(batch *store.Batch, m *message.Message) (schedule.Deferred, error) {
	d, err := b.deferred(m)
	switch {
	case err != nil:
		return d, err
	case d.Code != 0:
		return d, b.illegal(batch.AddCode(m, d.Code))
	}
	return d, b.illegal(batch.Add(m))
}

// delayRefusal turns an error of schedule into a refusal.
func (b *Broker) delayRefusal(err error) error {
	var refused *schedule.RefusedError
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.Is(err, schedule.ErrNoIndex):
		return refuse(KindSystem, "messages cannot be found by key: messageIndexEnable is false; name the message by its offset id")
	case !errors.As(err, &refused):
		return b.storeRefusal(err)
	}
	kinds := map[schedule.Kind]Kind{
		schedule.Illegal: KindIllegalMessage, schedule.Disabled: KindSystem,
		schedule.NotPending: KindIllegalOperation, schedule.Unknown: KindNotFound,
	}
	return refuse(kinds[refused.Kind], "%s", refused.Text)
}

// openDelays starts the delivery of what waits.
func (b *Broker) openDelays(fsys vfs.FS, dir string) error {
	taken, err := readTimerProgress(fsys, filepath.Join(dir, apacheConfigDir, timerFile))
	if err != nil {
		return err
	}
	delays, err := schedule.Open(schedule.Options{
		Log: &delayLog{b: b}, DB: b.db, Rules: b.delayRules, Now: b.now, Host: b.StoreHost,
		NewID:    func() string { return b.ids.Next(b.now()) },
		Imported: b.apache.Delays, Taken: taken, Warn: b.events.Warn, SaveEvery: b.cfg.DelaySaveEvery,
	})
	if err != nil {
		return err
	}
	b.delays.Store(delays)
	return nil
}

// handOverDelays puts what waits where Apache's broker goes on, and returns
// where that is.
func (b *Broker) handOverDelays(fsys vfs.FS, dir string) (over *handedOver, err error) {
	taken, err := readTimerProgress(fsys, filepath.Join(dir, apacheConfigDir, timerFile))
	if err != nil {
		return nil, err
	}
	delays, err := schedule.Open(schedule.Options{
		Log: &delayLog{b: b}, DB: b.db, Rules: b.delayRules, Now: b.now, Host: b.StoreHost,
		Imported: b.apache.Delays, Taken: taken, Warn: b.events.Warn, Idle: true,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, delays.Close()) }()
	over = new(handedOver)
	over.timer, over.levels, err = delays.HandOver()
	return over, err
}

// timerCheckSize is the size in bytes of Apache's file timercheck.
const timerCheckSize = 4096

// readTimerProgress reads how far the timer of Apache's broker was.
func readTimerProgress(fsys vfs.FS, path string) (schedule.Taken, error) {
	text, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) < 24 {
		return schedule.Taken{}, nil
	}
	if err != nil {
		return schedule.Taken{}, fmt.Errorf("read the progress of Apache's timer: %w", err)
	}
	return schedule.Taken{
		Time: int64(binary.BigEndian.Uint64(text)), Offset: message.Offset(binary.BigEndian.Uint64(text[16:])),
	}, nil
}

// delaysArrived tells the delivery of delayed messages of arrivals.
func (b *Broker) delaysArrived(arrivals []store.Arrival) {
	delays := b.delays.Load()
	if delays == nil {
		return
	}
	told := ""
	for i := range arrivals {
		if topic := arrivals[i].Topic; topic != told {
			delays.Arrived(topic)
			told = topic
		}
	}
}

// carryForward keeps what waits before the log below a position is dropped.
func (b *Broker) carryForward(upto message.Position) error {
	if delays := b.delays.Load(); delays != nil {
		return delays.CarryForward(upto)
	}
	return nil
}

// Delays returns the service of delayed and recurring messages.
func (b *Broker) Delays() *schedule.Service { return b.delays.Load() }

// delayLog is the store as schedule sees it.
type delayLog struct {
	b  *Broker
	mu sync.Mutex // guards batch
	// batch is kept between appends, for its memory.
	batch *store.Batch
}

// Bounds implements schedule.Log.
func (l *delayLog) Bounds(topic string, queue int32) (first, end message.Offset) {
	return l.b.store.QueueMin(topic, queue), l.b.store.QueueMax(topic, queue)
}

// Entries implements schedule.Log.
func (l *delayLog) Entries(topic string, queue int32, from message.Offset, dst []schedule.Entry) (int, error) {
	var entries [256]store.Entry
	n, err := l.b.store.Entries(topic, queue, from, entries[:min(len(dst), len(entries))])
	for i, e := range entries[:n] {
		dst[i] = schedule.Entry{Position: e.Position, Size: e.Size, TagCode: e.TagCode}
		if e.Filler() {
			dst[i].Size = 0
		}
	}
	return n, goneError(err)
}

// Record implements schedule.Log.
func (l *delayLog) Record(pos message.Position) (message.View, error) {
	v, err := l.b.store.Record(pos)
	return v, goneError(err)
}

// goneError gives errors of the store the words of schedule: what is damaged
// is gone.
func goneError(err error) error {
	var corrupt *store.CorruptError
	if errors.Is(err, store.ErrNotFound) || errors.As(err, &corrupt) {
		return fmt.Errorf("%w: %w", schedule.ErrGone, err)
	}
	return err
}

// Find implements schedule.Log.
func (l *delayLog) Find(topic, key string, fn func(v message.View) bool) error {
	if l.b.cfg.NoIndex {
		return fmt.Errorf("%w: messageIndexEnable is false", schedule.ErrNoIndex)
	}
	return l.b.store.EachByKey(topic, key, fn)
}

// Append implements schedule.Log.
func (l *delayLog) Append(messages []message.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.batch == nil {
		l.batch = l.b.store.NewBatch()
	}
	l.batch.Reset()
	for i := range messages {
		m := &messages[i]
		m.StoreHost = netip.AddrPort{}
		if err := l.batch.Add(m); err != nil {
			return fmt.Errorf("%w: %w", schedule.ErrIllegal, err)
		}
	}
	err := l.b.store.Append(l.batch)
	if errors.Is(err, store.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", schedule.ErrIllegal, err)
	}
	return spaceError(err)
}

// Sync implements schedule.Log.
func (l *delayLog) Sync() error { return spaceError(l.b.store.Sync()) }

// spaceError gives the store's error of a full disk the word of schedule.
func spaceError(err error) error {
	if errors.Is(err, store.ErrNoSpace) && !errors.Is(err, store.ErrFailed) {
		return fmt.Errorf("%w: %w", schedule.ErrNoSpace, err)
	}
	return err
}
