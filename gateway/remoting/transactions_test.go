package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/txn"
)

// TestEndsOfOldClients: what old clients leave out or get wrong is answered as
// Apache's broker does, and the log and the counters name the producer group.
func TestEndsOfOldClients(t *testing.T) {
	var mu sync.Mutex
	var told []string // guarded by mu
	s := startWith(t, nil, func(o *broker.Options) {
		o.Events.Warn = func(msg string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, msg+" "+fmt.Sprint(args...))
		}
	})
	p := dial(t, s.addr, nil)
	half := p.ok(remoting.ReqSendMessage, "half", f("producerGroup", "p", "topic", "t", "defaultTopic", "TBW102", "defaultTopicQueueNums", "4", "queueId", "0", "sysFlag", "4",
		"bornTimestamp", "1700000000000", "flag", "0", "properties", "TRAN_MSG\x01true\x02PGROUP\x01p\x02UNIQ_KEY\x01U\x02CHECK_IMMUNITY_TIME_IN_SECONDS\x011\x02",
		"reconsumeTimes", "0", "unitMode", "false", "batch", "false")...)
	_, place, err := message.ParseOffsetID(field(half, "msgId"))
	if err != nil {
		t.Fatal(err)
	}
	all := f("producerGroup", "p", "tranStateTableOffset", field(half, "queueOffset"), "commitLogOffset", fmt.Sprint(place), "commitOrRollback", "8", "fromTransactionCheck", "true")
	without := func(name string) (list []string) {
		for i := 0; i < len(all); i += 2 {
			if all[i] != name {
				list = append(list, all[i], all[i+1])
			}
		}
		return list
	}
	for _, c := range []struct {
		name   string
		fields []string
		code   int
		group  string
		reason txn.Reason
	}{
		{"no offset", without("tranStateTableOffset"), remoting.RespSystemError, "p", txn.ReasonMalformed},
		{"no position", without("commitLogOffset"), remoting.RespSystemError, "p", txn.ReasonMalformed},
		{"no verdict", without("commitOrRollback"), remoting.RespSystemError, "p", txn.ReasonMalformed},
		{"a verdict that is none", append(without("commitOrRollback"), "commitOrRollback", "4"), remoting.RespSystemError, "p", txn.ReasonMalformed},
		{"no group", without("producerGroup"), remoting.RespSystemError, "", txn.ReasonGroup},
		{"an answer that does not say that it is one", without("fromTransactionCheck"), remoting.RespIllegalOperation, "p", txn.ReasonLate},
	} {
		of := txn.Refusal{Group: c.group, Reason: c.reason}
		before := s.broker.TransactionStats().Refused[of]
		mu.Lock()
		told = nil
		mu.Unlock()
		if a := p.call(remoting.ReqEndTransaction, "", c.fields...); a.Code != c.code {
			t.Errorf("%s: code %d %q, want %d", c.name, a.Code, a.Remark, c.code)
		}
		if after := s.broker.TransactionStats().Refused[of]; after != before+1 {
			t.Errorf("%s: %v was counted %d times", c.name, of, after-before)
		}
		mu.Lock()
		if line := strings.Join(told, "\n"); !strings.Contains(line, "group"+c.group) || !strings.Contains(line, string(c.reason)) {
			t.Errorf("%s: the log says %q", c.name, line)
		}
		mu.Unlock()
	}
	// Apache's newer clients send more than old ones; what an old one sends is enough.
	p.ok(remoting.ReqEndTransaction, "", all...)
	if err := s.broker.Store().WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if n := s.broker.Store().QueueMax("t", 0); n != 1 {
		t.Errorf("%d messages after the commit, want 1", n)
	}
}
