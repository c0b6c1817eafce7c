// Package body holds the JSON and text bodies that brokers, name servers, clients and tools of the remoting protocol
// exchange, each in exactly the shape of Apache RocketMQ: member names, what is left out when it is null, integer and
// object keys of maps, defaults of absent members.
//
// The zero value of a type is what a fresh Java object is, except that a nil slice or map stands for Java's empty one
// (members that Java leaves null are tagged omitempty). Encode writes what Apache's clients of every version and
// rocketmq-client-go read; Decode takes what all of them write. Values are plain data without locks: share them only
// when nobody writes.
package body

import "github.com/merlinmq/merlin/internal/fastjson"

// Raw is a part of a body that is passed on as its text.
type Raw = fastjson.Raw

// Encode returns v, a value of this package or made of plain Go types, as the JSON that Apache's fastjson writes:
// integer and object keys bare. It panics for types that JSON cannot hold, which no input can bring about.
func Encode(v any) []byte { return encode(v, fastjson.Loose) }

// EncodeStandard is Encode with every key as a string, for clients that ask for standard JSON.
func EncodeStandard(v any) []byte { return encode(v, fastjson.Standard) }

func encode(v any, s fastjson.Style) []byte {
	b, err := fastjson.Marshal(v, s)
	if err != nil {
		panic(err)
	}
	return b
}

// Decode reads data into the value v points to. Its error, a *fastjson.Error, says at which byte and member the input
// is wrong; unknown members are ignored.
func Decode(data []byte, v any) error { return fastjson.Unmarshal(data, v) }

// MessageQueue names one queue of one broker. It is also a map key.
type MessageQueue struct {
	BrokerName string `json:"brokerName,omitempty"`
	QueueID    int32  `json:"queueId"`
	Topic      string `json:"topic,omitempty"`
}

// DataVersion orders the states of a table: any member that differs means another state.
type DataVersion struct {
	Counter      int64 `json:"counter"`
	StateVersion int64 `json:"stateVersion"`
	Timestamp    int64 `json:"timestamp"` // ms since 1970
}

// KVTable is a table of texts: broker runtime info, KV configuration of a namespace.
type KVTable struct {
	Table map[string]string `json:"table"`
}

// TopicList is a list of topics, or of cluster and broker names (304).
type TopicList struct {
	BrokerAddr string   `json:"brokerAddr,omitempty"`
	TopicList  []string `json:"topicList"`
}

// GroupList is a list of consumer groups.
type GroupList struct {
	GroupList []string `json:"groupList"`
}

// BrokerStatsItem is a statistic over one span.
type BrokerStatsItem struct {
	AvgPt float64 `json:"avgpt"`
	Sum   int64   `json:"sum"`
	TPS   float64 `json:"tps"`
}

// BrokerStatsData answers VIEW_BROKER_STATS_DATA.
type BrokerStatsData struct {
	Day    *BrokerStatsItem `json:"statsDay"`
	Hour   *BrokerStatsItem `json:"statsHour"`
	Minute *BrokerStatsItem `json:"statsMinute"`
}

// HARuntimeInfo answers GET_BROKER_HA_STATUS.
type HARuntimeInfo struct {
	Client          HAClientInfo       `json:"haClientRuntimeInfo"`
	Connections     []HAConnectionInfo `json:"haConnectionInfo"`
	InSyncSlaveNums int32              `json:"inSyncSlaveNums"`
	Master          bool               `json:"master"`
	MaxOffset       int64              `json:"masterCommitLogMaxOffset"`
}

// HAClientInfo is a replica's view of its master.
type HAClientInfo struct {
	LastReadTimestamp       int64  `json:"lastReadTimestamp"`
	LastWriteTimestamp      int64  `json:"lastWriteTimestamp"`
	MasterAddr              string `json:"masterAddr,omitempty"`
	MasterFlushOffset       int64  `json:"masterFlushOffset"`
	MaxOffset               int64  `json:"maxOffset"`
	TransferredByteInSecond int64  `json:"transferredByteInSecond"`
}

// HAConnectionInfo is a master's view of one replica.
type HAConnectionInfo struct {
	Addr                    string `json:"addr,omitempty"`
	Diff                    int64  `json:"diff"`
	InSync                  bool   `json:"inSync"`
	SlaveAckOffset          int64  `json:"slaveAckOffset"`
	TransferFromWhere       int64  `json:"transferFromWhere"`
	TransferredByteInSecond int64  `json:"transferredByteInSecond"`
}

// UserInfo is a user of ACL 2.0.
type UserInfo struct {
	Password   string `json:"password,omitempty"`
	UserStatus string `json:"userStatus,omitempty"` // enable, disable
	UserType   string `json:"userType,omitempty"`   // Super, Normal
	Username   string `json:"username,omitempty"`
}

// ACLInfo is what one subject may do.
type ACLInfo struct {
	Policies []PolicyInfo `json:"policies,omitempty"`
	Subject  string       `json:"subject,omitempty"` // User:name
}

// PolicyInfo is one policy of a subject.
type PolicyInfo struct {
	Entries    []PolicyEntryInfo `json:"entries,omitempty"`
	PolicyType string            `json:"policyType,omitempty"` // Custom, Default
}

// PolicyEntryInfo is one rule of a policy.
type PolicyEntryInfo struct {
	Actions   []string `json:"actions,omitempty"`
	Decision  string   `json:"decision,omitempty"`
	Resource  string   `json:"resource,omitempty"`
	SourceIPs []string `json:"sourceIps,omitempty"`
}
