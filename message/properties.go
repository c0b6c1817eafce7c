package message

import "bytes"

// Properties are a message's properties as they are stored and sent: name
// 0x01 value 0x02, repeated; the last 0x02 may be missing. Nothing escapes the
// two separators. The order has no meaning. On a name that stands twice, the
// last one counts, as in Apache's map.
type Properties []byte

const (
	nameEnd  = 0x01
	valueEnd = 0x02
)

// Get returns the value of a property; its bytes belong to p. Pairs that
// Apache's parser drops (no name, no value, broken) are not found.
func (p Properties) Get(name string) ([]byte, bool) {
	var found []byte
	ok := false
	for n, v := range p.All() {
		if string(n) == name {
			found, ok = v, true
		}
	}
	return found, ok
}

// Value returns the value of a property, or "" if it is not there.
func (p Properties) Value(name string) string {
	v, _ := p.Get(name)
	return string(v)
}

// All yields the pairs in stored order, without those that Apache's parser drops.
func (p Properties) All() func(yield func(name, value []byte) bool) {
	return func(yield func(name, value []byte) bool) {
		rest := []byte(p)
		for len(rest) > 0 {
			pair := rest
			if i := bytes.IndexByte(rest, valueEnd); i >= 0 {
				pair, rest = rest[:i], rest[i+1:]
			} else {
				rest = nil
			}
			i := bytes.IndexByte(pair, nameEnd)
			if i <= 0 || i == len(pair)-1 {
				continue
			}
			if !yield(pair[:i], pair[i+1:]) {
				return
			}
		}
	}
}

// Append returns p with one more pair at its end. It does not look whether the
// name is there already; see Set. It may write into p's spare capacity.
func (p Properties) Append(name, value string) Properties {
	if n := len(p); n > 0 && p[n-1] != valueEnd {
		p = append(p, valueEnd)
	}
	p = append(p, name...)
	p = append(p, nameEnd)
	p = append(p, value...)
	return append(p, valueEnd)
}

// Set returns properties in which name has this value alone. p is not written.
func (p Properties) Set(name, value string) Properties {
	return p.Without(name).Append(name, value)
}

// Without returns a copy of p that lacks the named pairs.
func (p Properties) Without(names ...string) Properties {
	out := make(Properties, 0, len(p)+32)
next:
	for n, v := range p.All() {
		for _, drop := range names {
			if string(n) == drop {
				continue next
			}
		}
		out = append(out, n...)
		out = append(out, nameEnd)
		out = append(out, v...)
		out = append(out, valueEnd)
	}
	return out
}

// Map returns the pairs as a map.
func (p Properties) Map() map[string]string {
	m := make(map[string]string)
	for n, v := range p.All() {
		m[string(n)] = string(v)
	}
	return m
}

// Keys yields the user's keys: the KEYS property split at single spaces.
func (p Properties) Keys() func(yield func(key []byte) bool) {
	return func(yield func(key []byte) bool) {
		keys, _ := p.Get(PropKeys)
		for len(keys) > 0 {
			key := keys
			if i := bytes.IndexByte(keys, ' '); i >= 0 {
				key, keys = keys[:i], keys[i+1:]
			} else {
				keys = nil
			}
			if len(key) > 0 && !yield(key) {
				return
			}
		}
	}
}

// TagCode returns what a consume-queue entry keeps of the tags.
func (p Properties) TagCode() int64 {
	tags, _ := p.Get(PropTags)
	return TagCode(tags)
}

// Names of properties that brokers and clients give a meaning.
const (
	PropKeys             = "KEYS"
	PropTags             = "TAGS"
	PropWait             = "WAIT"
	PropDelay            = "DELAY"
	PropRetryTopic       = "RETRY_TOPIC"
	PropRealTopic        = "REAL_TOPIC"
	PropRealQueueID      = "REAL_QID"
	PropTransaction      = "TRAN_MSG"
	PropProducerGroup    = "PGROUP"
	PropTransactionID    = "__transactionId__"
	PropUniqueKey        = "UNIQ_KEY"
	PropOriginMessageID  = "ORIGIN_MESSAGE_ID"
	PropReconsumeTime    = "RECONSUME_TIME"
	PropMaxReconsume     = "MAX_RECONSUME_TIMES"
	PropCheckTimes       = "TRANSACTION_CHECK_TIMES"
	PropCheckImmunity    = "CHECK_IMMUNITY_TIME_IN_SECONDS"
	PropPreparedOffset   = "TRAN_PREPARED_QUEUE_OFFSET"
	PropRegion           = "MSG_REGION"
	PropTraceOn          = "TRACE_ON"
	PropCluster          = "CLUSTER"
	PropPopCheckpoint    = "POP_CK"
	PropFirstPopTime     = "1ST_POP_TIME"
	PropOriginGroup      = "ORIGIN_GROUP"
	PropShardingKey      = "__SHARDINGKEY"
	PropInnerNum         = "INNER_NUM"
	PropInnerBase        = "INNER_BASE"
	PropMultiDispatch    = "INNER_MULTI_DISPATCH"
	PropMultiQueueOffset = "INNER_MULTI_QUEUE_OFFSET"
	PropCRC              = "__CRC32#"

	PropTimerDelaySec     = "TIMER_DELAY_SEC"
	PropTimerDelayMs      = "TIMER_DELAY_MS"
	PropTimerDeliverMs    = "TIMER_DELIVER_MS"
	PropStartDeliverTime  = "__STARTDELIVERTIME"
	PropTimerOutMs        = "TIMER_OUT_MS"
	PropTimerEnqueueMs    = "TIMER_ENQUEUE_MS"
	PropTimerDequeueMs    = "TIMER_DEQUEUE_MS"
	PropTimerRollTimes    = "TIMER_ROLL_TIMES"
	PropTimerDelUniqueKey = "TIMER_DEL_UNIQKEY"
	PropTimerDelayLevel   = "TIMER_DELAY_LEVEL"

	PropCorrelationID   = "CORRELATION_ID"
	PropReplyToClient   = "REPLY_TO_CLIENT"
	PropReplyTTL        = "TTL"
	PropMessageType     = "MSG_TYPE"
	PropReplyPushTime   = "PUSH_REPLY_TIME"
	PropReplyArriveTime = "ARRIVE_TIME"

	PropDLQOriginTopic     = "DLQ_ORIGIN_TOPIC"
	PropDLQOriginMessageID = "DLQ_ORIGIN_MESSAGE_ID"
)
