package gateway

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

const popTopicFields = "topic:popt defaultTopic:TBW102 readQueueNums:2 writeQueueNums:2 perm:6 topicFilterType:SINGLE_TAG topicSysFlag:0 order:false"

// fieldsOf turns "name:value name:va+lue" into fields, + as a blank; later ones replace
// earlier ones of the same name.
func fieldsOf(texts ...string) (list []string) {
	for _, text := range texts {
		for pair := range strings.FieldsSeq(text) {
			name, value, _ := strings.Cut(pair, ":")
			for i := 0; i < len(list); i += 2 {
				if list[i] == name {
					list = slices.Delete(list, i, i+2)
					break
				}
			}
			list = append(list, name, strings.ReplaceAll(value, "+", " "))
		}
	}
	return list
}

const (
	popBase    = "consumerGroup:popg topic:popt queueId:0 maxMsgNums:32 invisibleTime:60000 pollTime:0 bornTime:0 initMode:0 order:false"
	ackBase    = "consumerGroup:popg topic:popt queueId:0 offset:0 extraInfo:0+1700000000000+60000+0+0+broker-a+0+0"
	changeBase = ackBase + " invisibleTime:10000"
)

// popProbes run in order against a broker that nobody has used.
var popProbes = []probe{
	{name: "create a topic", code: 17, fields: fieldsOf(popTopicFields)},
	{name: "create a group", code: 200, body: `{"groupName":"popg","consumeEnable":true}`},
	{name: "nothing to pop", code: 200050, fields: fieldsOf(popBase), want: 210},
	{name: "too many messages", code: 200050, fields: fieldsOf(popBase, "maxMsgNums:33"), want: 29},
	{name: "no messages", code: 200050, fields: fieldsOf(popBase, "maxMsgNums:0"), want: 210, merlin: 29},
	{name: "no invisible time", code: 200050, fields: fieldsOf(popBase, "invisibleTime:0"), want: 210, merlin: 29},
	{name: "a year of invisible time", code: 200050, fields: fieldsOf(popBase, "invisibleTime:31536000000"), want: 210, merlin: 29},
	{name: "unknown topic", code: 200050, fields: fieldsOf(popBase, "topic:nope"), want: 17},
	{name: "unknown queue", code: 200050, fields: fieldsOf(popBase, "queueId:7"), want: 29},
	{name: "broken filter", code: 200050, fields: fieldsOf(popBase, "expType:SQL92 exp:a+=="), want: 23},
	{name: "broken number", code: 200050, fields: fieldsOf(popBase, "maxMsgNums:many"), want: 210, merlin: 29},
	{name: "ack in an unknown topic", code: 200051, fields: fieldsOf(ackBase, "topic:nope"), want: 17},
	{name: "ack in an unknown queue", code: 200051, fields: fieldsOf(ackBase, "queueId:7"), want: 13, merlin: 29},
	{name: "ack beyond the end", code: 200051, fields: fieldsOf(ackBase, "offset:7 extraInfo:7+1700000000000+60000+0+0+broker-a+0+7"), want: 208},
	{name: "ack below the beginning", code: 200051, fields: fieldsOf(ackBase, "offset:-1"), want: 208, merlin: 29},
	{name: "ack with a broken handle", code: 200051, fields: fieldsOf(ackBase, "extraInfo:abc"), want: 1, merlin: 29},
	{name: "ack with a handle of another broker", code: 200051, fields: fieldsOf(ackBase, "extraInfo:0+1700000000000+60000+0+0+other+0+0"), want: 0, merlin: 29},
	{name: "empty batch", code: 200151, body: `{"brokerName":"broker-a","acks":[]}`, want: 208},
	{name: "batch in an unknown topic", code: 200151, body: `{"brokerName":"broker-a","acks":[{"c":"popg","t":"nope","r":"0","so":0,"q":0,"rq":0,"pt":1700000000000,"it":60000,"b":"AQ=="}]}`, want: 0, merlin: 17},
	{name: "change beyond the end", code: 200053, fields: fieldsOf(changeBase, "offset:7 extraInfo:7+1700000000000+60000+0+0+broker-a+0+7"), want: 208},
	{name: "change in an unknown topic", code: 200053, fields: fieldsOf(changeBase, "topic:nope"), want: 17},
	{name: "notification of nothing", code: 200054, fields: fieldsOf("consumerGroup:popg topic:popt queueId:0 pollTime:0 bornTime:0 order:false")},
	{name: "notification of an unknown topic", code: 200054, fields: fieldsOf("consumerGroup:popg topic:nope queueId:0 pollTime:0 bornTime:0"), want: 17},
	{name: "polls", code: 200055, fields: fieldsOf("consumerGroup:popg topic:popt queueId:0")},
	{name: "polls of an unknown topic", code: 200055, fields: fieldsOf("consumerGroup:popg topic:nope queueId:0"), want: 17},
	{name: "set the mode", code: 401, body: `{"topic":"popt","consumerGroup":"popg","mode":"POP","popShareQueueNum":0}`},
	{name: "set the mode of an unknown group", code: 401, body: `{"topic":"popt","consumerGroup":"none","mode":"POP","popShareQueueNum":0}`, want: 0, merlin: 26},
	{name: "send", code: 10, body: "first", fields: fieldsOf("producerGroup:p topic:popt defaultTopic:TBW102 defaultTopicQueueNums:4 queueId:0 sysFlag:0 bornTimestamp:1700000000000 flag:0 reconsumeTimes:0 unitMode:false batch:false")},
	{name: "pop", code: 200050, fields: fieldsOf(popBase, "pollTime:3000 bornTime:32000000000000")},
	{name: "pop in order", code: 200050, fields: fieldsOf(popBase, "consumerGroup:popordered order:true pollTime:3000 bornTime:32000000000000")},
	{name: "ack with a handle that is not the last", code: 200051, fields: fieldsOf(ackBase), want: 0, merlin: 208},
	{name: "change with a handle that is not the last", code: 200053, fields: fieldsOf(changeBase), want: 0, merlin: 208},
}

