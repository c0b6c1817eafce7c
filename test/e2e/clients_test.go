package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"

	"github.com/merlinmq/merlin/test/harness"
)

func TestMain(m *testing.M) {
	rlog.SetLogLevel("error")
	if words := strings.Fields(os.Getenv(memberVariable)); len(words) == 4 {
		fmt.Fprintln(os.Stderr, member(words))
		os.Exit(1)
	}
	if err := keepGo(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// client-go keeps the offsets of broadcasting consumers under the home folder.
	home, err := os.MkdirTemp("", "e2e-home")
	if err == nil {
		os.Setenv("HOME", home)
	}
	code := m.Run()
	os.RemoveAll(home)
	harness.Clean()
	os.Exit(code)
}

// keepGo makes the go command use its caches when HOME is another folder: else building what the tests run would fetch and
// compile everything anew.
func keepGo() error {
	names := []string{"GOCACHE", "GOMODCACHE", "GOENV"}
	out, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	for i, value := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if err := os.Setenv(names[i], value); err != nil {
			return err
		}
	}
	return nil
}

// world gives a test its own names and clients.
type world struct {
	t      *testing.T
	ns     primitive.NamesrvAddr
	suffix string
	n      int
}

func newWorld(t *testing.T, addr string) *world {
	return &world{t: t, ns: primitive.NamesrvAddr{addr}, suffix: fmt.Sprintf("%x", rand.Uint32())}
}

func (w *world) name(s string) string { return "go_" + s + "_" + w.suffix }

func (w *world) instance() string {
	w.n++
	return fmt.Sprintf("%s-%d", w.suffix, w.n)
}

// topic creates a topic through the admin client and waits until it has a route.
func (w *world) topic(name string, queues int) string {
	w.t.Helper()
	topic := w.name(name)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(w.ns)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer a.Close()
	if err := a.CreateTopic(ctx, admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(w.broker()), admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues)); err != nil {
		w.t.Fatalf("create topic: %v", err)
	}
	w.eventually("a route for "+topic, func() bool {
		q, err := a.FetchPublishMessageQueues(ctx, topic)
		return err == nil && len(q) == queues
	})
	return topic
}

// broker asks the name server through a topic that every broker has.
func (w *world) broker() string {
	w.t.Helper()
	p := w.producer("find")
	topic := w.name("find")
	r, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("x")))
	if err != nil {
		w.t.Fatalf("send to an auto-created topic: %v", err)
	}
	id, err := primitive.UnmarshalMsgID([]byte(r.OffsetMsgID))
	if err != nil {
		w.t.Fatalf("offset id %q: %v", r.OffsetMsgID, err)
	}
	return fmt.Sprintf("%s:%d", id.Addr, id.Port)
}

func (w *world) producer(group string, opts ...producer.Option) rmq.Producer {
	w.t.Helper()
	p, err := rmq.NewProducer(append([]producer.Option{producer.WithNameServer(w.ns), producer.WithGroupName(w.name(group)),
		producer.WithInstanceName(w.instance()), producer.WithSendMsgTimeout(10 * time.Second)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Shutdown() })
	return p
}

func (w *world) send(p rmq.Producer, topic string, bodies ...string) {
	w.t.Helper()
	for _, b := range bodies {
		if _, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte(b)).WithTag("T")); err != nil {
			w.t.Fatalf("send %q: %v", b, err)
		}
	}
}

// inbox collects what a consumer is given.
type inbox struct {
	mu   sync.Mutex
	msgs []*primitive.MessageExt // guarded by mu
}

func (in *inbox) take(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.msgs = append(in.msgs, msgs...)
	return consumer.ConsumeSuccess, nil
}

func (in *inbox) all() []*primitive.MessageExt {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.msgs)
}

// bodies returns the different bodies, sorted.
func (in *inbox) bodies() []string {
	var b []string
	for _, m := range in.all() {
		b = append(b, string(m.Body))
	}
	slices.Sort(b)
	return slices.Compact(b)
}

type handler = func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)

// consume starts a push consumer that begins with the first message, unless opts say else.
func (w *world) consume(group, topic, tags string, h handler, opts ...consumer.Option) rmq.PushConsumer {
	w.t.Helper()
	c := w.subscribed(group, topic, consumer.MessageSelector{Type: consumer.TAG, Expression: tags}, h, opts...)
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// subscribed returns a push consumer that has yet to be started.
func (w *world) subscribed(group, topic string, what consumer.MessageSelector, h handler, opts ...consumer.Option) rmq.PushConsumer {
	w.t.Helper()
	c, err := rmq.NewPushConsumer(append([]consumer.Option{consumer.WithNameServer(w.ns), consumer.WithGroupName(w.name(group)), consumer.WithInstance(w.instance()),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := c.Subscribe(topic, what, h); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Shutdown() })
	return c
}

func (w *world) eventually(what string, cond func() bool) {
	w.t.Helper()
	w.eventuallyWithin(45*time.Second, what, cond)
}

func (w *world) eventuallyWithin(d time.Duration, what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(d); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within %s: %s", d, what)
		}
	}
}

func numbered(prefix string, from, to int) []string {
	var s []string
	for i := from; i < to; i++ {
		s = append(s, fmt.Sprintf("%s %03d", prefix, i))
	}
	return s
}

// incompressible returns n bytes that zlib cannot make smaller.
func incompressible(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
