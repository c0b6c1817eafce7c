package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// pushes collects what a server sends to a client by itself.
type pushes chan push

type push struct {
	code   int
	fields map[string]string
	body   string
}

func (p pushes) handle(answer string) func(*remoting.Client, *remoting.Request) {
	return func(c *remoting.Client, r *remoting.Request) {
		got := push{code: r.Code, fields: map[string]string{}, body: string(r.Body)}
		for _, f := range r.Fields {
			got.fields[string(f.Key)] = string(f.Value)
		}
		p <- got
		if answer != "" && !r.OneWay() {
			_ = c.Reply(r.Ticket(), remoting.Response{Body: []byte(answer)})
		}
	}
}

func (p pushes) want(t *testing.T, code int) push {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case got := <-p:
			if got.code == code {
				return got
			}
		case <-deadline:
			t.Fatalf("%s was not pushed", remoting.CodeName(code))
		}
	}
}

func beat(id, group, topic, tags string) string {
	return fmt.Sprintf(`{"clientID":%q,"producerDataSet":[{"groupName":"p"}],"consumerDataSet":[{"groupName":%q,"consumeType":"CONSUME_PASSIVELY",
		"messageModel":"Clustering","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","subscriptionDataSet":[
		{"topic":%q,"subString":%q,"tagsSet":[],"codeSet":["97"],"subVersion":1844674407370955161,"expressionType":"TAG"}]}]}`, id, group, topic, tags)
}

