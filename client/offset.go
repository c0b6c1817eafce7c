package client

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// Where says where in a queue to begin: at its oldest message, behind its
// newest, or at a time.
type Where struct {
	kind   whereKind
	at     time.Time
	offset message.Offset
	queue  int32
	one    bool // queue alone
}

type whereKind int

const (
	whereEarliest whereKind = iota
	whereLatest
	whereTime
	whereOffset
)

// Places to begin at.
var (
	Earliest = Where{kind: whereEarliest}
	Latest   = Where{kind: whereLatest}
)

// At begins at the first message stored at or after t.
func At(t time.Time) Where { return Where{kind: whereTime, at: t} }

// AtOffset begins at an offset of one queue.
func AtOffset(queue int32, offset message.Offset) Where {
	return Where{kind: whereOffset, offset: offset, queue: queue, one: true}
}

// InQueue is w for one queue alone, of each broker that has it.
func (w Where) InQueue(queue int32) Where {
	w.queue, w.one = queue, true
	return w
}

// wants tells whether a queue is meant.
func (w Where) wants(queue int32) bool { return !w.one || w.queue == queue }

// ParseWhere reads earliest, latest, a time in RFC 3339, or a duration back
// from now such as 15m.
func ParseWhere(text string, now time.Time) (Where, error) {
	switch strings.ToLower(text) {
	case "earliest", "first":
		return Earliest, nil
	case "latest", "last":
		return Latest, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return At(t), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return At(now.Add(-d)), nil
	}
	return Where{}, fmt.Errorf("%q: want earliest, latest, a time as 2026-11-21T13:00:00Z, or a duration back from now as 15m", text)
}

// String returns what ParseWhere reads.
func (w Where) String() string {
	switch w.kind {
	case whereEarliest:
		return "earliest"
	case whereLatest:
		return "latest"
	case whereOffset:
		return fmt.Sprintf("offset %d", w.offset)
	}
	return w.at.Format(time.RFC3339)
}

func queueFields(topic string, queue int32) remoting.Fields {
	var f remoting.Fields
	f.Str("topic", topic)
	f.Int("queueId", int64(queue))
	return f
}

// MinOffset returns the offset of a queue's oldest message.
func (a *Admin) MinOffset(ctx context.Context, brokerAddr, topic string, queue int32) (message.Offset, error) {
	n, err := a.callInt(ctx, brokerAddr, fmt.Sprintf("find the start of queue %d of %s", queue, topic), remoting.ReqGetMinOffset, queueFields(topic, queue), "offset")
	return message.Offset(n), err
}

// MaxOffset returns the offset that a queue's next message will get.
func (a *Admin) MaxOffset(ctx context.Context, brokerAddr, topic string, queue int32) (message.Offset, error) {
	n, err := a.callInt(ctx, brokerAddr, fmt.Sprintf("find the end of queue %d of %s", queue, topic), remoting.ReqGetMaxOffset, queueFields(topic, queue), "offset")
	return message.Offset(n), err
}

// OffsetAt returns the offset of the first message stored at or after t.
func (a *Admin) OffsetAt(ctx context.Context, brokerAddr, topic string, queue int32, t time.Time) (message.Offset, error) {
	f := queueFields(topic, queue)
	f.Int("timestamp", t.UnixMilli())
	n, err := a.callInt(ctx, brokerAddr, fmt.Sprintf("find the offset at %s in queue %d of %s", t.Format(time.RFC3339), queue, topic),
		remoting.ReqSearchOffsetByTimestamp, f, "offset")
	return message.Offset(n), err
}

// offsetOf returns where in a queue w is.
func (a *Admin) offsetOf(ctx context.Context, q queueRef, w Where) (message.Offset, error) {
	switch w.kind {
	case whereEarliest:
		return a.MinOffset(ctx, q.broker.Addr, q.topic, q.queue)
	case whereLatest:
		return a.MaxOffset(ctx, q.broker.Addr, q.topic, q.queue)
	case whereOffset:
		return a.checkedOffset(ctx, q, w.offset)
	}
	return a.OffsetAt(ctx, q.broker.Addr, q.topic, q.queue, w.at)
}

// checkedOffset returns the offset if the queue reaches there.
func (a *Admin) checkedOffset(ctx context.Context, q queueRef, offset message.Offset) (message.Offset, error) {
	low, err := a.MinOffset(ctx, q.broker.Addr, q.topic, q.queue)
	if err != nil {
		return 0, err
	}
	high, err := a.MaxOffset(ctx, q.broker.Addr, q.topic, q.queue)
	if err != nil {
		return 0, err
	}
	if offset < low || offset > high {
		return 0, fmt.Errorf("offset %d is outside of queue %d of %s at %s, which goes from %d to %d", offset, q.queue, q.topic, q.broker.Name, low, high)
	}
	return offset, nil
}

