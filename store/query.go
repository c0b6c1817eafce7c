package store

import (
	"bytes"
	"errors"
	"math"

	"github.com/merlinmq/merlin/message"
)

// KeyKind says what a key is.
type KeyKind int

// Kinds of keys.
const (
	AnyKey    KeyKind = iota // one of the KEYS, or the unique key
	UniqueKey                // the unique key
	TagKey                   // the tags
)

// KeyQuery says what to look for.
type KeyQuery struct {
	Topic string
	Key   string
	Kind  KeyKind
	Begin int64 // store time in ms
	End   int64 // 0: no bound
	Max   int   // at most 64 are given; 0: 32
}

// KeyResult is the outcome of a Query.
type KeyResult struct {
	Count        int
	Body         []byte // the caller's buffer with the records appended, by position
	LastTime     int64  // store time of the newest record in the index, ms
	LastPosition message.Position
}

const (
	defaultQueryMax = 32
	maxQueryMax     = 64
)

// Query finds messages by key and appends their records to dst. Topic and key
// are compared on the record, so that no other message is found whose key has
// the same hash.
func (s *Store) Query(q *KeyQuery, dst []byte) (KeyResult, error) {
	r := KeyResult{Body: dst}
	r.LastPosition, r.LastTime = s.index.Last()
	limit := min(q.Max, maxQueryMax)
	if limit <= 0 {
		limit = defaultQueryMax
	}
	end := q.End
	if end <= 0 {
		end = math.MaxInt64
	}
	key := q.Topic + "#" + q.Key
	if q.Kind == TagKey {
		key = q.Topic + "#T#" + q.Key
	}
	found, err := s.index.Find([]byte(key), q.Begin, end, limit)
	if err != nil {
		return r, s.readError(err)
	}
	last := message.NoPosition
	for _, pos := range found {
		if pos == last {
			continue // found by two of its keys
		}
		last = pos
		v, err := s.log.Record(pos)
		if err != nil || !q.matches(v) {
			continue // gone, or the key has only the same hash
		}
		r.Body = append(r.Body, v...)
		r.Count++
	}
	return r, nil
}

// searchChunk is how many places of the index EachByKey holds at a time.
const searchChunk = 1024

// EachByKey calls fn with all records of a topic that have a key or unique key,
// newest first, until it returns false. fn may use the store; v is a copy.
func (s *Store) EachByKey(topic, key string, fn func(v message.View) bool) error {
	q := KeyQuery{Topic: topic, Key: key}
	below := message.Position(math.MaxInt64)
	var found []message.Position
	for {
		found = found[:0]
		err := s.index.Search([]byte(topic+"#"+key), 0, math.MaxInt64, func(pos message.Position) bool {
			if pos < below {
				found = append(found, pos)
			}
			return len(found) < searchChunk
		})
		if err != nil {
			return s.readError(err)
		}
		for _, pos := range found {
			below = pos
			v, err := s.Record(pos)
			var corrupt *CorruptError
			if errors.Is(err, ErrNotFound) || errors.As(err, &corrupt) {
				continue
			}
			if err != nil {
				return err
			}
			if q.matches(v) && !fn(v) {
				return nil
			}
		}
		if len(found) < searchChunk {
			return nil
		}
	}
}

func (q *KeyQuery) matches(v message.View) bool {
	if string(v.Topic()) != q.Topic {
		return false
	}
	p := v.Properties()
	is := func(name string) bool {
		value, ok := p.Get(name)
		return ok && string(value) == q.Key
	}
	switch q.Kind {
	case UniqueKey:
		return is(message.PropUniqueKey)
	case TagKey:
		return is(message.PropTags)
	}
	if is(message.PropUniqueKey) {
		return true
	}
	for key := range p.Keys() {
		if bytes.Equal(key, []byte(q.Key)) {
			return true
		}
	}
	return false
}
