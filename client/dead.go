package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// DeadGroup sums up the dead letters of a group at one broker.
type DeadGroup struct {
	Broker   string      `json:"broker"`
	Group    string      `json:"group"`
	Messages int64       `json:"messages"`
	Oldest   Instant     `json:"oldest,omitzero"`
	Newest   Instant     `json:"newest,omitzero"`
	Topics   []DeadTopic `json:"topics"`            // original ones
	Sampled  bool        `json:"sampled,omitempty"` // Topics counts the oldest and newest alone
	Running  int         `json:"running,omitempty"` // re-drives at work
}

// DeadTopic counts the dead letters of an original topic.
type DeadTopic struct {
	Topic string `json:"topic"`
	Count int64  `json:"count"`
}

// DeadAttempt is one failed attempt to consume a message.
type DeadAttempt struct {
	Time   Instant `json:"time"`
	Client string  `json:"client"`
}

// DeadLetter is a message that its group could not consume.
type DeadLetter struct {
	Broker      string            `json:"broker"`
	Offset      int64             `json:"offset"` // names it at its broker and group
	Time        Instant           `json:"time"`   // when it died
	Born        Instant           `json:"born"`
	Topic       string            `json:"topic"` // the original one
	Queue       int32             `json:"queue"` // of it; -1: not known
	UniqueKey   string            `json:"unique_key"`
	Keys        string            `json:"keys,omitempty"`
	Tags        string            `json:"tags,omitempty"`
	ID          string            `json:"id"`                  // offset id of the dead letter
	OriginID    string            `json:"origin_id,omitempty"` // of the first record
	Reason      string            `json:"reason,omitempty"`
	Limit       int32             `json:"limit"` // retries that were allowed; -1: not known
	Retries     int32             `json:"retries"`
	Attempts    []DeadAttempt     `json:"attempts,omitempty"`
	Redrive     string            `json:"redrive,omitempty"` // the re-drive after which it failed again
	Size        int               `json:"size"`              // bytes of the stored body
	SysFlag     int32             `json:"sys_flag,omitempty"`
	Flag        int32             `json:"flag,omitempty"`
	Properties  map[string]string `json:"properties,omitempty"`
	Body        []byte            `json:"body,omitempty"`
	Compression string            `json:"compression,omitempty"` // lz4 or zstd if Body is still compressed
}

// DeadFilter says which dead letters are meant. Zero values match all.
type DeadFilter struct {
	From       time.Time         // died at or after
	To         time.Time         // died before
	Topic      string            // original
	Key        string            // one of the keys, or the unique key
	Tag        string            //
	ID         string            // unique key or offset id
	Reason     string            // as the broker names it
	Properties map[string]string // all of them
}

