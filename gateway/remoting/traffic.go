package gateway

import (
	"strings"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// VIEW_BROKER_STATS_DATA 315
//
//   - TOPIC_PUT_NUMS and TOPIC_PUT_SIZE take a topic, GROUP_GET_NUMS,
//     GROUP_GET_SIZE and SNDBCK_PUT_NUMS take topic@group.
//   - What was not counted is SYSTEM_ERROR, as with Apache.
//   - Differences: the statistics of queues, of latency and of falling behind are
//     not kept, and delivered delayed messages count for their topic.

var statsNames = map[string]struct {
	kind  broker.TrafficKind
	bytes bool
}{
	"TOPIC_PUT_NUMS":  {broker.TrafficPut, false},
	"TOPIC_PUT_SIZE":  {broker.TrafficPut, true},
	"GROUP_GET_NUMS":  {broker.TrafficGet, false},
	"GROUP_GET_SIZE":  {broker.TrafficGet, true},
	"SNDBCK_PUT_NUMS": {broker.TrafficSentBack, false},
}

func (s *session) brokerStats(r *remoting.Request) error {
	name, err := r.String("statsName")
	if err != nil {
		return err
	}
	key, err := r.String("statsKey")
	if err != nil {
		return err
	}
	stat, known := statsNames[name]
	var counted broker.Traffic
	if known {
		topic, group, _ := strings.Cut(key, "@")
		counted, known = s.broker.Traffic(stat.kind, topic, group)
	}
	if !known {
		return &broker.Error{Kind: broker.KindSystem, Text: "The stats <" + name + "> <" + key + "> not exist: nothing was counted under this name yet"}
	}
	item := func(span int) *body.BrokerStatsItem {
		sum := counted.Messages[span]
		if stat.bytes {
			sum = counted.Bytes[span]
		}
		i := &body.BrokerStatsItem{Sum: int64(sum)}
		if counted.Seconds[span] > 0 {
			i.TPS = sum / counted.Seconds[span]
		}
		if counted.Messages[span] > 0 {
			i.AvgPt = sum / counted.Messages[span]
		}
		return i
	}
	return s.okBody(r, body.Encode(body.BrokerStatsData{Minute: item(0), Hour: item(1), Day: item(2)}))
}
