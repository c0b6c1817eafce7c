package gateway

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
)

// wireFrame is a request in bytes.
func wireFrame(code int, fields string) []byte {
	header := fmt.Sprintf(`{"code":%d,"opaque":1,"extFields":{%s}}`, code, fields)
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(header)))
	return append(b, header...)
}

// readAnswers reads so many answers and returns how many of each code there
// are, and a remark.
func readAnswers(t *testing.T, c net.Conn, n int) (codes map[int]int, remark string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	codes = map[int]int{}
	for range n {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			t.Fatalf("after %v: %v", codes, err)
		}
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		var d remoting.Decoder
		var r remoting.Request
		if err := d.Decode(b, &r); err != nil {
			t.Fatal(err)
		}
		codes[r.Code]++
		remark = string(r.Remark)
	}
	return codes, remark
}

// One client that pulls, or pops, without end gets its share of the waiting
// room and is told so; another one still waits and is served, and when the
// first one leaves its room is free at once.
func TestNobodyTakesAllTheRoomToWait(t *testing.T) {
	const room, asked = 1000, 700
	for _, way := range []struct {
		name, fields, word string
		code, full         int
		waiting            func(b *broker.Broker) int
		refused            func(b *broker.Broker) int64
	}{
		{"pulls", `"consumerGroup":"g","topic":"orders","queueId":"%d","queueOffset":"0","maxMsgNums":"1","sysFlag":"6","commitOffset":"0",` +
			`"suspendTimeoutMillis":"200000","subscription":"*","subVersion":"0"`, "too many pulls", remoting.ReqPullMessage, remoting.RespSystemBusy,
			func(b *broker.Broker) int { return b.Holds() },
			func(b *broker.Broker) int64 { n, _ := b.Refused(); return n }},
		{"pops", `"consumerGroup":"g","topic":"orders","queueId":"%d","maxMsgNums":"1","invisibleTime":"60000","pollTime":"200000"`,
			"too many pops", remoting.ReqPopMessage, remoting.RespPollingFull,
			func(b *broker.Broker) int { _, n := b.PopStats(); return n },
			func(b *broker.Broker) int64 { _, n := b.Refused(); return n }},
	} {
		t.Run(way.name, func(t *testing.T) {
			var warnings atomic.Int64
			s := startWith(t, nil, func(o *broker.Options) {
				o.Settings.MaxHolds = room
				o.Events.Warn = func(text string, _ ...any) {
					if strings.Contains(text, "too many wait") {
						warnings.Add(1)
					}
				}
			})
			c := dial(t, s.addr, nil)
			c.send("orders", "x", "queueId", "3")
			connect := func() net.Conn {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			waits := func(n int) {
				t.Helper()
				for end := time.Now().Add(30 * time.Second); way.waiting(s.broker) != n; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%d wait, want %d", way.waiting(s.broker), n)
					}
				}
			}
			greedy, other := connect(), connect()
			frame := wireFrame(way.code, fmt.Sprintf(way.fields, 0))
			for range asked {
				if _, err := greedy.Write(frame); err != nil {
					t.Fatal(err)
				}
			}
			codes, remark := readAnswers(t, greedy, asked-room/5)
			if len(codes) != 1 || codes[way.full] == 0 || !strings.Contains(remark, way.word) {
				t.Errorf("answered %v, %q; want all %d", codes, remark, way.full)
			}
			waits(room / 5)
			if n := way.refused(s.broker); n != asked-room/5 || warnings.Load() != 1 {
				t.Errorf("%d are counted and %d told; want %d and 1", n, warnings.Load(), asked-room/5)
			}
			if _, err := other.Write(wireFrame(way.code, fmt.Sprintf(way.fields, 1))); err != nil {
				t.Fatal(err)
			}
			waits(room/5 + 1)
			greedy.Close()
			waits(1)
			c.send("orders", "y", "queueId", "1")
			if codes, remark := readAnswers(t, other, 1); codes[remoting.RespSuccess] != 1 {
				t.Errorf("the other client is answered %v %s", codes, remark)
			}
		})
	}
}
