package store

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/message"
)

// maxListed bounds the queue numbers that are found by index; higher ones,
// which only odd records have, are found in a map.
const maxListed = 4096

// topic is what the append path knows of a topic: handles that were found once
// are found again without a lock.
type topic struct {
	name      string
	keyHash   int32       // JavaHash of "name#"
	tagHash   int32       // JavaHash of "name#T#"
	gone      atomic.Bool // it was deleted
	listed    atomic.Pointer[[]*queue]
	mu        sync.Mutex // guards odd, and growing listed
	odd       map[int32]*queue
	queueFrom func(name string, id int32) *consumequeue.Queue
}

// queue is what the append path knows of a queue.
type queue struct {
	topic *topic
	id    int32
	cq    *consumequeue.Queue
	next  message.Offset // the next message's; guarded by the log's append lock
}

func newTopic(name string, from func(string, int32) *consumequeue.Queue) *topic {
	t := &topic{name: name, queueFrom: from}
	t.keyHash = message.ExtendHash(message.JavaHash(name), "#")
	t.tagHash = message.ExtendHash(t.keyHash, "T#")
	return t
}

// queue returns the handle of a queue, making it if needed.
func (t *topic) queue(id int32) *queue {
	if list := t.listed.Load(); list != nil && int(id) < len(*list) {
		if q := (*list)[id]; q != nil {
			return q
		}
	}
	return t.makeQueue(id)
}

func (t *topic) makeQueue(id int32) *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id >= maxListed {
		if q := t.odd[id]; q != nil {
			return q
		}
	}
	var old []*queue
	if list := t.listed.Load(); list != nil {
		old = *list
	}
	if int(id) < len(old) && old[id] != nil {
		return old[id]
	}
	cq := t.queueFrom(t.name, id)
	q := &queue{topic: t, id: id, cq: cq, next: cq.Max()}
	if id >= maxListed {
		if t.odd == nil {
			t.odd = make(map[int32]*queue)
		}
		t.odd[id] = q
		return q
	}
	list := make([]*queue, max(len(old), int(id)+1))
	copy(list, old)
	list[id] = q
	t.listed.Store(&list)
	return q
}

// registry finds topics by name.
type registry struct {
	table *consumequeue.Table
	mu    sync.RWMutex // guards topics; held for writing while a topic is deleted
	topic map[string]*topic
}

func newRegistry(table *consumequeue.Table) *registry {
	return &registry{table: table, topic: make(map[string]*topic)}
}

// find returns the topic, making it if needed. It is no more than a handle: a
// topic has files when its first message is dispatched.
func (r *registry) find(name string) *topic {
	r.mu.RLock()
	t := r.topic[name]
	r.mu.RUnlock()
	if t != nil {
		return t
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t = r.topic[name]; t == nil {
		t = newTopic(name, r.table.Queue)
		r.topic[name] = t
	}
	return t
}

// findBytes is find without a string at hand.
func (r *registry) findBytes(name []byte) *topic {
	r.mu.RLock()
	t := r.topic[string(name)]
	r.mu.RUnlock()
	if t != nil {
		return t
	}
	return r.find(string(name))
}

// replace removes the topic while remove deletes its queues; who looks for it
// meanwhile waits and gets a new one.
func (r *registry) replace(name string, remove func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.topic[name]; t != nil {
		t.gone.Store(true)
		delete(r.topic, name)
	}
	return remove()
}

// checkPlace refuses names and numbers that no queue's folder can have. What
// clients may call a topic is checked above.
func checkPlace[T ~string | ~[]byte](name T, id int32) error {
	if id < 0 {
		return fmt.Errorf("store: queue number %d is negative", id)
	}
	if len(name) == 0 || len(name) > 255 || string(name) == "." || string(name) == ".." {
		return fmt.Errorf("store: %q is no topic name", string(name))
	}
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c == '/' || c == '\\' || c == 0x7F {
			return fmt.Errorf("store: the topic name %q has a character that no folder's name may have", string(name))
		}
	}
	return nil
}
