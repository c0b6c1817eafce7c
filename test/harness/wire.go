package harness

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// Wire is a connection to a broker of either kind, for tests that want to say
// and see exactly what goes over it.
type Wire struct {
	t testing.TB
	c *remoting.Client
}

// DialBroker connects to a broker; the connection ends with the test.
func DialBroker(t testing.TB, addr string) *Wire {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := remoting.Dial(ctx, addr, remoting.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{t, c}
	t.Cleanup(w.Close)
	return w
}

// Close ends the connection before the test does.
func (w *Wire) Close() { w.c.Close() }

// Call makes one call and fails the test when there is no answer.
func (w *Wire) Call(code int, f remoting.Fields, body []byte) *remoting.Answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ans, err := w.c.Call(ctx, code, f, body)
	if err != nil {
		w.t.Fatalf("%s: %v", remoting.CodeName(code), err)
	}
	return ans
}

// Do is Call that wants success.
func (w *Wire) Do(code int, f remoting.Fields, body []byte) *remoting.Answer {
	w.t.Helper()
	ans := w.Call(code, f, body)
	if ans.Code != remoting.RespSuccess {
		w.t.Fatalf("%s: %s: %s", remoting.CodeName(code), remoting.ResponseName(ans.Code), ans.Remark)
	}
	return ans
}

// Send sends one message, or a batch body, and returns the queue offset.
func (w *Wire) Send(topic string, queue int, p message.Properties, body []byte, batch bool) int64 {
	w.t.Helper()
	f := SendFields(topic, queue, 4, p)
	f.Str("m", strconv.FormatBool(batch))
	code := remoting.ReqSendMessageV2
	if batch {
		code = remoting.ReqSendBatchMessage
	}
	ans := w.Do(code, f, body)
	return w.Number(ans, "queueOffset")
}

// SendFields is the header of a SEND_MESSAGE_V2 to a queue of a topic, which is
// made with so many queues if need be.
func SendFields(topic string, queue, queues int, p message.Properties) (f remoting.Fields) {
	f.Str("a", "tests")
	f.Str("b", topic)
	f.Str("c", "TBW102")
	f.Int("d", int64(queues))
	f.Int("e", int64(queue))
	f.Int("f", 0)
	f.Int("g", time.Now().UnixMilli())
	f.Int("h", 0)
	f.Str("i", string(p))
	f.Int("j", 0)
	f.Str("k", "false")
	return f
}

// Number returns a header field of an answer that is a number.
func (w *Wire) Number(ans *remoting.Answer, name string) int64 {
	w.t.Helper()
	n, err := Number(ans, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// Number is Wire.Number for goroutines that must not end the test.
func Number(ans *remoting.Answer, name string) (int64, error) {
	for _, f := range ans.Fields {
		if f.Key == name {
			return strconv.ParseInt(f.Value, 10, 64)
		}
	}
	return 0, fmt.Errorf("the answer has no %s", name)
}

// Read reads a queue from an offset to its end and returns the end. Offsets
// must be dense.
func (w *Wire) Read(topic string, queue int, next int64, each func(offset int64, v message.View)) int64 {
	w.t.Helper()
	for {
		var f remoting.Fields
		f.Str("consumerGroup", "TOOLS_CONSUMER")
		f.Str("topic", topic)
		f.Int("queueId", int64(queue))
		f.Int("queueOffset", next)
		f.Int("maxMsgNums", 32)
		f.Int("sysFlag", 4) // the subscription is in the request
		f.Int("commitOffset", 0)
		f.Int("suspendTimeoutMillis", 0)
		f.Str("subscription", "*")
		f.Int("subVersion", 0)
		f.Str("expressionType", "TAG")
		ans := w.Call(remoting.ReqPullMessage, f, nil)
		switch ans.Code {
		case remoting.RespPullNotFound:
			return next
		case remoting.RespSuccess:
		default:
			w.t.Fatalf("pull of %s queue %d at %d: %s %s", topic, queue, next, remoting.ResponseName(ans.Code), ans.Remark)
		}
		for rest := ans.Body; len(rest) > 0; {
			v, err := message.Parse(rest)
			if err == nil {
				err = v.VerifyBody()
			}
			if err != nil {
				w.t.Fatalf("%s queue %d offset %d: %v", topic, queue, next, err)
			}
			if int64(v.QueueOffset()) != next {
				w.t.Fatalf("%s queue %d: offset %d is followed by %d", topic, queue, next-1, v.QueueOffset())
			}
			each(next, v)
			next, rest = next+1, rest[v.Size():]
		}
	}
}

// Find returns how many messages of a topic have a key.
func (w *Wire) Find(topic, key string) (found int) {
	w.t.Helper()
	var f remoting.Fields
	f.Str("topic", topic)
	f.Str("key", key)
	f.Int("maxNum", 64)
	f.Int("beginTimestamp", 0)
	f.Int("endTimestamp", 1<<62)
	ans := w.Call(remoting.ReqQueryMessage, f, nil)
	if ans.Code == remoting.RespQueryNotFound {
		return 0
	}
	for rest := ans.Body; len(rest) > 0; {
		v, err := message.Parse(rest)
		if err != nil {
			w.t.Fatal(err)
		}
		for k := range v.Properties().Keys() {
			if string(k) == key {
				found++
			}
		}
		rest = rest[v.Size():]
	}
	return found
}

// CreateTopic makes a topic with so many queues.
func (w *Wire) CreateTopic(name string, queues int) {
	w.t.Helper()
	var f remoting.Fields
	for _, x := range [][2]string{{"topic", name}, {"defaultTopic", "TBW102"}, {"perm", "6"}, {"topicFilterType", "SINGLE_TAG"}, {"topicSysFlag", "0"}, {"order", "false"}} {
		f.Str(x[0], x[1])
	}
	f.Int("readQueueNums", int64(queues))
	f.Int("writeQueueNums", int64(queues))
	w.Do(remoting.ReqUpdateAndCreateTopic, f, nil)
}

// CreateGroup makes a consumer group.
func (w *Wire) CreateGroup(name string) {
	w.t.Helper()
	w.Do(remoting.ReqUpdateAndCreateSubscriptionGroup, nil, fmt.Appendf(nil, `{"groupName":%q,"consumeEnable":true,"retryQueueNums":1,"retryMaxTimes":16}`, name))
}

// Commit commits an offset of a group, Committed reads it.
func (w *Wire) Commit(group, topic string, queue int, offset int64) {
	w.t.Helper()
	f := offsetFields(group, topic, queue)
	f.Int("commitOffset", offset)
	w.Do(remoting.ReqUpdateConsumerOffset, f, nil)
}

// Committed returns the committed offset of a group.
func (w *Wire) Committed(group, topic string, queue int) int64 {
	w.t.Helper()
	return w.Number(w.Do(remoting.ReqQueryConsumerOffset, offsetFields(group, topic, queue), nil), "offset")
}

func offsetFields(group, topic string, queue int) (f remoting.Fields) {
	f.Str("consumerGroup", group)
	f.Str("topic", topic)
	f.Int("queueId", int64(queue))
	return f
}
