package gateway

import "github.com/merlinmq/merlin/remoting"

// addClients adds the requests that clients send besides sends and pulls.
func addClients(t map[int]serveFunc) {
	t[remoting.ReqHeartBeat] = (*session).heartbeat
	t[remoting.ReqUnregisterClient] = (*session).unregister
	t[remoting.ReqCheckClientConfig] = (*session).checkClientConfig
	t[remoting.ReqGetConsumerListByGroup] = (*session).consumerList
	t[remoting.ReqLockBatchMQ] = (*session).lockQueues
	t[remoting.ReqUnlockBatchMQ] = (*session).unlockQueues
	t[remoting.ReqQueryConsumerOffset] = (*session).queryOffset
	t[remoting.ReqUpdateConsumerOffset] = (*session).updateOffset
	t[remoting.ReqGetMaxOffset] = (*session).maxOffset
	t[remoting.ReqGetMinOffset] = (*session).minOffset
	t[remoting.ReqSearchOffsetByTimestamp] = (*session).searchOffset
	t[remoting.ReqGetEarliestMsgStoreTime] = (*session).earliestTime
	t[remoting.ReqViewMessageByID] = (*session).viewMessage
	t[remoting.ReqQueryMessage] = (*session).queryMessage
	t[remoting.ReqSendReplyMessage] = (*session).reply
	t[remoting.ReqSendReplyMessageV2] = (*session).reply
	t[remoting.ReqQueryAssignment] = (*session).queryAssignment
	t[remoting.ReqSetMessageRequestMode] = (*session).setRequestMode
	t[remoting.ReqGetAllMessageRequestMode] = (*session).requestModes
	t[remoting.ReqResumeCheckHalfMessage] = (*session).resumeCheck
}

// addTools adds the requests that operators' tools send.
func addTools(t map[int]serveFunc) {
	t[remoting.ReqUpdateAndCreateTopic] = (*session).updateTopic
	t[remoting.ReqUpdateAndCreateTopicList] = (*session).updateTopics
	t[remoting.ReqGetAllTopicConfig] = (*session).allTopics
	t[remoting.ReqGetTopicConfig] = (*session).topicConfig
	t[remoting.ReqDeleteTopicInBroker] = (*session).deleteTopic
	t[remoting.ReqGetSystemTopicListFromBroker] = (*session).systemTopics
	t[remoting.ReqGetTopicStatsInfo] = (*session).topicStats

	t[remoting.ReqUpdateAndCreateSubscriptionGroup] = (*session).updateGroup
	t[remoting.ReqUpdateAndCreateSubscriptionGroupList] = (*session).updateGroups
	t[remoting.ReqGetAllSubscriptionGroupConfig] = (*session).allGroups
	t[remoting.ReqGetSubscriptionGroupConfig] = (*session).groupConfig
	t[remoting.ReqDeleteSubscriptionGroup] = (*session).deleteGroup
	t[remoting.ReqUpdateAndGetGroupForbidden] = (*session).groupForbidden

	t[remoting.ReqGetConsumerConnectionList] = (*session).consumerConnections
	t[remoting.ReqGetProducerConnectionList] = (*session).producerConnections
	t[remoting.ReqGetAllProducerInfo] = (*session).allProducers

	t[remoting.ReqViewBrokerStatsData] = (*session).brokerStats
	t[remoting.ReqGetConsumeStats] = (*session).consumeStats
	t[remoting.ReqGetBrokerConsumeStats] = (*session).brokerConsumeStats
	t[remoting.ReqQueryConsumeTimeSpan] = (*session).consumeTimeSpan
	t[remoting.ReqQueryTopicConsumeByWho] = (*session).consumedByWhom
	t[remoting.ReqQueryTopicsByConsumer] = (*session).topicsByConsumer
	t[remoting.ReqQuerySubscriptionByConsumer] = (*session).subscriptionByConsumer

	t[remoting.ReqInvokeBrokerToResetOffset] = (*session).resetOffset
	t[remoting.ReqCloneGroupOffset] = (*session).cloneOffset
	t[remoting.ReqInvokeBrokerToGetConsumerStatus] = (*session).consumerStatus
	t[remoting.ReqGetConsumerRunningInfo] = (*session).runningInfo
	t[remoting.ReqConsumeMessageDirectly] = (*session).consumeDirectly

	t[remoting.ReqGetBrokerRuntimeInfo] = (*session).runtimeInfo
	t[remoting.ReqGetBrokerConfig] = (*session).brokerConfig
	t[remoting.ReqUpdateBrokerConfig] = (*session).updateBrokerConfig
	t[remoting.ReqCleanExpiredConsumeQueue] = (*session).cleanQueues
	t[remoting.ReqDeleteExpiredCommitLog] = (*session).deleteExpired
	t[remoting.ReqCleanUnusedTopic] = (*session).cleanUnusedTopics
	t[remoting.ReqGetAllConsumerOffset] = (*session).allOffsets
	t[remoting.ReqGetAllDelayOffset] = (*session).allDelayOffsets
	t[remoting.ReqQueryCorrectionOffset] = (*session).correctionOffset
	t[remoting.ReqQueryConsumeQueue] = (*session).queryQueue

	t[remoting.ReqWhyMessage] = (*session).whyMessage
	t[remoting.ReqWhyQueue] = (*session).whyQueue
	t[remoting.ReqListTransactions] = (*session).listTransactions
	t[remoting.ReqShowTransaction] = (*session).showTransaction
	t[remoting.ReqResolveTransaction] = (*session).resolveTransaction
	t[remoting.ReqCheckTransaction] = (*session).checkTransaction
}
