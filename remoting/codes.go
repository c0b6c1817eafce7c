package remoting

import "strconv"

// Request codes: what a frame asks for. The names are those of the protocol,
// in Go's spelling; CodeName gives the original one.
const (
	ReqSendMessage                          = 10
	ReqPullMessage                          = 11
	ReqQueryMessage                         = 12
	ReqQueryBrokerOffset                    = 13
	ReqQueryConsumerOffset                  = 14
	ReqUpdateConsumerOffset                 = 15
	ReqUpdateAndCreateTopic                 = 17
	ReqUpdateAndCreateTopicList             = 18
	ReqGetAllTopicConfig                    = 21
	ReqGetTopicConfigList                   = 22
	ReqGetTopicNameList                     = 23
	ReqUpdateBrokerConfig                   = 25
	ReqGetBrokerConfig                      = 26
	ReqTriggerDeleteFiles                   = 27
	ReqGetBrokerRuntimeInfo                 = 28
	ReqSearchOffsetByTimestamp              = 29
	ReqGetMaxOffset                         = 30
	ReqGetMinOffset                         = 31
	ReqGetEarliestMsgStoreTime              = 32
	ReqViewMessageByID                      = 33
	ReqHeartBeat                            = 34
	ReqUnregisterClient                     = 35
	ReqConsumerSendMsgBack                  = 36
	ReqEndTransaction                       = 37
	ReqGetConsumerListByGroup               = 38
	ReqCheckTransactionState                = 39
	ReqNotifyConsumerIDsChanged             = 40
	ReqLockBatchMQ                          = 41
	ReqUnlockBatchMQ                        = 42
	ReqGetAllConsumerOffset                 = 43
	ReqGetAllDelayOffset                    = 45
	ReqCheckClientConfig                    = 46
	ReqGetClientConfig                      = 47
	ReqGetTimerCheckPoint                   = 60
	ReqGetTimerMetrics                      = 61
	ReqPutKVConfig                          = 100
	ReqGetKVConfig                          = 101
	ReqDeleteKVConfig                       = 102
	ReqRegisterBroker                       = 103
	ReqUnregisterBroker                     = 104
	ReqGetRouteInfoByTopic                  = 105
	ReqGetBrokerClusterInfo                 = 106
	ReqUpdateAndCreateSubscriptionGroup     = 200
	ReqGetAllSubscriptionGroupConfig        = 201
	ReqGetTopicStatsInfo                    = 202
	ReqGetConsumerConnectionList            = 203
	ReqGetProducerConnectionList            = 204
	ReqWipeWritePermOfBroker                = 205
	ReqGetAllTopicListFromNameServer        = 206
	ReqDeleteSubscriptionGroup              = 207
	ReqGetConsumeStats                      = 208
	ReqSuspendConsumer                      = 209
	ReqResumeConsumer                       = 210
	ReqResetConsumerOffsetInConsumer        = 211
	ReqResetConsumerOffsetInBroker          = 212
	ReqAdjustConsumerThreadPool             = 213
	ReqWhoConsumeTheMessage                 = 214
	ReqDeleteTopicInBroker                  = 215
	ReqDeleteTopicInNameServer              = 216
	ReqRegisterTopicInNameServer            = 217
	ReqGetKVListByNamespace                 = 219
	ReqResetConsumerClientOffset            = 220
	ReqGetConsumerStatusFromClient          = 221
	ReqInvokeBrokerToResetOffset            = 222
	ReqInvokeBrokerToGetConsumerStatus      = 223
	ReqGetTopicsByCluster                   = 224
	ReqUpdateAndCreateSubscriptionGroupList = 225
	ReqQueryTopicConsumeByWho               = 300
	ReqRegisterFilterServer                 = 301
	ReqRegisterMessageFilterClass           = 302
	ReqQueryConsumeTimeSpan                 = 303
	ReqGetSystemTopicListFromNS             = 304
	ReqGetSystemTopicListFromBroker         = 305
	ReqCleanExpiredConsumeQueue             = 306
	ReqGetConsumerRunningInfo               = 307
	ReqQueryCorrectionOffset                = 308
	ReqConsumeMessageDirectly               = 309
	ReqSendMessageV2                        = 310
	ReqGetUnitTopicList                     = 311
	ReqGetHasUnitSubTopicList               = 312
	ReqGetHasUnitSubUnUnitTopicList         = 313
	ReqCloneGroupOffset                     = 314
	ReqViewBrokerStatsData                  = 315
	ReqCleanUnusedTopic                     = 316
	ReqGetBrokerConsumeStats                = 317
	ReqUpdateNameServerConfig               = 318
	ReqGetNameServerConfig                  = 319
	ReqSendBatchMessage                     = 320
	ReqQueryConsumeQueue                    = 321
	ReqQueryDataVersion                     = 322
	ReqResumeCheckHalfMessage               = 323
	ReqSendReplyMessage                     = 324
	ReqSendReplyMessageV2                   = 325
	ReqPushReplyMessageToClient             = 326
	ReqAddWritePermOfBroker                 = 327
	ReqGetAllProducerInfo                   = 328
	ReqDeleteExpiredCommitLog               = 329
	ReqQueryTopicsByConsumer                = 343
	ReqQuerySubscriptionByConsumer          = 345
	ReqGetTopicConfig                       = 351
	ReqGetSubscriptionGroupConfig           = 352
	ReqUpdateAndGetGroupForbidden           = 353
	ReqCheckRocksDBCQWriteProgress          = 354
	ReqExportRocksDBConfigToJSON            = 355
	ReqLitePullMessage                      = 361
	ReqRecallMessage                        = 370
	ReqQueryAssignment                      = 400
	ReqSetMessageRequestMode                = 401
	ReqGetAllMessageRequestMode             = 402
	ReqUpdateAndCreateStaticTopic           = 513
	ReqGetBrokerMemberGroup                 = 901
	ReqAddBroker                            = 902
	ReqRemoveBroker                         = 903
	ReqBrokerHeartbeat                      = 904
	ReqNotifyMinBrokerIDChange              = 905
	ReqExchangeBrokerHAInfo                 = 906
	ReqGetBrokerHAStatus                    = 907
	ReqResetMasterFlushOffset               = 908
	ReqControllerAlterSyncStateSet          = 1001
	ReqControllerElectMaster                = 1002
	ReqControllerRegisterBroker             = 1003
	ReqControllerGetReplicaInfo             = 1004
	ReqControllerGetMetadataInfo            = 1005
	ReqControllerGetSyncStateData           = 1006
	ReqGetBrokerEpochCache                  = 1007
	ReqNotifyBrokerRoleChanged              = 1008
	ReqUpdateControllerConfig               = 1009
	ReqGetControllerConfig                  = 1010
	ReqCleanBrokerData                      = 1011
	ReqControllerGetNextBrokerID            = 1012
	ReqControllerApplyBrokerID              = 1013
	ReqBrokerCloseChannel                   = 1014
	ReqCheckNotActiveBroker                 = 1015
	ReqGetBrokerLiveInfo                    = 1016
	ReqGetSyncStateData                     = 1017
	ReqRaftBrokerHeartBeatEvent             = 1018
	ReqUpdateColdDataFlowCtrConfig          = 2001
	ReqRemoveColdDataFlowCtrConfig          = 2002
	ReqGetColdDataFlowCtrInfo               = 2003
	ReqSetCommitLogReadMode                 = 2004
	ReqAuthCreateUser                       = 3001
	ReqAuthUpdateUser                       = 3002
	ReqAuthDeleteUser                       = 3003
	ReqAuthGetUser                          = 3004
	ReqAuthListUser                         = 3005
	ReqAuthCreateACL                        = 3006
	ReqAuthUpdateACL                        = 3007
	ReqAuthDeleteACL                        = 3008
	ReqAuthGetACL                           = 3009
	ReqAuthListACL                          = 3010
	ReqSwitchTimerEngine                    = 5001
	ReqListTransactions                     = 30201 // Merlin's own, to 30219
	ReqShowTransaction                      = 30202
	ReqResolveTransaction                   = 30203
	ReqCheckTransaction                     = 30204
	ReqWhyTopic                             = 30301 // Merlin's own, to 30319; of the name server
	ReqWhyMessage                           = 30302
	ReqWhyQueue                             = 30303
	ReqListDelayed                          = 30221 // Merlin's own, to 30239
	ReqShowDelayed                          = 30222
	ReqChangeDelayed                        = 30223
	ReqListSchedules                        = 30224
	ReqShowSchedule                         = 30225
	ReqAddSchedule                          = 30226
	ReqControlSchedule                      = 30227
	ReqListDead                             = 30401 // Merlin's own, to 30409
	ReqShowDead                             = 30402
	ReqRedrive                              = 30403
	ReqListRedrives                         = 30404
	ReqControlRedrive                       = 30405
	ReqRedriveResults                       = 30406
	ReqPlanRedrive                          = 30407
	ReqPurgeDead                            = 30408
	ReqPopMessage                           = 200050
	ReqAckMessage                           = 200051
	ReqPeekMessage                          = 200052
	ReqChangeMessageInvisibleTime           = 200053
	ReqNotification                         = 200054
	ReqPollingInfo                          = 200055
	ReqPopRollback                          = 200056
	ReqPopLiteMessage                       = 200070
	ReqLiteSubscriptionCtl                  = 200071
	ReqAckLiteMessage                       = 200072
	ReqNotifyUnsubscribeLite                = 200073
	ReqGetBrokerLiteInfo                    = 200074
	ReqGetParentTopicInfo                   = 200075
	ReqGetLiteTopicInfo                     = 200076
	ReqGetLiteClientInfo                    = 200077
	ReqGetLiteGroupInfo                     = 200078
	ReqTriggerLiteDispatch                  = 200079
	ReqBatchAckMessage                      = 200151
)

