package broker

import (
	"bytes"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
)

// brokerProperties are those the broker alone may write.
var brokerProperties = []string{
	message.PropRegion, message.PropTraceOn, message.PropCluster, message.PropPopCheckpoint, message.PropCRC,
	schedule.PropReplaces, schedule.PropDue, schedule.PropOperation, schedule.PropState,
}

// foundProperties is what the send path must know of a message's properties.
type foundProperties struct {
	uniqueKey   []byte
	keys        []byte
	tags        []byte
	waits       bool // the producer waits until the message is safe
	own         bool // holds properties that only the broker may write
	transaction bool
	delay       bool
	timer       bool
	cron        bool
	replyTo     []byte // the client that asks and wants a reply
	reply       bool
	recallTime  int64 // what a recall handle names; 0 if the message cannot be recalled
}

// special tells whether the message goes through a rewrite before it is stored.
func (f *foundProperties) special() bool { return f.transaction || f.delay || f.timer || f.cron }

// scanProperties reads the properties once, without allocating.
func scanProperties(p message.Properties) foundProperties {
	f := foundProperties{waits: true}
	rest := []byte(p)
	for len(rest) > 0 {
		pair := rest
		if i := bytes.IndexByte(rest, 0x02); i >= 0 {
			pair, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		i := bytes.IndexByte(pair, 0x01)
		if i <= 0 || i == len(pair)-1 {
			continue
		}
		f.note(pair[:i], pair[i+1:])
	}
	return f
}

func (f *foundProperties) note(name, value []byte) {
	switch string(name) {
	case message.PropUniqueKey:
		f.uniqueKey = value
	case message.PropKeys:
		f.keys = value
	case message.PropTags:
		f.tags = value
	case message.PropWait:
		f.waits = !equalFold(value, "false")
	case message.PropTransaction:
		f.transaction = equalFold(value, "true")
	case message.PropDelay:
		f.delay = true
	case message.PropTimerDelaySec, message.PropTimerDelayMs, message.PropTimerDeliverMs, message.PropStartDeliverTime:
		f.timer = true
	case message.PropReplyToClient:
		f.replyTo = value
	case message.PropMessageType:
		f.reply = string(value) == messageTypeReply
	case propCron:
		f.cron = true
	case message.PropRegion, message.PropTraceOn, message.PropCluster, message.PropPopCheckpoint, message.PropCRC,
		schedule.PropReplaces, schedule.PropDue, schedule.PropOperation, schedule.PropState:
		f.own = true
	}
}

// messageTypeReply marks a message as the answer to a request.
const messageTypeReply = "reply"

// propCron makes a message recur.
const propCron = schedule.PropCron

func equalFold(b []byte, word string) bool {
	return len(b) == len(word) && bytes.EqualFold(b, []byte(word))
}
