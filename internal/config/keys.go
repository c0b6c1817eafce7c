package config

import (
	_ "embed"
	"strings"
)

// Kind is the type of a setting.
type Kind string

// The kinds. Millis and Seconds are whole numbers as Apache writes them; a unit may follow (500ms, 10s, 2h). Size is in
// bytes; k, m or g may follow.
const (
	Bool    Kind = "bool"
	Int     Kind = "int"
	Int64   Kind = "int64"
	Float   Kind = "float"
	Text    Kind = "text"
	Millis  Kind = "ms"
	Seconds Kind = "s"
	Size    Kind = "bytes"
	Enum    Kind = "enum"
)

// Role says which program a configuration is for.
type Role byte

// The roles.
const (
	Broker     Role = 'b'
	NameServer Role = 'n'
)

func (r Role) String() string {
	if r == NameServer {
		return "name server"
	}
	return "broker"
}

// Key is what is known of one setting.
type Key struct {
	Name    string
	Kind    Kind
	Default string   // Merlin's; for a setting that is ignored, Apache's
	Apache  string   // default in Apache 5.5.0
	Apache4 string   // default in Apache 4.9.7
	Own     bool     // Merlin's own: Apache has no such setting
	Used    bool     // Merlin honours it
	Hot     bool     // may be changed while the broker runs
	Note    string   // what it does; for one that is ignored, why
	Warn    bool     // ignoring it changes what the operator relies on
	Min     int64    // smallest number allowed, if Max is not 0
	Max     int64    // largest
	Allowed []string // of an Enum

	gone, noSetter bool // with Apache 5; that Apache's own broker cannot set
}

// apacheTable has every setting of Apache's classes with its defaults. It was read from the classes by reflection.
//
//go:embed apache.tsv
var apacheTable string

// Keys returns every known setting of a role by name. The map is the caller's.
func Keys(role Role) map[string]Key {
	keys := bareKeys(role)
	for name, k := range keys {
		keys[name] = k.explained()
	}
	return keys
}

// explained fills in why a setting is ignored. That takes a search through all groups, so it is done when somebody asks.
func (k Key) explained() Key {
	if !k.Used {
		k.Note, k.Warn = ignoredBecause(k.Name, k.gone, k.noSetter)
	}
	return k
}

// bareKeys is Keys without the reasons.
func bareKeys(role Role) map[string]Key {
	keys := map[string]Key{}
	for line := range strings.Lines(apacheTable) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") || len(f) < 3 || !strings.ContainsRune(f[1], rune(role)) {
			continue
		}
		f = append(f, "", "", "")
		k := Key{Name: f[0], Kind: Kind(f[2]), Default: f[3], Apache: f[3], Apache4: f[4]}
		switch f[4] {
		case "=":
			k.Apache4 = f[3]
		case "-", "only4", "only5":
			k.Apache4 = ""
		}
		k.gone, k.noSetter = f[4] == "only4", f[5] == "nosetter"
		keys[k.Name] = k
	}
	for _, u := range used(role) {
		k, apaches := keys[u.Name]
		u.Apache, u.Apache4, u.Own, u.Used = k.Apache, k.Apache4, !apaches, true
		if u.Default == asApache {
			u.Default = k.Apache
		}
		keys[u.Name] = u
	}
	return keys
}

// group is a family of settings that Merlin has no use for.
type group struct {
	reason string
	warn   bool
	parts  string // words, one of which the name contains; ^ at its beginning, $ at its end
}

