package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

var testNow = time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)

// frame is one request as encoding/json and the wire's lengths read it.
type frame struct {
	Code      int
	ExtFields map[string]string
	Flag      int
	Language  string
	Opaque    int32
	Version   int
	body      []byte
}

func readFrame(t *testing.T, b []byte) (f frame, rest []byte) {
	t.Helper()
	size := 4 + int(binary.BigEndian.Uint32(b))
	if size > len(b) {
		t.Fatalf("a frame of %d bytes in %d", size, len(b))
	}
	if b[4] != 0 {
		t.Fatalf("serialize type %d, want JSON", b[4])
	}
	n := int(binary.BigEndian.Uint32(b[4:]) & 0xFFFFFF)
	if err := json.Unmarshal(b[8:8+n], &f); err != nil {
		t.Fatalf("header %q: %v", b[8:8+n], err)
	}
	f.body = b[8+n : size]
	return f, b[size:]
}

func TestSendFrameGolden(t *testing.T) {
	id := newIdentity([4]byte{127, 0, 0, 1}, 0x1234, 0xABCDE, 7)
	s := shape{group: "g", topic: "t", size: 3, batch: 1, queues: 8, keys: true, tags: true}
	f := newSendFrames(s, id, 1, testNow)
	born := testNow.UnixMilli() + 123
	f.patch(0, opaqueBase|5, 3, born, 0x2A)
	// The protocol's SEND_MESSAGE_V2 and its letters; 0x01 and 0x02 part the
	// properties; a unique key ends with the ms since the month began (20 days
	// and 13 hours and 123 ms: 1,774,800,123) and a counter.
	header := `{"code":310,"extFields":{"a":"g","b":"t","c":"TBW102","d":"8","e":"3","f":"0","g":"1795266000123","h":"0",` +
		`"i":"KEYS\u0001b000ABCDE007000000002A\u0002UNIQ_KEY\u00017F0000011234ABCDE00769C94CFB002A\u0002TAGS\u0001bench\u0002",` +
		`"j":"0","k":"false","m":"false"},"flag":0,"language":"GO","opaque":1073741829,"serializeTypeCurrentRPC":"JSON","version":513}`
	want := append(nullFrame(header), f.buf[len(f.buf)-3:]...)
	binary.BigEndian.PutUint32(want, uint32(len(want)-4))
	if !bytes.Equal(f.buf, want) {
		t.Fatalf("frame\n%q\nwant\n%q", f.buf, want)
	}
	unique := message.Properties(mustFrame(t, f.buf).ExtFields["i"]).Value(message.PropUniqueKey)
	if at, found := message.UniqueIDTime(unique, testNow.Add(time.Hour)); !found || at.UnixMilli() != born {
		t.Fatalf("unique key %s is of %v, want %v", unique, at, time.UnixMilli(born))
	}
}

func mustFrame(t *testing.T, b []byte) frame {
	t.Helper()
	f, rest := readFrame(t, b)
	if len(rest) > 0 {
		t.Fatalf("%d bytes behind the frame", len(rest))
	}
	return f
}

func TestPatchedFrames(t *testing.T) {
	tests := []struct {
		name  string
		shape shape
		count int
	}{
		{"plain", shape{group: "g", topic: "t", size: 100, batch: 1, queues: 8, keys: true, tags: true}, 3},
		{"bare", shape{group: "g", topic: "t", size: 1, batch: 1, queues: 1}, 2},
		{"many queues", shape{group: "g", topic: "t", size: 10, batch: 1, queues: 1024, keys: true}, 4},
		{"batch", shape{group: "g", topic: "t", size: 10, batch: 5, queues: 12, keys: true, tags: true}, 2},
		{"transaction", shape{group: "g", topic: "t", size: 10, batch: 1, queues: 4, keys: true, txn: true}, 2},
		{"level", shape{group: "g", topic: "t", size: 10, batch: 1, queues: 4, keys: true, delayLevel: 3}, 2},
		{"delay", shape{group: "g", topic: "t", size: 10, batch: 1, queues: 4, keys: true, delay: 1500 * time.Millisecond}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := newIdentity([4]byte{10, 0, 0, 9}, 77, 0xFFFF1234, 2)
			f := newSendFrames(tt.shape, id, tt.count, testNow)
			seq := uint64(1 << 20)
			for i := range tt.count {
				f.patch(i, opaqueBase|int32(i), i*(tt.shape.queues-1)/(tt.count-1), testNow.UnixMilli()+int64(i), seq+uint64(i*tt.shape.batch))
			}
			rest := f.buf
			var got frame
			for i := range tt.count {
				got, rest = readFrame(t, rest)
				checkFrame(t, tt.shape, got, i, tt.count, seq+uint64(i*tt.shape.batch))
			}
			if len(rest) > 0 {
				t.Fatalf("%d bytes behind the last frame", len(rest))
			}
		})
	}
}

