package gateway

import (
	"errors"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
)

// codes maps each kind of refusal to the code that Apache's broker gives for it,
// but for a full disk, which has a code of its own.
var codes = map[broker.Kind]int{
	broker.KindSystem:                remoting.RespSystemError,
	broker.KindBusy:                  remoting.RespSystemBusy,
	broker.KindUnavailable:           remoting.RespServiceNotAvailable,
	broker.KindDiskFull:              remoting.RespDiskFull,
	broker.KindIllegalMessage:        remoting.RespMessageIllegal,
	broker.KindInvalidParameter:      remoting.RespInvalidParameter,
	broker.KindNoPermission:          remoting.RespNoPermission,
	broker.KindTopicNotExist:         remoting.RespTopicNotExist,
	broker.KindGroupNotExist:         remoting.RespSubscriptionGroupNotExist,
	broker.KindNotFound:              remoting.RespQueryNotFound,
	broker.KindSubscriptionParse:     remoting.RespSubscriptionParseFailed,
	broker.KindSubscriptionNotExist:  remoting.RespSubscriptionNotExist,
	broker.KindSubscriptionNotLatest: remoting.RespSubscriptionNotLatest,
	broker.KindFilterNotExist:        remoting.RespFilterDataNotExist,
	broker.KindFilterNotLatest:       remoting.RespFilterDataNotLatest,
	broker.KindConsumerNotOnline:     remoting.RespConsumerNotOnline,
	broker.KindConsumerTimeout:       remoting.RespConsumeMsgTimeout,
	broker.KindNoMessage:             remoting.RespNoMessage,
	broker.KindPollingFull:           remoting.RespPollingFull,
	broker.KindPollingTimeout:        remoting.RespPollingTimeout,
	broker.KindIllegalOperation:      remoting.RespIllegalOperation,
}

// codeOf returns the response code for an error and the refusal it holds, which
// is nil for errors that are none. A header field that is missing or malformed
// is SYSTEM_ERROR, as it is where Apache runs into a NullPointerException; the
// few requests for which Apache looks say so themselves.
func codeOf(err error) (int, *broker.Error) {
	var refusal *broker.Error
	if errors.As(err, &refusal) {
		return codes[refusal.Kind], refusal
	}
	return remoting.RespSystemError, nil
}