// Response codes: how a request ended. Zero is success, and which of the others
// a producer retries is the client's own table.
const (
	RespSuccess                              = 0
	RespSystemError                          = 1
	RespSystemBusy                           = 2
	RespRequestCodeNotSupported              = 3
	RespTransactionFailed                    = 4
	RespFlushDiskTimeout                     = 10
	RespSlaveNotAvailable                    = 11
	RespFlushSlaveTimeout                    = 12
	RespMessageIllegal                       = 13
	RespServiceNotAvailable                  = 14
	RespVersionNotSupported                  = 15
	RespNoPermission                         = 16
	RespTopicNotExist                        = 17
	RespTopicExistAlready                    = 18
	RespPullNotFound                         = 19
	RespPullRetryImmediately                 = 20
	RespPullOffsetMoved                      = 21
	RespQueryNotFound                        = 22
	RespSubscriptionParseFailed              = 23
	RespSubscriptionNotExist                 = 24
	RespSubscriptionNotLatest                = 25
	RespSubscriptionGroupNotExist            = 26
	RespFilterDataNotExist                   = 27
	RespFilterDataNotLatest                  = 28
	RespInvalidParameter                     = 29
	RespTransactionShouldCommit              = 200
	RespTransactionShouldRollback            = 201
	RespTransactionStateUnknow               = 202
	RespTransactionStateGroupWrong           = 203
	RespNoBuyerID                            = 204
	RespNotInCurrentUnit                     = 205
	RespConsumerNotOnline                    = 206
	RespConsumeMsgTimeout                    = 207
	RespNoMessage                            = 208
	RespPollingFull                          = 209
	RespPollingTimeout                       = 210
	RespBrokerNotExist                       = 211
	RespBrokerDispatchNotComplete            = 212
	RespBroadcastConsumption                 = 213
	RespFlowControl                          = 215
	RespNotLeaderForQueue                    = 501
	RespIllegalOperation                     = 604
	RespGoAway                               = 1500
	RespRPCUnknown                           = -1000
	RespRPCAddrIsNull                        = -1002
	RespRPCSendToChannelFailed               = -1004
	RespRPCTimeOut                           = -1006
	RespControllerFencedMasterEpoch          = 2000
	RespControllerFencedSyncStateSetEpoch    = 2001
	RespControllerInvalidMaster              = 2002
	RespControllerInvalidReplicas            = 2003
	RespControllerMasterNotAvailable         = 2004
	RespControllerInvalidRequest             = 2005
	RespControllerBrokerNotAlive             = 2006
	RespControllerNotLeader                  = 2007
	RespControllerBrokerMetadataNotExist     = 2008
	RespControllerInvalidCleanBrokerMetadata = 2009
	RespControllerBrokerNeedToBeRegistered   = 2010
	RespControllerMasterStillExist           = 2011
	RespControllerElectMasterFailed          = 2012
	RespControllerAlterSyncStateSetFailed    = 2013
	RespControllerBrokerIDInvalid            = 2014
	RespControllerJraftInternalError         = 2015
	RespControllerBrokerLiveInfoNotExists    = 2016
	RespLMQQuotaExceeded                     = 2017
	RespLiteSubscriptionQuotaExceeded        = 2018
	RespDiskFull                             = 2100 // Merlin's own
	RespUserNotExist                         = 3001
	RespPolicyNotExist                       = 3002
)