func TestPopCodes(t *testing.T) { checkCodes(t, popProbes) }

// TestPopCodesAreApaches is TestCodesAreApaches for pops.
func TestPopCodesAreApaches(t *testing.T) {
	compareWithApache(t, popProbes, func(c *probe, a, b *remoting.Answer) {
		for _, name := range []string{"startOffsetInfo", "msgOffsetInfo", "orderCountInfo", "restNum", "invisibleTime", "hasMsg", "pollingFull", "pollingNum"} {
			if x, y := field(a, name), field(b, name); a.Code == 0 && b.Code == 0 && x != y {
				t.Errorf("%s: Apache's %s is %q, ours %q", c.name, name, x, y)
			}
		}
	})
}

// popped is one message of a pop's answer with the handle that clients make.
type popped struct {
	body   string
	times  int32
	offset string
	queue  string
	handle string
}

func (p *peer) pop(extra string) (list []popped) {
	p.t.Helper()
	a := p.call(200050, "", fieldsOf(popBase, extra)...)
	if a.Code == 210 {
		return nil
	}
	if a.Code != 0 {
		p.t.Fatalf("pop %s: %d %s", extra, a.Code, a.Remark)
	}
	starts := map[string]string{}
	for part := range strings.SplitSeq(field(a, "startOffsetInfo"), ";") {
		w := strings.Fields(part)
		starts[w[0]+"@"+w[1]] = w[2]
	}
	records := a.Body
	for part := range strings.SplitSeq(field(a, "msgOffsetInfo"), ";") {
		w := strings.Fields(part)
		for off := range strings.SplitSeq(w[2], ",") {
			v, err := message.Parse(records[:binary.BigEndian.Uint32(records)])
			if err != nil {
				p.t.Fatal(err)
			}
			records = records[len(v):]
			list = append(list, popped{string(v.Body()), v.ReconsumeTimes(), off, w[1], strings.Join([]string{
				starts[w[0]+"@"+w[1]], field(a, "popTime"), field(a, "invisibleTime"), field(a, "reviveQid"), w[0], "broker-a", w[1], off}, " ")})
		}
	}
	if len(records) > 0 {
		p.t.Errorf("%d bytes of records have no offset", len(records))
	}
	return list
}

