package broker

import (
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/internal/config"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
	"github.com/merlinmq/merlin/store"
)

// Settings are what an operator can set of a broker, in the units of Apache's
// broker.conf. The plain fields are fixed once the broker is open; the atomic
// ones may change while it runs.
type Settings struct {
	Name    string
	Cluster string
	ID      int64  // 0: the master
	Region  string // told to clients with every answer to a send
	TraceOn bool   // told to clients: whether to trace

	StartAcceptSendAt  int64 // ms since 1970; sends before it are refused
	DefaultTopicQueues int32 // queues of the topic that auto-created ones are modelled on
	MaxHolds           int   // parked pulls at a time

	ClusterTopic bool   // clients may use the topic that is named after the cluster
	BrokerTopic  bool   // likewise, after the broker
	TraceTopic   string // the topic for clients' traces; "": none is made

	ClientLife time.Duration // a client counts as alive so long after its last heartbeat

	// Flush modes, files and times of the store.
	SyncFlush        bool
	SegmentSize      int64 // bytes of a commit log file
	HotBytes         int64 // how far behind the end of the log a read counts as recent; 0: the store's default
	QueueFileEntries int   // entries of a consume queue file
	IndexSlots       int
	IndexItems       int
	NoIndex          bool
	FlushEvery       time.Duration // between fsyncs that nobody waits for
	CheckpointEvery  time.Duration // between those of queues and index; 0: the store's default

	// Transfer bounds what one pull or pop gives.
	Transfer store.TransferLimits
	// SyncFlushTimeoutMs is how long a send waits for its fsync before it is
	// answered that this takes too long; 0: without a bound.
	SyncFlushTimeoutMs atomic.Int64
	QueryMax           atomic.Int64 // messages that a query by unique key gives

	// Config is where the settings came from, for tools that read and change it.
	Config *config.Config

	MaxMessageSize   atomic.Int64 // bytes of a body
	Permission       atomic.Int64 // of the whole broker: PermRead | PermWrite
	AutoCreateTopic  atomic.Bool
	AutoCreateGroup  atomic.Bool
	LitePull         atomic.Bool
	LongPolling      atomic.Bool
	ShortPollingMs   atomic.Int64
	PropertyFilter   atomic.Bool // SQL92 filters are allowed
	StoreReplies     atomic.Bool // replies to requests are stored, too
	NotifyMembers    atomic.Bool // groups are told when their members change
	OffsetFlushEvery time.Duration
	LockLifeMs       atomic.Int64 // how long a queue lock of an orderly consumer lasts without a refresh

	Retention

	DelayLevels      schedule.Levels // of messages with a delay level
	Timer            bool            // messages for any instant are taken
	TimerMaxDelaySec atomic.Int64    // how far ahead they may be
	Recall           atomic.Bool     // delayed messages can be recalled
	DelaySaveEvery   time.Duration   // between saves of how far they are; 0: the schedule's default

	RejectTransactions    atomic.Bool
	TransactionTimeoutMs  atomic.Int64 // from a half's birth to its first check
	TransactionIntervalMs atomic.Int64 // between checks
	TransactionChecks     atomic.Int64 // before a half is given up
	TransactionMaxAgeSec  atomic.Int64 // likewise

	// For tests of crashes.
	redriveBatch int               // messages of a step; 0: the default
	redriveHook  func(done string) // called after each part of a step; nil: none
}

// DefaultSettings returns Apache's defaults, except where docs/compatibility.md
// says why not.
func DefaultSettings() *Settings {
	s := &Settings{
		Name: "broker-a", Cluster: "DefaultCluster", Region: "DefaultRegion", TraceOn: true,
		DefaultTopicQueues: 8, MaxHolds: 100_000, OffsetFlushEvery: 5 * time.Second,
		ClusterTopic: true, BrokerTopic: true, TraceTopic: message.TopicTrace, ClientLife: clientLife,
	}
	s.SyncFlushTimeoutMs.Store(5000)
	s.QueryMax.Store(32)
	s.MaxMessageSize.Store(4 << 20)
	s.Permission.Store(PermRead | PermWrite)
	s.NotifyMembers.Store(true)
	s.StoreReplies.Store(true)
	s.Config = config.New(config.Broker)
	s.AutoCreateTopic.Store(true)
	s.AutoCreateGroup.Store(true)
	s.LitePull.Store(true)
	s.LongPolling.Store(true)
	s.ShortPollingMs.Store(1000)
	s.LockLifeMs.Store(lockLife.Milliseconds())
	s.PropertyFilter.Store(true)
	s.Retention.setDefaults()
	s.DelayLevels, _ = schedule.ParseLevels(schedule.DefaultLevels) // a constant that parses
	s.Timer = true
	s.TimerMaxDelaySec.Store(10 * 365 * 86400)
	s.Recall.Store(true)
	s.TransactionTimeoutMs.Store(6000)
	s.TransactionIntervalMs.Store(30_000)
	s.TransactionChecks.Store(15)
	s.TransactionMaxAgeSec.Store(7 * 24 * 3600)
	return s
}
