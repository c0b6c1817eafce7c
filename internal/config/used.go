package config

// asApache as a default says that Merlin's is Apache's.
const asApache = "\x00"

const (
	maxInt32 = 1<<31 - 1
	maxInt64 = 1<<63 - 1
	tenYears = "315360000" // seconds
)

// used returns the settings that Merlin honours.
func used(role Role) []Key {
	both := []Key{
		{Name: "bindAddress", Kind: Text, Default: asApache, Note: "address to listen on"},
		{Name: "serverChannelMaxIdleTimeSeconds", Kind: Seconds, Default: asApache, Min: 1, Max: 86400, Note: "a connection without traffic is closed after it"},
		{Name: "maxFrameSize", Kind: Size, Default: "16777216", Min: 64, Max: 1 << 30, Note: "largest frame taken"},
		{Name: "transport", Kind: Enum, Allowed: []string{"netpoll", "net"}, Note: "who moves the bytes; empty: netpoll where it exists"},
		{Name: "httpListen", Kind: Text, Default: ":8080", Note: "HOST:PORT of /healthz, /readyz and /metrics"},
	}
	if role == NameServer {
		return append(both, nameServerKeys...)
	}
	var all []Key
	for _, part := range [][]Key{both, brokerKeys, topicKeys, storeKeys, timeKeys, consumeKeys} {
		all = append(all, part...)
	}
	return all
}

var nameServerKeys = []Key{
	{Name: "listenPort", Kind: Int, Default: "9876", Min: 0, Max: 65535, Note: "port to listen on; 0 picks a free one"},
	{Name: "kvConfigPath", Kind: Text, Default: "", Note: "file of the KV configuration; empty: namesrv/kvConfig.json in the data folder"},
	{Name: "orderMessageEnable", Kind: Bool, Default: asApache, Note: "give clients the order configuration of topics"},
	{Name: "returnOrderTopicConfigToBroker", Kind: Bool, Default: asApache, Note: "give brokers the order configuration when they register"},
	{Name: "enableAllTopicList", Kind: Bool, Default: asApache, Note: "answer with the list of all topics"},
	{Name: "enableTopicList", Kind: Bool, Default: asApache, Note: "answer with other lists of topics"},
	{Name: "scanNotActiveBrokerInterval", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Note: "between looks for silent brokers"},
	{Name: "supportActingMaster", Kind: Bool, Default: asApache, Note: "a slave without a master is read as one"},
	{Name: "needWaitForService", Kind: Bool, Default: asApache, Note: "refuse routes for waitSecondsForService after the start"},
	{Name: "waitSecondsForService", Kind: Seconds, Default: asApache, Min: 0, Max: 86400, Note: "see needWaitForService"},
	{Name: "deleteTopicWithBrokerRegistration", Kind: Bool, Default: asApache, Note: "a topic that a master no longer names loses its route"},
}

var brokerKeys = []Key{
	{Name: "brokerClusterName", Kind: Text, Default: asApache, Note: "cluster that the broker belongs to"},
	{Name: "brokerName", Kind: Text, Default: asApache, Note: "name of the broker group; empty: the host's name"},
	{Name: "brokerId", Kind: Int64, Default: asApache, Min: 0, Max: maxInt64, Note: "0 for a master"},
	{Name: "brokerIP1", Kind: Text, Default: asApache, Note: "host that clients are told; empty: the one they can reach"},
	{Name: "listenPort", Kind: Int, Default: asApache, Min: 0, Max: 65535, Note: "port to listen on; 0 picks a free one"},
	{Name: "namesrvAddr", Kind: Text, Default: asApache, Note: "name servers to register with: HOST:PORT;HOST:PORT"},
	{Name: "brokerRole", Kind: Enum, Default: asApache, Allowed: []string{"ASYNC_MASTER", "SYNC_MASTER", "SLAVE"}, Note: "without replicas both kinds of master are alike"},
	{Name: "brokerPermission", Kind: Int, Default: asApache, Min: 0, Max: 7, Hot: true, Note: "bits: 4 read, 2 write"},
	{Name: "regionId", Kind: Text, Default: asApache, Note: "region named in send answers"},
	{Name: "traceOn", Kind: Bool, Default: asApache, Note: "tell clients to trace"},
	{Name: "registerNameServerPeriod", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Note: "between registrations, kept within 10 s and 60 s"},
	{Name: "registerBrokerTimeoutMills", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Note: "of one registration at a name server"},
	{Name: "channelExpiredTimeout", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Note: "a client without a heartbeat counts as gone after it"},
}

