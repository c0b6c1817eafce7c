package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"

	"github.com/merlinmq/merlin/client"
)

// Tags: the kinds of orders.
const (
	kindFlash  = "flash"
	kindNormal = "normal"
)

var kinds = []string{kindFlash, kindNormal}

// timerProperty is the instant, in milliseconds since 1970, at which a message
// is delivered.
const timerProperty = "TIMER_DELIVER_MS"

// inventoryRetries is how often the inventory service looks at a message again
// before the broker moves it to the dead-letter queue.
const inventoryRetries = 5

// names are the topics and groups of one run. The run is part of them, so that
// a server that is used for several runs does not mix them.
type names struct {
	run string
}

func (n names) orders() string               { return "shop_orders_" + n.run }
func (n names) timeouts() string             { return "shop_pay_timeouts_" + n.run }
func (n names) orderGroup() string           { return "shop_order_service_" + n.run }
func (n names) inventory(kind string) string { return "shop_inventory_" + kind + "_" + n.run }
func (n names) timeoutGroup() string         { return "shop_payment_service_" + n.run }
func (n names) timerGroup() string           { return "shop_timer_" + n.run }
func (n names) deadLetters(kind string) string {
	return "%DLQ%" + n.inventory(kind)
}

// createTopics makes the topics and waits until clients can find them.
func createTopics(ctx context.Context, admin *client.Admin, n names) error {
	for _, topic := range []string{n.orders(), n.timeouts()} {
		err := retry(ctx, 30*time.Second, func() error {
			if _, err := admin.CreateTopic(ctx, client.TopicSpec{Name: topic, Queues: 4}); err != nil {
				return err
			}
			_, err := admin.Route(ctx, topic)
			return err
		})
		if err != nil {
			return fmt.Errorf("creating topic %s: %w", topic, err)
		}
	}
	return nil
}

// quiet is a logger for rocketmq-client-go that says nothing: it reports every
// step, and what matters of it comes back as an error.
type quiet struct{}

func (quiet) Debug(string, map[string]any)   {}
func (quiet) Info(string, map[string]any)    {}
func (quiet) Warning(string, map[string]any) {}
func (quiet) Error(string, map[string]any)   {}
func (quiet) Fatal(string, map[string]any)   {}
func (quiet) Level(string)                   {}
func (quiet) OutputPath(string) error        { return nil }

func silenceClient() { rlog.SetLogger(quiet{}) }

var instances atomic.Int64

// instance is a name for a client of its own. Clients of one name share their
// connections, and of those that share only the first gets transaction checks.
func instance(role string) string {
	return fmt.Sprintf("%s-%d-%d-%04x", role, os.Getpid(), instances.Add(1), rand.Uint32()&0xffff)
}

func startTransactionProducer(namesrv, group string, l primitive.TransactionListener) (rmq.TransactionProducer, error) {
	p, err := rmq.NewTransactionProducer(l, producer.WithNameServer(primitive.NamesrvAddr{namesrv}), producer.WithGroupName(group),
		producer.WithInstanceName(instance("orders")), producer.WithRetry(1))
	if err != nil {
		return nil, fmt.Errorf("producer of group %s: %w", group, err)
	}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("producer of group %s: %w", group, err)
	}
	return p, nil
}

func startProducer(namesrv, group string) (rmq.Producer, error) {
	p, err := rmq.NewProducer(producer.WithNameServer(primitive.NamesrvAddr{namesrv}), producer.WithGroupName(group),
		producer.WithInstanceName(instance("timer")), producer.WithRetry(2))
	if err != nil {
		return nil, fmt.Errorf("producer of group %s: %w", group, err)
	}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("producer of group %s: %w", group, err)
	}
	return p, nil
}

// subscription is a consumer that calls handle for one message at a time, on
// several goroutines. When handle fails the message comes again a second later.
type subscription struct {
	group, topic, tags string
	retries            int32
	handle             func(context.Context, *primitive.MessageExt) error
}

// startConsumer subscribes. While the broker is away it keeps trying until ctx
// ends, each time with a new client: one that failed to start stays failed.
func startConsumer(ctx context.Context, namesrv string, s subscription) (rmq.PushConsumer, error) {
	var c rmq.PushConsumer
	err := retry(ctx, time.Minute, func() (err error) {
		c, err = rmq.NewPushConsumer(consumer.WithNameServer(primitive.NamesrvAddr{namesrv}), consumer.WithGroupName(s.group),
			consumer.WithInstance(instance(s.group)), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
			consumer.WithMaxReconsumeTimes(s.retries))
		if err != nil {
			return err
		}
		err = c.Subscribe(s.topic, consumer.MessageSelector{Type: consumer.TAG, Expression: s.tags},
			func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
				for _, m := range msgs {
					if err := s.handle(ctx, m); err != nil {
						if c, ok := primitive.GetConcurrentlyCtx(ctx); ok {
							c.DelayLevelWhenNextConsume = 1
						}
						return consumer.ConsumeRetryLater, err
					}
				}
				return consumer.ConsumeSuccess, nil
			})
		if err != nil {
			return err
		}
		return c.Start()
	})
	if err != nil {
		return nil, fmt.Errorf("consumer of group %s: %w", s.group, err)
	}
	return c, nil
}

// decodeOrder reads the body of a message.
func decodeOrder(body []byte) (Order, error) {
	var o Order
	if err := json.Unmarshal(body, &o); err != nil {
		return o, fmt.Errorf("a message that is no order: %w", err)
	}
	if o.ID == "" {
		return o, errors.New("a message that is no order: it has no id")
	}
	return o, nil
}

// sendTimer sends the message that cancels the order at due unless it is paid.
func sendTimer(ctx context.Context, p rmq.Producer, topic string, o Order, due time.Time) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	m := primitive.NewMessage(topic, body).WithTag(o.Kind).WithKeys([]string{o.ID})
	m.WithProperty(timerProperty, strconv.FormatInt(due.UnixMilli(), 10))
	r, err := p.SendSync(ctx, m)
	if err != nil {
		return fmt.Errorf("payment timer of order %s: %w", o.ID, err)
	}
	if r.Status != primitive.SendOK {
		return fmt.Errorf("payment timer of order %s: send status %d", o.ID, r.Status)
	}
	return nil
}

// retry calls do until it succeeds, for at most limit, and returns its last error.
func retry(ctx context.Context, limit time.Duration, do func() error) error {
	end := time.Now().Add(limit)
	for {
		err := do()
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(300 * time.Millisecond):
		}
	}
}
