package config

import (
	"sort"
	"strings"
)

// renamed are old spellings of settings, and what they are called now.
var renamed = map[string]string{
	"mapedFileSizeCommitLog":             "mappedFileSizeCommitLog",
	"mapedFileSizeConsumeQueue":          "mappedFileSizeConsumeQueue",
	"mapedFileSizeConsumeQueueExt":       "mappedFileSizeConsumeQueueExt",
	"destroyMappedFileIntervalForcibly":  "destroyMapedFileIntervalForcibly",
	"flushLeastPagesWhenWarmMappedFile":  "flushLeastPagesWhenWarmMapedFile",
	"warmMappedFileEnable":               "warmMapedFileEnable",
	"maxTransferBytesOnMessageInMemroy":  "maxTransferBytesOnMessageInMemory",
	"transactionTimeout":                 "transactionTimeOut",
	"sendMessageThreadPoolNum":           "sendMessageThreadPoolNums",
	"pullMessageThreadPoolNum":           "pullMessageThreadPoolNums",
	"defaultTopicQueueNum":               "defaultTopicQueueNums",
	"autoCreateSubscriptionGroupEnable":  "autoCreateSubscriptionGroup",
	"registerBrokerTimeoutMillis":        "registerBrokerTimeoutMills",
	"osPageCacheBusyTimeOutMillis":       "osPageCacheBusyTimeOutMills",
	"brokerClusterNames":                 "brokerClusterName",
	"scheduleAsyncDeliverMaxResendNum":   "scheduleAsyncDeliverMaxResendNum2Blocked",
	"enableTransientStorePool":           "transientStorePoolEnable",
	"maxTransferCountOnMessageInMemeory": "maxTransferCountOnMessageInMemory",
}

// known without a setter: settings that tutorials teach and that no release of Apache's reads.
var powerless = map[string]string{
	"storePathConsumeQueue": "the place follows from storePathRootDir, with Apache's broker too",
	"storePathIndex":        "the place follows from storePathRootDir, with Apache's broker too",
	"storeCheckpoint":       "the place follows from storePathRootDir, with Apache's broker too",
	"abortFile":             "the place follows from storePathRootDir, with Apache's broker too",
	"fastListenPort":        "the port is always listenPort minus 2, with Apache's broker too",
}

const proxyHint = "it belongs to the proxy's JSON file, not to broker.conf"

// mistaken are names that people write and that never meant anything, and what to do instead.
var mistaken = map[string]string{
	"storePathConsumerQueue": "did you mean storePathConsumeQueue? The place follows from storePathRootDir anyway",
	"storePathCheckpoint":    "the place follows from storePathRootDir",
	"storePathCheckPoint":    "the place follows from storePathRootDir",
	"storePathAbort":         "the place follows from storePathRootDir",
	"configStoreRootDir":     "the place follows from storePathRootDir",
	"messageStoreType":       "did you mean storeType?",
	"namesrv.addr":           "did you mean namesrvAddr?",
	"NAMESRV_ADDR":           "did you mean namesrvAddr?",
	"nameServer":             "did you mean namesrvAddr?",
	"nameserver":             "did you mean namesrvAddr?",
	"namesrv":                "did you mean namesrvAddr?",
	"rocketmq.namesrv.addr":  "did you mean namesrvAddr?",
	"brokerIP":               "did you mean brokerIP1?",
	"brokerPort":             "did you mean listenPort?",
	"port":                   "did you mean listenPort?",
	"clusterName":            "did you mean brokerClusterName?",
	"autoCreateTopic":        "did you mean autoCreateTopicEnable?",
	"enableProxy":            proxyHint,
	"grpcServerPort":         proxyHint,
	"proxyMode":              proxyHint,
	"remotingListenPort":     proxyHint,
	"rocketMQClusterName":    proxyHint,
}

// hint says what to do about a name that no setting has.
func hint(name string, keys map[string]Key) string {
	if h, ok := mistaken[name]; ok {
		return h
	}
	if near := nearest(name, keys); near != "" {
		return "did you mean " + near + "?"
	}
	return "no release of Apache RocketMQ and nothing in Merlin has it"
}

// nearest returns the known name that takes the fewest changes, if they are few for its length.
func nearest(name string, keys map[string]Key) string {
	if len(name) > 80 {
		return ""
	}
	names := make([]string, 0, len(keys))
	for n := range keys {
		names = append(names, n)
	}
	sort.Strings(names)
	best, limit := "", max(2, len(name)/4)+1
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return n
		}
		if d := distance(name, n, limit); d < limit {
			best, limit = n, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements between two names, up to limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