// Language bytes: what a peer is written in, as the binary header carries it.
// A JSON header carries the name (LanguageName).
const (
	LangJava   byte = 0
	LangCPP    byte = 1
	LangDotNet byte = 2
	LangPython byte = 3
	LangDelphi byte = 4
	LangErlang byte = 5
	LangRuby   byte = 6
	LangOther  byte = 7
	LangHTTP   byte = 8
	LangGo     byte = 9
	LangPHP    byte = 10
	LangOMS    byte = 11
	LangRust   byte = 12
	LangNodeJS byte = 13

	LangUnknown byte = 255 // a name or number that the protocol does not have
)

// Version ordinals: a peer's release as its place in Apache's list of releases.
// Only those are named that somebody compares with.
const (
	Version3_0_7Snapshot = 28  // from here on a client takes pushed offset resets
	Version3_0_11        = 37  // from here on a broker registers with a whole body
	Version3_1_8Snapshot = 62  // from here on a client can be asked for its state
	Version3_4_9         = 121 // from here on a client's own retry limit counts
	Version4_1_0Snapshot = 232 // below it Java consumers refuse SQL filters
	Version4_9_3         = 399
	Version4_9_4         = 401 // from here on a route answer is standard JSON
	Version5_0_0         = 413
	Version5_3_1         = 475 // above it a client understands RespGoAway
	Version5_5_0         = 513

	// Version is what every frame of ours reports.
	Version = Version5_5_0
)

