package body

// MasterID is the broker id of a master.
const MasterID = 0

// QueueData is how many queues of a topic a broker has, and what may be done with them.
type QueueData struct {
	BrokerName     string `json:"brokerName,omitempty"`
	Perm           int32  `json:"perm"`
	ReadQueueNums  int32  `json:"readQueueNums"`
	TopicSysFlag   int32  `json:"topicSysFlag" alias:"topicSynFlag"`
	WriteQueueNums int32  `json:"writeQueueNums"`
}

// BrokerData is a broker group and the addresses of its members by broker id.
type BrokerData struct {
	BrokerAddrs        map[int64]string `json:"brokerAddrs,omitempty"`
	BrokerName         string           `json:"brokerName,omitempty"`
	Cluster            string           `json:"cluster,omitempty"`
	EnableActingMaster bool             `json:"enableActingMaster"`
	ZoneName           string           `json:"zoneName,omitempty"`
}

// RouteData answers GET_ROUTEINFO_BY_TOPIC. TopicQueueMappingByBroker is there for static topics alone: a client that
// sees it treats the topic as one.
type RouteData struct {
	BrokerDatas               []BrokerData        `json:"brokerDatas"`
	FilterServerTable         map[string][]string `json:"filterServerTable"`
	OrderTopicConf            string              `json:"orderTopicConf,omitempty"` // broker:queues;broker:queues, no ';' at the end
	QueueDatas                []QueueData         `json:"queueDatas"`
	TopicQueueMappingByBroker map[string]Raw      `json:"topicQueueMappingByBroker,omitempty"`
}

// ClusterInfo answers GET_BROKER_CLUSTER_INFO: groups by name, and the names in each cluster.
type ClusterInfo struct {
	BrokerAddrTable  map[string]BrokerData `json:"brokerAddrTable,omitempty"`
	ClusterAddrTable map[string][]string   `json:"clusterAddrTable,omitempty"`
}

// BrokerMemberGroup is a broker group as its members see it.
type BrokerMemberGroup struct {
	BrokerAddrs map[int64]string `json:"brokerAddrs"`
	BrokerName  string           `json:"brokerName,omitempty"`
	Cluster     string           `json:"cluster,omitempty"`
}

// BrokerMemberGroupResponse answers GET_BROKER_MEMBER_GROUP.
type BrokerMemberGroupResponse struct {
	Group *BrokerMemberGroup `json:"brokerMemberGroup"`
}
