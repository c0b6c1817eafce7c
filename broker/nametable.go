package broker

import (
	"hash/maphash"
	"maps"
	"sync/atomic"
)

const nameShards = 256

// nameTable finds values by name without locks and without allocations. A
// change copies one shard of it, so tens of thousands of names stay cheap to
// add to. Readers may run at any time; writers must keep each other out.
type nameTable[T any] struct {
	seed   maphash.Seed
	shards [nameShards]atomic.Pointer[map[string]*T]
	len    atomic.Int64
}

func newNameTable[T any]() *nameTable[T] { return &nameTable[T]{seed: maphash.MakeSeed()} }

func (t *nameTable[T]) get(name string) *T {
	if m := t.shards[maphash.String(t.seed, name)%nameShards].Load(); m != nil {
		return (*m)[name]
	}
	return nil
}

func (t *nameTable[T]) getBytes(name []byte) *T {
	if m := t.shards[maphash.Bytes(t.seed, name)%nameShards].Load(); m != nil {
		return (*m)[string(name)]
	}
	return nil
}

// set puts a value under a name; nil removes the name.
func (t *nameTable[T]) set(name string, v *T) {
	shard := &t.shards[maphash.String(t.seed, name)%nameShards]
	next := map[string]*T{}
	if old := shard.Load(); old != nil {
		next = maps.Clone(*old)
	}
	before := len(next)
	if v == nil {
		delete(next, name)
	} else {
		next[name] = v
	}
	t.len.Add(int64(len(next) - before))
	shard.Store(&next)
}

// each calls fn for every value, in no order, until it returns false.
func (t *nameTable[T]) each(fn func(name string, v *T) bool) {
	for i := range t.shards {
		m := t.shards[i].Load()
		if m == nil {
			continue
		}
		for name, v := range *m {
			if !fn(name, v) {
				return
			}
		}
	}
}
