package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// MessageAt returns the message of an offset id: the 32 or 56 hex characters
// that a broker answers a send with. The broker is asked under the address in
// the id.
func (a *Admin) MessageAt(ctx context.Context, offsetID string) (*Message, error) {
	host, pos, err := message.ParseOffsetID(offsetID)
	if err != nil {
		return nil, err
	}
	var f remoting.Fields
	f.Int("offset", int64(pos))
	ans, err := a.call(ctx, roleBroker, host.String(), "look at message "+offsetID, remoting.ReqViewMessageByID, f, nil)
	if err != nil {
		return nil, err
	}
	list, err := records(ans.body, "")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("message %s at %s: %w", offsetID, host, ErrNotFound)
	}
	return list[0], nil
}

// KeyQuery says what MessagesByKey looks for.
type KeyQuery struct {
	Topic      string
	Key        string    // one of a message's keys, or its unique id
	Unique     bool      // Key is a unique id
	Begin, End time.Time // of storing; zero is open
	Max        int       // default 32
}

// MessagesByKey asks every broker of the topic's route for messages by key or
// unique id, oldest first. None is no error.
func (a *Admin) MessagesByKey(ctx context.Context, q KeyQuery) ([]*Message, error) {
	route, err := a.Route(ctx, q.Topic)
	if err != nil {
		return nil, err
	}
	if q.Max == 0 {
		q.Max = 32
	}
	end := int64(math.MaxInt64)
	if !q.End.IsZero() {
		end = q.End.UnixMilli()
	}
	begin := int64(0)
	if !q.Begin.IsZero() {
		begin = q.Begin.UnixMilli()
	}
	var f remoting.Fields
	f.Str("topic", q.Topic)
	f.Str("key", q.Key)
	f.Int("maxNum", int64(q.Max))
	f.Int("beginTimestamp", begin)
	f.Int("endTimestamp", end)
	if q.Unique {
		f.Str("_UNIQUE_KEY_QUERY", "true")
	}
	var found []*Message
	for _, b := range routeBrokers(route) {
		ans, err := a.call(ctx, roleBroker, b.Addr, fmt.Sprintf("look for key %s in topic %s", q.Key, q.Topic), remoting.ReqQueryMessage, f, nil)
		if isCode(err, remoting.RespQueryNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list, err := records(ans.body, b.Name)
		if err != nil {
			return nil, err
		}
		// The index knows hashes of keys: what only shares the hash goes.
		found = append(found, slices.DeleteFunc(list, func(m *Message) bool { return !q.matches(m) })...)
	}
	slices.SortStableFunc(found, func(x, y *Message) int { return x.Stored.Compare(y.Stored) })
	return found[:min(len(found), q.Max)], nil
}

func (q *KeyQuery) matches(m *Message) bool {
	if q.Unique {
		return strings.EqualFold(m.Properties[message.PropUniqueKey], q.Key)
	}
	return slices.Contains(strings.Split(m.Keys, " "), q.Key) || m.Properties[message.PropUniqueKey] == q.Key
}

// MessageByID finds a message by whatever id a user has at hand: the unique id
// that producers print, or the offset id that brokers answer. Without a topic
// a unique id is looked for in all topics; progress, if not nil, is told how
// many of how many were asked. The error is ErrNotFound if there is none.
func (a *Admin) MessageByID(ctx context.Context, id, topic string, progress func(done, total int)) ([]*Message, error) {
	host, _, err := message.ParseOffsetID(id)
	if err != nil {
		return nil, fmt.Errorf("%q is no message id: want 32 or 56 hex characters", id)
	}
	brokers, err := a.masters(ctx, "", "")
	if err != nil {
		return nil, err
	}
	// Both kinds of id are hex of one length. As an offset id it must name a
	// broker; then its record must be there.
	if slices.ContainsFunc(brokers, func(b Broker) bool { return b.Addr == host.String() }) {
		m, err := a.MessageAt(ctx, id)
		if err == nil && (topic == "" || m.Topic == topic) {
			return []*Message{m}, nil
		}
		var down *UnreachableError
		if errors.As(err, &down) {
			return nil, err
		}
	}
	topics := []string{topic}
	if topic == "" {
		if topics, err = a.topicNames(ctx); err != nil {
			return nil, err
		}
	}
	for i, t := range topics {
		found, err := a.MessagesByKey(ctx, KeyQuery{Topic: t, Key: id, Unique: true})
		if err != nil && !(topic == "" && isCode(err, remoting.RespTopicNotExist)) {
			return nil, err
		}
		if len(found) > 0 {
			return found, nil
		}
		if progress != nil {
			progress(i+1, len(topics))
		}
	}
	return nil, fmt.Errorf("message %s: %w", id, ErrNotFound)
}

// topicNames returns the users' topics, retry and dead letters behind them.
func (a *Admin) topicNames(ctx context.Context) ([]string, error) {
	rows, err := a.Topics(ctx)
	if err != nil {
		return nil, err
	}
	var names, late []string
	for _, r := range rows {
		switch {
		case !r.System:
			names = append(names, r.Name)
		case message.IsRetryTopic(r.Name) || message.IsDLQTopic(r.Name):
			late = append(late, r.Name)
		}
	}
	return append(names, late...), nil
}
