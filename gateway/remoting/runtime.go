package gateway

import (
	"fmt"
	"strconv"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// UPDATE_BROKER_CONFIG 25, GET_BROKER_CONFIG 26, GET_BROKER_RUNTIME_INFO 28
//
//   - 25 and 26 carry properties text; the field version of 26 is a data version
//     that counts the changes.
//   - 25 stops at the first setting that is refused and says which it was; those
//     before it are changed.
//   - 28 has every key of Apache's broker that tools read. Differences: what
//     Merlin has not (thread pools with queues, page cache locks) is 0.

// Configuration is the broker's configuration as tools see it.
type Configuration interface {
	// String returns properties text.
	String() string
	// Update changes one setting while the broker runs.
	Update(key, value string) error
}

func (s *session) brokerConfig(r *remoting.Request) error {
	cfg := s.gateway.config
	if cfg == nil {
		return &broker.Error{Kind: broker.KindSystem, Text: "this broker has no configuration to show"}
	}
	v := body.DataVersion{Counter: s.gateway.configChanges.Load(), Timestamp: s.broker.Started().UnixMilli()}
	return s.conn.Reply(r, remoting.RespSuccess).Str("version", string(body.Encode(v))).Body([]byte(cfg.String())).End()
}

func (s *session) updateBrokerConfig(r *remoting.Request) error {
	cfg := s.gateway.config
	if cfg == nil {
		return &broker.Error{Kind: broker.KindSystem, Text: "this broker has no configuration to change"}
	}
	changes, err := body.ParseProperties(r.Body)
	if err != nil {
		return &broker.Error{Kind: broker.KindInvalidParameter, Text: "the body of UPDATE_BROKER_CONFIG is no properties text", Cause: err}
	}
	for _, c := range changes {
		if err := broker.ConfigRefusal(cfg.Update(c.Key, c.Value)); err != nil {
			return err
		}
		s.gateway.configChanges.Add(1)
	}
	return s.ok(r)
}

func (s *session) runtimeInfo(r *remoting.Request) error {
	table := map[string]string{}
	if err := s.storeInfo(table); err != nil {
		return err
	}
	s.trafficInfo(table)
	s.absentInfo(table)
	now, started := s.broker.Now(), s.broker.Started()
	up := now.Sub(started)
	table["brokerVersionDesc"] = "V5_5_0"
	table["brokerVersion"] = strconv.Itoa(remoting.Version)
	table["brokerActive"] = "true"
	table["bootTimestamp"] = strconv.FormatInt(started.UnixMilli(), 10)
	table["startAcceptSendRequestTimeStamp"] = strconv.FormatInt(s.broker.Settings().StartAcceptSendAt, 10)
	table["runtime"] = fmt.Sprintf("[ %d days, %d hours, %d minutes, %d seconds ]",
		int(up.Hours())/24, int(up.Hours())%24, int(up.Minutes())%60, int(up.Seconds())%60)
	return s.okBody(r, body.Encode(body.KVTable{Table: table}))
}

// storeInfo adds what the store holds.
func (s *session) storeInfo(table map[string]string) error {
	st := s.broker.Store()
	usage, err := st.Usage()
	if err != nil {
		return err
	}
	stats := st.Stats()
	ratio := 0.0
	if usage.DiskTotal > 0 {
		ratio = float64(usage.DiskTotal-usage.DiskFree) / float64(usage.DiskTotal)
	}
	earliest := int64(-1)
	if len(usage.Segments) > 0 {
		earliest = usage.Segments[0].FirstStoreTime
	}
	table["commitLogMinOffset"] = strconv.FormatInt(int64(usage.Min), 10)
	table["commitLogMaxOffset"] = strconv.FormatInt(int64(usage.Max), 10)
	table["commitLogDiskRatio"] = strconv.FormatFloat(ratio, 'f', 2, 64)
	table["consumeQueueDiskRatio"] = table["commitLogDiskRatio"]
	table["commitLogDirCapacity"] = fmt.Sprintf("Total : %s, Free : %s.", sizeText(usage.DiskTotal), sizeText(usage.DiskFree))
	table["earliestMessageTimeStamp"] = strconv.FormatInt(earliest, 10)
	table["remainHowManyDataToFlush"] = sizeText(stats.FlushBehind)
	table["dispatchBehindBytes"] = strconv.FormatInt(stats.DispatchBehind, 10)
	table["dispatchMaxBuffer"] = strconv.Itoa(stats.DispatchWaiting)
	return nil
}

// trafficInfo adds what went in and out.
func (s *session) trafficInfo(table map[string]string) {
	stats := s.broker.Store().Stats()
	rates, days := s.broker.Rates()
	three := func(v [3]float64) string {
		return fmt.Sprintf("%s %s %s", decimal(v[0]), decimal(v[1]), decimal(v[2]))
	}
	total := rates.Got
	for i := range total {
		total[i] += rates.Missed[i]
	}
	table["putTps"] = three(rates.Put)
	table["getFoundTps"] = three(rates.Got)
	table["getMissTps"] = three(rates.Missed)
	table["getTotalTps"] = three(total)
	table["getTransferredTps"] = three(rates.Got)
	table["getTransferedTps"] = table["getTransferredTps"]
	table["putMessageTimesTotal"] = strconv.FormatInt(stats.PutMessages, 10)
	table["putMessageSizeTotal"] = strconv.FormatInt(stats.PutBytes, 10)
	average := 0.0
	if stats.PutMessages > 0 {
		average = float64(stats.PutBytes) / float64(stats.PutMessages)
	}
	table["putMessageAverageSize"] = decimal(average)
	for key, n := range map[string]int64{
		"msgPutTotalTodayNow": stats.PutMessages, "msgPutTotalTodayMorning": days.PutToday, "msgPutTotalYesterdayMorning": days.PutYesterday,
		"msgGetTotalTodayNow": stats.GetMessages, "msgGetTotalTodayMorning": days.GotToday, "msgGetTotalYesterdayMorning": days.GotYesterday,
	} {
		table[key] = strconv.FormatInt(n, 10)
	}
}

// absentInfo adds the keys that tools parse and that mean nothing here.
func (s *session) absentInfo(table map[string]string) {
	for _, pool := range []string{"sendThreadPool", "pullThreadPool", "litePullThreadPool", "queryThreadPool", "ackThreadPool", "EndTransactionThreadPool"} {
		table[pool+"QueueSize"], table[pool+"QueueCapacity"], table[pool+"QueueHeadWaitTimeMills"] = "0", "0", "0"
	}
	table["EndTransactionQueueSize"] = "0"
	for _, key := range []string{
		"pageCacheLockTimeMills", "putMessageEntireTimeMax", "getMessageEntireTimeMax", "putMessageFailedTimes", "remainTransientStoreBufferNumbs",
		"timerReadBehind", "timerOffsetBehind", "timerCongestNum",
	} {
		table[key] = "0"
	}
	table["timerEnqueueTps"], table["timerDequeueTps"] = "0.0", "0.0"
	table["putLatency99"], table["putLatency999"] = "0.00", "0.00"
	table["putMessageDistributeTime"] = "null"
}

// decimal writes a number as Java prints a double.
func decimal(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// sizeText writes bytes as Apache does: with one digit and a binary unit.
func sizeText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
