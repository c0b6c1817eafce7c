package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// settler answers a transaction as the message's body says.
type settler struct{ checked chan struct{} }

func (s settler) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	switch string(m.Body) {
	case "commit":
		return primitive.CommitMessageState
	case "rollback":
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func (s settler) CheckLocalTransaction(*primitive.MessageExt) primitive.LocalTransactionState {
	select {
	case s.checked <- struct{}{}:
	default:
	}
	return primitive.CommitMessageState
}

// goTraffic asks for one of everything through rocketmq-client-go.
func goTraffic(namesrv, label string) error {
	rlog.SetLogLevel("error")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	topic := "rec_go_" + label
	ns := primitive.NamesrvAddr{namesrv}
	ad, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(ns)))
	if err != nil {
		return err
	}
	defer ad.Close()
	list, err := ad.FetchAllTopicList(ctx)
	fmt.Println("topics", list != nil, err)
	groups, err := ad.GetAllSubscriptionGroup(ctx, "127.0.0.2:"+brokerPort(namesrv), 3*time.Second)
	fmt.Println("groups", groups != nil, err)
	if err := ad.CreateTopic(ctx, admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate("127.0.0.2:"+brokerPort(namesrv)),
		admin.WithReadQueueNums(2), admin.WithWriteQueueNums(2)); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	time.Sleep(time.Second)
	if err := goSend(ctx, ns, topic); err != nil {
		return err
	}
	if err := goTransactions(ctx, ns, topic); err != nil {
		return err
	}
	if err := goConsume(ctx, ns, topic); err != nil {
		return err
	}
	err = ad.DeleteTopic(ctx, admin.WithTopicDelete(topic), admin.WithBrokerAddrDelete("127.0.0.2:"+brokerPort(namesrv)), admin.WithNameSrvAddr([]string{namesrv}))
	fmt.Println("delete topic", err)
	return nil
}

func goSend(ctx context.Context, ns primitive.NamesrvAddr, topic string) error {
	p, err := rmq.NewProducer(producer.WithNameServer(ns), producer.WithGroupName("rec_go_p"), producer.WithInstanceName("rec_go_p_"+topic), producer.WithRetry(0))
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	defer p.Shutdown()
	m := primitive.NewMessage(topic, []byte("hello")).WithTag("TagA").WithKeys([]string{"k1", "k2"})
	m.WithProperty("a", "1")
	if _, err := p.SendSync(ctx, m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	d := primitive.NewMessage(topic, []byte("delayed"))
	d.WithDelayTimeLevel(1)
	_, err = p.SendSync(ctx, d)
	_, err2 := p.SendSync(ctx, primitive.NewMessage(topic, []byte("batch 1")).WithTag("TagA"), primitive.NewMessage(topic, []byte("batch 2")).WithTag("TagB"))
	err3 := p.SendOneWay(ctx, primitive.NewMessage(topic, []byte("one way")).WithTag("TagA"))
	done := make(chan error, 1)
	err4 := p.SendAsync(ctx, func(_ context.Context, _ *primitive.SendResult, err error) { done <- err },
		primitive.NewMessage(topic, make([]byte, 6000)).WithTag("TagA"))
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	_, err = p.SendSync(ctx, primitive.NewMessage("bad topic name", []byte("x")))
	fmt.Println("bad name:", err)
	_, err = p.Request(ctx, 1500*time.Millisecond, primitive.NewMessage(topic, []byte("question")))
	fmt.Println("request without a replier:", err)
	return nil
}

func goTransactions(ctx context.Context, ns primitive.NamesrvAddr, topic string) error {
	s := settler{make(chan struct{}, 1)}
	p, err := rmq.NewTransactionProducer(s, producer.WithNameServer(ns), producer.WithGroupName("rec_go_txn"), producer.WithInstanceName("rec_go_txn_"+topic))
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	defer p.Shutdown()
	for _, body := range []string{"commit", "rollback", "unknown"} {
		if _, err := p.SendMessageInTransaction(ctx, primitive.NewMessage(topic, []byte(body)).WithTag("TagT")); err != nil {
			return fmt.Errorf("transaction: %w", err)
		}
	}
	select {
	case <-s.checked:
		time.Sleep(500 * time.Millisecond)
	case <-time.After(25 * time.Second):
		fmt.Println("the unknown transaction was not checked within 25 s")
	}
	return nil
}

func goConsume(ctx context.Context, ns primitive.NamesrvAddr, topic string) error {
	for _, orderly := range []bool{false, true} {
		var seen atomic.Int32
		group := fmt.Sprintf("rec_go_c_%v", orderly)
		c, err := rmq.NewPushConsumer(consumer.WithNameServer(ns), consumer.WithGroupName(group), consumer.WithInstance(group+topic),
			consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset), consumer.WithConsumerOrder(orderly))
		if err != nil {
			return err
		}
		err = c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "TagA || TagB || TagT"},
			func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
				if seen.Add(int32(len(msgs))) == int32(len(msgs)) && !orderly {
					return consumer.ConsumeRetryLater, nil
				}
				return consumer.ConsumeSuccess, nil
			})
		if err != nil {
			return err
		}
		if err := c.Start(); err != nil {
			return err
		}
		for i := 0; i < 200 && seen.Load() < 6 && ctx.Err() == nil; i++ {
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Println(group, "saw", seen.Load())
		time.Sleep(6 * time.Second) // offsets are committed every 5 s
		if err := c.Shutdown(); err != nil {
			return err
		}
	}
	return nil
}

// brokerPort is fixed by the distance of the ports of a session.
func brokerPort(namesrv string) string {
	var port int
	fmt.Sscanf(namesrv, "127.0.0.1:%d", &port)
	return fmt.Sprint(port + 3)
}
