package broker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Where a re-drive sends to.
const (
	RedriveOriginal = "original" // each message to the topic that it came from
	RedriveRetry    = "retry"    // to the retry topic: the group alone gets it
	RedriveTopic    = "topic"    // all to one topic
)

// RedriveState is how far a re-drive is.
type RedriveState string

// The states. A re-drive that was stopped or cancelled goes on where it was
// when it is resumed.
const (
	RedriveRunning   RedriveState = "running"
	RedriveDone      RedriveState = "done"
	RedriveStopped   RedriveState = "stopped"   // it cannot go on: Error says why
	RedriveCancelled RedriveState = "cancelled" // an operator stopped it
)

// RedriveSpec asks that dead letters are sent again.
type RedriveSpec struct {
	ID     string     `json:"id"` // chosen by who asks; asking twice for one id is asking once
	Group  string     `json:"group"`
	To     string     `json:"to"`              // default RedriveOriginal
	Topic  string     `json:"topic,omitempty"` // with RedriveTopic
	Rate   int        `json:"rate,omitempty"`  // messages a second; 0: as fast as it goes
	Filter DeadFilter `json:"filter"`
}

// Redrive is a re-drive and how far it is. It covers the dead letters that
// there were when it was asked for.
type Redrive struct {
	RedriveSpec
	State   RedriveState   `json:"state"`
	First   message.Offset `json:"first"`
	End     message.Offset `json:"end"`
	Next    message.Offset `json:"next"` // what is before it is done
	Sent    int64          `json:"sent"`
	Skipped int64          `json:"skipped"` // did not match
	Failed  int64          `json:"failed"`  // could not be sent, and stay what they are
	Gone    int64          `json:"gone"`    // deleted meanwhile, or unreadable
	Created int64          `json:"created"` // ms
	Updated int64          `json:"updated"` // ms
	Error   string         `json:"error,omitempty"`
	Waiting string         `json:"waiting,omitempty"` // why it makes no progress now; it tries again

	// From is where in the log the messages may stand that were sent after this
	// was stored; NoPosition: none were.
	From message.Position `json:"from"`
	// Carried is the count of its queue's mark when it began.
	Carried int64 `json:"carried,omitempty"`
}

// Bounds of re-drives.
const (
	maxRedrives     = 8    // at work at a time
	keptRedrives    = 1000 // that are done
	keptHalted      = 100  // that were stopped or cancelled, with their results: they may be resumed
	keptResults     = 20   // of those that are done, which keep their results
	redriveBatch    = 1024 // messages in one append
	redriveScan     = 4096 // dead letters looked at for it
	redriveBytes    = 1 << 20
	redrivePause    = time.Second     // before it tries again
	redriveSlack    = 5 * time.Second // how far behind its rate it may be and catch up
	maxRedriveIDLen = 64
)

// redrives does the re-drives. Safe for concurrent use.
type redrives struct {
	b       *Broker
	db      *kv.DB
	stored  *kv.Bucket[Redrive]
	results *kv.Bucket[[]byte] // see redriveResult
	ctx     context.Context
	end     context.CancelFunc
	work    sync.WaitGroup

	startMu sync.Mutex // one start or resume at a time; taken before mu

	mu   sync.Mutex // guards what follows
	jobs map[string]*redriveJob
	sent map[string]int64 // by group, since the start
}

// redriveJob is a re-drive, at work or not.
type redriveJob struct {
	state  Redrive            // guarded by redrives.mu
	cancel context.CancelFunc // guarded by redrives.mu, as done
	done   chan struct{}      // closed when it is not at work any more; nil: it never was
}

