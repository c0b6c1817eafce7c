package bench

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// fakeBroker is a broker in memory that can be told to lie. It reads frames
// with encoding/json, not with the code under test.
type fakeBroker struct {
	t        *testing.T
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  []net.Conn
	queues [][][]byte // records
	topics map[string]int
	sends  int
	half   map[int64]*message.Message

	// What it does to the n-th message, from 1 on; set before the first.
	onStore  func(n int, m *message.Message) (copies int)
	onSend   func(n int) (code int) // before storing
	delay    func(n int) time.Duration
	filtered string // the expression of the group with a filter
	popping  fakePops
}

func newFakeBroker(t *testing.T) *fakeBroker {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{t: t, listener: l, topics: map[string]int{}, half: map[int64]*message.Message{}}
	b.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, c)
			b.mu.Unlock()
			b.wg.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		b.mu.Lock()
		for _, c := range b.conns {
			c.Close()
		}
		b.mu.Unlock()
		b.wg.Wait()
	})
	return b
}

func (b *fakeBroker) addr() string { return b.listener.Addr().String() }

func (b *fakeBroker) serve(c net.Conn) {
	defer c.Close()
	in, have := make([]byte, 1<<20), 0
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		for have >= 4 {
			size := 4 + int(binary.BigEndian.Uint32(in))
			if have < size {
				break
			}
			f, _ := readFrame(b.t, in[:size])
			if _, err := c.Write(b.answer(f)); err != nil {
				return
			}
			have = copy(in, in[size:have])
		}
	}
}

func (b *fakeBroker) answer(f frame) []byte {
	code, ext, body := b.handle(f)
	h, err := json.Marshal(map[string]any{"code": code, "extFields": ext, "flag": 1, "language": "OTHER", "opaque": f.Opaque, "remark": "a remark", "version": 1})
	if err != nil {
		b.t.Error(err)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(4+len(h)+len(body)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(h)))
	return append(append(out, h...), body...)
}

func (b *fakeBroker) handle(f frame) (code int, ext map[string]string, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	num := func(name string) int {
		n, err := strconv.Atoi(f.ExtFields[name])
		if err != nil {
			b.t.Errorf("code %d: field %s: %v", f.Code, name, err)
		}
		return n
	}
	switch f.Code {
	case codeTopicConfig:
		n := b.topics[f.ExtFields["topic"]]
		if n == 0 {
			return topicNotExist, nil, nil
		}
		return ok, nil, fmt.Appendf(nil, `{"perm":6,"readQueueNums":%d,"writeQueueNums":%d}`, n, n)
	case codeCreateTopic:
		b.topics[f.ExtFields["topic"]] = num("writeQueueNums")
		b.queues = make([][][]byte, num("writeQueueNums"))
		return ok, nil, nil
	case codeMinOffset:
		return ok, map[string]string{"offset": "0"}, nil
	case codeMaxOffset:
		return ok, map[string]string{"offset": strconv.Itoa(len(b.queues[num("queueId")]))}, nil
	case codeSendV2, codeSendBatch:
		return b.send(f, num("e"))
	case codeEndTransaction:
		m := b.half[int64(num("commitLogOffset"))]
		if m == nil || num("commitOrRollback") != 8 {
			return 1, nil, nil
		}
		b.store(m)
		return ok, nil, nil
	case codeHeartbeat:
		var beat struct {
			ConsumerDataSet []struct {
				SubscriptionDataSet []struct{ SubString, ExpressionType string }
			}
		}
		if err := json.Unmarshal(f.body, &beat); err != nil || beat.ConsumerDataSet[0].SubscriptionDataSet[0].ExpressionType != "SQL92" {
			b.t.Errorf("heartbeat %s: %v", f.body, err)
		}
		b.filtered = beat.ConsumerDataSet[0].SubscriptionDataSet[0].SubString
		return ok, nil, nil
	case codePull:
		if f.ExtFields["consumerGroup"] == filterGroup {
			return b.scan(num("queueId"), num("queueOffset"))
		}
		return b.pull(num("queueId"), num("queueOffset"), num("maxMsgNums"))
	}
	if code, ext, body, mine := b.popping.handle(b, f); mine {
		return code, ext, body
	}
	return 3, nil, nil
}

func (b *fakeBroker) send(f frame, queue int) (int, map[string]string, []byte) {
	b.sends++
	if b.delay != nil {
		time.Sleep(b.delay(b.sends))
	}
	if b.onSend != nil {
		if code := b.onSend(b.sends); code != ok {
			return code, nil, nil
		}
	}
	born, _ := strconv.ParseInt(f.ExtFields["g"], 10, 64)
	m := &message.Message{Topic: f.ExtFields["b"], QueueID: int32(queue), BornTimestamp: born, StoreTimestamp: time.Now().UnixMilli(),
		BornHost: netip.MustParseAddrPort("127.0.0.1:1"), StoreHost: netip.MustParseAddrPort("127.0.0.1:2")}
	ext := map[string]string{"queueId": strconv.Itoa(queue), "queueOffset": strconv.Itoa(b.sends), "MSG_REGION": "r", "transactionId": "U",
		"msgId": message.OffsetID(m.StoreHost, message.Position(b.sends))}
	for body := f.body; f.Code == codeSendBatch && len(body) > 0; {
		item, rest, err := message.NextBatchItem(body)
		if err != nil {
			return 13, nil, nil
		}
		one := *m
		one.Body, one.Properties = item.Body, item.Properties
		b.store(&one)
		body = rest
	}
	if f.Code == codeSendV2 {
		m.Body, m.Properties = f.body, message.Properties(f.ExtFields["i"])
		m.Body = append([]byte(nil), m.Body...)
		if f.ExtFields["f"] == "4" {
			b.half[int64(b.sends)] = m
		} else {
			b.store(m)
		}
	}
	return ok, ext, nil
}

func (b *fakeBroker) store(m *message.Message) {
	copies, stored := 1, 0
	for _, q := range b.queues {
		stored += len(q)
	}
	if b.onStore != nil {
		copies = b.onStore(stored+1, m)
	}
	for range copies {
		m.QueueOffset = message.Offset(len(b.queues[m.QueueID]))
		rec, err := message.AppendRecord(nil, m)
		if err != nil {
			b.t.Error(err)
		}
		b.queues[m.QueueID] = append(b.queues[m.QueueID], rec)
	}
}

func (b *fakeBroker) pull(queue, offset, n int) (int, map[string]string, []byte) {
	q := b.queues[queue]
	ext := func(next int) map[string]string {
		return map[string]string{"nextBeginOffset": strconv.Itoa(next), "minOffset": "0", "maxOffset": strconv.Itoa(len(q)), "suggestWhichBrokerId": "0"}
	}
	if offset >= len(q) {
		return pullNotFound, ext(offset), nil
	}
	var body []byte
	next := min(offset+n, len(q))
	for _, rec := range q[offset:next] {
		body = append(body, rec...)
	}
	return ok, ext(next), body
}

// scan looks at 100 messages, of which every tenth matches.
func (b *fakeBroker) scan(queue, offset int) (int, map[string]string, []byte) {
	code, ext, _ := b.pull(queue, offset, 100)
	if code != ok {
		return code, ext, nil
	}
	var body []byte
	for i, rec := range b.queues[queue][offset:min(offset+100, len(b.queues[queue]))] {
		if (offset+i)%10 == 9 {
			body = append(body, rec...)
		}
	}
	if len(body) == 0 {
		code = pullRetry
	}
	return code, ext, body
}
