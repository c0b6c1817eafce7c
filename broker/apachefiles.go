package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/merlinmq/merlin/internal/fastjson"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// The shapes of the files that Apache's broker keeps in its config folder.
type (
	apacheTopics struct {
		DataVersion      DataVersion            `json:"dataVersion"`
		TopicConfigTable map[string]apacheTopic `json:"topicConfigTable"`
	}
	apacheTopic struct {
		TopicName       string            `json:"topicName"`
		ReadQueueNums   int32             `json:"readQueueNums"`
		WriteQueueNums  int32             `json:"writeQueueNums"`
		Perm            int32             `json:"perm"`
		Order           bool              `json:"order"`
		TopicSysFlag    int32             `json:"topicSysFlag"`
		TopicFilterType string            `json:"topicFilterType"`
		Attributes      map[string]string `json:"attributes"`
	}

	apacheGroups struct {
		DataVersion            DataVersion                 `json:"dataVersion"`
		ForbiddenTable         map[string]map[string]int32 `json:"forbiddenTable"`
		SubscriptionGroupTable map[string]apacheGroup      `json:"subscriptionGroupTable"`
	}
	apacheGroup struct {
		GroupName                      string            `json:"groupName"`
		ConsumeEnable                  bool              `json:"consumeEnable"`
		ConsumeFromMinEnable           bool              `json:"consumeFromMinEnable"`
		ConsumeBroadcastEnable         bool              `json:"consumeBroadcastEnable"`
		ConsumeMessageOrderly          bool              `json:"consumeMessageOrderly"`
		RetryQueueNums                 int32             `json:"retryQueueNums"`
		RetryMaxTimes                  int32             `json:"retryMaxTimes"`
		GroupRetryPolicy               apacheRetryPolicy `json:"groupRetryPolicy"`
		BrokerID                       int64             `json:"brokerId"`
		WhichBrokerWhenConsumeSlowly   int64             `json:"whichBrokerWhenConsumeSlowly"`
		NotifyConsumerIDsChangedEnable bool              `json:"notifyConsumerIdsChangedEnable"`
		GroupSysFlag                   int32             `json:"groupSysFlag"`
		ConsumeTimeoutMinute           int32             `json:"consumeTimeoutMinute"`
		Attributes                     map[string]string `json:"attributes"`
	}
	apacheRetryPolicy struct {
		Type        string             `json:"type"`
		Customized  *apacheCustomized  `json:"customizedRetryPolicy,omitempty"`
		Exponential *apacheExponential `json:"exponentialRetryPolicy,omitempty"`
	}
	apacheCustomized struct {
		Next []int64 `json:"next"`
	}
	apacheExponential struct {
		Initial    int64 `json:"initial"`
		Max        int64 `json:"max"`
		Multiplier int64 `json:"multiplier"`
	}

	apacheOffsets struct {
		DataVersion     DataVersion                         `json:"dataVersion"`
		OffsetTable     map[string]map[int32]message.Offset `json:"offsetTable"` // by topic@group
		PullOffsetTable map[string]map[int32]message.Offset `json:"pullOffsetTable,omitempty"`
	}
	apacheDelays struct {
		DataVersion DataVersion              `json:"dataVersion"`
		OffsetTable map[int32]message.Offset `json:"offsetTable"` // by level
	}

	apacheFilters struct {
		FilterDataByTopic map[string]apacheTopicFilters `json:"filterDataByTopic"`
	}
	apacheTopicFilters struct {
		Topic           string                  `json:"topic"`
		GroupFilterData map[string]apacheFilter `json:"groupFilterData"`
	}
	apacheFilter struct {
		ConsumerGroup  string `json:"consumerGroup"`
		Topic          string `json:"topic"`
		Expression     string `json:"expression"`
		ExpressionType string `json:"expressionType"`
		BornTime       int64  `json:"bornTime"`
		DeadTime       int64  `json:"deadTime"`
		ClientVersion  int64  `json:"clientVersion"`
	}

	apacheModes struct {
		Map map[string]map[string]apacheMode `json:"messageRequestModeMap"` // by topic and group
	}
	apacheMode struct {
		Topic         string `json:"topic"`
		ConsumerGroup string `json:"consumerGroup"`
		Mode          string `json:"mode"` // POP or PULL
		Shared        int32  `json:"popShareQueueNum"`
	}
)

// apachePop is the mode of groups that pop.
const apachePop = "POP"

// maxApacheFile bounds a file of the config folder, in bytes: offsets of a
// million queues take a tenth of it.
const maxApacheFile = 256 << 20

// SetDefaults gives a group what older versions leave out.
func (g *apacheGroup) SetDefaults() { *g = newApacheGroup(DefaultGroupConfig("")) }

// SetDefaults gives a topic what older versions leave out.
func (t *apacheTopic) SetDefaults() {
	*t = apacheTopic{ReadQueueNums: 16, WriteQueueNums: 16, Perm: permReadWrite, TopicFilterType: "SINGLE_TAG"}
}

