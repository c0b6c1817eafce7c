package body

// ConsumeType says how a consumer gets its messages.
type ConsumeType string

// The consume types.
const (
	ConsumeActively  ConsumeType = "CONSUME_ACTIVELY"  // pull
	ConsumePassively ConsumeType = "CONSUME_PASSIVELY" // push
	ConsumePop       ConsumeType = "CONSUME_POP"
)

// EnumNames lists the types by ordinal.
func (ConsumeType) EnumNames() []string {
	return []string{"CONSUME_ACTIVELY", "CONSUME_PASSIVELY", "CONSUME_POP"}
}

// MessageModel says whether the members of a group share the queues or each read all.
type MessageModel string

// The message models.
const (
	Broadcasting  MessageModel = "BROADCASTING"
	Clustering    MessageModel = "CLUSTERING"
	LiteSelective MessageModel = "LITE_SELECTIVE"
)

// EnumNames lists the models by ordinal.
func (MessageModel) EnumNames() []string {
	return []string{"BROADCASTING", "CLUSTERING", "LITE_SELECTIVE"}
}

// ConsumeFromWhere says where a group without offsets begins.
type ConsumeFromWhere string

// The places to begin that clients still offer.
const (
	FromLastOffset  ConsumeFromWhere = "CONSUME_FROM_LAST_OFFSET"
	FromFirstOffset ConsumeFromWhere = "CONSUME_FROM_FIRST_OFFSET"
	FromTimestamp   ConsumeFromWhere = "CONSUME_FROM_TIMESTAMP"
)

// EnumNames lists the places by ordinal, three forgotten ones among them.
func (ConsumeFromWhere) EnumNames() []string {
	return []string{"CONSUME_FROM_LAST_OFFSET", "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
		"CONSUME_FROM_MIN_OFFSET", "CONSUME_FROM_MAX_OFFSET", "CONSUME_FROM_FIRST_OFFSET", "CONSUME_FROM_TIMESTAMP"}
}

// SubscriptionData is what a consumer wants of one topic. CodeSet holds the Java hash codes of TagsSet.
type SubscriptionData struct {
	ClassFilterMode bool     `json:"classFilterMode"`
	CodeSet         []int32  `json:"codeSet"`
	ExpressionType  string   `json:"expressionType,omitempty"` // TAG, SQL92
	SubString       string   `json:"subString,omitempty"`
	SubVersion      int64    `json:"subVersion"` // ms or ns, whatever the client counts in
	TagsSet         []string `json:"tagsSet"`
	Topic           string   `json:"topic,omitempty"`
}

// SetDefaults makes the expression a tag expression.
func (s *SubscriptionData) SetDefaults() { *s = SubscriptionData{ExpressionType: "TAG"} }

// ProducerData is a producer group in a heartbeat.
type ProducerData struct {
	GroupName string `json:"groupName,omitempty"`
}

// ConsumerData is a consumer group in a heartbeat.
type ConsumerData struct {
	ConsumeFromWhere    ConsumeFromWhere   `json:"consumeFromWhere,omitempty"`
	ConsumeType         ConsumeType        `json:"consumeType,omitempty"`
	GroupName           string             `json:"groupName,omitempty"`
	MessageModel        MessageModel       `json:"messageModel,omitempty"`
	SubscriptionDataSet []SubscriptionData `json:"subscriptionDataSet"`
	UnitMode            bool               `json:"unitMode"`
}

// HeartbeatData is the body of HEART_BEAT. A client of heartbeat version 2 that says WithoutSub leaves its
// subscriptions out because they have not changed.
type HeartbeatData struct {
	ClientID        string         `json:"clientID,omitempty"`
	ConsumerDataSet []ConsumerData `json:"consumerDataSet"`
	Fingerprint     int32          `json:"heartbeatFingerprint"`
	ProducerDataSet []ProducerData `json:"producerDataSet"`
	WithoutSub      bool           `json:"withoutSub" alias:"isWithoutSub"`
}

// ConsumerList answers GET_CONSUMER_LIST_BY_GROUP.
type ConsumerList struct {
	ConsumerIDList []string `json:"consumerIdList"`
}

// CheckClientRequest is the body of CHECK_CLIENT_CONFIG.
type CheckClientRequest struct {
	ClientID         string            `json:"clientId,omitempty"`
	Group            string            `json:"group,omitempty"`
	Namespace        string            `json:"namespace,omitempty"`
	SubscriptionData *SubscriptionData `json:"subscriptionData"`
}

// LockBatchRequest is the body of LOCK_BATCH_MQ and UNLOCK_BATCH_MQ.
type LockBatchRequest struct {
	ClientID       string         `json:"clientId,omitempty"`
	ConsumerGroup  string         `json:"consumerGroup,omitempty"`
	MQSet          []MessageQueue `json:"mqSet"`
	OnlyThisBroker bool           `json:"onlyThisBroker"`
}

// LockBatchResponse answers LOCK_BATCH_MQ with the queues that the client holds now.
type LockBatchResponse struct {
	LockOKMQSet []MessageQueue `json:"lockOKMQSet"`
}

