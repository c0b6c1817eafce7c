package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/client"
)

// inventoryService holds items for orders. Each kind of order has its own
// consumer group that takes its tag alone, so a rush for one does not delay
// the other. It works at its own pace, whatever the rush.
type inventoryService struct {
	store    *Store
	names    names
	timeout  time.Duration // to pay
	producer rmq.Producer  // of payment timers
	admin    *client.Admin
	groups   []rmq.PushConsumer
	pace     *pace
	stop     context.CancelFunc
	wg       sync.WaitGroup // the reader of dead letters
	now      func() time.Time
}

func startInventory(ctx context.Context, cfg config, store *Store) (*inventoryService, error) {
	s := &inventoryService{store: store, names: cfg.names(), timeout: cfg.payTimeout, pace: newPace(cfg.rate), now: time.Now}
	var err error
	if s.admin, err = client.Open(client.Options{NameServers: []string{cfg.namesrv}}); err != nil {
		return nil, err
	}
	if s.producer, err = startProducer(cfg.namesrv, s.names.timerGroup()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	for _, kind := range kinds {
		sub := subscription{group: s.names.inventory(kind), topic: s.names.orders(), tags: kind, retries: inventoryRetries, handle: s.take}
		c, err := startConsumer(ctx, cfg.namesrv, sub)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.groups = append(s.groups, c)
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.wg.Go(func() { s.readDeadLetters(ctx) })
	return s, nil
}

func (s *inventoryService) close() error {
	var errs []error
	if s.stop != nil {
		s.stop()
	}
	s.wg.Wait()
	for _, c := range s.groups {
		errs = append(errs, c.Shutdown())
	}
	if s.producer != nil {
		errs = append(errs, s.producer.Shutdown())
	}
	return errors.Join(append(errs, s.admin.Close())...)
}

// take handles one order message. It may come more than once: the second time
// the reservation is there already, and only the payment timer is sent again,
// because the first run may have ended between the two.
func (s *inventoryService) take(ctx context.Context, m *primitive.MessageExt) error {
	o, err := decodeOrder(m.Body)
	if err != nil {
		return err
	}
	if err := s.pace.wait(ctx); err != nil {
		return err
	}
	state, err := s.store.Reserve(ctx, o)
	if err != nil || state != stateReserved {
		return err
	}
	return retry(ctx, 5*time.Second, func() error {
		return sendTimer(ctx, s.producer, s.names.timeouts(), o, s.now().Add(s.timeout))
	})
}

// readDeadLetters looks every second for orders whose messages the broker has
// given up on, and lets them fail.
func (s *inventoryService) readDeadLetters(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, kind := range kinds {
			topic := s.names.deadLetters(kind)
			err := s.admin.Read(ctx, client.ReadOptions{Topic: topic, From: client.Earliest, Queue: -1}, func(m *client.Message) error {
				o, err := decodeOrder(m.Body)
				if err != nil {
					slog.Warn("a dead letter that is no order", "topic", topic, "id", m.ID)
					return nil
				}
				return s.store.Bury(ctx, o.ID, topic)
			})
			if err != nil {
				slog.Debug("the dead letters cannot be read now", "topic", topic, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pace spreads work evenly over time. Safe for concurrent use.
type pace struct {
	gap  time.Duration // 0 is as fast as it goes
	mu   sync.Mutex
	next time.Time // guarded by mu
}

func newPace(perSecond int) *pace {
	if perSecond <= 0 {
		return &pace{}
	}
	return &pace{gap: time.Second / time.Duration(perSecond)}
}

func (p *pace) wait(ctx context.Context) error {
	if p.gap == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.gap)
	p.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(at.Sub(now)):
		return nil
	}
}