func TestHeartbeatsAndMembers(t *testing.T) {
	s := start(t, nil)
	toA := make(pushes, 100)
	a, b := dial(t, s.addr, toA.handle("")), dial(t, s.addr, nil)
	a.ok(remoting.ReqHeartBeat, beat("a", "g", "t", "*"))
	if got := a.ok(remoting.ReqGetConsumerListByGroup, "", "consumerGroup", "g"); string(got.Body) != `{"consumerIdList":["a"]}` {
		t.Errorf("the list right after the heartbeat: %s", got.Body)
	}
	toA.want(t, remoting.ReqNotifyConsumerIDsChanged)
	if topic := s.broker.Topics().LookupString("%RETRY%g"); topic == nil || topic.ReadQueues != 1 {
		t.Errorf("the retry topic = %v", topic)
	}
	b.ok(remoting.ReqHeartBeat, beat("b", "g", "t", "x"))
	if got := toA.want(t, remoting.ReqNotifyConsumerIDsChanged); got.fields["consumerGroup"] != "g" {
		t.Errorf("pushed %v", got)
	}
	got := string(b.ok(remoting.ReqGetConsumerConnectionList, "", "consumerGroup", "g").Body)
	for _, part := range []string{
		`"clientId":"a"`, `"clientId":"b"`, `"language":"GO"`, `"consumeType":"CONSUME_PASSIVELY"`, `"messageModel":"CLUSTERING"`,
		`"consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET"`, `"subVersion":1844674407370955161`, `"clientAddr":"127.0.0.1:`,
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	if got := b.ok(remoting.ReqGetProducerConnectionList, "", "producerGroup", "p"); strings.Count(string(got.Body), "clientId") != 2 {
		t.Errorf("producers: %s", got.Body)
	}
	if got := b.ok(remoting.ReqQuerySubscriptionByConsumer, "", "group", "g", "topic", "t"); !strings.Contains(string(got.Body), `"subString":"*"`) {
		t.Errorf("the subscription: %s", got.Body)
	}
	b.ok(remoting.ReqUnregisterClient, "", "clientID", "b", "consumerGroup", "g")
	toA.want(t, remoting.ReqNotifyConsumerIDsChanged)
	b.ok(remoting.ReqHeartBeat, beat("b", "g", "t", "*"))
	toA.want(t, remoting.ReqNotifyConsumerIDsChanged)
	b.c.Close()
	toA.want(t, remoting.ReqNotifyConsumerIDsChanged)
	if got := a.ok(remoting.ReqGetConsumerListByGroup, "", "consumerGroup", "g"); string(got.Body) != `{"consumerIdList":["a"]}` {
		t.Errorf("the list after a connection broke: %s", got.Body)
	}
}

func TestLocksOverTheWire(t *testing.T) {
	p := dial(t, start(t, nil).addr, nil)
	lock := func(client string, queues ...int) string {
		var list []string
		for _, q := range queues {
			list = append(list, fmt.Sprintf(`{"topic":"t","brokerName":"broker-a","queueId":%d}`, q))
		}
		return fmt.Sprintf(`{"consumerGroup":"g","clientId":%q,"mqSet":[%s]}`, client, strings.Join(list, ","))
	}
	held := func(client string, queues ...int) string {
		return string(p.ok(remoting.ReqLockBatchMQ, lock(client, queues...)).Body)
	}
	const zero, one = `{"brokerName":"broker-a","queueId":0,"topic":"t"}`, `{"brokerName":"broker-a","queueId":1,"topic":"t"}`
	for i, c := range []struct{ got, want string }{
		{held("a", 0), zero},
		{held("b", 0, 1), one},
		{held("a", 0, 1), zero},
	} {
		if c.got != `{"lockOKMQSet":[`+c.want+`]}` {
			t.Errorf("%d: %s", i, c.got)
		}
	}
	p.ok(remoting.ReqUnlockBatchMQ, lock("b", 0, 1))
	if got := held("b", 0); got != `{"lockOKMQSet":[]}` {
		t.Errorf("a lock of somebody else was given back: %s", got)
	}
}

func TestMessagesAndOffsets(t *testing.T) {
	s := start(t, nil)
	p := dial(t, s.addr, nil)
	begin := time.Now().UnixMilli()
	for i := range 5 {
		p.send("t", fmt.Sprint("body-", i), "properties", fmt.Sprintf("KEYS\x01k%d\x02UNIQ_KEY\x01ID%d\x02TAGS\x01x\x02", i, i))
	}
	if err := s.broker.Store().WaitVisible(); err != nil {
		t.Fatal(err)
	}
	offset := func(code int, extra ...string) string {
		return field(p.ok(code, "", append([]string{"topic", "t", "queueId", "0"}, extra...)...), "offset")
	}
	for what, c := range map[string]struct{ got, want string }{
		"min":   {offset(remoting.ReqGetMinOffset), "0"},
		"max":   {offset(remoting.ReqGetMaxOffset), "5"},
		"early": {offset(remoting.ReqSearchOffsetByTimestamp, "timestamp", "0"), "0"},
		"late":  {offset(remoting.ReqSearchOffsetByTimestamp, "timestamp", fmt.Sprint(begin+600_000)), "5"},
		"upper": {offset(remoting.ReqSearchOffsetByTimestamp, "timestamp", fmt.Sprint(begin+600_000), "boundaryType", "UPPER"), "4"},
		"first": {offset(remoting.ReqQueryConsumerOffset, "consumerGroup", "g"), "0"},
	} {
		if c.got != c.want {
			t.Errorf("%s: offset %s, want %s", what, c.got, c.want)
		}
	}
	if a := p.call(remoting.ReqQueryConsumerOffset, "", "topic", "t", "queueId", "0", "consumerGroup", "g", "setZeroIfNotFound", "false"); a.Code != remoting.RespQueryNotFound {
		t.Errorf("a first start that must not be 0: %d", a.Code)
	}
	for _, q := range [][]string{{"key", "k3", "indexType", "K"}, {"key", "ID3", "_UNIQUE_KEY_QUERY", "true"}} {
		a := p.ok(remoting.ReqQueryMessage, "", append([]string{"topic", "t", "maxNum", "5", "beginTimestamp", "0", "endTimestamp", fmt.Sprint(begin + 600_000)}, q...)...)
		v, err := message.Parse(a.Body)
		if err != nil || string(v.Body()) != "body-3" || v.QueueOffset() != 3 {
			t.Fatalf("%v: %v %v", q, v, err)
		}
		if field(a, "indexLastUpdatePhyoffset") == "" {
			t.Error("the index's last position is missing")
		}
		a = p.ok(remoting.ReqViewMessageByID, "", "topic", "t", "offset", fmt.Sprint(v.Position()))
		if string(a.Body) != string(v) {
			t.Errorf("the record by its position differs")
		}
	}
	p.ok(remoting.ReqUpdateAndCreateSubscriptionGroup, `{"groupName":"g"}`)
	p.ok(remoting.ReqUpdateConsumerOffset, "", "consumerGroup", "g", "topic", "t", "queueId", "0", "commitOffset", "3")
	stats := string(p.ok(remoting.ReqGetConsumeStats, "", "consumerGroup", "g").Body)
	if !strings.Contains(stats, `{"brokerName":"broker-a","queueId":0,"topic":"t"}:{"brokerOffset":5,"consumerOffset":3,`) {
		t.Errorf("consume stats: %s", stats)
	}
	var span body.QueryConsumeTimeSpan
	if err := body.Decode(p.ok(remoting.ReqQueryConsumeTimeSpan, "", "topic", "t", "group", "g").Body, &span); err != nil {
		t.Fatal(err)
	}
	if q := span.Spans[0]; q.MinTimeStamp < begin || q.MaxTimeStamp < q.ConsumeTimeStamp || q.ConsumeTimeStamp < q.MinTimeStamp {
		t.Errorf("time span: %+v", q)
	}
	p.ok(remoting.ReqInvokeBrokerToResetOffset, "", "topic", "t", "group", "g", "timestamp", "0", "isForce", "true")
	if got := offset(remoting.ReqQueryConsumerOffset, "consumerGroup", "g"); got != "0" {
		t.Errorf("after a reset without members: %s", got)
	}
	p.ok(remoting.ReqInvokeBrokerToResetOffset, "", "topic", "t", "group", "g", "timestamp", "-1", "isForce", "false")
	if got := offset(remoting.ReqQueryConsumerOffset, "consumerGroup", "g"); got != "0" {
		t.Errorf("a reset without force went forwards, to %s", got)
	}
	p.ok(remoting.ReqDeleteTopicInBroker, "", "topic", "t")
	if got := offset(remoting.ReqGetMaxOffset); got != "0" {
		t.Errorf("a deleted topic ends at %s", got)
	}
	if _, found := s.broker.Offsets().Query("g", "t", 0); found {
		t.Error("offsets outlive their topic")
	}
}

func TestResetIsPushed(t *testing.T) {
	s := start(t, nil)
	to := make(pushes, 100)
	p := dial(t, s.addr, to.handle(""))
	p.send("t", "x")
	p.ok(remoting.ReqHeartBeat, beat("a", "g", "t", "*"))
	p.ok(remoting.ReqUpdateConsumerOffset, "", "consumerGroup", "g", "topic", "t", "queueId", "0", "commitOffset", "1")
	a := p.ok(remoting.ReqInvokeBrokerToResetOffset, "", "topic", "t", "group", "g", "timestamp", "0", "isForce", "true", "queueId", "0", "offset", "0")
	got := to.want(t, remoting.ReqResetConsumerClientOffset)
	want := `{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"t"}:0}}`
	if got.body != want || string(a.Body) != want || got.fields["group"] != "g" || got.fields["topic"] != "t" || got.fields["isForce"] != "true" {
		t.Errorf("pushed %+v, answered %s", got, a.Body)
	}
	if at, _ := s.broker.Offsets().Query("g", "t", 0); at != 1 {
		t.Errorf("the broker committed %d itself while a member is there", at)
	}
}

func TestRelays(t *testing.T) {
	s := start(t, nil)
	to := make(pushes, 100)
	const answer = `{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"t"}:7},"odd":'kept'}`
	consumer := dial(t, s.addr, to.handle(answer))
	consumer.send("t", "relayed")
	consumer.ok(remoting.ReqHeartBeat, beat("a", "g", "t", "*"))
	p := dial(t, s.addr, nil)
	a := p.ok(remoting.ReqGetConsumerRunningInfo, "", "consumerGroup", "g", "clientId", "a", "jstackEnable", "true")
	if got := to.want(t, remoting.ReqGetConsumerRunningInfo); string(a.Body) != answer || got.fields["jstackEnable"] != "true" {
		t.Errorf("asked %v, answered %s", got, a.Body)
	}
	if err := s.broker.Store().WaitVisible(); err != nil {
		t.Fatal(err)
	}
	id := message.OffsetID(s.broker.StoreHost(), 0)
	p.ok(remoting.ReqConsumeMessageDirectly, "", "consumerGroup", "g", "clientId", "a", "msgId", id, "brokerName", "broker-a")
	got := to.want(t, remoting.ReqConsumeMessageDirectly)
	if v, err := message.Parse([]byte(got.body)); err != nil || string(v.Body()) != "relayed" || got.fields["brokerName"] != "broker-a" {
		t.Errorf("asked to consume %v, %v", got, err)
	}
	a = p.ok(remoting.ReqInvokeBrokerToGetConsumerStatus, "", "topic", "t", "group", "g")
	if want := `{"consumerTable":{"a":{{"brokerName":"broker-a","queueId":0,"topic":"t"}:7}},"messageQueueTable":{}}`; string(a.Body) != want {
		t.Errorf("status: %s", a.Body)
	}
	if a := p.call(remoting.ReqConsumeMessageDirectly, "", "consumerGroup", "g", "clientId", "a", "msgId", "zz"); a.Code != remoting.RespInvalidParameter {
		t.Errorf("a broken id: %d %s", a.Code, a.Remark)
	}
}

func TestRelayDoesNotHoldUpItsConnection(t *testing.T) {
	s := start(t, nil)
	silent := dial(t, s.addr, make(pushes, 100).handle(""))
	silent.ok(remoting.ReqHeartBeat, beat("a", "g", "t", "*"))
	p := dial(t, s.addr, nil)
	done := make(chan *remoting.Answer, 1)
	go func() {
		a, _ := p.c.Call(t.Context(), remoting.ReqGetConsumerRunningInfo, remoting.Fields{{Key: "consumerGroup", Value: "g"}, {Key: "clientId", Value: "a"}}, nil)
		done <- a
	}()
	for range 20 {
		p.ok(remoting.ReqGetBrokerRuntimeInfo, "")
	}
	s.gateway.Close()
	if a := <-done; a == nil || a.Code == remoting.RespSuccess {
		t.Errorf("the question that was ended is answered %v", a)
	}
	if a := p.call(remoting.ReqGetConsumerRunningInfo, "", "consumerGroup", "g", "clientId", "a"); a.Code != remoting.RespServiceNotAvailable {
		t.Errorf("a question after Close: %d", a.Code)
	}
}

func TestPages(t *testing.T) {
	s := start(t, nil)
	p := dial(t, s.addr, nil)
	total := s.broker.Topics().Len()
	seen := map[string]bool{}
	for seq := 0; ; seq += 5 {
		a := p.ok(remoting.ReqGetAllTopicConfig, "", "topicSeq", fmt.Sprint(seq), "maxTopicNum", "5", "dataVersion", "")
		var page body.TopicConfigAndMappingSerializeWrapper
		if err := body.Decode(a.Body, &page); err != nil {
			t.Fatal(err)
		}
		if field(a, "totalTopicNum") != fmt.Sprint(total) {
			t.Errorf("total = %s", field(a, "totalTopicNum"))
		}
		if len(page.TopicConfigTable) == 0 {
			break
		}
		for name := range page.TopicConfigTable {
			if seen[name] {
				t.Errorf("%s comes twice", name)
			}
			seen[name] = true
		}
	}
	if len(seen) != total {
		t.Errorf("%d of %d topics", len(seen), total)
	}
	if a := p.ok(remoting.ReqGetAllTopicConfig, "", "topicSeq", "-3", "maxTopicNum", "-1"); len(a.Body) == 0 {
		t.Error("odd numbers of a page give nothing")
	}
}

func TestConfigOverTheWire(t *testing.T) {
	cfg := &fakeConfig{}
	p := dial(t, start(t, cfg).addr, nil)
	a := p.ok(remoting.ReqGetBrokerConfig, "")
	if string(a.Body) != "brokerName=broker-a\n" || !strings.Contains(field(a, "version"), `"counter":0`) {
		t.Errorf("config: %s %v", a.Body, a.Fields)
	}
	p.ok(remoting.ReqUpdateBrokerConfig, "maxMessageSize=1024\nflushDiskType = SYNC_FLUSH\n")
	if cfg.get("maxMessageSize") != "1024" || cfg.get("flushDiskType") != "SYNC_FLUSH" {
		t.Error("what was set did not arrive")
	}
	if a := p.ok(remoting.ReqGetBrokerConfig, ""); !strings.Contains(field(a, "version"), `"counter":2`) {
		t.Errorf("version: %v", a.Fields)
	}
	var kv body.KVTable
	if err := body.Decode(p.ok(remoting.ReqGetBrokerRuntimeInfo, "").Body, &kv); err != nil {
		t.Fatal(err)
	}
	table := kv.Table
	for _, key := range []string{"putTps", "getTransferredTps", "commitLogMaxOffset", "runtime", "brokerVersionDesc", "msgPutTotalTodayNow", "sendThreadPoolQueueSize"} {
		if table[key] == "" {
			t.Errorf("the runtime info lacks %s", key)
		}
	}
	if len(strings.Fields(table["putTps"])) != 3 {
		t.Errorf("putTps = %q", table["putTps"])
	}
}

func TestEveryKindHasACode(t *testing.T) {
	for _, kind := range broker.Kinds() {
		if _, ok := codes[kind]; !ok {
			t.Errorf("kind %d has no code", kind)
		}
	}
}

// A retry policy comes as Apache's tools send it, and goes back as it came.
func TestRetryPolicyOverTheWire(t *testing.T) {
	p := dial(t, start(t, nil).addr, nil)
	for _, policy := range []string{
		`{"customizedRetryPolicy":{"next":[1000,2000,3000]},"type":"CUSTOMIZED"}`,
		`{"exponentialRetryPolicy":{"initial":1000,"max":60000,"multiplier":3},"type":"EXPONENTIAL"}`,
		`{"type":"CUSTOMIZED"}`,
	} {
		p.ok(remoting.ReqUpdateAndCreateSubscriptionGroup, `{"groupName":"policy","consumeEnable":true,"retryQueueNums":3,"retryMaxTimes":5,"groupRetryPolicy":`+policy+`}`)
		got := string(p.ok(remoting.ReqGetSubscriptionGroupConfig, "", "group", "policy").Body)
		for _, part := range []string{`"groupRetryPolicy":` + policy, `"retryQueueNums":3`, `"retryMaxTimes":5`} {
			if !strings.Contains(got, part) {
				t.Errorf("%s is not in %s", part, got)
			}
		}
	}
	if a := p.call(remoting.ReqUpdateAndCreateSubscriptionGroup, `{"groupName":"policy","groupRetryPolicy":{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":9,"max":1,"multiplier":2}}}`); a.Code != remoting.RespInvalidParameter {
		t.Errorf("a policy that makes no sense: %d %s", a.Code, a.Remark)
	}
}

func TestWhyOverTheWire(t *testing.T) {
	s := start(t, nil)
	p := dial(t, s.addr, nil)
	p.send("t", "body", "properties", "KEYS\x01k\x02UNIQ_KEY\x01ID\x02TAGS\x01x\x02")
	if err := s.broker.Store().WaitVisible(); err != nil {
		t.Fatal(err)
	}
	p.ok(remoting.ReqHeartBeat, beat("me", "g", "t", "*"))
	p.ok(remoting.ReqPullMessage, "", "consumerGroup", "g", "topic", "t", "queueId", "0", "queueOffset", "0", "maxMsgNums", "32",
		"sysFlag", "0", "commitOffset", "0", "suspendTimeoutMillis", "0", "subVersion", "0")
	got := string(p.ok(remoting.ReqWhyMessage, `{"id":"k","topic":"t"}`).Body)
	for _, part := range []string{`"state":"stored"`, `"unique_key":"ID"`, `"state":"delivered"`, `"client":"me"`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	got = string(p.ok(remoting.ReqWhyQueue, "", "topic", "t", "queueId", "0", "group", "g").Body)
	for _, part := range []string{`"owner":"me"`, `"lag":1`, `"held_back_by":[]`, `"members":["me"]`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
	if a := p.call(remoting.ReqWhyMessage, `{"id":"none"}`); a.Code != remoting.RespQueryNotFound {
		t.Errorf("an unknown message: %d %s", a.Code, a.Remark)
	}
	if a := p.call(remoting.ReqWhyQueue, "", "topic", "t", "queueId", "77", "group", "g"); a.Code != remoting.RespInvalidParameter {
		t.Errorf("an unknown queue: %d %s", a.Code, a.Remark)
	}
}
