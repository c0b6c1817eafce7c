package body

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/merlinmq/merlin/internal/fastjson"
)

// TopicFilterType says whether a message of the topic has one tag or several.
type TopicFilterType string

// The filter types. SingleTag is the default.
const (
	SingleTag TopicFilterType = "SINGLE_TAG"
	MultiTag  TopicFilterType = "MULTI_TAG"
)

// EnumNames lists the types by ordinal.
func (TopicFilterType) EnumNames() []string { return []string{"SINGLE_TAG", "MULTI_TAG"} }

// TopicConfig is a topic on one broker. Decoding starts from NewTopicConfig's values, as a Java object does.
type TopicConfig struct {
	Attributes      map[string]string `json:"attributes"`
	Order           bool              `json:"order"`
	Perm            int32             `json:"perm"` // bits: 4 read, 2 write, 1 inherit
	ReadQueueNums   int32             `json:"readQueueNums"`
	TopicFilterType TopicFilterType   `json:"topicFilterType,omitempty"`
	TopicName       string            `json:"topicName,omitempty"`
	TopicSysFlag    int32             `json:"topicSysFlag"`
	WriteQueueNums  int32             `json:"writeQueueNums"`
}

// SetDefaults makes c what a fresh TopicConfig is in Java: 16 queues, readable and writable.
func (c *TopicConfig) SetDefaults() {
	*c = TopicConfig{Perm: 6, ReadQueueNums: 16, WriteQueueNums: 16, TopicFilterType: SingleTag}
}

// NewTopicConfig returns a topic with Java's defaults.
func NewTopicConfig(name string) TopicConfig {
	var c TopicConfig
	c.SetDefaults()
	c.TopicName = name
	return c
}

// Text is the topic as a line of the compressed registration: name, queues, permission, filter type, attributes,
// separated by single spaces. Order and sys flag have no place in it.
func (c TopicConfig) Text() string {
	filter := c.TopicFilterType
	if filter == "" {
		filter = SingleTag
	}
	return fmt.Sprintf("%s %d %d %d %s %s", c.TopicName, c.ReadQueueNums, c.WriteQueueNums, c.Perm, filter, Encode(c.Attributes))
}

// ParseTopicText reads what Text wrote. Attributes may be missing, as brokers before 5.0 write it.
func ParseTopicText(s string) (TopicConfig, error) {
	parts := strings.SplitN(s, " ", 6)
	if len(parts) < 5 {
		return TopicConfig{}, fmt.Errorf("topic text %q has %d words; it needs name, read queues, write queues, permission, filter type", clip(s), len(parts))
	}
	c := NewTopicConfig(parts[0])
	for i, to := range []*int32{&c.ReadQueueNums, &c.WriteQueueNums, &c.Perm} {
		n, err := strconv.ParseInt(parts[i+1], 10, 32)
		if err != nil {
			return TopicConfig{}, fmt.Errorf("topic text %q: word %d is no number", clip(s), i+2)
		}
		*to = int32(n)
	}
	if parts[4] == string(MultiTag) {
		c.TopicFilterType = MultiTag
	}
	if len(parts) == 6 && strings.TrimSpace(parts[5]) != "" {
		if err := fastjson.Unmarshal([]byte(parts[5]), &c.Attributes); err != nil {
			return TopicConfig{}, fmt.Errorf("topic text %q: attributes: %w", clip(s), err)
		}
	}
	return c, nil
}

func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}

// TopicConfigSerializeWrapper is a broker's topics and their version: config/topics.json, and the body of a
// registration by brokers before 3.0.11.
type TopicConfigSerializeWrapper struct {
	DataVersion      DataVersion            `json:"dataVersion"`
	TopicConfigTable map[string]TopicConfig `json:"topicConfigTable"`
}

// TopicConfigAndMappingSerializeWrapper adds the queue mappings of static topics, which Merlin passes on as they are.
type TopicConfigAndMappingSerializeWrapper struct {
	TopicConfigSerializeWrapper
	MappingDataVersion         DataVersion    `json:"mappingDataVersion"`
	TopicQueueMappingDetailMap map[string]Raw `json:"topicQueueMappingDetailMap"`
	TopicQueueMappingInfoMap   map[string]Raw `json:"topicQueueMappingInfoMap"`
}

// TopicConfigAndQueueMapping answers GET_TOPIC_CONFIG.
type TopicConfigAndQueueMapping struct {
	TopicConfig
	MappingDetail Raw `json:"mappingDetail,omitempty"`
}

// CreateTopicListRequest is the body of UPDATE_AND_CREATE_TOPIC_LIST.
type CreateTopicListRequest struct {
	TopicConfigList []TopicConfig `json:"topicConfigList,omitempty"`
}

// TopicOffset is one queue in TopicStatsTable.
type TopicOffset struct {
	LastUpdateTimestamp int64 `json:"lastUpdateTimestamp"` // ms, store time of the last message
	MaxOffset           int64 `json:"maxOffset"`
	MinOffset           int64 `json:"minOffset"`
}

// TopicStatsTable answers GET_TOPIC_STATS_INFO.
type TopicStatsTable struct {
	OffsetTable map[MessageQueue]TopicOffset `json:"offsetTable"`
	TopicPutTPS float64                      `json:"topicPutTps"`
}

// ConsumeQueueData is one entry of a consume queue in QueryConsumeQueueResponse.
type ConsumeQueueData struct {
	BitMap         string `json:"bitMap,omitempty"`
	Eval           bool   `json:"eval"`
	ExtendDataJSON string `json:"extendDataJson,omitempty"`
	Msg            string `json:"msg,omitempty"`
	PhysicOffset   int64  `json:"physicOffset"`
	PhysicSize     int32  `json:"physicSize"`
	TagsCode       int64  `json:"tagsCode"`
}

// QueryConsumeQueueResponse answers QUERY_CONSUME_QUEUE.
type QueryConsumeQueueResponse struct {
	FilterData       string             `json:"filterData,omitempty"`
	MaxQueueIndex    int64              `json:"maxQueueIndex"`
	MinQueueIndex    int64              `json:"minQueueIndex"`
	QueueData        []ConsumeQueueData `json:"queueData,omitempty"`
	SubscriptionData *SubscriptionData  `json:"subscriptionData"`
}