var topicKeys = []Key{
	{Name: "autoCreateTopicEnable", Kind: Bool, Default: asApache, Hot: true, Note: "the first message creates its topic"},
	{Name: "autoCreateSubscriptionGroup", Kind: Bool, Default: asApache, Hot: true, Note: "the first consumer creates its group"},
	{Name: "defaultTopicQueueNums", Kind: Int, Default: asApache, Min: 1, Max: 1024, Note: "queues of an automatic topic"},
	{Name: "clusterTopicEnable", Kind: Bool, Default: asApache, Note: "clients may use the topic of the cluster's name"},
	{Name: "brokerTopicEnable", Kind: Bool, Default: asApache, Note: "clients may use the topic of the broker's name"},
	{Name: "traceTopicEnable", Kind: Bool, Default: "true", Note: "have the topic for clients' traces"},
	{Name: "msgTraceTopicName", Kind: Text, Default: asApache, Note: "its name"},
}

var storeKeys = []Key{
	{Name: "storePathRootDir", Kind: Text, Default: "", Note: "folder of the store; empty: the data folder"},
	{Name: "mappedFileSizeCommitLog", Kind: Size, Default: asApache, Min: 1 << 16, Max: 1<<31 - 1, Note: "size of a commit log file"},
	{Name: "mappedFileSizeConsumeQueue", Kind: Size, Default: asApache, Min: 20, Max: 1<<31 - 1, Note: "size of a consume queue file; 20 bytes a message"},
	{Name: "messageIndexEnable", Kind: Bool, Default: asApache, Note: "index messages by key"},
	{Name: "maxHashSlotNum", Kind: Int, Default: asApache, Min: 1, Max: 1 << 28, Note: "hash slots of an index file"},
	{Name: "maxIndexNum", Kind: Int, Default: asApache, Min: 1, Max: 1 << 26, Note: "entries of an index file"},
	{Name: "flushDiskType", Kind: Enum, Default: asApache, Allowed: []string{"ASYNC_FLUSH", "SYNC_FLUSH"}, Note: "answer before or after the disk has it"},
	{Name: "flushIntervalCommitLog", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Note: "between flushes with ASYNC_FLUSH"},
	{Name: "flushIntervalConsumeQueue", Kind: Millis, Default: "3000", Min: 1, Max: maxInt32, Note: "between flushes of consume queues and index"},
	{Name: "syncFlushTimeout", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Hot: true, Note: "with SYNC_FLUSH, a send that waits longer is answered FLUSH_DISK_TIMEOUT: it is stored"},
	{Name: "maxMessageSize", Kind: Size, Default: asApache, Min: 1, Max: 1 << 30, Hot: true, Note: "largest body"},
	{Name: "deleteWhen", Kind: Text, Default: asApache, Hot: true, Note: "hours at which old files are deleted: 04;16"},
	{Name: "fileReservedTime", Kind: Int, Default: asApache, Min: 1, Max: 876000, Hot: true, Note: "hours that files are kept"},
	{Name: "dlqReservedTime", Kind: Int, Default: "0", Min: 0, Max: 876000, Hot: true, Note: "hours that dead letters are kept; 0: as fileReservedTime"},
	{Name: "diskMaxUsedSpaceRatio", Kind: Int, Default: asApache, Min: 1, Max: 100, Hot: true, Note: "percent of the disk above which old files are deleted at any hour"},
	{Name: "diskSpaceCleanForciblyRatio", Kind: Int, Default: asApache, Min: 1, Max: 100, Hot: true, Note: "percent above which files go before their time"},
	{Name: "diskSpaceWarningLevelRatio", Kind: Int, Default: asApache, Min: 1, Max: 100, Hot: true, Note: "percent above which sends are refused"},
	{Name: "cleanFileForciblyEnable", Kind: Bool, Default: asApache, Hot: true, Note: "delete files before their time when the disk fills"},
	{Name: "storeMaxBytes", Kind: Size, Default: "0", Min: 0, Max: maxInt64, Hot: true, Note: "budget of the commit log, beside time and disk; 0: none"},
	{Name: "defaultQueryMaxNum", Kind: Int, Default: asApache, Min: 1, Max: 10000, Hot: true, Note: "messages of a query by unique key; no query gives more than 64"},
}