// deadFilter is a DeadFilter as it is sent.
type deadFilter struct {
	From       int64             `json:"from,omitempty"`
	To         int64             `json:"to,omitempty"`
	Topic      string            `json:"topic,omitempty"`
	Key        string            `json:"key,omitempty"`
	Tag        string            `json:"tag,omitempty"`
	ID         string            `json:"id,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

func (f *DeadFilter) wire() deadFilter {
	return deadFilter{msOf(f.From), msOf(f.To), f.Topic, f.Key, f.Tag, f.ID, f.Reason, f.Properties}
}

// noDead tells whether a broker says that a group has no dead letters there.
func noDead(err error) bool {
	return isCode(err, remoting.RespQueryNotFound, remoting.RespSubscriptionGroupNotExist)
}

// eachDeadBroker asks the brokers one after the other. Those that have no dead
// letters of the group are left out; if all are, their words are the error.
func (a *Admin) eachDeadBroker(ctx context.Context, ask func(b Broker) error) error {
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return err
	}
	var none error
	found := false
	for _, b := range brokers {
		switch err := ask(b); {
		case noDead(err):
			if none == nil || isCode(err, remoting.RespQueryNotFound) {
				none = err
			}
		case err != nil:
			return err
		default:
			found = true
		}
	}
	if !found {
		return none
	}
	return nil
}

// DeadGroups sums up the dead letters by group and broker, of one group if it
// is named.
func (a *Admin) DeadGroups(ctx context.Context, group string) ([]DeadGroup, error) {
	list := []DeadGroup{}
	var fields remoting.Fields
	if group != "" {
		fields.Str("group", group)
	}
	err := a.eachDeadBroker(ctx, func(b Broker) error {
		var out struct {
			Groups []DeadGroup `json:"groups"`
		}
		if err := a.callJSON(ctx, b, "list dead letters", remoting.ReqListDead, fields, nil, &out); err != nil {
			return err
		}
		for i := range out.Groups {
			out.Groups[i].Broker = b.Name
		}
		list = append(list, out.Groups...)
		return nil
	})
	slices.SortStableFunc(list, func(x, y DeadGroup) int {
		return cmp.Or(strings.Compare(x.Group, y.Group), strings.Compare(x.Broker, y.Broker))
	})
	return list, err
}

// DeadQuery asks for dead letters.
type DeadQuery struct {
	Group  string
	Filter DeadFilter
	After  string // where an earlier page ended, as it said
	Full   bool   // with properties and bodies
}

// EachDead calls fn for the dead letters of a group, broker by broker, oldest
// first, until it returns false. It returns where to go on then, "" at the end.
func (a *Admin) EachDead(ctx context.Context, q DeadQuery, fn func(*DeadLetter) bool) (next string, err error) {
	afterBroker, afterOffset, err := parseDeadPlace(q.After)
	if err != nil {
		return "", err
	}
	err = a.eachDeadBroker(ctx, func(b Broker) error {
		if next != "" || strings.Compare(b.Name, afterBroker) < 0 {
			return nil
		}
		from := int64(0)
		if b.Name == afterBroker {
			from = afterOffset
		}
		stopped, at, err := a.eachDeadAt(ctx, b, &q, from, fn)
		if stopped {
			next = fmt.Sprintf("%s:%d", b.Name, at)
		}
		return err
	})
	return next, err
}

func parseDeadPlace(text string) (broker string, offset int64, err error) {
	if text == "" {
		return "", 0, nil
	}
	i := strings.LastIndexByte(text, ':')
	if i > 0 {
		if _, err = fmt.Sscanf(text[i+1:], "%d", &offset); err == nil {
			return text[:i], offset, nil
		}
	}
	return "", 0, fmt.Errorf("%q does not come from an earlier page", text)
}

func (a *Admin) eachDeadAt(ctx context.Context, b Broker, q *DeadQuery, from int64, fn func(*DeadLetter) bool) (stopped bool, at int64, err error) {
	for {
		in := struct {
			Group  string     `json:"group"`
			Filter deadFilter `json:"filter"`
			After  int64      `json:"after"`
			Max    int        `json:"max"`
			Full   bool       `json:"full"`
		}{q.Group, q.Filter.wire(), from, 500, q.Full}
		var out struct {
			Letters []struct {
				DeadLetter
				At int64 `json:"at"`
			} `json:"letters"`
			Next int64 `json:"next"`
			More bool  `json:"more"`
		}
		if err := a.callJSON(ctx, b, "show dead letters", remoting.ReqShowDead, nil, in, &out); err != nil {
			return false, 0, err
		}
		for i := range out.Letters {
			l := &out.Letters[i].DeadLetter
			l.Broker = b.Name
			l.Body, l.Compression = inflate(message.SysFlag(l.SysFlag), l.Body)
			if !fn(l) {
				return true, out.Letters[i].At + 1, nil
			}
		}
		if from = out.Next; !out.More {
			return false, 0, nil
		}
	}
}

// PurgeDead takes the dead letters of a group that died before a time, all if
// it is zero, out of its queue at all brokers, and returns how many. With
// dryRun it only counts them.
func (a *Admin) PurgeDead(ctx context.Context, group string, before time.Time, dryRun bool) (purged int64, err error) {
	in := map[string]any{"group": group, "before": msOf(before), "dry_run": dryRun}
	err = a.eachDeadBroker(ctx, func(b Broker) error {
		var out struct {
			Purged int64 `json:"purged"`
		}
		err := a.callJSON(ctx, b, "purge dead letters", remoting.ReqPurgeDead, nil, in, &out)
		purged += out.Purged
		return err
	})
	return purged, err
}
