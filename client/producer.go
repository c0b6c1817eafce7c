package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// instances numbers the clients of this process: rocketmq-client-go shares
// connections between clients of one instance name, and closing one of them
// would close the others'.
var instances atomic.Int64

func instanceName(kind string) string {
	return fmt.Sprintf("merlin-%s-%d-%d", kind, os.Getpid(), instances.Add(1))
}

// ProducerOptions are the settings of a Producer.
type ProducerOptions struct {
	Group   string        // default "merlin_cli"
	Timeout time.Duration // of one send, default 3 s
	Retries int           // on another broker or again, default 2; negative: none
}

// Outgoing is a message to be sent.
type Outgoing struct {
	Topic      string
	Body       []byte
	Tag        string
	Keys       []string
	Properties map[string]string
	Queue      int // -1 lets the producer choose
	Broker     string
}

// SendReceipt says where a message was stored.
type SendReceipt struct {
	Topic    string         `json:"topic"`
	Broker   string         `json:"broker"`
	Queue    int            `json:"queue"`
	Offset   message.Offset `json:"offset"`
	ID       string         `json:"id"`
	OffsetID string         `json:"offset_id"`
	Status   string         `json:"status"` // SEND_OK, or stored but FLUSH_DISK_TIMEOUT, …
}

// Producer sends messages through rocketmq-client-go. Safe for concurrent use.
type Producer struct {
	admin *Admin
	p     rocketmq.Producer
}

// queueWish travels through rocketmq-client-go's selector in a message's
// context; -1 is no wish.
type queueWish struct {
	queueSelector producer.QueueSelector
}

// Select implements producer.QueueSelector.
func (w queueWish) Select(m *primitive.Message, queues []*primitive.MessageQueue, lastBroker string) *primitive.MessageQueue {
	if m.Queue == nil {
		return w.queueSelector.Select(m, queues, lastBroker)
	}
	for _, q := range queues {
		if q.QueueId == m.Queue.QueueId && (m.Queue.BrokerName == "" || q.BrokerName == m.Queue.BrokerName) {
			return q
		}
	}
	return nil
}

// NewProducer starts a producer against the Admin's name servers.
func (a *Admin) NewProducer(ctx context.Context, o ProducerOptions) (*Producer, error) {
	silence()
	addrs, err := resolve(ctx, a.nameServers)
	if err != nil {
		return nil, err
	}
	retries := cmp.Or(o.Retries, 2)
	p, err := producer.NewDefaultProducer(
		producer.WithNameServer(addrs),
		producer.WithGroupName(cmp.Or(o.Group, "merlin_cli")),
		producer.WithInstanceName(instanceName("producer")),
		producer.WithRetry(max(0, retries)),
		producer.WithSendMsgTimeout(cmp.Or(o.Timeout, 3*time.Second)),
		producer.WithQueueSelector(queueWish{producer.NewRoundRobinQueueSelector()}),
	)
	if err != nil {
		return nil, fmt.Errorf("start a producer: %w", err)
	}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("start a producer: %w", err)
	}
	return &Producer{admin: a, p: p}, nil
}

// Send sends one message and waits for the answer.
func (p *Producer) Send(ctx context.Context, m *Outgoing) (*SendReceipt, error) {
	msg := primitive.NewMessage(m.Topic, m.Body)
	if m.Tag != "" {
		msg.WithTag(m.Tag)
	}
	if len(m.Keys) > 0 {
		msg.WithKeys(m.Keys)
	}
	for k, v := range m.Properties {
		msg.WithProperty(k, v)
	}
	if m.Queue >= 0 || m.Broker != "" {
		msg.Queue = &primitive.MessageQueue{Topic: m.Topic, BrokerName: m.Broker, QueueId: m.Queue}
	}
	r, err := p.p.SendSync(ctx, msg)
	if err != nil {
		return nil, p.explain(ctx, m, err)
	}
	receipt := &SendReceipt{Topic: m.Topic, Queue: -1, Offset: message.Offset(r.QueueOffset), ID: r.MsgID, OffsetID: r.OffsetMsgID, Status: sendStatus(r.Status)}
	if r.MessageQueue != nil {
		receipt.Broker, receipt.Queue = r.MessageQueue.BrokerName, r.MessageQueue.QueueId
	}
	return receipt, nil
}

func sendStatus(s primitive.SendStatus) string {
	switch s {
	case primitive.SendOK:
		return "SEND_OK"
	case primitive.SendFlushDiskTimeout:
		return "FLUSH_DISK_TIMEOUT"
	case primitive.SendFlushSlaveTimeout:
		return "FLUSH_SLAVE_TIMEOUT"
	case primitive.SendSlaveNotAvailable:
		return "SLAVE_NOT_AVAILABLE"
	}
	return "UNKNOWN"
}

// refusal finds the code and remark in the text that rocketmq-client-go makes
// of them.
var refusal = regexp.MustCompile(`(?s)CODE: (-?\d+), DESC: (.*)`)

// explain gives a failed send its cause: the broker's refusal as a
// *ServerError, or why there is no route, which rocketmq-client-go swallows.
func (p *Producer) explain(ctx context.Context, m *Outgoing, err error) error {
	op := "send to topic " + m.Topic
	if parts := refusal.FindStringSubmatch(err.Error()); parts != nil {
		code, _ := strconv.Atoi(parts[1])
		return &ServerError{Addr: "the broker", Op: op, Code: code, Remark: parts[2]}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	route, routeErr := p.admin.Route(ctx, m.Topic)
	if routeErr != nil && isCode(routeErr, remoting.RespTopicNotExist) {
		if _, auto := p.admin.Route(ctx, message.TopicAutoCreate); auto != nil {
			return fmt.Errorf("%w; it is not made on the first send either (no broker offers %s): run 'merlin topic create %s'", routeErr, message.TopicAutoCreate, m.Topic)
		}
		return fmt.Errorf("%s: %w", op, err)
	}
	if routeErr != nil {
		return routeErr
	}
	if m.Queue >= 0 {
		most := int32(0)
		for _, q := range route.QueueDatas {
			most = max(most, q.WriteQueueNums)
		}
		if int32(m.Queue) >= most {
			return fmt.Errorf("%s: it has no queue %d to write to; queues are 0 to %d", op, m.Queue, most-1)
		}
	}
	for _, b := range routeBrokers(route) {
		if _, err := p.admin.topicConfig(ctx, b, m.Topic); err != nil {
			var down *UnreachableError
			if errors.As(err, &down) {
				return fmt.Errorf("%s: %w", op, err)
			}
		}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// Close ends the producer.
func (p *Producer) Close() error {
	if err := p.p.Shutdown(); err != nil {
		return fmt.Errorf("close the producer: %w", err)
	}
	return nil
}
