package main

import (
	"strconv"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/nameserver"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/schedule"
	"github.com/merlinmq/merlin/store"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// collect registers the metrics of the parts that run.
func (h *httpServer) collect(s *server) {
	h.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h.registry.MustRegister(&serverMetrics{s})
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Metrics with Apache's names where it has them, with merlin_ before our own.
var (
	descMessagesIn      = describe("rocketmq_messages_in_total", "Messages stored since the start.")
	descBytesIn         = describe("rocketmq_throughput_in_total", "Bytes of messages stored since the start.")
	descMessagesOut     = describe("rocketmq_messages_out_total", "Messages handed to consumers since the start.")
	descBytesOut        = describe("rocketmq_throughput_out_total", "Bytes of messages handed to consumers since the start.")
	descPermission      = describe("rocketmq_broker_permission", "Permission of the broker: 4 read, 2 write.")
	descTopics          = describe("rocketmq_topic_number", "Topics of the broker.")
	descGroups          = describe("rocketmq_consumer_group_number", "Consumer groups of the broker.")
	descStorageSize     = describe("rocketmq_storage_size", "Bytes that the commit log takes.")
	descFlushBehind     = describe("rocketmq_storage_flush_behind_bytes", "Bytes written and not fsynced yet.")
	descDispatchBehind  = describe("rocketmq_storage_dispatch_behind_bytes", "Bytes of the log that consumers do not see yet.")
	descDispatchWaiting = describe("merlin_dispatch_waiting_messages", "Messages between append and dispatch; appends wait at 32768.")
	descCheckpoint      = describe("merlin_checkpoint_behind_bytes", "Bytes that a restart after a crash reads again.")
	descSkipped         = describe("merlin_unreadable_entries_total", "Queue entries that led to no record.")
	descHolds           = describe("merlin_parked_pulls", "Pulls that wait for a message; bounded by 100000.")
	descParkRefused     = describe("merlin_park_refused_total", "Requests that were refused because too many of their connection, or in all, waited for a message.", "kind")
	descPullTracks      = describe("merlin_pull_tracks", "Queues of groups of which the last pulls are remembered; bounded.")
	descPopWaits        = describe("merlin_parked_pops", "Pops and notifications that wait for a message; bounded by 100000.")
	descPopInFlight     = describe("merlin_pop_in_flight", "Messages popped and not acknowledged; bounded by 1000000.")
	descPopOldest       = describe("merlin_pop_oldest_seconds", "Seconds since the oldest message in flight was handed out. Absent while there is none.")
	descPopHanded       = describe("merlin_pop_messages_total", "Messages handed out by pops.")
	descPopAgain        = describe("merlin_pop_again_total", "Messages handed out again because nobody acknowledged them in time.")
	descPopAcked        = describe("merlin_pop_acked_total", "Messages acknowledged.")
	descPopRefused      = describe("merlin_pop_refused_total", "Acknowledgements and changes whose handle was not the newest.")
	descConflicts       = describe("merlin_subscription_conflicts", "1 for a group whose members subscribe to different things now.", "group")
	descWritable        = describe("merlin_writable", "1 while messages can be stored.")
	descDiskFree        = describe("merlin_disk_free_bytes", "Free bytes of the disk with the commit log.")
	descReserveTime     = describe("rocketmq_storage_message_reserve_time", "Milliseconds since the oldest message of the commit log was stored.")
	descTimeToFull      = describe("merlin_disk_full_in_seconds", "Seconds until the disk is full, at the log's growth of the last day. Absent while nothing grows.")
	descConns           = describe("merlin_connections", "Open connections.", "port")
	descInput           = describe("merlin_input_bytes", "Bytes received and not served yet; bounded.", "port")
	descOutput          = describe("merlin_output_bytes", "Bytes of answers that no socket has taken yet; bounded.", "port")
	descBusy            = describe("merlin_busy_total", "Requests refused with SYSTEM_BUSY.", "port")
	descBadFrames       = describe("merlin_bad_frames_total", "Frames that could not be read.", "port")
	descPanics          = describe("merlin_panics_total", "Requests that hit a bug.", "port")
	descClosed          = describe("merlin_connections_closed_total", "Connections that ended, by cause.", "port", "cause")
	descHalves          = describe("rocketmq_half_messages", "Transactions that are pending.")
	descCommits         = describe("rocketmq_commit_messages_total", "Transactions committed since the start.", "topic")
	descRollbacks       = describe("rocketmq_rollback_messages_total", "Transactions rolled back since the start.", "topic")
	descFinishLatency   = describe("rocketmq_finish_message_latency", "Seconds from the birth of a transactional message to its commit.")
	descHalvesWaiting   = describe("merlin_half_without_producer", "Pending transactions of groups of which no producer is connected.", "group")
	descTxnChecks       = describe("merlin_transaction_checks_total", "Checks sent to producers.")
	descTxnDiscarded    = describe("merlin_transaction_discarded_total", "Transactions given up: TRANS_CHECK_MAX_TIME_TOPIC has them.")
	descTxnLost         = describe("merlin_transaction_lost_total", "Transactions let go of because the half can be neither read nor stored again.")
	descTxnUnknown      = describe("merlin_transaction_unknown_ends_total", "Ends of transactions, and answers to checks, without a verdict.")
	descTxnRepeated     = describe("merlin_transaction_repeated_ends_total", "Ends of transactions that had their outcome.")
	descTxnRefused      = describe("merlin_transaction_refused_ends_total", "Ends of transactions, and halves with a delay, that were refused.", "group", "reason")
	descNamesBrokers    = describe("merlin_namesrv_brokers", "Brokers registered at the name server.")
	descNamesTopics     = describe("merlin_namesrv_topics", "Topics known to the name server.")
	descNamesRoutes     = describe("merlin_namesrv_route_queries_total", "Route queries answered.")
	descNamesMisses     = describe("merlin_namesrv_route_misses_total", "Route queries for topics without a route.")
)

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// serverMetrics reads the counters of the parts when it is asked.
type serverMetrics struct{ s *server }

// Describe implements prometheus.Collector.
func (m *serverMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *serverMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.s.broker != nil {
		brokerMetrics(ch, m.s.broker)
		portMetrics(ch, "broker", m.s.brokerPort)
	}
	if m.s.names != nil {
		nameServerMetrics(ch, m.s.names)
		portMetrics(ch, "namesrv", m.s.namesPort)
	}
}

var (
	descDelayTimed     = describe("merlin_delay_pending", "Messages that wait for an instant.", "topic")
	descDelayLevels    = describe("merlin_delay_level_pending", "Messages that wait in a delay level.", "level")
	descDelaySchedules = describe("merlin_delay_schedules", "Recurring messages.")
	descDelayMemory    = describe("merlin_delay_in_memory", "Timed messages that are due soon and held in memory; bounded.")
	descDelayUnindexed = describe("merlin_delay_unindexed", "Timed messages that the index does not know yet.")
	descDelayLost      = describe("merlin_delay_undeliverable_total", "Delayed messages whose record cannot be delivered.")
	descDelayLate      = describe("merlin_delay_lateness_seconds", "How long after their time messages were delivered.")
)

// delayMetrics tells of messages that wait, and how late they were.
func delayMetrics(ch chan<- prometheus.Metric, b *broker.Broker) {
	st := b.Delays().Stats()
	for topic, n := range st.Timed {
		gauge(ch, descDelayTimed, float64(n), topic)
	}
	for level, n := range st.Levels {
		gauge(ch, descDelayLevels, float64(n), strconv.Itoa(level))
	}
	gauge(ch, descDelaySchedules, float64(st.Schedules))
	gauge(ch, descDelayMemory, float64(st.InMemory))
	gauge(ch, descDelayUnindexed, float64(st.Unindexed))
	counter(ch, descDelayLost, float64(st.Lost))
	buckets := make(map[float64]uint64)
	count := uint64(0)
	for i, n := range st.Late {
		count += uint64(n)
		if i < len(schedule.LateBounds) {
			buckets[float64(schedule.LateBounds[i])/1000] = count
		}
	}
	ch <- prometheus.MustNewConstHistogram(descDelayLate, count, float64(st.LateMs)/1000, buckets)
}

var (
	descDeadSent     = describe("rocketmq_send_to_dlq_messages_total", "Messages that became dead letters since the start.", "consumer_group")
	descDead         = describe("merlin_dlq_messages", "Dead letters of a group.", "consumer_group")
	descDeadAge      = describe("merlin_dlq_oldest_age_seconds", "Seconds since the oldest dead letter of a group died. Absent while there is none.", "consumer_group")
	descDeadRedriven = describe("merlin_dlq_redriven_total", "Dead letters that were sent again since the start.", "consumer_group")
	descDeadRedrives = describe("merlin_dlq_redrives", "Re-drives that are at work.", "consumer_group")
)

// deadMetrics tells of dead letters by group.
func deadMetrics(ch chan<- prometheus.Metric, b *broker.Broker) {
	now := b.Now().UnixMilli()
	for group, st := range b.DeadStats() {
		counter(ch, descDeadSent, float64(st.Died), group)
		gauge(ch, descDead, float64(st.Messages), group)
		if st.Oldest > 0 {
			gauge(ch, descDeadAge, max(0, float64(now-st.Oldest)/1000), group)
		}
		counter(ch, descDeadRedriven, float64(st.Redriven), group)
		gauge(ch, descDeadRedrives, float64(st.Running), group)
	}
}

func brokerMetrics(ch chan<- prometheus.Metric, b *broker.Broker) {
	delayMetrics(ch, b)
	deadMetrics(ch, b)
	st := b.Store().Stats()
	counter(ch, descMessagesIn, float64(st.PutMessages))
	counter(ch, descBytesIn, float64(st.PutBytes))
	counter(ch, descMessagesOut, float64(b.Stats().PulledMsgs.Load()))
	counter(ch, descBytesOut, float64(b.Stats().PulledByte.Load()))
	gauge(ch, descPermission, float64(b.Settings().Permission.Load()))
	gauge(ch, descTopics, float64(b.Topics().Len()))
	gauge(ch, descGroups, float64(b.Groups().Len()))
	gauge(ch, descFlushBehind, float64(st.FlushBehind))
	gauge(ch, descDispatchBehind, float64(st.DispatchBehind))
	gauge(ch, descDispatchWaiting, float64(st.DispatchWaiting))
	gauge(ch, descCheckpoint, float64(st.CheckpointBehind))
	counter(ch, descSkipped, float64(st.Skipped))
	gauge(ch, descHolds, float64(b.Holds()))
	pulls, pops := b.Refused()
	counter(ch, descParkRefused, float64(pulls), "pull")
	counter(ch, descParkRefused, float64(pops), "pop")
	gauge(ch, descPullTracks, float64(b.PullTracks()))
	for group := range b.Clients().Conflicts() {
		gauge(ch, descConflicts, 1, group)
	}
	popMetrics(ch, b)
	transactionMetrics(ch, b.TransactionStats())
	writable := 1.0
	if b.TakesMessages() != nil {
		writable = 0
	}
	gauge(ch, descWritable, writable)
	if u, err := b.Store().Usage(); err == nil {
		gauge(ch, descStorageSize, float64(u.LogBytes))
		gauge(ch, descDiskFree, float64(u.DiskFree))
		now := b.Now()
		if left, known := store.TimeToFull(u.DiskFree, store.Growth(u.Segments, u.Max, now)); known {
			gauge(ch, descTimeToFull, left.Seconds())
		}
		if len(u.Segments) > 0 && u.Segments[0].FirstStoreTime > 0 {
			gauge(ch, descReserveTime, float64(now.UnixMilli()-u.Segments[0].FirstStoreTime))
		}
	}
}

func popMetrics(ch chan<- prometheus.Metric, b *broker.Broker) {
	st, waiting := b.PopStats()
	gauge(ch, descPopWaits, float64(waiting))
	gauge(ch, descPopInFlight, float64(st.InFlight))
	if st.Oldest > 0 {
		gauge(ch, descPopOldest, float64(b.Now().UnixMilli()-st.Oldest)/1000)
	}
	counter(ch, descPopHanded, float64(st.Handed))
	counter(ch, descPopAgain, float64(st.Again))
	counter(ch, descPopAcked, float64(st.Acked))
	counter(ch, descPopRefused, float64(st.Refused))
}

func transactionMetrics(ch chan<- prometheus.Metric, st broker.TransactionStats) {
	gauge(ch, descHalves, float64(st.Pending))
	for topic, n := range st.Committed {
		counter(ch, descCommits, float64(n), topic)
	}
	for topic, n := range st.RolledBack {
		counter(ch, descRollbacks, float64(n), topic)
	}
	var count uint64
	buckets := map[float64]uint64{}
	for i, n := range st.Latency {
		count += uint64(n)
		if i < len(broker.TransactionLatencyBounds) {
			buckets[broker.TransactionLatencyBounds[i]] = count
		}
	}
	ch <- prometheus.MustNewConstHistogram(descFinishLatency, count, st.LatencySum, buckets)
	for group, n := range st.Waiting {
		gauge(ch, descHalvesWaiting, float64(n), group)
	}
	counter(ch, descTxnChecks, float64(st.Checks))
	counter(ch, descTxnDiscarded, float64(st.Discarded))
	counter(ch, descTxnLost, float64(st.Lost))
	counter(ch, descTxnUnknown, float64(st.Unknown))
	counter(ch, descTxnRepeated, float64(st.Repeated))
	for of, n := range st.Refused {
		counter(ch, descTxnRefused, float64(n), of.Group, string(of.Reason))
	}
}

func nameServerMetrics(ch chan<- prometheus.Metric, names *nameserver.Server) {
	st := names.Stats()
	gauge(ch, descNamesBrokers, float64(st.Brokers))
	gauge(ch, descNamesTopics, float64(st.Topics))
	counter(ch, descNamesRoutes, float64(st.Routes))
	counter(ch, descNamesMisses, float64(st.Misses))
}

func portMetrics(ch chan<- prometheus.Metric, port string, s *remoting.Server) {
	st := s.Stats()
	gauge(ch, descConns, float64(st.Connections), port)
	gauge(ch, descInput, float64(st.InputBytes), port)
	gauge(ch, descOutput, float64(st.OutputBytes), port)
	counter(ch, descBusy, float64(st.Busy), port)
	counter(ch, descBadFrames, float64(st.BadFrames), port)
	counter(ch, descPanics, float64(st.Panics), port)
	for cause, n := range st.Closed {
		counter(ch, descClosed, float64(n), port, remoting.Cause(cause).String())
	}
}
