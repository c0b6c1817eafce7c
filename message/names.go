package message

import (
	"fmt"
	"strings"
)

// Names that brokers and clients agree on.
const (
	TopicAutoCreate    = "TBW102"
	TopicSchedule      = "SCHEDULE_TOPIC_XXXX"
	TopicTimer         = "rmq_sys_wheel_timer"
	TopicHalf          = "RMQ_SYS_TRANS_HALF_TOPIC"
	TopicOp            = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
	TopicCheckMax      = "TRANS_CHECK_MAX_TIME_TOPIC"
	TopicTrace         = "RMQ_SYS_TRACE_TOPIC"
	TopicSelfTest      = "SELF_TEST_TOPIC"
	TopicBenchmark     = "BenchmarkTest"
	TopicOffsetMoved   = "OFFSET_MOVED_EVENT"
	TopicCheckpoint    = "CHECKPOINT_TOPIC"
	TopicRocksHalf     = "RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC"
	TopicRocksOp       = "RMQ_SYS_ROCKSDB_TRANS_OP_HALF_TOPIC"
	TopicReviveLog     = "rmq_sys_REVIVE_LOG_"         // + cluster
	TopicSyncMember    = "rmq_sys_SYNC_BROKER_MEMBER_" // + broker
	ReplyTopicSuffix   = "_REPLY_TOPIC"                // cluster +
	RetryPrefix        = "%RETRY%"
	DLQPrefix          = "%DLQ%"
	LiteQueuePrefix    = "%LMQ%"
	systemPrefix       = "rmq_sys_"
	GroupTransaction   = "CID_RMQ_SYS_TRANS"
	GroupInnerProducer = "CLIENT_INNER_PRODUCER"
)

// Limits of names.
const (
	MaxTopicLen      = 127 // characters
	MaxRetryTopicLen = 255 // of retry and dead-letter topics
	MaxGroupLen      = 120
)

// RetryTopic returns the topic that holds a group's retried messages.
func RetryTopic(group string) string { return RetryPrefix + group }

// DLQTopic returns the topic that holds a group's dead letters.
func DLQTopic(group string) string { return DLQPrefix + group }

// IsRetryTopic tells whether the topic holds retried messages.
func IsRetryTopic(topic string) bool { return strings.HasPrefix(topic, RetryPrefix) }

// IsDLQTopic tells whether the topic holds dead letters.
func IsDLQTopic(topic string) bool { return strings.HasPrefix(topic, DLQPrefix) }

// IsSystemTopic tells whether the topic belongs to the broker itself.
func IsSystemTopic(topic string) bool {
	switch topic {
	case TopicAutoCreate, TopicSchedule, TopicBenchmark, TopicHalf, TopicTrace, TopicOp,
		TopicCheckMax, TopicSelfTest, TopicOffsetMoved, TopicCheckpoint, TopicRocksHalf, TopicRocksOp:
		return true
	}
	return strings.HasPrefix(topic, systemPrefix)
}

// ForbidsSend tells whether clients may not send to the topic.
func ForbidsSend(topic string) bool {
	switch topic {
	case TopicSchedule, TopicHalf, TopicOp, TopicCheckMax, TopicSelfTest, TopicOffsetMoved, TopicRocksHalf, TopicRocksOp:
		return true
	}
	return false
}

// NameError says why a topic's or group's name is refused.
type NameError struct {
	Kind   string // "topic" or "group"
	Name   string
	Reason string
}

// Error implements error.
func (e *NameError) Error() string {
	name := e.Name
	if len(name) > 64 {
		name = name[:64] + "…"
	}
	return fmt.Sprintf("the %s name %q %s", e.Kind, name, e.Reason)
}

// CheckTopicName returns a *NameError if the name breaks the rules for topics.
func CheckTopicName(topic string) error {
	limit := MaxTopicLen
	if IsRetryTopic(topic) || IsDLQTopic(topic) {
		limit = MaxRetryTopicLen
	}
	return checkName("topic", topic, limit)
}

// CheckGroupName returns a *NameError if the name breaks the rules for groups.
func CheckGroupName(group string) error { return checkName("group", group, MaxGroupLen) }

func checkName(kind, name string, limit int) error {
	if strings.TrimSpace(name) == "" {
		return &NameError{kind, name, "is blank"}
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '%', c == '|':
		default:
			return &NameError{kind, name, "has a character that is not allowed; use letters, digits, _ - % and |"}
		}
	}
	if len(name) > limit {
		return &NameError{kind, name, fmt.Sprintf("is %d characters long; at most %d are allowed", len(name), limit)}
	}
	return nil
}