func newApacheTopic(c TopicConfig) apacheTopic {
	return apacheTopic{
		TopicName: c.Name, ReadQueueNums: c.ReadQueues, WriteQueueNums: c.WriteQueues, Perm: c.Perm, Order: c.Order,
		TopicSysFlag: c.SysFlag, TopicFilterType: c.FilterType, Attributes: c.Attributes,
	}
}

func (t *apacheTopic) config() TopicConfig {
	return TopicConfig{
		Name: t.TopicName, ReadQueues: t.ReadQueueNums, WriteQueues: t.WriteQueueNums, Perm: t.Perm, Order: t.Order,
		SysFlag: t.TopicSysFlag, FilterType: t.TopicFilterType, Attributes: t.Attributes,
	}
}

func newApacheGroup(c GroupConfig) apacheGroup {
	g := apacheGroup{
		GroupName: c.Name, ConsumeEnable: c.ConsumeEnable, ConsumeFromMinEnable: c.ConsumeFromMinEnable,
		ConsumeBroadcastEnable: c.BroadcastEnable, ConsumeMessageOrderly: c.Orderly, RetryQueueNums: c.RetryQueues,
		RetryMaxTimes: c.RetryMaxTimes, GroupRetryPolicy: apacheRetryPolicy{Type: c.RetryPolicy.Type}, BrokerID: c.BrokerID,
		WhichBrokerWhenConsumeSlowly: c.SlowReadBrokerID, NotifyConsumerIDsChangedEnable: c.NotifyMembers,
		GroupSysFlag: c.SysFlag, ConsumeTimeoutMinute: c.ConsumeTimeoutMinutes, Attributes: c.Attributes,
	}
	if p := c.RetryPolicy; len(p.Next) > 0 {
		g.GroupRetryPolicy.Customized = &apacheCustomized{Next: p.Next}
	}
	if p := c.RetryPolicy; p.InitialMs > 0 {
		g.GroupRetryPolicy.Exponential = &apacheExponential{Initial: p.InitialMs, Max: p.MaxMs, Multiplier: p.Multiplier}
	}
	return g
}

func (g *apacheGroup) config() GroupConfig {
	c := GroupConfig{
		Name: g.GroupName, ConsumeEnable: g.ConsumeEnable, ConsumeFromMinEnable: g.ConsumeFromMinEnable,
		BroadcastEnable: g.ConsumeBroadcastEnable, Orderly: g.ConsumeMessageOrderly, RetryQueues: g.RetryQueueNums,
		RetryMaxTimes: g.RetryMaxTimes, RetryPolicy: RetryPolicy{Type: g.GroupRetryPolicy.Type}, BrokerID: g.BrokerID,
		SlowReadBrokerID: g.WhichBrokerWhenConsumeSlowly, NotifyMembers: g.NotifyConsumerIDsChangedEnable,
		SysFlag: g.GroupSysFlag, ConsumeTimeoutMinutes: g.ConsumeTimeoutMinute, Attributes: g.Attributes,
	}
	if c.RetryPolicy.Type == "" {
		c.RetryPolicy.Type = RetryCustomized
	}
	if p := g.GroupRetryPolicy.Customized; p != nil {
		c.RetryPolicy.Next = p.Next
	}
	if p := g.GroupRetryPolicy.Exponential; p != nil {
		c.RetryPolicy.InitialMs, c.RetryPolicy.MaxMs, c.RetryPolicy.Multiplier = p.Initial, p.Max, p.Multiplier
	}
	return c
}

// readApacheFile reads a file of the config folder into v, or the .bak beside
// it when the file is missing or broken, as Apache's broker does. It tells
// which file it was; none is no error. With both broken the caller must not go
// on, or the state in them is lost silently.
func readApacheFile[T any](fsys vfs.FS, dir, name string) (v T, from string, err error) {
	var broken error
	for _, try := range []string{name, name + ".bak"} {
		path := filepath.Join(dir, try)
		text, err := readFile(fsys, path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
			continue
		}
		if err == nil {
			var fresh T
			if err = fastjson.Unmarshal(text, &fresh); err == nil {
				return fresh, try, nil
			}
		}
		broken = errors.Join(broken, fmt.Errorf("%s: %w", path, err))
	}
	if broken != nil {
		return v, "", fmt.Errorf("the file %s of Apache's broker cannot be imported; repair the file, or move it away to start without it: %w", name, broken)
	}
	return v, "", nil
}

// readFile returns what is in a file, up to maxApacheFile bytes.
func readFile(fsys vfs.FS, name string) (text []byte, err error) {
	f, err := fsys.Open(name, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil || size == 0 {
		return nil, err
	}
	if size > maxApacheFile {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that a file of settings may have", name, size, int64(maxApacheFile))
	}
	text = make([]byte, size)
	n, err := f.ReadAt(text, 0)
	if n == len(text) {
		err = nil
	}
	return text, err
}