// CommittedOffset returns what a group has committed for a queue,
// message.NoOffset if nothing.
func (a *Admin) CommittedOffset(ctx context.Context, brokerAddr, group, topic string, queue int32) (message.Offset, error) {
	f := queueFields(topic, queue)
	f.Str("consumerGroup", group)
	f.Bool("setZeroIfNotFound", false)
	n, err := a.callInt(ctx, brokerAddr, fmt.Sprintf("look at the offset of group %s in queue %d of %s", group, queue, topic), remoting.ReqQueryConsumerOffset, f, "offset")
	if isCode(err, remoting.RespQueryNotFound) {
		return message.NoOffset, nil
	}
	return message.Offset(n), err
}

// CommitOffset sets what a group has committed for a queue. Members that are
// connected do not notice and overwrite it: see ResetOffsets.
func (a *Admin) CommitOffset(ctx context.Context, brokerAddr, group, topic string, queue int32, offset message.Offset) error {
	f := queueFields(topic, queue)
	f.Str("consumerGroup", group)
	f.Int("commitOffset", int64(offset))
	_, err := a.call(ctx, roleBroker, brokerAddr, fmt.Sprintf("set the offset of group %s in queue %d of %s", group, queue, topic), remoting.ReqUpdateConsumerOffset, f, nil)
	return err
}

// QueueReset is what ResetOffsets did to one queue.
type QueueReset struct {
	Broker string         `json:"broker"`
	Queue  int            `json:"queue"`
	From   message.Offset `json:"from"` // -1 if nothing was committed
	To     message.Offset `json:"to"`
	Online bool           `json:"online"` // members were connected and told
}

// ResetOffsets moves a group in all queues of a topic. Where members are
// connected the broker pushes the reset to them; where none is, the stored
// offsets are set.
func (a *Admin) ResetOffsets(ctx context.Context, group, topic string, to Where) ([]QueueReset, error) {
	queues, err := a.readQueues(ctx, topic)
	if err != nil {
		return nil, err
	}
	pushed := map[string]map[int32]int64{}
	var done []QueueReset
	for _, q := range queues {
		if !to.wants(q.queue) {
			continue
		}
		r := QueueReset{Broker: q.broker.Name, Queue: int(q.queue)}
		if r.From, err = a.CommittedOffset(ctx, q.broker.Addr, group, topic, q.queue); err != nil {
			return done, err
		}
		if _, asked := pushed[q.broker.Addr]; !asked {
			if pushed[q.broker.Addr], err = a.pushReset(ctx, q.broker.Addr, group, topic, to); err != nil {
				return done, err
			}
		}
		if offset, told := pushed[q.broker.Addr][q.queue]; told {
			r.To, r.Online = message.Offset(offset), true
			done = append(done, r)
			continue
		}
		if r.To, err = a.offsetOf(ctx, q, to); err != nil {
			return done, err
		}
		if err = a.CommitOffset(ctx, q.broker.Addr, group, topic, q.queue, r.To); err != nil {
			return done, err
		}
		done = append(done, r)
	}
	return done, to.found(len(done), topic)
}

// found is an error if a queue was named that there is not.
func (w Where) found(queues int, topic string) error {
	if queues == 0 && w.one {
		return fmt.Errorf("no broker has queue %d of the topic %s: %w", w.queue, topic, ErrNotFound)
	}
	return nil
}

// pushReset asks a broker to tell a group's members; none online gives no
// queues and no error.
func (a *Admin) pushReset(ctx context.Context, addr, group, topic string, to Where) (map[int32]int64, error) {
	var f remoting.Fields
	f.Str("topic", topic)
	f.Str("group", group)
	if to.one {
		f.Int("queueId", int64(to.queue))
	}
	switch to.kind {
	case whereOffset:
		f.Int("timestamp", 0)
		f.Int("offset", int64(to.offset))
	case whereEarliest:
		f.Int("timestamp", 0)
	case whereLatest:
		f.Int("timestamp", -1)
	default:
		f.Int("timestamp", to.at.UnixMilli())
	}
	f.Bool("isForce", true)
	var r body.ResetOffset
	err := a.callInto(ctx, roleBroker, addr, "reset the offsets of group "+group+" on "+topic, remoting.ReqInvokeBrokerToResetOffset, f, nil, &r)
	if isCode(err, remoting.RespConsumerNotOnline) {
		return nil, nil
	}
	queues := map[int32]int64{}
	for mq, offset := range r.OffsetTable {
		queues[mq.QueueID] = offset
	}
	return queues, err
}
