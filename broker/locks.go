package broker

import (
	"sync"
	"time"
)

// QueueRef names a queue of a broker as clients do.
type QueueRef struct {
	Topic  string
	Broker string
	Queue  int32
}

// Locks keeps which member of a group may consume a queue in order. A lock
// lasts lockLife after it was last taken or refreshed; taking it again
// refreshes it. Safe for concurrent use.
type Locks struct {
	now func() time.Time

	mu     sync.Mutex // guards groups
	groups map[string]map[QueueRef]queueLock
}

type queueLock struct {
	client string
	at     time.Time
}

// lockLife is how long a lock lasts, as in Apache's broker.
const lockLife = 60 * time.Second

func newLocks(now func() time.Time) *Locks {
	return &Locks{now: now, groups: map[string]map[QueueRef]queueLock{}}
}

// Lock takes or refreshes the locks of the queues for the client and returns
// those that it now holds.
func (l *Locks) Lock(group, client string, queues []QueueRef) []QueueRef {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	held := make([]QueueRef, 0, len(queues))
	locks := l.groups[group]
	if locks == nil {
		locks = map[QueueRef]queueLock{}
	}
	for _, q := range queues {
		if lock, taken := locks[q]; taken && lock.client != client && !expired(lock, now) {
			continue
		}
		locks[q] = queueLock{client, now}
		held = append(held, q)
	}
	if len(locks) > 0 {
		l.groups[group] = locks
	}
	return held
}

// Unlock gives back those of the queues that the client holds.
func (l *Locks) Unlock(group, client string, queues []QueueRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	locks := l.groups[group]
	for _, q := range queues {
		if locks[q].client == client {
			delete(locks, q)
		}
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
		if !expired(lock, now) {
			return true
		}
	}
	return false
}

// Holder returns who holds the queue and since when it has not been refreshed.
func (l *Locks) Holder(group string, q QueueRef) (client string, at time.Time, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock, taken := l.groups[group][q]
	if !taken || expired(lock, l.now()) {
		return "", time.Time{}, false
	}
	return lock.client, lock.at, true
}

// Sweep forgets the locks whose time is over.
func (l *Locks) Sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for group, locks := range l.groups {
		for q, lock := range locks {
			if expired(lock, now) {
				delete(locks, q)
			}
		}
		if len(locks) == 0 {
			delete(l.groups, group)
		}
	}
}

func expired(lock queueLock, now time.Time) bool { return now.Sub(lock.at) > lockLife }
