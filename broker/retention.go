package broker

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// Retention says what of the log is deleted when, by the rules of Apache's
// broker, and in addition by a byte budget. All of it may change while the
// broker runs.
type Retention struct {
	ReservedHours atomic.Int64 // a segment is kept so long after its last write
	DeleteWhen    atomic.Value // string: hours of the day at which expired segments go, "04;16"
	DiskMaxUsed   atomic.Int64 // percent of the disk above which they go at any hour
	DiskForce     atomic.Int64 // percent above which the oldest go whatever their age
	DiskWarning   atomic.Int64 // percent above which sends are refused
	ForceClean    atomic.Bool  // DiskForce is in force
	StoreMaxBytes atomic.Int64 // above it the oldest segments go; 0: no such bound
	DeadHours     atomic.Int64 // dead letters are kept so long; 0: as ReservedHours
}

func (r *Retention) setDefaults() {
	r.ReservedHours.Store(72)
	r.DeleteWhen.Store("04")
	r.DiskMaxUsed.Store(75)
	r.DiskForce.Store(85)
	r.DiskWarning.Store(90)
	r.ForceClean.Store(true)
}

const (
	retentionEvery = "@every 10s"
	// dropsPerRun bounds the segments that one run deletes, as Apache does.
	dropsPerRun = 10
	// reasonAge is why segments go that are too old.
	reasonAge = "fileReservedTime"
	// topicRetention is the attribute of a topic that says how long its messages
	// can be read, in ms; -1: as long as the log has them.
	topicRetention = "reserve.time"
)

// retainer deletes what is too old or too much, and closes the broker for
// sends while the disk is full.
type retainer struct {
	cron *cron.Cron
	full atomic.Pointer[Error] // why sends are refused now, nil if they are not
	// expired: segments go because of their age, and not for want of room.
	expired atomic.Bool
}

// startRetention runs it once and then every 10 seconds.
func (b *Broker) startRetention() error {
	b.retain.cron = cron.New(cron.WithChain(cron.SkipIfStillRunning(cron.DiscardLogger)))
	if _, err := b.retain.cron.AddFunc(retentionEvery, func() { b.runRetention(false) }); err != nil {
		return err
	}
	b.runRetention(false)
	b.retain.cron.Start()
	return nil
}

func (b *Broker) stopRetention() {
	if b.retain.cron != nil {
		<-b.retain.cron.Stop().Done()
	}
}

// runRetention is Retain for the cron job: errors are told and tried again.
func (b *Broker) runRetention(manual bool) {
	if err := b.Retain(manual); err != nil {
		b.events.Warn("old messages cannot be deleted; it is tried again", "error", err)
	}
}

// Retain deletes what may go now. manual does it for expired segments at any
// hour.
func (b *Broker) Retain(manual bool) error {
	dropErr := b.dropSegments(manual)
	return errors.Join(dropErr, b.forgetTopics(), b.forgetDead(), b.checkDisk())
}

// dropSegments deletes segments of the log by age, disk and budget.
func (b *Broker) dropSegments(manual bool) error {
	u, err := b.store.Usage()
	if err != nil {
		return err
	}
	upto, why := b.cfg.Retention.upto(&u, b.now(), manual)
	if upto <= u.Min {
		return nil
	}
	b.retain.expired.Store(why == reasonAge)
	n, err := b.store.DropBefore(upto)
	if n > 0 {
		b.events.Warn("segments of the log were deleted", "segments", n, "below", upto, "reason", why)
	}
	return err
}

// upto returns the position below which segments may go now, and why.
func (r *Retention) upto(u *store.Usage, now time.Time, manual bool) (upto message.Position, why string) {
	used := usedPercent(u)
	upto = u.Min
	// The last segment always stays.
	segs := u.Segments[:max(len(u.Segments)-1, 0)]
	segs = segs[:min(len(segs), dropsPerRun)]
	if manual || r.hour(now) || used > float64(r.DiskMaxUsed.Load()) {
		reserved := time.Duration(r.ReservedHours.Load()) * time.Hour
		for _, seg := range segs {
			if seg.ModTime.Add(reserved).After(now) {
				break
			}
			upto, why = seg.Base+message.Position(seg.Size), reasonAge
		}
	}
	if force := r.force(); r.ForceClean.Load() && used > force {
		need := int64((used - force) / 100 * float64(u.DiskTotal))
		for _, seg := range segs {
			if need <= 0 {
				break
			}
			need -= seg.Size
			if end := seg.Base + message.Position(seg.Size); end > upto {
				upto, why = end, "diskSpaceCleanForciblyRatio"
			}
		}
	}
	if budget := r.StoreMaxBytes.Load(); budget > 0 {
		over := u.LogBytes - budget
		for _, seg := range u.Segments[:max(len(u.Segments)-1, 0)] {
			if over <= 0 {
				break
			}
			over -= seg.Size
			if end := seg.Base + message.Position(seg.Size); end > upto {
				upto, why = end, "storeMaxBytes"
			}
		}
	}
	return upto, why
}

