package ordered

import (
	"context"
	"testing"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// Send sends 50 messages a second to the queues of a topic in turn, until stop,
// which returns how many there are.
func Send(t testing.TB, namesrv, topic string) (stop func() int) {
	t.Helper()
	p, err := rmq.NewProducer(producer.WithNameServer(primitive.NamesrvAddr{namesrv}), producer.WithGroupName(topic+"_send"),
		producer.WithInstanceName(topic+"_send"), producer.WithSendMsgTimeout(10*time.Second), producer.WithRetry(0))
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, sent := make(chan struct{}), 0
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("x"))); err == nil {
				sent++
			}
		}
	}()
	stop = func() int { cancel(); <-done; return sent }
	t.Cleanup(func() {
		stop()
		if err := p.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return stop
}
