package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/message"
)

// ConsumeOptions say what Consume consumes.
type ConsumeOptions struct {
	Group string
	Topic string
	Tags  string // a tag expression; "" is all
	SQL   string // an SQL92 expression instead of tags
	From  Where  // where a group begins that has committed nothing in the topic and has no member
	Idle  time.Duration
}

// Consume is a member of a consumer group, through rocketmq-client-go, until
// ctx ends, each returns Stop(), or with Idle nothing has come for so long.
// Offsets are committed: a message is done when each returns nil for it; when
// it returns an error, Consume ends with it and the message comes again to
// whoever consumes next. each runs on one goroutine at a time.
func (a *Admin) Consume(ctx context.Context, o ConsumeOptions, each func(*Message) error) error {
	silence()
	if err := message.CheckGroupName(o.Group); err != nil {
		return err
	}
	if _, err := a.Route(ctx, o.Topic); err != nil {
		return err
	}
	addrs, err := resolve(ctx, a.nameServers)
	if err != nil {
		return err
	}
	options := []consumer.Option{
		consumer.WithNameServer(addrs),
		consumer.WithGroupName(o.Group),
		consumer.WithInstance(instanceName("consumer")),
		consumer.WithConsumeMessageBatchMaxSize(1),
		consumer.WithConsumeGoroutineNums(1),
		// What begin has not given an offset is new, and read in full.
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}
	c, err := consumer.NewPushConsumer(options...)
	if err != nil {
		return fmt.Errorf("start a consumer of group %s: %w", o.Group, err)
	}
	h := &handler{each: each, tags: o.Tags, sql: o.SQL != "", done: make(chan struct{}), next: make(chan struct{}, 1)}
	selector := consumer.MessageSelector{Type: consumer.TAG, Expression: o.Tags}
	if o.SQL != "" {
		selector = consumer.MessageSelector{Type: consumer.SQL92, Expression: o.SQL}
	} else if o.Tags == "" {
		selector.Expression = "*"
	}
	if err := c.Subscribe(o.Topic, selector, h.handle); err != nil {
		return fmt.Errorf("subscribe group %s to topic %s: %w", o.Group, o.Topic, err)
	}
	if err := a.begin(ctx, o.Group, o.Topic, o.From); err != nil {
		return err
	}
	h.heard.Store(time.Now().UnixNano())
	if err := c.Start(); err != nil {
		return fmt.Errorf("start a consumer of group %s on topic %s: %w", o.Group, o.Topic, err)
	}
	h.wait(ctx, o.Idle)
	if err := c.Shutdown(); err != nil {
		return fmt.Errorf("close the consumer of group %s: %w", o.Group, err)
	}
	return h.result()
}

// handler hands messages on one at a time, and holds all that come after the
// end: what is not returned from is not committed.
type handler struct {
	each  func(*Message) error
	tags  string
	sql   bool
	done  chan struct{} // closed at the end
	next  chan struct{} // a message came after the end: the last one is committed
	heard atomic.Int64  // when the last message was handled

	mu  sync.Mutex // one caller of each at a time; guards err
	err error
}

func (h *handler) handle(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	for _, m := range msgs {
		if !h.one(m) {
			select {
			case h.next <- struct{}{}:
			default:
			}
			// Neither success nor failure must be told for a message that
			// nobody has seen. The consumer is closed meanwhile, and with it
			// what waits here is forgotten; the broker keeps it.
			select {}
		}
	}
	return consumer.ConsumeSuccess, nil
}

// one handles a message. It returns false when nothing more is to be handled.
func (h *handler) one(m *primitive.MessageExt) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return false
	}
	err := h.each(fromExt(m))
	h.heard.Store(time.Now().UnixNano())
	if err == nil {
		return true
	}
	h.err = err
	close(h.done)
	// The message that asked to stop has been seen and counts.
	return errors.Is(err, errStop)
}

// wait returns when the consumer is to be closed.
func (h *handler) wait(ctx context.Context, idle time.Duration) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			h.end()
			return
		case <-h.done:
			// The commit of the last message happens behind handle's return.
			select {
			case <-h.next:
			case <-time.After(300 * time.Millisecond):
			}
			return
		case now := <-tick.C:
			if idle > 0 && now.UnixNano()-h.heard.Load() > int64(idle) {
				h.end()
				return
			}
		}
	}
}

// end lets no further message through.
func (h *handler) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = errStop
		close(h.done)
	}
}

func (h *handler) result() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return unlessStop(h.err)
}

func fromExt(m *primitive.MessageExt) *Message {
	props := m.GetProperties()
	out := &Message{
		Topic: m.Topic, Queue: -1, Offset: message.Offset(m.QueueOffset), Position: message.Position(m.CommitLogOffset), ID: m.MsgId, OffsetID: m.OffsetMsgId,
		Tags: m.GetTags(), Keys: m.GetKeys(), Properties: props, Born: time.UnixMilli(m.BornTimestamp), BornHost: m.BornHost,
		Stored: time.UnixMilli(m.StoreTimestamp), StoreHost: m.StoreHost, Reconsumed: int(m.ReconsumeTimes), Flag: int(m.Flag), SysFlag: message.SysFlag(m.SysFlag), Body: m.Body,
	}
	if m.Queue != nil {
		out.Broker, out.Queue = m.Queue.BrokerName, m.Queue.QueueId
	}
	switch out.SysFlag & message.FlagCompression {
	case 0x100:
		out.Compression = "lz4"
	case 0x200:
		out.Compression = "zstd"
	}
	return out
}
