package body

// GroupRetryPolicyType says which of a group's retry policies applies.
type GroupRetryPolicyType string

// The policy types. Customized is the default.
const (
	RetryExponential GroupRetryPolicyType = "EXPONENTIAL"
	RetryCustomized  GroupRetryPolicyType = "CUSTOMIZED"
)

// EnumNames lists the types by ordinal.
func (GroupRetryPolicyType) EnumNames() []string { return []string{"EXPONENTIAL", "CUSTOMIZED"} }

// GroupRetryPolicy says when a failed message comes again. Without a policy of its type, that type's default applies.
type GroupRetryPolicy struct {
	Customized  *CustomizedRetryPolicy  `json:"customizedRetryPolicy"`
	Exponential *ExponentialRetryPolicy `json:"exponentialRetryPolicy"`
	Type        GroupRetryPolicyType    `json:"type,omitempty"`
}

// SetDefaults makes the type customized.
func (p *GroupRetryPolicy) SetDefaults() { *p = GroupRetryPolicy{Type: RetryCustomized} }

// CustomizedRetryPolicy lists the delays in ms, one an attempt; the last holds for all that follow.
type CustomizedRetryPolicy struct {
	Next []int64 `json:"next"`
}

// SetDefaults fills in Java's ladder: 1 s to 2 h.
func (p *CustomizedRetryPolicy) SetDefaults() {
	p.Next = []int64{1000, 5000, 10000, 30000, 60000, 120000, 180000, 240000, 300000, 360000, 420000, 480000, 540000,
		600000, 1200000, 1800000, 3600000, 7200000}
}

// ExponentialRetryPolicy multiplies the delay at each attempt. Times in ms.
type ExponentialRetryPolicy struct {
	Initial    int64 `json:"initial"`
	Max        int64 `json:"max"`
	Multiplier int64 `json:"multiplier"`
}

// SetDefaults fills in 5 s, doubled up to 2 h.
func (p *ExponentialRetryPolicy) SetDefaults() {
	*p = ExponentialRetryPolicy{Initial: 5000, Max: 7200000, Multiplier: 2}
}

// SimpleSubscription is a subscription that the server fixes for a group.
type SimpleSubscription struct {
	Expression     string `json:"expression,omitempty"`
	ExpressionType string `json:"expressionType,omitempty"`
	Topic          string `json:"topic,omitempty"`
	Version        int64  `json:"version"`
}

// SubscriptionGroupConfig is a consumer group on one broker.
type SubscriptionGroupConfig struct {
	Attributes                     map[string]string    `json:"attributes"`
	BrokerID                       int64                `json:"brokerId"`
	ConsumeBroadcastEnable         bool                 `json:"consumeBroadcastEnable"`
	ConsumeEnable                  bool                 `json:"consumeEnable"`
	ConsumeFromMinEnable           bool                 `json:"consumeFromMinEnable"`
	ConsumeMessageOrderly          bool                 `json:"consumeMessageOrderly"`
	ConsumeTimeoutMinute           int32                `json:"consumeTimeoutMinute"`
	GroupName                      string               `json:"groupName,omitempty"`
	GroupRetryPolicy               GroupRetryPolicy     `json:"groupRetryPolicy"`
	GroupSysFlag                   int32                `json:"groupSysFlag"`
	NotifyConsumerIDsChangedEnable bool                 `json:"notifyConsumerIdsChangedEnable"`
	RetryMaxTimes                  int32                `json:"retryMaxTimes"`
	RetryQueueNums                 int32                `json:"retryQueueNums"`
	SubscriptionDataSet            []SimpleSubscription `json:"subscriptionDataSet,omitempty"`
	WhichBrokerWhenConsumeSlowly   int64                `json:"whichBrokerWhenConsumeSlowly"`
}

// SetDefaults makes c what a fresh SubscriptionGroupConfig is in Java.
func (c *SubscriptionGroupConfig) SetDefaults() {
	*c = SubscriptionGroupConfig{ConsumeBroadcastEnable: true, ConsumeEnable: true, ConsumeFromMinEnable: true,
		ConsumeTimeoutMinute: 15, NotifyConsumerIDsChangedEnable: true, RetryMaxTimes: 16, RetryQueueNums: 1,
		WhichBrokerWhenConsumeSlowly: 1, GroupRetryPolicy: GroupRetryPolicy{Type: RetryCustomized}}
}

// NewSubscriptionGroupConfig returns a group with Java's defaults.
func NewSubscriptionGroupConfig(name string) SubscriptionGroupConfig {
	var c SubscriptionGroupConfig
	c.SetDefaults()
	c.GroupName = name
	return c
}

// SubscriptionGroupWrapper is a broker's groups: GET_ALL_SUBSCRIPTIONGROUP_CONFIG and config/subscriptionGroup.json.
// ForbiddenTable: group, topic, bits of what is forbidden.
type SubscriptionGroupWrapper struct {
	DataVersion            DataVersion                        `json:"dataVersion"`
	ForbiddenTable         map[string]map[string]int32        `json:"forbiddenTable"`
	SubscriptionGroupTable map[string]SubscriptionGroupConfig `json:"subscriptionGroupTable"`
}

// SubscriptionGroupList is the body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST.
type SubscriptionGroupList struct {
	GroupConfigList []SubscriptionGroupConfig `json:"groupConfigList,omitempty"`
}

// GroupForbidden answers UPDATE_AND_GET_GROUP_FORBIDDEN.
type GroupForbidden struct {
	Group    string `json:"group,omitempty"`
	Readable *bool  `json:"readable"`
	Topic    string `json:"topic,omitempty"`
}

// QuerySubscriptionResponse answers QUERY_SUBSCRIPTION_BY_CONSUMER.
type QuerySubscriptionResponse struct {
	Group            string            `json:"group,omitempty"`
	SubscriptionData *SubscriptionData `json:"subscriptionData"`
	Topic            string            `json:"topic,omitempty"`
}

// QueueTimeSpan is one queue in QueryConsumeTimeSpan: times in ms since 1970, DelayTime in ms.
type QueueTimeSpan struct {
	ConsumeTimeStamp int64         `json:"consumeTimeStamp"`
	DelayTime        int64         `json:"delayTime"`
	MaxTimeStamp     int64         `json:"maxTimeStamp"`
	MessageQueue     *MessageQueue `json:"messageQueue"`
	MinTimeStamp     int64         `json:"minTimeStamp"`
}

// QueryConsumeTimeSpan answers QUERY_CONSUME_TIME_SPAN.
type QueryConsumeTimeSpan struct {
	Spans []QueueTimeSpan `json:"consumeTimeSpanSet"`
}