// CodeName gives the protocol's name of a request code, for people: metrics,
// logs, remarks. An unknown code gives its number.
func CodeName(code int) string { return nameOf(requestNames, code) }

// ResponseName gives the protocol's name of a response code, like CodeName.
func ResponseName(code int) string { return nameOf(responseNames, code) }

func nameOf(names map[int]string, code int) string {
	if name, ok := names[code]; ok {
		return name
	}
	return strconv.Itoa(code)
}

// LanguageName gives the name that a JSON header carries for a language byte.
func LanguageName(b byte) string {
	if int(b) < len(languages) {
		return languages[b]
	}
	return "UNKNOWN"
}

func languageOf(name []byte) byte {
	for i, l := range languages {
		if string(name) == l {
			return byte(i)
		}
	}
	return LangUnknown
}

var languages = [...]string{"JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS"}

var requestNames = map[int]string{
	ReqSendMessage:                          "SEND_MESSAGE",
	ReqPullMessage:                          "PULL_MESSAGE",
	ReqQueryMessage:                         "QUERY_MESSAGE",
	ReqQueryBrokerOffset:                    "QUERY_BROKER_OFFSET",
	ReqQueryConsumerOffset:                  "QUERY_CONSUMER_OFFSET",
	ReqUpdateConsumerOffset:                 "UPDATE_CONSUMER_OFFSET",
	ReqUpdateAndCreateTopic:                 "UPDATE_AND_CREATE_TOPIC",
	ReqUpdateAndCreateTopicList:             "UPDATE_AND_CREATE_TOPIC_LIST",
	ReqGetAllTopicConfig:                    "GET_ALL_TOPIC_CONFIG",
	ReqGetTopicConfigList:                   "GET_TOPIC_CONFIG_LIST",
	ReqGetTopicNameList:                     "GET_TOPIC_NAME_LIST",
	ReqUpdateBrokerConfig:                   "UPDATE_BROKER_CONFIG",
	ReqGetBrokerConfig:                      "GET_BROKER_CONFIG",
	ReqTriggerDeleteFiles:                   "TRIGGER_DELETE_FILES",
	ReqGetBrokerRuntimeInfo:                 "GET_BROKER_RUNTIME_INFO",
	ReqSearchOffsetByTimestamp:              "SEARCH_OFFSET_BY_TIMESTAMP",
	ReqGetMaxOffset:                         "GET_MAX_OFFSET",
	ReqGetMinOffset:                         "GET_MIN_OFFSET",
	ReqGetEarliestMsgStoreTime:              "GET_EARLIEST_MSG_STORETIME",
	ReqViewMessageByID:                      "VIEW_MESSAGE_BY_ID",
	ReqHeartBeat:                            "HEART_BEAT",
	ReqUnregisterClient:                     "UNREGISTER_CLIENT",
	ReqConsumerSendMsgBack:                  "CONSUMER_SEND_MSG_BACK",
	ReqEndTransaction:                       "END_TRANSACTION",
	ReqGetConsumerListByGroup:               "GET_CONSUMER_LIST_BY_GROUP",
	ReqCheckTransactionState:                "CHECK_TRANSACTION_STATE",
	ReqNotifyConsumerIDsChanged:             "NOTIFY_CONSUMER_IDS_CHANGED",
	ReqLockBatchMQ:                          "LOCK_BATCH_MQ",
	ReqUnlockBatchMQ:                        "UNLOCK_BATCH_MQ",
	ReqGetAllConsumerOffset:                 "GET_ALL_CONSUMER_OFFSET",
	ReqGetAllDelayOffset:                    "GET_ALL_DELAY_OFFSET",
	ReqCheckClientConfig:                    "CHECK_CLIENT_CONFIG",
	ReqGetClientConfig:                      "GET_CLIENT_CONFIG",
	ReqGetTimerCheckPoint:                   "GET_TIMER_CHECK_POINT",
	ReqGetTimerMetrics:                      "GET_TIMER_METRICS",
	ReqPutKVConfig:                          "PUT_KV_CONFIG",
	ReqGetKVConfig:                          "GET_KV_CONFIG",
	ReqDeleteKVConfig:                       "DELETE_KV_CONFIG",
	ReqRegisterBroker:                       "REGISTER_BROKER",
	ReqUnregisterBroker:                     "UNREGISTER_BROKER",
	ReqGetRouteInfoByTopic:                  "GET_ROUTEINFO_BY_TOPIC",
	ReqGetBrokerClusterInfo:                 "GET_BROKER_CLUSTER_INFO",
	ReqUpdateAndCreateSubscriptionGroup:     "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP",
	ReqGetAllSubscriptionGroupConfig:        "GET_ALL_SUBSCRIPTIONGROUP_CONFIG",
	ReqGetTopicStatsInfo:                    "GET_TOPIC_STATS_INFO",
	ReqGetConsumerConnectionList:            "GET_CONSUMER_CONNECTION_LIST",
	ReqGetProducerConnectionList:            "GET_PRODUCER_CONNECTION_LIST",
	ReqWipeWritePermOfBroker:                "WIPE_WRITE_PERM_OF_BROKER",
	ReqGetAllTopicListFromNameServer:        "GET_ALL_TOPIC_LIST_FROM_NAMESERVER",
	ReqDeleteSubscriptionGroup:              "DELETE_SUBSCRIPTIONGROUP",
	ReqGetConsumeStats:                      "GET_CONSUME_STATS",
	ReqSuspendConsumer:                      "SUSPEND_CONSUMER",
	ReqResumeConsumer:                       "RESUME_CONSUMER",
	ReqResetConsumerOffsetInConsumer:        "RESET_CONSUMER_OFFSET_IN_CONSUMER",
	ReqResetConsumerOffsetInBroker:          "RESET_CONSUMER_OFFSET_IN_BROKER",
	ReqAdjustConsumerThreadPool:             "ADJUST_CONSUMER_THREAD_POOL",
	ReqWhoConsumeTheMessage:                 "WHO_CONSUME_THE_MESSAGE",
	ReqDeleteTopicInBroker:                  "DELETE_TOPIC_IN_BROKER",
	ReqDeleteTopicInNameServer:              "DELETE_TOPIC_IN_NAMESRV",
	ReqRegisterTopicInNameServer:            "REGISTER_TOPIC_IN_NAMESRV",
	ReqGetKVListByNamespace:                 "GET_KVLIST_BY_NAMESPACE",
	ReqResetConsumerClientOffset:            "RESET_CONSUMER_CLIENT_OFFSET",
	ReqGetConsumerStatusFromClient:          "GET_CONSUMER_STATUS_FROM_CLIENT",
	ReqInvokeBrokerToResetOffset:            "INVOKE_BROKER_TO_RESET_OFFSET",
	ReqInvokeBrokerToGetConsumerStatus:      "INVOKE_BROKER_TO_GET_CONSUMER_STATUS",
	ReqGetTopicsByCluster:                   "GET_TOPICS_BY_CLUSTER",
	ReqUpdateAndCreateSubscriptionGroupList: "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST",
	ReqQueryTopicConsumeByWho:               "QUERY_TOPIC_CONSUME_BY_WHO",
	ReqRegisterFilterServer:                 "REGISTER_FILTER_SERVER",
	ReqRegisterMessageFilterClass:           "REGISTER_MESSAGE_FILTER_CLASS",
	ReqQueryConsumeTimeSpan:                 "QUERY_CONSUME_TIME_SPAN",
	ReqGetSystemTopicListFromNS:             "GET_SYSTEM_TOPIC_LIST_FROM_NS",
	ReqGetSystemTopicListFromBroker:         "GET_SYSTEM_TOPIC_LIST_FROM_BROKER",
	ReqCleanExpiredConsumeQueue:             "CLEAN_EXPIRED_CONSUMEQUEUE",
	ReqGetConsumerRunningInfo:               "GET_CONSUMER_RUNNING_INFO",
	ReqQueryCorrectionOffset:                "QUERY_CORRECTION_OFFSET",
	ReqConsumeMessageDirectly:               "CONSUME_MESSAGE_DIRECTLY",
	ReqSendMessageV2:                        "SEND_MESSAGE_V2",
	ReqGetUnitTopicList:                     "GET_UNIT_TOPIC_LIST",
	ReqGetHasUnitSubTopicList:               "GET_HAS_UNIT_SUB_TOPIC_LIST",
	ReqGetHasUnitSubUnUnitTopicList:         "GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST",
	ReqCloneGroupOffset:                     "CLONE_GROUP_OFFSET",
	ReqViewBrokerStatsData:                  "VIEW_BROKER_STATS_DATA",
	ReqCleanUnusedTopic:                     "CLEAN_UNUSED_TOPIC",
	ReqGetBrokerConsumeStats:                "GET_BROKER_CONSUME_STATS",
	ReqUpdateNameServerConfig:               "UPDATE_NAMESRV_CONFIG",
	ReqGetNameServerConfig:                  "GET_NAMESRV_CONFIG",
	ReqSendBatchMessage:                     "SEND_BATCH_MESSAGE",
	ReqQueryConsumeQueue:                    "QUERY_CONSUME_QUEUE",
	ReqQueryDataVersion:                     "QUERY_DATA_VERSION",
	ReqResumeCheckHalfMessage:               "RESUME_CHECK_HALF_MESSAGE",
	ReqSendReplyMessage:                     "SEND_REPLY_MESSAGE",
	ReqSendReplyMessageV2:                   "SEND_REPLY_MESSAGE_V2",
	ReqPushReplyMessageToClient:             "PUSH_REPLY_MESSAGE_TO_CLIENT",
	ReqAddWritePermOfBroker:                 "ADD_WRITE_PERM_OF_BROKER",
	ReqGetAllProducerInfo:                   "GET_ALL_PRODUCER_INFO",
	ReqDeleteExpiredCommitLog:               "DELETE_EXPIRED_COMMITLOG",
	ReqQueryTopicsByConsumer:                "QUERY_TOPICS_BY_CONSUMER",
	ReqQuerySubscriptionByConsumer:          "QUERY_SUBSCRIPTION_BY_CONSUMER",
	ReqGetTopicConfig:                       "GET_TOPIC_CONFIG",
	ReqGetSubscriptionGroupConfig:           "GET_SUBSCRIPTIONGROUP_CONFIG",
	ReqUpdateAndGetGroupForbidden:           "UPDATE_AND_GET_GROUP_FORBIDDEN",
	ReqCheckRocksDBCQWriteProgress:          "CHECK_ROCKSDB_CQ_WRITE_PROGRESS",
	ReqExportRocksDBConfigToJSON:            "EXPORT_ROCKSDB_CONFIG_TO_JSON",
	ReqLitePullMessage:                      "LITE_PULL_MESSAGE",
	ReqRecallMessage:                        "RECALL_MESSAGE",
	ReqQueryAssignment:                      "QUERY_ASSIGNMENT",
	ReqSetMessageRequestMode:                "SET_MESSAGE_REQUEST_MODE",
	ReqGetAllMessageRequestMode:             "GET_ALL_MESSAGE_REQUEST_MODE",
	ReqUpdateAndCreateStaticTopic:           "UPDATE_AND_CREATE_STATIC_TOPIC",
	ReqGetBrokerMemberGroup:                 "GET_BROKER_MEMBER_GROUP",
	ReqAddBroker:                            "ADD_BROKER",
	ReqRemoveBroker:                         "REMOVE_BROKER",
	ReqBrokerHeartbeat:                      "BROKER_HEARTBEAT",
	ReqNotifyMinBrokerIDChange:              "NOTIFY_MIN_BROKER_ID_CHANGE",
	ReqExchangeBrokerHAInfo:                 "EXCHANGE_BROKER_HA_INFO",
	ReqGetBrokerHAStatus:                    "GET_BROKER_HA_STATUS",
	ReqResetMasterFlushOffset:               "RESET_MASTER_FLUSH_OFFSET",
	ReqControllerAlterSyncStateSet:          "CONTROLLER_ALTER_SYNC_STATE_SET",
	ReqControllerElectMaster:                "CONTROLLER_ELECT_MASTER",
	ReqControllerRegisterBroker:             "CONTROLLER_REGISTER_BROKER",
	ReqControllerGetReplicaInfo:             "CONTROLLER_GET_REPLICA_INFO",
	ReqControllerGetMetadataInfo:            "CONTROLLER_GET_METADATA_INFO",
	ReqControllerGetSyncStateData:           "CONTROLLER_GET_SYNC_STATE_DATA",
	ReqGetBrokerEpochCache:                  "GET_BROKER_EPOCH_CACHE",
	ReqNotifyBrokerRoleChanged:              "NOTIFY_BROKER_ROLE_CHANGED",
	ReqUpdateControllerConfig:               "UPDATE_CONTROLLER_CONFIG",
	ReqGetControllerConfig:                  "GET_CONTROLLER_CONFIG",
	ReqCleanBrokerData:                      "CLEAN_BROKER_DATA",
	ReqControllerGetNextBrokerID:            "CONTROLLER_GET_NEXT_BROKER_ID",
	ReqControllerApplyBrokerID:              "CONTROLLER_APPLY_BROKER_ID",
	ReqBrokerCloseChannel:                   "BROKER_CLOSE_CHANNEL",
	ReqCheckNotActiveBroker:                 "CHECK_NOT_ACTIVE_BROKER",
	ReqGetBrokerLiveInfo:                    "GET_BROKER_LIVE_INFO",
	ReqGetSyncStateData:                     "GET_SYNC_STATE_DATA",
	ReqRaftBrokerHeartBeatEvent:             "RAFT_BROKER_HEART_BEAT_EVENT",
	ReqUpdateColdDataFlowCtrConfig:          "UPDATE_COLD_DATA_FLOW_CTR_CONFIG",
	ReqRemoveColdDataFlowCtrConfig:          "REMOVE_COLD_DATA_FLOW_CTR_CONFIG",
	ReqGetColdDataFlowCtrInfo:               "GET_COLD_DATA_FLOW_CTR_INFO",
	ReqSetCommitLogReadMode:                 "SET_COMMITLOG_READ_MODE",
	ReqAuthCreateUser:                       "AUTH_CREATE_USER",
	ReqAuthUpdateUser:                       "AUTH_UPDATE_USER",
	ReqAuthDeleteUser:                       "AUTH_DELETE_USER",
	ReqAuthGetUser:                          "AUTH_GET_USER",
	ReqAuthListUser:                         "AUTH_LIST_USER",
	ReqAuthCreateACL:                        "AUTH_CREATE_ACL",
	ReqAuthUpdateACL:                        "AUTH_UPDATE_ACL",
	ReqAuthDeleteACL:                        "AUTH_DELETE_ACL",
	ReqAuthGetACL:                           "AUTH_GET_ACL",
	ReqAuthListACL:                          "AUTH_LIST_ACL",
	ReqSwitchTimerEngine:                    "SWITCH_TIMER_ENGINE",
	ReqListTransactions:                     "MERLIN_LIST_TRANSACTIONS",
	ReqWhyMessage:                           "MERLIN_WHY_MESSAGE",
	ReqWhyQueue:                             "MERLIN_WHY_QUEUE",
	ReqShowTransaction:                      "MERLIN_SHOW_TRANSACTION",
	ReqResolveTransaction:                   "MERLIN_RESOLVE_TRANSACTION",
	ReqCheckTransaction:                     "MERLIN_CHECK_TRANSACTION",
	ReqListDelayed:                          "MERLIN_LIST_DELAYED",
	ReqShowDelayed:                          "MERLIN_SHOW_DELAYED",
	ReqChangeDelayed:                        "MERLIN_CHANGE_DELAYED",
	ReqListSchedules:                        "MERLIN_LIST_SCHEDULES",
	ReqShowSchedule:                         "MERLIN_SHOW_SCHEDULE",
	ReqAddSchedule:                          "MERLIN_ADD_SCHEDULE",
	ReqControlSchedule:                      "MERLIN_CONTROL_SCHEDULE",
	ReqListDead:                             "MERLIN_LIST_DEAD",
	ReqShowDead:                             "MERLIN_SHOW_DEAD",
	ReqRedrive:                              "MERLIN_REDRIVE",
	ReqListRedrives:                         "MERLIN_LIST_REDRIVES",
	ReqControlRedrive:                       "MERLIN_CONTROL_REDRIVE",
	ReqRedriveResults:                       "MERLIN_REDRIVE_RESULTS",
	ReqPlanRedrive:                          "MERLIN_PLAN_REDRIVE",
	ReqPurgeDead:                            "MERLIN_PURGE_DEAD",
	ReqPopMessage:                           "POP_MESSAGE",
	ReqAckMessage:                           "ACK_MESSAGE",
	ReqPeekMessage:                          "PEEK_MESSAGE",
	ReqChangeMessageInvisibleTime:           "CHANGE_MESSAGE_INVISIBLETIME",
	ReqNotification:                         "NOTIFICATION",
	ReqPollingInfo:                          "POLLING_INFO",
	ReqPopRollback:                          "POP_ROLLBACK",
	ReqPopLiteMessage:                       "POP_LITE_MESSAGE",
	ReqLiteSubscriptionCtl:                  "LITE_SUBSCRIPTION_CTL",
	ReqAckLiteMessage:                       "ACK_LITE_MESSAGE",
	ReqNotifyUnsubscribeLite:                "NOTIFY_UNSUBSCRIBE_LITE",
	ReqGetBrokerLiteInfo:                    "GET_BROKER_LITE_INFO",
	ReqGetParentTopicInfo:                   "GET_PARENT_TOPIC_INFO",
	ReqGetLiteTopicInfo:                     "GET_LITE_TOPIC_INFO",
	ReqGetLiteClientInfo:                    "GET_LITE_CLIENT_INFO",
	ReqGetLiteGroupInfo:                     "GET_LITE_GROUP_INFO",
	ReqTriggerLiteDispatch:                  "TRIGGER_LITE_DISPATCH",
	ReqBatchAckMessage:                      "BATCH_ACK_MESSAGE",
}

