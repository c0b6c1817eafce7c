package client

import (
	"context"
	"fmt"
	"time"

	"github.com/merlinmq/merlin/remoting"
)

// TopicWhy says why a topic has a route or none, as one name server sees it.
type TopicWhy struct {
	NameServer string   `json:"name_server"`
	Topic      string   `json:"topic"`
	Brokers    []string `json:"brokers"`    // that have it now
	Gone       []string `json:"gone"`       // sentences about brokers that had it
	Registered int      `json:"registered"` // brokers, whatever they have
	Cause      string   `json:"cause"`      // why there is no route and what to do; "" where there is one
}

// WhyTopic asks every name server why a topic has a route or none. Only
// Merlin's name servers know.
func (a *Admin) WhyTopic(ctx context.Context, topic string) ([]TopicWhy, error) {
	var all []TopicWhy
	for _, addr := range a.nameServers {
		var f remoting.Fields
		f.Str("topic", topic)
		w := TopicWhy{NameServer: addr}
		if err := a.callInto(ctx, roleNameServer, addr, "ask why "+topic+" has a route or none", remoting.ReqWhyTopic, f, nil, &w); err != nil {
			return all, err
		}
		all = append(all, w)
	}
	return all, nil
}

// QueueWhy says how a group gets on with one queue of a broker, and what holds
// it back.
type QueueWhy struct {
	Broker     string       `json:"broker"`
	Topic      string       `json:"topic"`
	Queue      int          `json:"queue"`
	Group      string       `json:"group"`
	Min        int64        `json:"min"`
	Max        int64        `json:"max"`
	Committed  int64        `json:"committed"` // -1: nothing
	Lag        int64        `json:"lag"`       // messages
	LagSeconds float64      `json:"lag_seconds"`
	Model      string       `json:"model,omitempty"`
	Members    []string     `json:"members"`
	Owner      string       `json:"owner,omitempty"`
	OwnerSince time.Time    `json:"owner_since,omitzero"`
	Pull       *QueuePull   `json:"last_pull,omitempty"`
	Parked     []ParkedPull `json:"parked,omitempty"`
	Pop        *QueuePop    `json:"pop,omitempty"` // of a group that pops the queue
	Lock       *QueueLock   `json:"lock,omitempty"`
	Holds      []QueueHeld  `json:"held_back_by"`
	Now        time.Time    `json:"now"`
}

// QueuePull is the last pull of a queue by a group.
type QueuePull struct {
	Client   string    `json:"client"`
	Since    time.Time `json:"since"`
	At       time.Time `json:"at"`
	Offset   int64     `json:"offset"`
	Given    int64     `json:"given"` // behind the last message given; -1 if none was
	GivenAt  time.Time `json:"given_at,omitzero"`
	Commit   int64     `json:"commit"`
	CommitAt time.Time `json:"commit_at,omitzero"`
}

// ParkedPull is a pull that waits for messages.
type ParkedPull struct {
	Client string    `json:"client"`
	Offset int64     `json:"offset"`
	Until  time.Time `json:"until"`
}

// QueuePop is how a group that pops gets on with a queue.
type QueuePop struct {
	Next     int64     `json:"next"`      // the first that was never handed out
	InFlight int       `json:"in_flight"` // handed out and not acknowledged
	Oldest   time.Time `json:"oldest,omitzero"`
	Waiting  int       `json:"waiting"` // pops that wait for a message
}

// QueueLock is the lock of an orderly consumer.
type QueueLock struct {
	Client    string    `json:"client"`
	Since     time.Time `json:"since"`
	Refreshed time.Time `json:"refreshed"`
	Until     time.Time `json:"until"`
}

// QueueHeld is a reason why a group does not get on.
type QueueHeld struct {
	Cause string `json:"cause"`
	Text  string `json:"text"`
}

// WhyQueue asks the brokers that have a topic how a group gets on with one of
// its queues; of several brokers, one may be named. Only Merlin's brokers know.
func (a *Admin) WhyQueue(ctx context.Context, topic string, queue int, group, broker string) ([]QueueWhy, error) {
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	var all []QueueWhy
	var refused error
	for _, b := range brokers {
		if broker != "" && b.Name != broker {
			continue
		}
		f := queueFields(topic, int32(queue))
		f.Str("group", group)
		w := QueueWhy{}
		err := a.callJSON(ctx, b, fmt.Sprintf("ask what holds queue %d of %s back", queue, topic), remoting.ReqWhyQueue, f, nil, &w)
		switch {
		case err == nil:
			all = append(all, w)
		case isCode(err, remoting.RespTopicNotExist, remoting.RespInvalidParameter):
			refused = err // another broker may have the queue
		default:
			return nil, err
		}
	}
	if len(all) == 0 && refused == nil {
		refused = fmt.Errorf("no broker has the name %q: %w", broker, ErrNotFound)
	}
	if len(all) == 0 {
		return nil, refused
	}
	return all, nil
}

// MessageWhy says where a message is now and what became of it in each group.
type MessageWhy struct {
	Broker    string            `json:"broker"`
	Topic     string            `json:"topic"`
	UniqueKey string            `json:"unique_key"`
	Keys      string            `json:"keys,omitempty"`
	Tags      string            `json:"tags,omitempty"`
	State     string            `json:"state"`
	Text      string            `json:"text"`
	Copies    []MessageCopy     `json:"copies"`
	Groups    []GroupWhy        `json:"groups"`
	Steps     []TransactionStep `json:"steps,omitempty"`
}

// MessageCopy is a record of a message.
type MessageCopy struct {
	Topic    string    `json:"topic"`
	Queue    int       `json:"queue"`
	Offset   int64     `json:"offset"`
	Position int64     `json:"position"`
	ID       string    `json:"id"`
	Born     time.Time `json:"born"`
	Stored   time.Time `json:"stored"`
	Retries  int       `json:"retries,omitempty"`
	Due      time.Time `json:"due,omitzero"`
}

// GroupWhy is what became of a message in one group.
type GroupWhy struct {
	Group    string          `json:"group"`
	State    string          `json:"state"`
	Text     string          `json:"text"`
	Client   string          `json:"client,omitempty"`
	First    time.Time       `json:"first,omitzero"`
	Last     time.Time       `json:"last,omitzero"`
	Retry    int             `json:"retry,omitempty"`
	Retries  int             `json:"retries,omitempty"`
	Due      time.Time       `json:"due,omitzero"`
	Attempts []FailedAttempt `json:"attempts,omitempty"`
}

// FailedAttempt is one failed attempt to consume a message.
type FailedAttempt struct {
	Time   int64  `json:"time"` // ms since 1970
	Client string `json:"client"`
}

// WhyMessage asks every broker where the messages are that an offset id, a
// unique id or, with a topic, a key names. With a group, it is told of that one
// alone. ErrNotFound: no broker knows one. Only Merlin's brokers answer.
func (a *Admin) WhyMessage(ctx context.Context, id, topic, group string) ([]MessageWhy, error) {
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	var all []MessageWhy
	var missed error
	for _, b := range brokers {
		var out struct {
			Messages []MessageWhy `json:"messages"`
		}
		in := map[string]string{"id": id, "topic": topic, "group": group}
		err := a.callJSON(ctx, b, "ask where the message "+id+" is", remoting.ReqWhyMessage, nil, in, &out)
		switch {
		case err == nil:
			all = append(all, out.Messages...)
		case isCode(err, remoting.RespQueryNotFound):
			missed = err
		default:
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, missed)
	}
	return all, nil
}
