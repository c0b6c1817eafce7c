package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// INVOKE_BROKER_TO_GET_CONSUMER_STATUS 223, GET_CONSUMER_RUNNING_INFO 307,
// CONSUME_MESSAGE_DIRECTLY 309
//
//   - The broker asks the client (221, 307, 309) and passes its body on untouched;
//     a client that does not answer within 10 s (221: 5 s) is CONSUME_MSG_TIMEOUT.
//   - The connection that asks is not held up meanwhile: one goroutine waits for
//     each question, at most maxRelays of them, and Gateway.Close ends them.

const (
	maxRelays     = 256
	relayTimeout  = 10 * time.Second
	statusTimeout = 5 * time.Second
)

// relays are the questions to clients that wait for their answers.
type relays struct {
	tasks sync.WaitGroup

	mu     sync.Mutex // guards what follows
	limit  int        // of open; set before the first start
	open   int
	closed bool
	stop   map[int]context.CancelFunc
	next   int
}

// start runs fn on a goroutine of its own.
func (l *relays) start(timeout time.Duration, fn func(ctx context.Context)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return &broker.Error{Kind: broker.KindUnavailable, Text: "the broker is shutting down"}
	case l.open >= l.limit:
		return &broker.Error{Kind: broker.KindBusy, Text: "too many questions to clients wait for their answers; try again later"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	if l.stop == nil {
		l.stop = map[int]context.CancelFunc{}
	}
	l.next++
	id := l.next
	l.stop[id] = cancel
	l.open++
	l.tasks.Go(func() {
		defer cancel()
		fn(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.stop, id)
		l.open--
	})
	return nil
}

func (l *relays) close() {
	l.mu.Lock()
	l.closed = true
	for _, stop := range l.stop {
		stop()
	}
	l.mu.Unlock()
	l.tasks.Wait()
}

// Close ends the questions to clients that wait for their answers. Call it when
// no connection serves any more.
func (g *Gateway) Close() {
	g.relays.close()
	g.replies.close()
}

// relay answers the request with what ask returns, from another goroutine.
func (s *session) relay(r *remoting.Request, timeout time.Duration, ask func(ctx context.Context) ([]byte, error)) error {
	ticket := r.Ticket()
	conn := s.conn
	err := s.gateway.relays.start(timeout, func(ctx context.Context) {
		answer := remoting.Response{Code: remoting.RespSuccess}
		text, err := ask(ctx)
		if err != nil {
			answer.Code, _ = codeOf(err)
			answer.Remark = err.Error()
		} else {
			answer.Body = text
		}
		_ = conn.AnswerLater(ticket, answer) // who asked may be gone
	})
	if err != nil {
		code, _ := codeOf(err)
		return conn.AnswerLater(ticket, remoting.Response{Code: code, Remark: err.Error()})
	}
	return nil
}

func (s *session) runningInfo(r *remoting.Request) error {
	q := broker.Question{Kind: broker.AskRunningInfo}
	var err error
	if q.Group, err = r.String("consumerGroup"); err != nil {
		return err
	}
	if q.ClientID, err = r.String("clientId"); err != nil {
		return err
	}
	if q.Stacks, err = r.BoolOr("jstackEnable", false); err != nil {
		return err
	}
	return s.relay(r, relayTimeout, func(ctx context.Context) ([]byte, error) { return s.broker.AskConsumer(ctx, &q) })
}

func (s *session) consumeDirectly(r *remoting.Request) error {
	q := broker.Question{Kind: broker.AskConsumeDirectly}
	var err error
	if q.Group, err = r.String("consumerGroup"); err != nil {
		return err
	}
	if q.ClientID, err = r.String("clientId"); err != nil {
		return err
	}
	if q.MessageID, err = r.String("msgId"); err != nil {
		return err
	}
	return s.relay(r, relayTimeout, func(ctx context.Context) ([]byte, error) { return s.broker.AskConsumer(ctx, &q) })
}

func (s *session) consumerStatus(r *remoting.Request) error {
	topic, err := r.String("topic")
	if err != nil {
		return err
	}
	group, err := r.String("group")
	if err != nil {
		return err
	}
	client := r.StringOr("clientAddr", "")
	return s.relay(r, statusTimeout, func(ctx context.Context) ([]byte, error) {
		answers, err := s.broker.ConsumerStatus(ctx, group, topic, client)
		if err != nil {
			return nil, err
		}
		return mergeStatus(answers)
	})
}

// mergeStatus puts the members' own tables under their ids.
func mergeStatus(answers map[string][]byte) ([]byte, error) {
	out := body.ConsumerStatus{ConsumerTable: map[string]map[body.MessageQueue]int64{}}
	for id, text := range answers {
		var one body.ConsumerStatus
		if len(text) > 0 {
			if err := body.Decode(text, &one); err != nil {
				return nil, &broker.Error{Kind: broker.KindSystem, Text: "the answer of the client " + id + " cannot be read", Cause: err}
			}
		}
		out.ConsumerTable[id] = one.MessageQueueTable
	}
	return body.Encode(out), nil
}