func (p *peer) ack(m popped, extra ...string) *remoting.Answer {
	p.t.Helper()
	return p.call(200051, "", append([]string{"consumerGroup", "popg", "topic", "popt", "queueId", m.queue, "offset", m.offset, "extraInfo", m.handle}, extra...)...)
}

func bodies(list []popped) string {
	var words []string
	for _, m := range list {
		words = append(words, fmt.Sprintf("%s:%d", m.body, m.times))
	}
	return strings.Join(words, " ")
}

func wantBodies(t *testing.T, what string, list []popped, want string) {
	t.Helper()
	if got := bodies(list); got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func startPops(t *testing.T, messages int) (*server, *peer) {
	t.Helper()
	s := start(t, nil)
	p := dial(t, s.addr, nil)
	p.ok(17, "", fieldsOf(popTopicFields)...)
	p.ok(200, `{"groupName":"popg","consumeEnable":true,"retryMaxTimes":2,"retryQueueNums":1}`)
	for i := range messages {
		p.send("popt", fmt.Sprint("m", i))
	}
	if err := s.broker.Store().WaitVisible(); err != nil {
		t.Fatal(err)
	}
	return s, p
}

func TestPopsOverTheWire(t *testing.T) {
	s, p := startPops(t, 4)
	got := p.pop("maxMsgNums:3")
	wantBodies(t, "the first pop", got, "m0:0 m1:0 m2:0")
	if a := p.ack(got[1]); a.Code != 0 {
		t.Errorf("ack: %d %s", a.Code, a.Remark)
	}
	if a := p.ack(got[1]); a.Code != 0 {
		t.Errorf("ack again: %d %s", a.Code, a.Remark)
	}
	if a := p.ack(popped{queue: "0", offset: "3", handle: strings.Replace(got[2].handle, " 0 2", " 0 3", 1)}); a.Code != 208 {
		t.Errorf("ack of what was not handed out: %d %s", a.Code, a.Remark)
	}
	wantBodies(t, "the rest", p.pop(""), "m3:0")
	change := p.ok(200053, "", "consumerGroup", "popg", "topic", "popt", "queueId", "0", "offset", "0", "extraInfo", got[0].handle, "invisibleTime", "0")
	again := p.pop("maxMsgNums:1 pollTime:5000")
	wantBodies(t, "after the change", again, "m0:1")
	if a := p.ack(got[0]); a.Code != 208 {
		t.Errorf("ack with the old handle: %d %s", a.Code, a.Remark)
	}
	if field(change, "popTime") == field(change, "invisibleTime") || field(change, "reviveQid") != "0" {
		t.Errorf("the change answers %v", change.Fields)
	}
	at := strings.Fields(again[0].handle)
	batch := fmt.Sprintf(`{"brokerName":"broker-a","acks":[{"c":"popg","t":"popt","r":"0","so":%s,"q":0,"rq":0,"pt":%s,"it":60000,"b":"AQ=="}]}`, at[0], at[1])
	if a := p.call(200151, batch); a.Code != 0 {
		t.Errorf("batch: %d %s", a.Code, a.Remark)
	}
	if floor := s.broker.ConsumeProgress("popg", "popt")[0].Committed; floor != 2 {
		t.Errorf("the group's progress is %d, want 2", floor)
	}
	p.ok(222, "", "topic", "popt", "group", "popg", "timestamp", "0", "isForce", "true")
	wantBodies(t, "after a reset", p.pop(""), "m0:0 m1:0 m2:0 m3:0")
}

// TestBatchAcksGoOnBehindARefusal: of one long entry, what can be acknowledged
// is, whatever stands before it.
func TestBatchAcksGoOnBehindARefusal(t *testing.T) {
	s, p := startPops(t, 35)
	first := strings.Fields(p.pop("maxMsgNums:32")[0].handle)[1]
	for fmt.Sprint(time.Now().UnixMilli()) == first { // another handle
	}
	rest := p.pop("maxMsgNums:3")
	wantBodies(t, "the rest", rest, "m32:0 m33:0 m34:0")
	bits := base64.StdEncoding.EncodeToString([]byte{0xff, 0xff, 0xff, 0xff, 0x07})
	batch := fmt.Sprintf(`{"brokerName":"broker-a","acks":[{"c":"popg","t":"popt","r":"0","so":0,"q":0,"rq":0,"pt":%s,"it":60000,"b":%q}]}`, strings.Fields(rest[0].handle)[1], bits)
	if a := p.call(200151, batch); a.Code != 0 {
		t.Errorf("batch: %d %s", a.Code, a.Remark)
	}
	if st, _ := s.broker.PopStats(); st.Acked != 3 || st.InFlight != 32 {
		t.Errorf("%+v", st)
	}
}

func TestPopsThatWait(t *testing.T) {
	s, p := startPops(t, 0)
	other := dial(t, s.addr, nil)
	answered := make(chan []popped, 2)
	go func() { answered <- p.pop("queueId:-1 pollTime:20000 maxMsgNums:1") }()
	notice := make(chan string, 1)
	third := dial(t, s.addr, nil)
	go func() {
		a := third.call(200054, "", fieldsOf("consumerGroup:popother topic:popt queueId:0 pollTime:20000 bornTime:0 order:false")...)
		notice <- field(a, "hasMsg")
	}()
	for range 1000 {
		if _, waiting := s.broker.PopStats(); waiting == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if a := other.ok(200055, "", fieldsOf("consumerGroup:popg topic:popt queueId:-1")...); field(a, "pollingNum") != "1" {
		t.Errorf("%s polls wait", field(a, "pollingNum"))
	}
	other.send("popt", "late")
	wantBodies(t, "a pop that waited", <-answered, "late:0")
	if has := <-notice; has != "true" {
		t.Errorf("the notification says %q", has)
	}
	began := time.Now()
	if got := other.pop("pollTime:100"); got != nil || time.Since(began) < 90*time.Millisecond {
		t.Errorf("a pop of nothing: %v after %v", got, time.Since(began))
	}
}

// TestPopsEndInTheDeadLetters: what fails each time comes as often as the group
// allows, and then stands in the dead letters.
func TestPopsEndInTheDeadLetters(t *testing.T) {
	_, p := startPops(t, 1)
	for times := range 3 {
		got := p.pop("invisibleTime:20 pollTime:10000")
		wantBodies(t, "attempt", got, fmt.Sprint("m0:", times))
	}
	for range 100 {
		if a := p.call(30, "", "topic", "%DLQ%popg", "queueId", "0"); a.Code == 0 && field(a, "offset") == "1" {
			if got := p.pop(""); got != nil {
				t.Errorf("the dead one comes again: %v", got)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("it is not in the dead letters")
}

func FuzzPopHandle(f *testing.F) {
	f.Add([]byte("100 1700000000000 60000 3 0 broker-a 2 103"))
	f.Add([]byte("100 1700000000000 60000 999 1 broker-a 2"))
	f.Add([]byte("-1  0 60000 3 0 broker-a 2 103"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := parsePopHandle(text)
		if err != nil {
			if len(err.Error()) > 600 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		again, err := parsePopHandle([]byte(h.String()))
		if err != nil || again != h {
			t.Errorf("%q becomes %+v, then %+v, %v", text, h, again, err)
		}
	})
}