// groups are tried in order.
var groups = []group{
	{"the commit log is the folder commitlog in storePathRootDir; to have it elsewhere, move that folder while the broker is stopped and put a link in its place", true, "^storePathCommitLog"},
	{"access control is not available yet: everybody who reaches the port may do everything", true,
		"^aclEnable ^authenticationEnabled ^authorizationEnabled ^initAuthenticationUser ^innerClient ^migrateAuth"},
	{"access control is not available yet", false, "^auth ^acl^Cache ^userCache ^stateful ^aclCache"},
	{"connections are served by their own goroutines: there are no pools and queues of requests to size", false,
		"ThreadPool PoolQueueCapacity ^serverWorkerThreads ^serverCallback ^serverSelector SemaphoreValue ^clientWorker ^clientCallback WorkerGroup CallbackExecutor ^asyncSendEnable putMessageFuture QueueCapacity AsyncPutMessage ^compactionThread ThreadNum ^useEpoll ByteBufAllocator"},
	{"requests do not wait in queues that could be shed by age", false, "^waitTimeMills ^brokerFastFailure ^osPageCacheBusy ^enableNetWorkFlowControl"},
	{"there is no RocksDB in the store: small state is kept in its own durable table", false,
		"ocksDB ocksdb ^combineCQ ^combineAssign ^memTable ^bottomMost ^configManagerVersion ^storeType ^rocksdb ^searchBcq ^iteratorWhen"},
	{"replication between brokers is not available yet", false,
		"^ha ^slave Slave ^inSync ^minInSync ^totalReplicas InSync InSyncReplicas ^replicas Controller controller ^elect ^dLeger DLeger DLedger ^preferredLeader ^isElect lection Replicas ^syncMaster ^syncFromLast ^asyncLearner Epoch ^allAck ^syncBroker ^checkSyncState ^duplicationEnable ^brokerHeartbeat ^sendHeartbeat ^brokerNotActive Container ^skipPreOnline ^enableRemoteEscape ^compatibleWithOld ^jraft ^scanInactive MinBroker ^notifyBrokerRole rocessReadEvent BrokerIdentity ^brokerIP2 ^maxHa Elect ^offsetCheckIn ^lockInStrict ^batchPush BatchPush ^cleanOffline ^maxChecksumRange"},
	{"metrics are always on, at /metrics of httpListen", false, "^metric Metrics Metric MetricsExporter"},
	{"cold reads go through a bounded pool of their own", false, "cold Cold ReadAhead readAhead ColdRead"},
	{"segments are read and written in a way that needs none of this", false,
		"^transientStore InStorePool ReentrantLock ^warmMap WarmMap SwapMap SwapedMap ^mappedFileSwap ^transferMsgByHeap ^accessMessageInMemoryHot ^flushLeast LeastPages ThoroughInterval ^writeWithoutMmap ^topicQueueLock ^useABS ^spinLock ^sharedByteBuffer ^commitInterval ^wakeCommit ^wakeFlush ^flushCommitLogTimed ^putConsumeQueueDataByFile ^debugLock ^destroyMap ^redelete DeleteFilesNum ^deleteFileBatch ^deleteCommitLogFilesInterval ^deleteConsumeQueueFilesInterval ^dispatchCq ^enableAsyncReput ^recheckReput ^dispatchFromSender ^enableBuildConsumeQueueConcurrently ^batchDispatch ^travelCq ^correctLogic ^readUnCommitted ^maxBatchDelete ^cleanResource ^enableRunningFlags ^putMsgIndexHightWater ^maxConsumeQueueScan ^sampleC ^sampleS ^commitLogForce ^diskFallRecorded ^messageIndexSafe ^putMessageTimeout ^logicalDisk ^isBatch ^writeBuffer ^disappearTime ^enableAccelerated"},
	{"recovery checks every record from the last checkpoint on, always", false, "Recover recover ^checkCRC ^maxRecovery PropCRC ^enableLogConsumeQueue"},
	{"the timer is an ordered index with millisecond precision, not a wheel", false, "^timer Timer"},
	{"pop state is kept in a durable table of its own", false, "^pop Pop pop Ck Ack ^revive InitPop ^retrieveMessageFromPop ^enableSkipLong RetryTopicV2 ^useSeparateRetry CKRe"},
	{"lite topics are not available", false, "^lite Lite lite Lmq LMQ ^enableMultiDispatch ^maxClientEvent"},
	{"compaction topics are not available", false, "ompaction OffsetMapSize"},
	{"tiered storage is not available", false, "^tiered Tiered ^objectStore ^readAhead ^commitLogRolling ^recordGetMessage"},
	{"a tag or expression is evaluated on the stored message: there are no bit maps to build", false,
		"BloomFilter BitMap bitMap ConsumerNumUseFilter ^filterData ^filterSupport ConsumeQueueExt MessageFilter FilterMessageSize ^filterServer ^mapperFileSizeBatch"},
	{"statistics are kept in one fixed form", false, "^commercial ^account StatsIdle Stats ^enableDetailStat ^estimate ^printChannel ^isolateLog"},
	{"name servers are given by namesrvAddr and asked anew by themselves", false, "DnsLookup AddressServer ^updateNameServer ^fetchNamesrv ^channelNotActive AvailableNameSrv"},
	{"outgoing connections are few and not tuned", false, "^client ^connectTimeout ^socksProxy ^maxReconnect ^enableReconnect ^useTLS"},
	{"there are no plug-ins", false, "PlugIn ^useStaticSubscription"},
	{"a registration is one message, whatever its size", false, "^enableSplit ^split ^enableSingleTopicRegister ^loadBalancePoll ^enableRegisterProducer"},
	{"the place is chosen by the program's own flags", false, "^rocketmqHome ^brokerConfigPath ^configStorePath ^configName ^clusterName ^readOnlyCommitLog"},
	{"socket buffers and accept queue are the system's", false, "^serverSocket"},
	{"there is one way of doing it and it is not switched", false,
		"^highSpeedMode ^consumerFallbehind ^disableConsumeIf ^forwardTimeout OffsetUpdateVersionStep ^persistConsumerOffset FlushConsumerOffsetHistory ^flushConsumerOffsetHistory ^enableFastChannel ^subscriptionExpired ^realTimeNotify ^useServerSideReset BroadcastOffset ^broadcast ^validateSystem ^enableMixed ^enableCreateSys ^enableClean ^autoMessageVersion ^maxTopicLength ^scheduleAsync ^enableSchedule ^appendTopic ^pullBatch ^clearRetry ^allowRecall ^transactionOp ^trans ^priority ^rejectPull ^messageIndex ^cleanFileForcibly ^maxMsgsNumBatch ^configBlackList ^enableShutdownGracefully ^shutdownWait ^startAccept ^litePull ^serverLoad ^defaultPop ^defaultMessageRequest ^indexFile ^clusterTest ^productEnv ^unRegister ^mappedFileSize ^enableTransaction ^notifyConsumer ^storePath ^maxDelayTime ^longPolling ^shortPolling ^compressedRegister ^forceRegister"},
}

func ignoredBecause(name string, only4, noSetter bool) (reason string, warn bool) {
	if noSetter {
		return "Apache's broker cannot set it either", false
	}
	for _, g := range groups {
		for p := range strings.FieldsSeq(g.parts) {
			start, anchored := strings.CutPrefix(p, "^")
			if anchored && strings.HasPrefix(name, start) || !anchored && strings.Contains(name, p) {
				return g.reason, g.warn
			}
		}
	}
	if only4 {
		return "it went away with Apache RocketMQ 5", false
	}
	return "", false
}
