package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"
)

// fakePops is what a fakeBroker does with pops.
type fakePops struct {
	next    []int // by queue
	acked   map[string]bool
	again   int // after so many messages all come once more
	lost    int // so many acknowledgements are refused
	deleted string
}

func (p *fakePops) handle(b *fakeBroker, f frame) (code int, ext map[string]string, body []byte, mine bool) {
	switch f.Code {
	case codeBrokerConfig:
		return ok, nil, []byte("x=1\nbrokerName=fake\n"), true
	case codeCreateGroup:
		return ok, nil, nil, true
	case codeDeleteGroup:
		p.deleted = f.ExtFields["groupName"]
		return ok, nil, nil, true
	case codePop:
		code, ext, body = p.pop(b, f)
		return code, ext, body, true
	case codeBatchAck:
		return p.ack(b, f), nil, nil, true
	case codeAck:
		return p.ackOne(b, f), nil, nil, true
	}
	return 0, nil, nil, false
}

func (p *fakePops) pop(b *fakeBroker, f frame) (int, map[string]string, []byte) {
	if p.next == nil {
		p.next, p.acked = make([]int, len(b.queues)), map[string]bool{}
	}
	ext := map[string]string{"popTime": "1700000000000", "invisibleTime": f.ExtFields["invisibleTime"], "reviveQid": "3", "restNum": "0"}
	if p.again > 0 && len(p.acked) >= p.again {
		p.again = 0
		clear(p.next)
	}
	left, err := strconv.Atoi(f.ExtFields["maxMsgNums"])
	if err != nil {
		b.t.Error(err)
	}
	var starts, offsets string
	var body []byte
	for q := range b.queues {
		var list string
		from := p.next[q]
		for ; p.next[q] < len(b.queues[q]) && left > 0; left-- {
			list += "," + strconv.Itoa(p.next[q])
			body = append(body, b.queues[q][p.next[q]]...)
			p.next[q]++
		}
		if list != "" {
			starts += fmt.Sprintf(";0 %d %d", q, from)
			offsets += fmt.Sprintf(";0 %d %s", q, list[1:])
		}
	}
	if starts == "" {
		return popPollingTimeout, ext, nil
	}
	ext["startOffsetInfo"], ext["msgOffsetInfo"] = starts[1:], offsets[1:]
	return ok, ext, body
}

func (p *fakePops) ack(b *fakeBroker, f frame) int {
	var req struct {
		BrokerName string
		Acks       []struct {
			C, T, R string
			So, Pt  int64
			Q, Rq   int
			B       []byte
		}
	}
	if err := json.Unmarshal(f.body, &req); err != nil || req.BrokerName != "fake" || len(req.Acks) == 0 {
		b.t.Errorf("acknowledgement %s: %v", f.body, err)
	}
	if p.lost > 0 {
		p.lost--
		return 208
	}
	for _, a := range req.Acks {
		if a.T != "bench" || a.R != "0" || a.Rq != 3 || a.Pt != 1700000000000 {
			b.t.Errorf("acknowledgement %+v", a)
		}
		for i := range len(a.B) * 8 {
			if a.B[i/8]>>(i%8)&1 == 1 {
				p.acked[fmt.Sprint(a.Q, " ", a.So+int64(i))] = true
			}
		}
	}
	return ok
}

func (p *fakePops) ackOne(b *fakeBroker, f frame) int {
	h := f.ExtFields
	var start int
	var queue, offset string
	if _, err := fmt.Sscanf(h["extraInfo"], "%d 1700000000000 60000 3 0 fake %s %s", &start, &queue, &offset); err != nil ||
		h["topic"] != "bench" || h["consumerGroup"] == "" || queue != h["queueId"] || offset != h["offset"] {
		b.t.Errorf("acknowledgement %v: %v", h, err)
	}
	if p.acked[queue+" "+offset] {
		b.t.Errorf("%s %s is acknowledged twice", queue, offset)
	}
	p.acked[queue+" "+offset] = true
	return ok
}

// loaded returns a fakeBroker with 3000 messages.
func loaded(t *testing.T, p fakePops) *fakeBroker {
	t.Helper()
	b := newFakeBroker(t)
	b.popping = p
	if _, err := Produce(context.Background(), ProduceOptions{Addr: b.addr(), Count: 3000, Size: 50, NoVerify: true}); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPopConsumesEverythingOnce(t *testing.T) {
	for _, each := range []bool{false, true} {
		b := loaded(t, fakePops{})
		r, err := Pop(context.Background(), PopOptions{Addr: b.addr(), Conns: 3, AckEach: each})
		if err != nil {
			t.Fatal(err)
		}
		b.mu.Lock()
		acked, deleted := len(b.popping.acked), b.popping.deleted
		b.mu.Unlock()
		if r.Available != 3000 || r.Messages != 3000 || r.Twice != 0 || r.Latency.Count < 3000/32 || r.MBPerSec == 0 || acked != 3000 {
			t.Errorf("%+v, %d acknowledged", r, acked)
		}
		if deleted == "" {
			t.Error("the group is left behind")
		}
	}
	b := loaded(t, fakePops{})
	if _, err := Pop(context.Background(), PopOptions{Addr: b.addr(), Batch: 33}); err == nil {
		t.Error("pops of 33 messages are taken")
	}
}

func TestPopFindsLies(t *testing.T) {
	b := loaded(t, fakePops{again: 1000})
	r, err := Pop(context.Background(), PopOptions{Addr: b.addr(), Conns: 1, InFlight: 1})
	if err != nil || r.Twice == 0 {
		t.Errorf("messages that come again are not counted: %+v, %v", r, err)
	}
	b = loaded(t, fakePops{lost: 1})
	var refused *ServerError
	if _, err = Pop(context.Background(), PopOptions{Addr: b.addr(), Timeout: time.Second}); !errors.As(err, &refused) || refused.Code != 208 {
		t.Errorf("a refused acknowledgement: %v", err)
	}
	b = loaded(t, fakePops{next: []int{10, 0, 0, 0, 0, 0, 0, 0}, acked: map[string]bool{}})
	if _, err = Pop(context.Background(), PopOptions{Addr: b.addr(), Timeout: time.Second}); err == nil {
		t.Error("messages that never come are not missed")
	}
}