var responseNames = map[int]string{
	RespSuccess:                              "SUCCESS",
	RespSystemError:                          "SYSTEM_ERROR",
	RespSystemBusy:                           "SYSTEM_BUSY",
	RespRequestCodeNotSupported:              "REQUEST_CODE_NOT_SUPPORTED",
	RespTransactionFailed:                    "TRANSACTION_FAILED",
	RespFlushDiskTimeout:                     "FLUSH_DISK_TIMEOUT",
	RespSlaveNotAvailable:                    "SLAVE_NOT_AVAILABLE",
	RespFlushSlaveTimeout:                    "FLUSH_SLAVE_TIMEOUT",
	RespMessageIllegal:                       "MESSAGE_ILLEGAL",
	RespServiceNotAvailable:                  "SERVICE_NOT_AVAILABLE",
	RespVersionNotSupported:                  "VERSION_NOT_SUPPORTED",
	RespNoPermission:                         "NO_PERMISSION",
	RespTopicNotExist:                        "TOPIC_NOT_EXIST",
	RespTopicExistAlready:                    "TOPIC_EXIST_ALREADY",
	RespPullNotFound:                         "PULL_NOT_FOUND",
	RespPullRetryImmediately:                 "PULL_RETRY_IMMEDIATELY",
	RespPullOffsetMoved:                      "PULL_OFFSET_MOVED",
	RespQueryNotFound:                        "QUERY_NOT_FOUND",
	RespSubscriptionParseFailed:              "SUBSCRIPTION_PARSE_FAILED",
	RespSubscriptionNotExist:                 "SUBSCRIPTION_NOT_EXIST",
	RespSubscriptionNotLatest:                "SUBSCRIPTION_NOT_LATEST",
	RespSubscriptionGroupNotExist:            "SUBSCRIPTION_GROUP_NOT_EXIST",
	RespFilterDataNotExist:                   "FILTER_DATA_NOT_EXIST",
	RespFilterDataNotLatest:                  "FILTER_DATA_NOT_LATEST",
	RespInvalidParameter:                     "INVALID_PARAMETER",
	RespTransactionShouldCommit:              "TRANSACTION_SHOULD_COMMIT",
	RespTransactionShouldRollback:            "TRANSACTION_SHOULD_ROLLBACK",
	RespTransactionStateUnknow:               "TRANSACTION_STATE_UNKNOW",
	RespTransactionStateGroupWrong:           "TRANSACTION_STATE_GROUP_WRONG",
	RespNoBuyerID:                            "NO_BUYER_ID",
	RespNotInCurrentUnit:                     "NOT_IN_CURRENT_UNIT",
	RespConsumerNotOnline:                    "CONSUMER_NOT_ONLINE",
	RespConsumeMsgTimeout:                    "CONSUME_MSG_TIMEOUT",
	RespNoMessage:                            "NO_MESSAGE",
	RespPollingFull:                          "POLLING_FULL",
	RespPollingTimeout:                       "POLLING_TIMEOUT",
	RespBrokerNotExist:                       "BROKER_NOT_EXIST",
	RespBrokerDispatchNotComplete:            "BROKER_DISPATCH_NOT_COMPLETE",
	RespBroadcastConsumption:                 "BROADCAST_CONSUMPTION",
	RespFlowControl:                          "FLOW_CONTROL",
	RespNotLeaderForQueue:                    "NOT_LEADER_FOR_QUEUE",
	RespIllegalOperation:                     "ILLEGAL_OPERATION",
	RespGoAway:                               "GO_AWAY",
	RespRPCUnknown:                           "RPC_UNKNOWN",
	RespRPCAddrIsNull:                        "RPC_ADDR_IS_NULL",
	RespRPCSendToChannelFailed:               "RPC_SEND_TO_CHANNEL_FAILED",
	RespRPCTimeOut:                           "RPC_TIME_OUT",
	RespControllerFencedMasterEpoch:          "CONTROLLER_FENCED_MASTER_EPOCH",
	RespControllerFencedSyncStateSetEpoch:    "CONTROLLER_FENCED_SYNC_STATE_SET_EPOCH",
	RespControllerInvalidMaster:              "CONTROLLER_INVALID_MASTER",
	RespControllerInvalidReplicas:            "CONTROLLER_INVALID_REPLICAS",
	RespControllerMasterNotAvailable:         "CONTROLLER_MASTER_NOT_AVAILABLE",
	RespControllerInvalidRequest:             "CONTROLLER_INVALID_REQUEST",
	RespControllerBrokerNotAlive:             "CONTROLLER_BROKER_NOT_ALIVE",
	RespControllerNotLeader:                  "CONTROLLER_NOT_LEADER",
	RespControllerBrokerMetadataNotExist:     "CONTROLLER_BROKER_METADATA_NOT_EXIST",
	RespControllerInvalidCleanBrokerMetadata: "CONTROLLER_INVALID_CLEAN_BROKER_METADATA",
	RespControllerBrokerNeedToBeRegistered:   "CONTROLLER_BROKER_NEED_TO_BE_REGISTERED",
	RespControllerMasterStillExist:           "CONTROLLER_MASTER_STILL_EXIST",
	RespControllerElectMasterFailed:          "CONTROLLER_ELECT_MASTER_FAILED",
	RespControllerAlterSyncStateSetFailed:    "CONTROLLER_ALTER_SYNC_STATE_SET_FAILED",
	RespControllerBrokerIDInvalid:            "CONTROLLER_BROKER_ID_INVALID",
	RespControllerJraftInternalError:         "CONTROLLER_JRAFT_INTERNAL_ERROR",
	RespControllerBrokerLiveInfoNotExists:    "CONTROLLER_BROKER_LIVE_INFO_NOT_EXISTS",
	RespLMQQuotaExceeded:                     "LMQ_QUOTA_EXCEEDED",
	RespLiteSubscriptionQuotaExceeded:        "LITE_SUBSCRIPTION_QUOTA_EXCEEDED",
	RespDiskFull:                             "DISK_FULL",
	RespUserNotExist:                         "USER_NOT_EXIST",
	RespPolicyNotExist:                       "POLICY_NOT_EXIST",
}
