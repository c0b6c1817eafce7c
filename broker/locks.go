package broker

import (
	"bytes"
	"encoding/binary"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
)

// QueueRef names a queue of a broker as clients do.
type QueueRef struct {
	Topic  string
	Broker string
	Queue  int32
}

// Locks keeps which member of a group may consume a queue in order. A lock
// lasts for the life of a lock after it was last taken or refreshed; taking it
// again refreshes it. Who holds what is stored, so that a restart gives no queue
// to a second member while the first one still believes in its lock: after one,
// a lock lasts as if it had been refreshed then. Safe for concurrent use.
type Locks struct {
	now    func() time.Time
	life   func() time.Duration
	db     *kv.DB // nil: nothing is stored
	stored *kv.Bucket[string]

	mu     sync.Mutex // guards groups
	groups map[string]map[QueueRef]queueLock
}

type queueLock struct {
	client string
	since  time.Time // when the client took it
	at     time.Time // when it last took or refreshed it
}

// lockLife is how long a lock lasts by default, as in Apache's broker.
const lockLife = 60 * time.Second

// openLocks loads who held what. Without a database nothing is kept.
func openLocks(db *kv.DB, life func() time.Duration, now func() time.Time) (*Locks, error) {
	l := &Locks{now: now, life: life, db: db, groups: map[string]map[QueueRef]queueLock{}}
	if db == nil {
		return l, nil
	}
	l.stored = kv.NewBucket(db, "lock", kv.JSON[string]())
	err := l.stored.Range(nil, nil, func(key []byte, client string) bool {
		if group, q, ok := parseLockKey(key); ok {
			if l.groups[group] == nil {
				l.groups[group] = map[QueueRef]queueLock{}
			}
			l.groups[group][q] = queueLock{client, now(), now()}
		}
		return true
	})
	return l, err
}

// lockKey is group, zero, topic, zero, broker, zero, queue in 4 bytes.
func lockKey(group string, q QueueRef) []byte {
	var b []byte
	for _, name := range []string{group, q.Topic, q.Broker} {
		b = append(append(b, name...), 0)
	}
	return binary.BigEndian.AppendUint32(b, uint32(q.Queue))
}

func parseLockKey(key []byte) (group string, q QueueRef, ok bool) {
	parts := bytes.SplitN(key, []byte{0}, 4)
	if len(parts) != 4 || len(parts[3]) != 4 {
		return "", q, false
	}
	return string(parts[0]), QueueRef{string(parts[1]), string(parts[2]), int32(binary.BigEndian.Uint32(parts[3]))}, true
}

// save stores who holds the queues from now on; "" for nobody. A process that
// is killed has saved it, a power cut may lose it.
func (l *Locks) save(group, client string, queues []QueueRef) error {
	if l.db == nil || len(queues) == 0 {
		return nil
	}
	var w kv.Batch
	for _, q := range queues {
		if client == "" {
			l.stored.DeleteTo(&w, lockKey(group, q))
		} else if err := l.stored.PutTo(&w, lockKey(group, q), client); err != nil {
			return fail(KindSystem, err, "storing who holds queue %d of %s for the group %s", q.Queue, q.Topic, group)
		}
	}
	if err := l.db.Write(&w, kv.Buffered); err != nil {
		return fail(KindSystem, err, "storing the locks of the group %s", group)
	}
	return nil
}

// Lock takes or refreshes the locks of the queues for the client and returns
// those that it now holds. An error is one of storing that; then what is
// returned is what it held before.
func (l *Locks) Lock(group, client string, queues []QueueRef) ([]QueueRef, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	held := make([]QueueRef, 0, len(queues))
	locks := l.groups[group]
	if locks == nil {
		locks = map[QueueRef]queueLock{}
	}
	var fresh []QueueRef
	for _, q := range queues {
		lock, taken := locks[q]
		switch {
		case taken && lock.client == client:
			lock.at = now
			locks[q] = lock
			held = append(held, q)
		case !taken || l.expired(lock, now):
			fresh = append(fresh, q)
		}
	}
	if err := l.save(group, client, fresh); err != nil {
		return held, err
	}
	for _, q := range fresh {
		locks[q] = queueLock{client, now, now}
	}
	if len(locks) > 0 {
		l.groups[group] = locks
	}
	return append(held, fresh...), nil
}

// Unlock gives back those of the queues that the client holds.
func (l *Locks) Unlock(group, client string, queues []QueueRef) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	locks := l.groups[group]
	var back []QueueRef
	for _, q := range queues {
		if lock, taken := locks[q]; taken && lock.client == client {
			back = append(back, q)
		}
	}
	if err := l.save(group, "", back); err != nil {
		return err
	}
	l.dropLocked(group, back)
	return nil
}

func (l *Locks) dropLocked(group string, queues []QueueRef) {
	locks := l.groups[group]
	for _, q := range queues {
		delete(locks, q)
	}
	if len(locks) == 0 {
		delete(l.groups, group)
	}
}

// Any tells whether a member of the group holds a lock that lives.
func (l *Locks) Any(group string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, lock := range l.groups[group] {
		if !l.expired(lock, now) {
			return true
		}
	}
	return false
}

// Lock is who holds a queue.
type Lock struct {
	Client string    `json:"client"`
	Since  time.Time `json:"since"`     // when it took the lock, or the broker began
	At     time.Time `json:"refreshed"` // when it last refreshed it
	Until  time.Time `json:"until"`     // when it ends unless it is refreshed
}

// Holder returns who holds the queue; false if nobody does.
func (l *Locks) Holder(group string, q QueueRef) (Lock, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock, taken := l.groups[group][q]
	if !taken || l.expired(lock, l.now()) {
		return Lock{}, false
	}
	return Lock{lock.client, lock.since, lock.at, lock.at.Add(l.life())}, true
}

// Sweep forgets the locks whose time is over.
func (l *Locks) Sweep() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for group, locks := range l.groups {
		var over []QueueRef
		for q, lock := range locks {
			if l.expired(lock, now) {
				over = append(over, q)
			}
		}
		if err := l.save(group, "", over); err != nil {
			return err
		}
		l.dropLocked(group, over)
	}
	return nil
}

func (l *Locks) expired(lock queueLock, now time.Time) bool { return now.Sub(lock.at) > l.life() }