// openRedrives loads the re-drives and lets those that were at work go on.
func (b *Broker) openRedrives() error {
	r := &redrives{
		b: b, db: b.db, jobs: map[string]*redriveJob{}, sent: map[string]int64{},
		stored:  kv.NewBucket(b.db, "redrive", kv.JSON[Redrive]()),
		results: kv.NewBucket(b.db, "redriveresult", kv.Bytes()),
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	b.redrives = r
	err := r.stored.Range(nil, nil, func(_ []byte, s Redrive) bool {
		r.jobs[s.ID] = &redriveJob{state: s}
		return true
	})
	if err != nil {
		return err
	}
	var waiting []*redriveJob
	for _, id := range slices.Sorted(maps.Keys(r.jobs)) {
		if j := r.jobs[id]; j.state.State == RedriveRunning {
			waiting = append(waiting, j)
		}
	}
	for _, j := range waiting {
		r.launch(j)
	}
	return nil
}

// close stops the work where it is; the next open goes on.
func (r *redrives) close() {
	if r == nil {
		return
	}
	r.startMu.Lock() // nothing begins after it
	r.end()
	r.startMu.Unlock()
	r.work.Wait()
}

// launch begins the work of a job, which is not at work.
func (r *redrives) launch(j *redriveJob) {
	s := r.view(j)
	s.Waiting = ""
	if r.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	done := make(chan struct{})
	w := &redriveWork{r: r, job: j, state: s, batch: r.b.store.NewBatch()}
	r.mu.Lock()
	j.state, j.cancel, j.done = s, cancel, done
	r.mu.Unlock()
	r.work.Go(func() {
		defer close(done)
		defer cancel()
		w.run(ctx)
	})
}

// Redrive begins to send dead letters of a group again, in the background and
// across restarts, each exactly once for one id. If there is a re-drive of the
// id, it returns that.
func (b *Broker) Redrive(spec RedriveSpec) (Redrive, error) {
	spec.To = cmp.Or(spec.To, RedriveOriginal)
	if err := checkRedrive(&spec); err != nil {
		return Redrive{}, err
	}
	r := b.redrives
	r.startMu.Lock()
	defer r.startMu.Unlock()
	r.mu.Lock()
	old := r.jobs[spec.ID]
	r.mu.Unlock()
	if old != nil {
		return r.sameAs(old, &spec)
	}
	if err := r.mayStart(&spec); err != nil {
		return Redrive{}, err
	}
	j, err := r.create(spec)
	if err != nil {
		return Redrive{}, err
	}
	r.launch(j)
	return r.view(j), nil
}

// create stores a re-drive that is to begin.
func (r *redrives) create(spec RedriveSpec) (*redriveJob, error) {
	b, topic := r.b, message.DLQTopic(spec.Group)
	b.dead.mu.Lock() // nothing is purged meanwhile
	defer b.dead.mu.Unlock()
	mark, _, err := b.dead.marks.Get([]byte(topic))
	if err != nil {
		return nil, fail(KindSystem, err, "reading where %s begins", topic)
	}
	// Offsets name the dead letters: a power cut must not give them to others.
	if err := b.store.Sync(); err != nil {
		return nil, b.storeRefusal(err)
	}
	now := b.now().UnixMilli()
	s := Redrive{
		RedriveSpec: spec, State: RedriveRunning, First: b.store.QueueMin(topic, 0), End: b.store.QueueMax(topic, 0),
		Created: now, Updated: now, From: message.NoPosition, Carried: mark.Carried,
	}
	if s.Next = s.First; s.First == s.End {
		return nil, refuse(KindNotFound, "the group %s has no dead letters here; 'merlin dlq list' shows the groups that have some", spec.Group)
	}
	if err := r.forgetOld(); err != nil {
		return nil, err
	}
	if err := r.stored.Put([]byte(s.ID), s, kv.Synced); err != nil {
		return nil, fail(KindSystem, err, "storing the re-drive %s", s.ID)
	}
	j := &redriveJob{state: s}
	r.mu.Lock()
	r.jobs[s.ID] = j
	r.mu.Unlock()
	return j, nil
}

func checkRedrive(spec *RedriveSpec) error {
	if len(spec.ID) == 0 || len(spec.ID) > maxRedriveIDLen || strings.Trim(spec.ID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != "" {
		return refuse(KindInvalidParameter, "the re-drive id %q: write 1 to %d letters, digits, _ . and -", spec.ID[:min(len(spec.ID), maxRedriveIDLen)], maxRedriveIDLen)
	}
	if spec.Rate < 0 {
		return refuse(KindInvalidParameter, "the rate %d is negative; it is messages a second, 0 for no bound", spec.Rate)
	}
	switch spec.To {
	case RedriveOriginal, RedriveRetry:
	case RedriveTopic:
		if spec.Topic == "" {
			return refuse(KindInvalidParameter, "the re-drive names no topic to send to")
		}
	default:
		return refuse(KindInvalidParameter, "a re-drive goes to %q; it can go to original, retry or topic", spec.To)
	}
	return nil
}

// sameAs returns a re-drive that is there, if it is what is asked for.
func (r *redrives) sameAs(j *redriveJob, spec *RedriveSpec) (Redrive, error) {
	s := r.view(j)
	if s.Group != spec.Group || s.To != spec.To || s.Topic != spec.Topic || !sameFilter(&s.Filter, &spec.Filter) {
		return Redrive{}, refuse(KindInvalidParameter, "there is a re-drive %s of the group %s already, with another target or filter; choose another id", s.ID, s.Group)
	}
	return s, nil
}

func sameFilter(a, b *DeadFilter) bool {
	x, y := *a, *b
	x.Properties, y.Properties = nil, nil
	return x.From == y.From && x.To == y.To && x.Topic == y.Topic && x.Key == y.Key && x.Tag == y.Tag && x.ID == y.ID &&
		x.Reason == y.Reason && maps.Equal(a.Properties, b.Properties)
}

// mayStart refuses what cannot work.
func (r *redrives) mayStart(spec *RedriveSpec) error {
	b := r.b
	if r.ctx.Err() != nil {
		return refuse(KindUnavailable, "the broker is shutting down")
	}
	if err := b.hasDead(spec.Group); err != nil {
		return err
	}
	if b.cfg.Permission.Load()&PermWrite == 0 {
		return refuse(KindNoPermission, "the broker[%s] sending message is forbidden", b.cfg.Name)
	}
	if err := b.mayStore(); err != nil {
		return err
	}
	if n := r.runningOf(""); n >= maxRedrives {
		return refuse(KindBusy, "%d re-drives are at work, which is the most; wait for one of them, or cancel one: merlin dlq redrive --list shows them", n)
	}
	return r.checkTarget(spec)
}

// checkTarget refuses a target that takes no messages: of a re-drive to the
// original topics, that of the first dead letter.
func (r *redrives) checkTarget(spec *RedriveSpec) error {
	to, err := r.b.redriveTarget(spec)
	if err != nil || spec.To != RedriveOriginal {
		return err
	}
	topic := message.DLQTopic(spec.Group)
	first := r.b.store.QueueMin(topic, 0)
	readErr := r.b.eachDead(topic, first, min(first+redriveScan, r.b.store.QueueMax(topic, 0)), func(d *deadView) bool {
		if !spec.Filter.matches(d) {
			return true
		}
		_, _, err = to.place(d)
		return false
	})
	return errors.Join(readErr, err)
}
