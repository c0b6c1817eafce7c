package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// readGroup names plain pulls. Brokers have it for Apache's own tools from the
// start, so that reading creates no group; it commits nothing.
const readGroup = "TOOLS_CONSUMER"

// ReadOptions say what Read reads.
type ReadOptions struct {
	Topic  string
	From   Where
	Tags   string // a tag expression, "A || B"; "" is all
	SQL    string // an SQL92 expression instead of tags
	Queue  int    // one queue number alone; -1 is all
	Follow bool   // goes on for what arrives, until ctx ends
}

// errStop ends a read early and is no error to the caller.
var errStop = errors.New("stop")

// Stop is returned by the function given to Read or Consume to end it.
func Stop() error { return errStop }

// Read hands the messages of a topic to each, by plain pulls: no group is made
// and no offset stored. What is there when it begins comes in the order of
// storing over all queues; what arrives later comes as it arrives. each runs
// on one goroutine at a time and may return Stop().
func (a *Admin) Read(ctx context.Context, o ReadOptions, each func(*Message) error) error {
	queues, err := a.readQueues(ctx, o.Topic)
	if err != nil {
		return err
	}
	if o.Queue >= 0 {
		queues = slices.DeleteFunc(queues, func(q queueRef) bool { return int(q.queue) != o.Queue })
		if len(queues) == 0 {
			return fmt.Errorf("topic %s has no queue %d", o.Topic, o.Queue)
		}
	}
	cursors := make([]*cursor, len(queues))
	for i, q := range queues {
		cursors[i] = &cursor{queueRef: q, admin: a, options: &o}
		if cursors[i].next, err = a.offsetOf(ctx, q, o.From); err != nil {
			return err
		}
		if cursors[i].end, err = a.MaxOffset(ctx, q.broker.Addr, q.topic, q.queue); err != nil {
			return err
		}
	}
	if err := merge(ctx, cursors, each); err != nil || !o.Follow {
		return unlessStop(err)
	}
	return unlessStop(follow(ctx, cursors, each))
}

func unlessStop(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// merge hands out what the queues hold up to their ends, oldest first.
func merge(ctx context.Context, cursors []*cursor, each func(*Message) error) error {
	for {
		var first *cursor
		for _, c := range cursors {
			for len(c.ready) == 0 && c.next < c.end {
				if err := c.pull(ctx, 0); err != nil {
					return err
				}
			}
			if len(c.ready) > 0 && (first == nil || c.ready[0].Stored.Before(first.ready[0].Stored)) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		m := first.ready[0]
		first.ready = first.ready[1:]
		if err := each(m); err != nil {
			return err
		}
	}
}

// follow waits on every queue at once and hands out what arrives.
func follow(ctx context.Context, cursors []*cursor, each func(*Message) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var (
		wg sync.WaitGroup
		mu sync.Mutex // one caller of each at a time
	)
	for _, c := range cursors {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := c.pull(ctx, 15*time.Second)
				for _, m := range c.ready {
					mu.Lock()
					if err == nil && ctx.Err() == nil {
						err = each(m)
					}
					mu.Unlock()
				}
				c.ready = nil
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	cancel(nil)
	if errors.Is(err, context.Canceled) {
		return nil // the caller has seen enough
	}
	return err
}

// cursor reads one queue.
type cursor struct {
	queueRef
	admin   *Admin
	options *ReadOptions
	next    message.Offset
	end     message.Offset
	ready   []*Message
}

// pull fetches the next messages, waiting up to hold for some to arrive.
func (c *cursor) pull(ctx context.Context, hold time.Duration) error {
	expression, kind := c.options.Tags, "TAG"
	if c.options.SQL != "" {
		expression, kind = c.options.SQL, "SQL92"
	}
	if expression == "" {
		expression = "*"
	}
	ans, code, err := c.admin.pull(ctx, c.queueRef, c.next, 32, expression, kind, hold)
	if err != nil {
		return err
	}
	next, err := strconv.ParseInt(ans.field("nextBeginOffset"), 10, 64)
	if err != nil {
		return fmt.Errorf("pull queue %d of %s: the answer of %s has no nextBeginOffset", c.queue, c.topic, c.broker.Addr)
	}
	stuck := next <= int64(c.next)
	if code == remoting.RespSuccess {
		list, err := records(ans.body, c.broker.Name)
		if err != nil {
			return err
		}
		for _, m := range list {
			if m.Offset >= c.next && (c.options.SQL != "" || tagMatches(c.options.Tags, m.Tags)) {
				c.ready = append(c.ready, m)
			}
		}
	}
	if hold == 0 && stuck {
		c.end = c.next // the rest went away meanwhile
		return nil
	}
	if !stuck || code == remoting.RespPullOffsetMoved {
		c.next = message.Offset(next)
	}
	return nil
}

// tagMatches compares the tag itself: brokers compare its hash only.
func tagMatches(expression, tag string) bool {
	if expression == "" || expression == "*" {
		return true
	}
	for _, t := range strings.Split(expression, "||") {
		if strings.TrimSpace(t) == tag {
			return true
		}
	}
	return false
}

// pull makes one plain pull and returns its answer with one of the codes that
// are no error.
func (a *Admin) pull(ctx context.Context, q queueRef, from message.Offset, n int, expression, kind string, hold time.Duration) (answer, int, error) {
	sysFlag := int64(4) // brings its own subscription
	if hold > 0 {
		sysFlag |= 2 // the broker may hold it
	}
	f := queueFields(q.topic, q.queue)
	f.Str("consumerGroup", readGroup)
	f.Int("queueOffset", int64(from))
	f.Int("maxMsgNums", int64(n))
	f.Int("sysFlag", sysFlag)
	f.Int("commitOffset", 0)
	f.Int("suspendTimeoutMillis", hold.Milliseconds())
	f.Str("subscription", expression)
	f.Int("subVersion", 0)
	f.Str("expressionType", kind)
	op := fmt.Sprintf("pull queue %d of %s", q.queue, q.topic)
	ans, err := a.callFor(ctx, a.timeout+hold, roleBroker, q.broker.Addr, op, remoting.ReqPullMessage, f, nil)
	if err != nil && !isCode(err, remoting.RespPullNotFound, remoting.RespPullRetryImmediately, remoting.RespPullOffsetMoved) {
		return answer{}, 0, err
	}
	code, _ := CodeOf(err)
	return ans, code, nil
}

// storeTime returns when the message at an offset was stored, nil if it is not
// there any more.
func (a *Admin) storeTime(ctx context.Context, addr, topic string, queue int32, offset int64) (*time.Time, error) {
	ref := queueRef{Broker{Addr: addr}, topic, queue}
	ans, code, err := a.pull(ctx, ref, message.Offset(offset), 1, "*", "TAG", 0)
	if err == nil && code == remoting.RespPullOffsetMoved {
		var next int64
		if next, err = strconv.ParseInt(ans.field("nextBeginOffset"), 10, 64); err == nil && next > offset {
			ans, code, err = a.pull(ctx, ref, message.Offset(next), 1, "*", "TAG", 0)
		}
	}
	if isCode(err, remoting.RespTopicNotExist, remoting.RespNoPermission) || (err == nil && code != remoting.RespSuccess) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := message.Parse(ans.body)
	if err != nil {
		return nil, fmt.Errorf("a record from %s cannot be read: %w", addr, err)
	}
	return timeOf(v.StoreTimestamp()), nil
}
