package broker

import "github.com/merlinmq/merlin/store"

// KeyQuery says which messages to look for by key.
type KeyQuery = store.KeyQuery

// KeyResult is the outcome of QueryMessages.
type KeyResult = store.KeyResult

// Kinds of keys.
const (
	AnyKey    = store.AnyKey
	UniqueKey = store.UniqueKey
	TagKey    = store.TagKey
)

// QueryMessages finds messages by key and appends their records to dst. Finding
// none is no error.
func (b *Broker) QueryMessages(q *KeyQuery, dst []byte) (KeyResult, error) {
	found, err := b.store.Query(q, dst)
	if err != nil {
		return found, fail(KindSystem, err, "looking for %q in %s", q.Key, q.Topic)
	}
	return found, nil
}