var timeKeys = []Key{
	{Name: "messageDelayLevel", Kind: Text, Default: asApache, Note: "delay levels: 1s 5s 1m 2h 1d"},
	{Name: "flushDelayOffsetInterval", Kind: Millis, Default: "1000", Min: 1, Max: maxInt32, Note: "between saves of how far delayed messages are"},
	{Name: "timerWheelEnable", Kind: Bool, Default: asApache, Note: "take messages for any instant"},
	{Name: "timerMaxDelaySec", Kind: Seconds, Default: tenYears, Min: 1, Max: 3153600000, Hot: true, Note: "longest delay"},
	{Name: "storeReplyMessageEnable", Kind: Bool, Default: asApache, Hot: true, Note: "replies to requests are stored besides being pushed to who asked"},
	{Name: "recallMessageEnable", Kind: Bool, Default: "true", Hot: true, Note: "delayed messages can be recalled"},
	{Name: "rejectTransactionMessage", Kind: Bool, Default: asApache, Hot: true, Note: "take no transactional messages"},
	{Name: "transactionTimeOut", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Hot: true, Note: "before the first check of a half message"},
	{Name: "transactionCheckMax", Kind: Int, Default: asApache, Min: 1, Max: 10000, Hot: true, Note: "checks of a half message"},
	{Name: "transactionCheckInterval", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Hot: true, Note: "between checks"},
	{Name: "transactionMaxAge", Kind: Seconds, Default: "604800", Min: 1, Max: 3153600000, Hot: true, Note: "a half message that nobody settles is given up after it"},
}

var consumeKeys = []Key{
	{Name: "longPollingEnable", Kind: Bool, Default: asApache, Hot: true, Note: "hold pulls as long as the client asks"},
	{Name: "shortPollingTimeMills", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Hot: true, Note: "hold pulls so long without long polling"},
	{Name: "flushConsumerOffsetInterval", Kind: Millis, Default: asApache, Min: 1, Max: maxInt32, Note: "between saves of committed offsets"},
	{Name: "rebalanceLockMaxLiveTime", Kind: Millis, Default: "60000", Min: 1000, Max: maxInt32, Hot: true, Note: "a queue lock of an orderly consumer without a refresh; Apache's is a JVM property"},
	{Name: "notifyConsumerIdsChangedEnable", Kind: Bool, Default: asApache, Hot: true, Note: "tell members when their group changes"},
	{Name: "enablePropertyFilter", Kind: Bool, Default: "true", Hot: true, Note: "SQL92 filters"},
	{Name: "maxTransferBytesOnMessageInMemory", Kind: Size, Default: asApache, Min: 1, Max: 1 << 26, Hot: true, Note: "bytes of a pull's or pop's answer from recent messages; clients take 16 MB at most"},
	{Name: "maxTransferCountOnMessageInMemory", Kind: Int, Default: asApache, Min: 1, Max: 10000, Hot: true, Note: "messages of it; a pop gives 32 at most"},
	{Name: "accessMessageInMemoryMaxRatio", Kind: Int, Default: asApache, Min: 1, Max: 100, Note: "% of the memory; messages further behind the end count as old"},
	{Name: "maxTransferBytesOnMessageInDisk", Kind: Size, Default: asApache, Min: 1, Max: 1 << 26, Hot: true, Note: "bytes of a pull's or pop's answer from old messages"},
	{Name: "maxTransferCountOnMessageInDisk", Kind: Int, Default: asApache, Min: 1, Max: 10000, Hot: true, Note: "messages of it"},
}