func checkFrame(t *testing.T, s shape, got frame, i, count int, seq uint64) {
	t.Helper()
	want := map[string]string{"a": "g", "b": "t", "c": "TBW102", "f": "0", "h": "0", "k": "false"}
	if s.txn {
		want["f"] = "4"
	}
	for k, v := range want {
		if got.ExtFields[k] != v {
			t.Errorf("frame %d: field %s is %q, want %q", i, k, got.ExtFields[k], v)
		}
	}
	if q := i * (s.queues - 1) / (count - 1); got.ExtFields["e"] != jsonNumber(q) {
		t.Errorf("frame %d: queue %q, want %d", i, got.ExtFields["e"], q)
	}
	if got.Opaque != opaqueBase|int32(i) {
		t.Errorf("frame %d: opaque %d", i, got.Opaque)
	}
	if got.ExtFields["g"] != jsonNumber(int(testNow.UnixMilli())+i) {
		t.Errorf("frame %d: born %s", i, got.ExtFields["g"])
	}
	if s.batch == 1 {
		if got.Code != codeSendV2 || len(got.body) != s.size {
			t.Errorf("frame %d: code %d with a body of %d", i, got.Code, len(got.body))
		}
		checkProperties(t, s, message.Properties(got.ExtFields["i"]), seq)
		return
	}
	if got.Code != codeSendBatch || got.ExtFields["m"] != "true" {
		t.Errorf("frame %d: code %d, m=%s", i, got.Code, got.ExtFields["m"])
	}
	rest, n := got.body, 0
	for len(rest) > 0 {
		item, more, err := message.NextBatchItem(rest)
		if err != nil {
			t.Fatal(err)
		}
		if len(item.Body) != s.size {
			t.Errorf("a body of %d", len(item.Body))
		}
		checkProperties(t, s, item.Properties, seq+uint64(n))
		rest = more
		n++
	}
	if n != s.batch {
		t.Errorf("a batch of %d messages, want %d", n, s.batch)
	}
}

func jsonNumber(n int) string { b, _ := json.Marshal(n); return string(b) }

func checkProperties(t *testing.T, s shape, p message.Properties, seq uint64) {
	t.Helper()
	if unique := p.Value(message.PropUniqueKey); len(unique) != 32 {
		t.Errorf("unique key %q", unique)
	}
	conn, n, found := parseKey([]byte(p.Value(message.PropKeys)), keyPrefix(0xFFFF1234))
	if s.keys != found || (found && (conn != 2 || n != seq)) {
		t.Errorf("key %q: connection %d number %d, want 2 and %d", p.Value(message.PropKeys), conn, n, seq)
	}
	if (p.Value(message.PropTags) == "bench") != s.tags {
		t.Errorf("tags %q", p.Value(message.PropTags))
	}
	if s.txn && (p.Value(message.PropTransaction) != "true" || p.Value(message.PropProducerGroup) != "g") {
		t.Errorf("a half message with %q", p)
	}
	if s.delayLevel > 0 && p.Value(message.PropDelay) != "3" {
		t.Errorf("delay level %q", p.Value(message.PropDelay))
	}
	if s.delay > 0 && p.Value(message.PropTimerDelayMs) != "1500" {
		t.Errorf("delay %q", p.Value(message.PropTimerDelayMs))
	}
}

func TestUniqueKeysDiffer(t *testing.T) {
	seen := map[string]bool{}
	for conn := range 3 {
		f := newSendFrames(shape{group: "g", topic: "t", size: 1, batch: 1, queues: 1}, newIdentity([4]byte{1, 2, 3, 4}, 1, 9, conn), 1, testNow)
		for ms := range 3 {
			for n := range 100 {
				f.patch(0, opaqueBase, 0, testNow.UnixMilli()+int64(ms), uint64(n))
				seen[message.Properties(mustFrame(t, f.buf).ExtFields["i"]).Value(message.PropUniqueKey)] = true
			}
		}
	}
	if len(seen) != 900 {
		t.Fatalf("%d unique keys of 900 messages", len(seen))
	}
}

func TestEndTransactionNamesTheHalf(t *testing.T) {
	s := shape{group: "g", topic: "t"}
	var a answer
	text := nullFrame(`{"code":0,"extFields":{"msgId":"7F00000100002A9F00000000000012AB","queueOffset":"17","transactionId":"U1"},"flag":1,"opaque":3}`)
	if _, err := nextAnswer(text, &a); err != nil {
		t.Fatal(err)
	}
	b, err := appendEndTransaction(nil, &s, opaqueBase, &a)
	if err != nil {
		t.Fatal(err)
	}
	got := mustFrame(t, b)
	want := map[string]string{"topic": "t", "producerGroup": "g", "tranStateTableOffset": "17", "commitLogOffset": jsonNumber(0x12AB),
		"commitOrRollback": "8", "fromTransactionCheck": "false", "msgId": "U1", "transactionId": "U1"}
	for k, v := range want {
		if got.ExtFields[k] != v {
			t.Errorf("%s is %q, want %q", k, got.ExtFields[k], v)
		}
	}
	if got.Code != 37 || len(got.ExtFields) != len(want) {
		t.Errorf("code %d with %v", got.Code, got.ExtFields)
	}
}

// nullFrame wraps a JSON header.
func nullFrame(header string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(header)))
	return append(b, header...)
}

func TestPatchAllocatesNothing(t *testing.T) {
	f := newSendFrames(shape{group: "g", topic: "t", size: 100, batch: 1, queues: 16, keys: true, tags: true}, newIdentity([4]byte{1, 2, 3, 4}, 1, 9, 0), 4, testNow)
	resp := appendNullAnswer(nil, opaqueBase)
	var a answer
	if n := testing.AllocsPerRun(100, func() {
		f.patch(1, opaqueBase|9, 15, testNow.UnixMilli(), 99)
		if _, err := nextAnswer(resp, &a); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Fatalf("%v allocations a message", n)
	}
}

func TestPullFrame(t *testing.T) {
	got := mustFrame(t, appendPull(nil, "TOOLS_CONSUMER", "t", 3, 4711, 32, opaqueBase, false))
	for k, v := range map[string]string{"consumerGroup": "TOOLS_CONSUMER", "topic": "t", "queueId": "3", "queueOffset": "4711", "maxMsgNums": "32",
		"sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0", "expressionType": "TAG"} {
		if got.ExtFields[k] != v {
			t.Errorf("%s is %q, want %q", k, got.ExtFields[k], v)
		}
	}
	if got.Code != 11 || bytes.Contains(got.body, []byte{1}) {
		t.Errorf("code %d", got.Code)
	}
}