// Connection is one client of a group.
type Connection struct {
	ClientAddr string `json:"clientAddr,omitempty"` // host:port
	ClientID   string `json:"clientId,omitempty"`
	Language   string `json:"language,omitempty"` // JAVA, GO, …
	Version    int32  `json:"version"`
}

// ConsumerConnection answers GET_CONSUMER_CONNECTION_LIST.
type ConsumerConnection struct {
	ConnectionSet     []Connection                `json:"connectionSet"`
	ConsumeFromWhere  ConsumeFromWhere            `json:"consumeFromWhere,omitempty"`
	ConsumeType       ConsumeType                 `json:"consumeType,omitempty"`
	MessageModel      MessageModel                `json:"messageModel,omitempty"`
	SubscriptionTable map[string]SubscriptionData `json:"subscriptionTable"`
}

// ProducerConnection answers GET_PRODUCER_CONNECTION_LIST.
type ProducerConnection struct {
	ConnectionSet []Connection `json:"connectionSet"`
}

// ProducerInfo is one producer in ProducerTableInfo.
type ProducerInfo struct {
	ClientID            string `json:"clientId,omitempty"`
	Language            string `json:"language,omitempty"`
	LastUpdateTimestamp int64  `json:"lastUpdateTimestamp"`
	RemoteIP            string `json:"remoteIP,omitempty"`
	Version             int32  `json:"version"`
}

// ProducerTableInfo answers GET_ALL_PRODUCER_INFO: producers by group.
type ProducerTableInfo struct {
	Data map[string][]ProducerInfo `json:"data"`
}

// MessageRequestMode says whether a group pulls a topic or pops it.
type MessageRequestMode string

// The modes. Pull is the default.
const (
	ModePull MessageRequestMode = "PULL"
	ModePop  MessageRequestMode = "POP"
)

// EnumNames lists the modes by ordinal.
func (MessageRequestMode) EnumNames() []string { return []string{"PULL", "POP"} }

// SetMessageRequestMode is the body of SET_MESSAGE_REQUEST_MODE.
type SetMessageRequestMode struct {
	ConsumerGroup    string             `json:"consumerGroup,omitempty"`
	Mode             MessageRequestMode `json:"mode,omitempty"`
	PopShareQueueNum int32              `json:"popShareQueueNum"`
	Topic            string             `json:"topic,omitempty"`
}

// SetDefaults makes the mode pull.
func (m *SetMessageRequestMode) SetDefaults() { *m = SetMessageRequestMode{Mode: ModePull} }

// MessageRequestModes answers GET_ALL_MESSAGE_REQUEST_MODE: topic, then group.
type MessageRequestModes struct {
	Modes map[string]map[string]SetMessageRequestMode `json:"messageRequestModeMap"`
}

// QueryAssignmentRequest is the body of QUERY_ASSIGNMENT.
type QueryAssignmentRequest struct {
	ClientID      string       `json:"clientId,omitempty"`
	ConsumerGroup string       `json:"consumerGroup,omitempty"`
	MessageModel  MessageModel `json:"messageModel,omitempty"`
	StrategyName  string       `json:"strategyName,omitempty"` // AVG, AVG_BY_CIRCLE
	Topic         string       `json:"topic,omitempty"`
}

// MessageQueueAssignment is one queue given to a client.
type MessageQueueAssignment struct {
	Attachments  map[string]string  `json:"attachments,omitempty"`
	MessageQueue *MessageQueue      `json:"messageQueue"`
	Mode         MessageRequestMode `json:"mode,omitempty"`
}

// SetDefaults makes the mode pull.
func (a *MessageQueueAssignment) SetDefaults() { *a = MessageQueueAssignment{Mode: ModePull} }

// QueryAssignmentResponse answers QUERY_ASSIGNMENT. Nil means keep what you have, empty means drop everything.
type QueryAssignmentResponse struct {
	Assignments []MessageQueueAssignment `json:"messageQueueAssignments,omitempty"`
}

// BatchAckRequest is the body of BATCH_ACK_MESSAGE.
type BatchAckRequest struct {
	Acks       []BatchAck `json:"acks,omitempty"`
	BrokerName string     `json:"brokerName,omitempty"`
}

// BatchAck acknowledges messages of one pop; bit i of Bits stands for the message at offset StartOffset+i.
type BatchAck struct {
	Bits          []byte `json:"b,omitempty"` // little-endian bits, as java.util.BitSet's bytes
	ConsumerGroup string `json:"c,omitempty"`
	InvisibleTime int64  `json:"it"` // ms
	PopTime       int64  `json:"pt"` // ms since 1970
	QueueID       int32  `json:"q"`
	Retry         string `json:"r,omitempty"` // 0 the topic, 1 its retry topic, 2 the newer retry topic
	ReviveQueueID int32  `json:"rq"`
	StartOffset   int64  `json:"so"`
	Topic         string `json:"t,omitempty"`
}
