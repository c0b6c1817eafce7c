package kv

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// Durability says what a write waits for.
type Durability bool

// The two durabilities.
const (
	Buffered Durability = false // survives the process, not a power cut
	Synced   Durability = true  // survives a power cut
)

// Codec turns values into bytes and back. Decode must not keep the slice.
type Codec[V any] struct {
	Append func(dst []byte, v V) ([]byte, error)
	Decode func(b []byte) (V, error)
}

// JSON is the codec for structs that grow with the versions.
func JSON[V any]() Codec[V] {
	return Codec[V]{
		Append: func(dst []byte, v V) ([]byte, error) {
			b, err := json.Marshal(v)
			return append(dst, b...), err
		},
		Decode: func(b []byte) (v V, err error) { return v, json.Unmarshal(b, &v) },
	}
}

// Int64 is the codec for numbers, 8 bytes big-endian.
func Int64[V ~int64]() Codec[V] {
	return Codec[V]{
		Append: func(dst []byte, v V) ([]byte, error) { return binary.BigEndian.AppendUint64(dst, uint64(v)), nil },
		Decode: func(b []byte) (V, error) {
			if len(b) != 8 {
				return 0, fmt.Errorf("a number takes 8 bytes, not %d", len(b))
			}
			return V(binary.BigEndian.Uint64(b)), nil
		},
	}
}

// Bytes is the codec for values that are bytes already.
func Bytes() Codec[[]byte] {
	return Codec[[]byte]{
		Append: func(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil },
		Decode: func(b []byte) ([]byte, error) { return append([]byte{}, b...), nil },
	}
}

// Bucket is a named part of the database whose values have one type.
type Bucket[V any] struct {
	db     *DB
	name   string
	prefix []byte // name and a zero byte
	codec  Codec[V]
}

// NewBucket returns the bucket of that name. The name is part of the stored
// keys: it must not change between versions, be empty or hold a zero byte.
func NewBucket[V any](db *DB, name string, codec Codec[V]) *Bucket[V] {
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		panic(fmt.Sprintf("kv: %q is no name for a bucket", name))
	}
	return &Bucket[V]{db: db, name: name, prefix: append([]byte(name), 0), codec: codec}
}

func (b *Bucket[V]) key(key []byte) []byte {
	return append(append(make([]byte, 0, len(b.prefix)+len(key)), b.prefix...), key...)
}

// Get returns the value of a key and whether there is one.
func (b *Bucket[V]) Get(key []byte) (v V, found bool, err error) {
	raw, found, err := b.db.get(b.key(key))
	if err != nil || !found {
		return v, false, err
	}
	v, err = b.codec.Decode(raw)
	return v, err == nil, b.bad(key, err)
}

// bad wraps an error about the value of a key.
func (b *Bucket[V]) bad(key []byte, err error) error {
	if err == nil {
		return nil
	}
	return &CorruptError{Dir: b.db.dir, Err: fmt.Errorf("the value of %q in %s does not decode: %w", key, b.name, err)}
}

// Put sets the value of a key.
func (b *Bucket[V]) Put(key []byte, v V, d Durability) error {
	var w Batch
	if err := b.PutTo(&w, key, v); err != nil {
		return err
	}
	return b.db.Write(&w, d)
}

// Delete removes a key; it need not be there.
func (b *Bucket[V]) Delete(key []byte, d Durability) error {
	var w Batch
	b.DeleteTo(&w, key)
	return b.db.Write(&w, d)
}

// PutTo adds a Put to a batch.
func (b *Bucket[V]) PutTo(w *Batch, key []byte, v V) error {
	raw, err := b.codec.Append(nil, v)
	if err != nil {
		return fmt.Errorf("kv: %s: encode the value of %q in %s: %w", b.db.dir, key, b.name, err)
	}
	w.batch.Put(b.key(key), raw)
	return nil
}

// DeleteTo adds a Delete to a batch.
func (b *Bucket[V]) DeleteTo(w *Batch, key []byte) { w.batch.Delete(b.key(key)) }

// Range calls fn for the keys from <= key < to in order, as they were when
// Range was called, until fn returns false. A nil from begins at the first key,
// a nil to ends behind the last. The key dies when fn returns; fn may write.
func (b *Bucket[V]) Range(from, to []byte, fn func(key []byte, v V) bool) error {
	r := &util.Range{Start: b.key(from), Limit: append([]byte(b.name), 1)}
	if to != nil {
		r.Limit = b.key(to)
	}
	return b.db.iterate(r, func(key, raw []byte) (bool, error) {
		key = key[len(b.prefix):]
		v, err := b.codec.Decode(raw)
		if err != nil {
			return false, b.bad(key, err)
		}
		return fn(key, v), nil
	})
}

// RangePrefix is Range over the keys that begin with prefix.
func (b *Bucket[V]) RangePrefix(prefix []byte, fn func(key []byte, v V) bool) error {
	return b.Range(prefix, after(prefix), fn)
}

// after returns the first key behind all that begin with prefix; nil if there is none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			next := append([]byte{}, prefix[:i+1]...)
			next[i]++
			return next
		}
	}
	return nil
}

// Empty tells whether the bucket holds nothing.
func (b *Bucket[V]) Empty() (bool, error) {
	empty := true
	r := &util.Range{Start: b.prefix, Limit: append([]byte(b.name), 1)}
	err := b.db.iterate(r, func(_, _ []byte) (bool, error) {
		empty = false
		return false, nil
	})
	return empty, err
}

// Batch gathers writes that are applied together. The zero value is empty and
// ready. It is not safe for concurrent use.
type Batch struct {
	batch leveldb.Batch
}

// Len returns how many writes the batch holds.
func (w *Batch) Len() int { return w.batch.Len() }

// Reset empties the batch for reuse.
func (w *Batch) Reset() { w.batch.Reset() }

// Write applies the batch as a whole; it may be reset and reused afterwards.
func (db *DB) Write(w *Batch, d Durability) error {
	if db.failed.Load() {
		if err := db.reopen(); err != nil {
			return err
		}
	}
	db.mu.RLock()
	defer db.mu.RUnlock()
	if err := db.usableLocked(); err != nil {
		return err
	}
	err := db.ldb.Write(&w.batch, &opt.WriteOptions{Sync: bool(d)})
	if err != nil && !errors.Is(err, leveldb.ErrClosed) {
		db.failed.Store(true)
	}
	return db.wrap("write", err)
}

// iterate walks whole keys over a snapshot, without holding the lock while fn runs.
func (db *DB) iterate(r *util.Range, fn func(key, value []byte) (more bool, err error)) error {
	db.mu.RLock()
	if err := db.usableLocked(); err != nil {
		db.mu.RUnlock()
		return err
	}
	it := db.ldb.NewIterator(r, nil)
	db.mu.RUnlock()
	defer it.Release()
	for it.Next() {
		more, err := fn(it.Key(), it.Value())
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return db.wrap("read", it.Error())
}
