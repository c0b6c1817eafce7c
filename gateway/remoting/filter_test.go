package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/merlinmq/merlin/remoting"
)

func sqlConsumer(group, topic, expression string) string {
	return fmt.Sprintf(`{"clientID":"c","producerDataSet":[],"consumerDataSet":[{"groupName":%q,"consumeType":"CONSUME_PASSIVELY",
		"messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","subscriptionDataSet":[
		{"topic":%q,"subString":%q,"tagsSet":[],"codeSet":[],"subVersion":5,"expressionType":"SQL92"}]}]}`, group, topic, expression)
}

func checkConfig(topic, kind, expression string) string {
	return fmt.Sprintf(`{"clientId":"c","group":"g","subscriptionData":{"topic":%q,"subString":%q,"subVersion":1,"expressionType":%q}}`, topic, expression, kind)
}

func TestPropertyFilterCodes(t *testing.T) {
	s := start(t, nil)
	c := dial(t, s.addr, nil)
	c.send("orders", "x", "properties", "a\x017\x02")
	for _, check := range []struct {
		body   string
		code   int
		remark string
	}{
		{checkConfig("orders", "SQL92", "a > 5"), remoting.RespSuccess, ""},
		{checkConfig("orders", "SQL92", "a > 'x'"), remoting.RespSubscriptionParseFailed, "position 2"},
		{checkConfig("orders", "SQL92", ""), remoting.RespSubscriptionParseFailed, "position 0"},
		{checkConfig("orders", "GROOVY", "a"), remoting.RespSubscriptionParseFailed, "neither TAG nor SQL92"},
		{checkConfig("orders", "TAG", "a > 'x'"), remoting.RespSuccess, ""},
	} {
		if a := c.call(remoting.ReqCheckClientConfig, check.body); a.Code != check.code || !strings.Contains(a.Remark, check.remark) {
			t.Errorf("%s: %d %s, want %d", check.body, a.Code, a.Remark, check.code)
		}
	}
	pull := func(group, version, flag string, more ...string) *remoting.Answer {
		return c.call(remoting.ReqPullMessage, "", append([]string{
			"consumerGroup", group, "topic", "orders", "queueId", "0", "queueOffset", "0", "maxMsgNums", "32", "sysFlag", flag,
			"commitOffset", "0", "suspendTimeoutMillis", "0", "subVersion", version,
		}, more...)...)
	}
	for _, want := range []struct {
		group, expression, version string
		code                       int
	}{
		{"good", "a > 5", "5", remoting.RespSuccess},
		{"nothing", "a > 7", "0", remoting.RespPullRetryImmediately},
		{"newer", "a > 5", "6", remoting.RespSubscriptionNotLatest},
		{"wrong", "a > ", "5", remoting.RespFilterDataNotExist},
	} {
		c.ok(remoting.ReqHeartBeat, sqlConsumer(want.group, "orders", want.expression))
		if a := pull(want.group, want.version, "0"); a.Code != want.code {
			t.Errorf("%s: %d %s, want %d", want.group, a.Code, a.Remark, want.code)
		}
	}
	if a := pull("good", "5", "4", "subscription", "a >", "expressionType", "SQL92"); a.Code != remoting.RespSubscriptionParseFailed || !strings.Contains(a.Remark, "position 3") {
		t.Errorf("a pull's own expression: %d %s", a.Code, a.Remark)
	}
	s.broker.Settings().PropertyFilter.Store(false)
	if a := c.call(remoting.ReqCheckClientConfig, checkConfig("orders", "SQL92", "a > 5")); a.Code != remoting.RespSystemError || !strings.Contains(a.Remark, "enablePropertyFilter") {
		t.Errorf("filters off: %d %s", a.Code, a.Remark)
	}
}
