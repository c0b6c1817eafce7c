package body

// OffsetWrapper is one queue in ConsumeStats.
type OffsetWrapper struct {
	BrokerOffset   int64 `json:"brokerOffset"`
	ConsumerOffset int64 `json:"consumerOffset"`
	LastTimestamp  int64 `json:"lastTimestamp"` // ms, store time of the last consumed message
	PullOffset     int64 `json:"pullOffset"`
}

// ConsumeStats answers GET_CONSUME_STATS.
type ConsumeStats struct {
	ConsumeTPS  float64                        `json:"consumeTps"`
	OffsetTable map[MessageQueue]OffsetWrapper `json:"offsetTable"`
}

// ConsumeStatsList answers GET_BROKER_CONSUME_STATS: one element a group.
type ConsumeStatsList struct {
	BrokerAddr        string                      `json:"brokerAddr,omitempty"`
	List              []map[string][]ConsumeStats `json:"consumeStatsList"`
	TotalDiff         int64                       `json:"totalDiff"`
	TotalInflightDiff int64                       `json:"totalInflightDiff"`
}

// ResetOffset is the body of RESET_CONSUMER_CLIENT_OFFSET and of the answer to INVOKE_BROKER_TO_RESET_OFFSET.
type ResetOffset struct {
	OffsetTable map[MessageQueue]int64 `json:"offsetTable"`
}

// ResetOffsetForC is ResetOffset as C++ clients want it.
type ResetOffsetForC struct {
	OffsetTable []QueueOffset `json:"offsetTable,omitempty"`
}

// QueueOffset is one queue in ResetOffsetForC.
type QueueOffset struct {
	BrokerName string `json:"brokerName,omitempty"`
	Offset     int64  `json:"offset"`
	QueueID    int32  `json:"queueId"`
	Topic      string `json:"topic,omitempty"`
}

// ConsumerStatus answers INVOKE_BROKER_TO_GET_CONSUMER_STATUS (by client) and GET_CONSUMER_STATUS_FROM_CLIENT.
type ConsumerStatus struct {
	ConsumerTable     map[string]map[MessageQueue]int64 `json:"consumerTable"`
	MessageQueueTable map[MessageQueue]int64            `json:"messageQueueTable"`
}

// QueryCorrectionOffset answers QUERY_CORRECTION_OFFSET: offset by queue.
type QueryCorrectionOffset struct {
	CorrectionOffsets map[int32]int64 `json:"correctionOffsets"`
}

// ConsumerOffsets answers GET_ALL_CONSUMER_OFFSET and is config/consumerOffset.json: topic@group, then queue.
type ConsumerOffsets struct {
	DataVersion *DataVersion               `json:"dataVersion"`
	OffsetTable map[string]map[int32]int64 `json:"offsetTable"`
}

// DelayOffsets answers GET_ALL_DELAY_OFFSET and is config/delayOffset.json: offset by delay level.
type DelayOffsets struct {
	DataVersion *DataVersion    `json:"dataVersion"`
	OffsetTable map[int32]int64 `json:"offsetTable"`
}

// TimerMetric counts the pending messages of a topic.
type TimerMetric struct {
	Count     int64 `json:"count"`
	TimeStamp int64 `json:"timeStamp"`
}

// TimerMetrics answers GET_TIMER_METRICS.
type TimerMetrics struct {
	DataVersion *DataVersion           `json:"dataVersion"`
	TimingCount map[string]TimerMetric `json:"timingCount"`
}

// CMResult is what came of handing a message to a consumer.
type CMResult string

// EnumNames lists the results by ordinal, which is what rocketmq-client-go sends.
func (CMResult) EnumNames() []string {
	return []string{"CR_SUCCESS", "CR_LATER", "CR_ROLLBACK", "CR_COMMIT", "CR_THROW_EXCEPTION", "CR_RETURN_NULL"}
}

// ConsumeMessageDirectlyResult answers CONSUME_MESSAGE_DIRECTLY.
type ConsumeMessageDirectlyResult struct {
	AutoCommit     bool     `json:"autoCommit"`
	ConsumeResult  CMResult `json:"consumeResult,omitempty"`
	Order          bool     `json:"order"`
	Remark         string   `json:"remark,omitempty"`
	SpentTimeMills int64    `json:"spentTimeMills"`
}

// SetDefaults makes the result one that commits by itself.
func (r *ConsumeMessageDirectlyResult) SetDefaults() {
	*r = ConsumeMessageDirectlyResult{AutoCommit: true}
}

// ProcessQueueInfo is one queue in ConsumerRunningInfo. Dropped is droped in Java's spelling.
type ProcessQueueInfo struct {
	CachedMsgCount          int32 `json:"cachedMsgCount"`
	CachedMsgMaxOffset      int64 `json:"cachedMsgMaxOffset"`
	CachedMsgMinOffset      int64 `json:"cachedMsgMinOffset"`
	CachedMsgSizeInMiB      int32 `json:"cachedMsgSizeInMiB"`
	CommitOffset            int64 `json:"commitOffset"`
	Dropped                 bool  `json:"droped" alias:"dropped"`
	LastConsumeTimestamp    int64 `json:"lastConsumeTimestamp"`
	LastLockTimestamp       int64 `json:"lastLockTimestamp"`
	LastPullTimestamp       int64 `json:"lastPullTimestamp"`
	Locked                  bool  `json:"locked"`
	TransactionMsgCount     int32 `json:"transactionMsgCount"`
	TransactionMsgMaxOffset int64 `json:"transactionMsgMaxOffset"`
	TransactionMsgMinOffset int64 `json:"transactionMsgMinOffset"`
	TryUnlockTimes          int64 `json:"tryUnlockTimes"`
}

// PopProcessQueueInfo is one popped queue in ConsumerRunningInfo.
type PopProcessQueueInfo struct {
	Dropped          bool  `json:"droped" alias:"dropped"`
	LastPopTimestamp int64 `json:"lastPopTimestamp"`
	WaitAckCount     int32 `json:"waitAckCount"`
}

// ConsumeStatus is one topic in ConsumerRunningInfo; times in ms, rates a second.
type ConsumeStatus struct {
	ConsumeFailedMsgs int64   `json:"consumeFailedMsgs"`
	ConsumeFailedTPS  float64 `json:"consumeFailedTPS"`
	ConsumeOKTPS      float64 `json:"consumeOKTPS"`
	ConsumeRT         float64 `json:"consumeRT"`
	PullRT            float64 `json:"pullRT"`
	PullTPS           float64 `json:"pullTPS"`
}

// ConsumerRunningInfo answers GET_CONSUMER_RUNNING_INFO. A broker relays it as bytes; this type is for tools.
type ConsumerRunningInfo struct {
	Jstack           string                               `json:"jstack,omitempty"`
	MQPopTable       map[MessageQueue]PopProcessQueueInfo `json:"mqPopTable"`
	MQTable          map[MessageQueue]ProcessQueueInfo    `json:"mqTable"`
	Properties       map[string]string                    `json:"properties"`
	StatusTable      map[string]ConsumeStatus             `json:"statusTable"`
	SubscriptionSet  []SubscriptionData                   `json:"subscriptionSet"`
	UserConsumerInfo map[string]string                    `json:"userConsumerInfo"`
}