// hour tells whether deleteWhen names the hour of a time.
func (r *Retention) hour(now time.Time) bool {
	text, _ := r.DeleteWhen.Load().(string)
	return slices.ContainsFunc(strings.Split(text, ";"), func(h string) bool {
		n, err := strconv.Atoi(strings.TrimSpace(h))
		return err == nil && n == now.Hour()
	})
}

// force and warning are kept within the bounds that Apache's broker has.
func (r *Retention) force() float64   { return float64(min(max(r.DiskForce.Load(), 30), 85)) }
func (r *Retention) warning() float64 { return float64(min(max(r.DiskWarning.Load(), 35), 90)) }

func usedPercent(u *store.Usage) float64 {
	if u.DiskTotal <= 0 {
		return 0
	}
	return 100 * float64(u.DiskTotal-u.DiskFree) / float64(u.DiskTotal)
}

// forgetTopics takes from readers what topics with a time of their own have
// for too long.
func (b *Broker) forgetTopics() error {
	var errs []error
	now := b.now().UnixMilli()
	for _, t := range b.topics.All() {
		text, ok := t.Attributes[topicRetention]
		if !ok || message.IsSystemTopic(t.Name) {
			continue
		}
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms <= 0 || ms >= now {
			continue
		}
		if _, err := b.store.ForgetBefore(t.Name, now-ms); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkDisk refuses sends while the disk is too full, and takes them again.
func (b *Broker) checkDisk() error {
	u, err := b.store.Usage()
	if err != nil {
		return err
	}
	was := b.retain.full.Load()
	limit := b.cfg.Retention.warning()
	used := usedPercent(&u)
	if used <= limit {
		b.retain.full.Store(nil)
		if was != nil {
			b.events.Warn("there is room on the disk again; sends are taken", "free", u.DiskFree)
			b.writableChanged(true)
		}
		return nil
	}
	need := int64((used - limit) / 100 * float64(u.DiskTotal))
	b.retain.full.Store(refuse(KindDiskFull,
		"the broker's disk is %.1f %% full with %s free; sends are refused above %.0f %% (diskSpaceWarningLevelRatio) until %s more are free, reads go on",
		used, sizeText(u.DiskFree), limit, sizeText(need)))
	if was == nil {
		b.events.Warn("the disk is too full; sends are refused", "free", u.DiskFree, "needed", need)
		b.writableChanged(false)
	}
	return nil
}

func (b *Broker) writableChanged(writable bool) {
	if b.onWritable != nil {
		b.onWritable(writable)
	}
}

// diskFull returns why sends are refused for lack of room, or nil.
func (b *Broker) diskFull() error {
	if e := b.retain.full.Load(); e != nil {
		return e
	}
	return nil
}

// TakesMessages returns why no message is taken now, or nil.
func (b *Broker) TakesMessages() error { return b.mayStore() }

// noSpace is the refusal for a write that found no room on the disk.
func (b *Broker) noSpace(cause error) error {
	text := "the broker's disk is full; sends are refused until there is room, reads go on"
	if u, err := b.store.Usage(); err == nil {
		text = fmt.Sprintf("the broker's disk is full: %s are free and the log wants %s more; sends are refused until there is room, reads go on",
			sizeText(u.DiskFree), sizeText(max(roomStep-u.DiskFree, 1<<20)))
	}
	return fail(KindDiskFull, cause, "%s", text)
}

// roomStep is what the log reserves of the disk at a time.
const roomStep = 64 << 20

// sizeText writes bytes with a binary unit.
func sizeText(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
