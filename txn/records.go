package txn

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/merlinmq/merlin/message"
)

// Prepare turns a message into its half: real topic and queue become
// properties, and it loses its transaction bits, so that the half queue lists
// it. The properties may grow into their spare capacity.
func Prepare(m *message.Message) error {
	key, _ := m.Properties.Get(message.PropUniqueKey)
	id := string(key)
	p := m.Properties.Append(message.PropTransactionID, id)
	p = p.Append(message.PropRealTopic, m.Topic)
	p = p.Append(message.PropRealQueueID, strconv.Itoa(int(m.QueueID)))
	if len(p) > message.MaxPropertiesSize {
		return fmt.Errorf("%w: the properties take %d bytes with those of a transaction, %d are allowed", message.ErrTooLarge, len(p), message.MaxPropertiesSize)
	}
	m.Properties, m.Topic, m.QueueID = p, message.TopicHalf, 0
	m.SysFlag = m.SysFlag.WithTransaction(0)
	return nil
}

// restore gives the half its real topic and queue back, and tells its number of
// checks where there were any.
func restore(v message.View, checks int32) (message.Message, error) {
	m := v.Message()
	topic := m.Properties.Value(message.PropRealTopic)
	queue, err := strconv.ParseInt(m.Properties.Value(message.PropRealQueueID), 10, 32)
	if topic == "" || err != nil || queue < 0 {
		return m, fmt.Errorf("the half at position %d does not say which topic and queue it is for", v.Position())
	}
	m.Topic, m.QueueID = topic, int32(queue)
	if checks > 0 {
		m.Properties = m.Properties.Set(message.PropCheckTimes, strconv.Itoa(int(checks)))
	}
	return m, nil
}

// final is the message that a commit makes of a half.
func final(v message.View, checks int32) (message.Message, error) {
	m, err := restore(v, checks)
	if err != nil {
		return m, err
	}
	m.SysFlag = m.SysFlag.WithTransaction(message.FlagCommit)
	m.PreparedPosition = v.Position()
	m.Properties = m.Properties.Without(message.PropRealTopic, message.PropRealQueueID)
	return m, nil
}

const (
	markTag = "d"
	// maxMarkBody is where marks go on in another record.
	maxMarkBody = 4096
)

var markProperties = message.Properties(nil).Append(message.PropWait, "true").Append(message.PropTags, markTag)

// appendMark appends the half's offset to the body of a mark.
func appendMark(body []byte, off message.Offset) []byte {
	return append(strconv.AppendInt(body, int64(off), 10), ',')
}

// propCommits names, in the form of a mark's body, the halves of it that were
// committed: a power cut may keep the mark and lose a final message before it.
const propCommits = "MERLIN_COMMITS"

// mark is the record that settles the halves that its body names.
func mark(body, commits []byte, now time.Time) message.Message {
	m := message.Message{Topic: message.TopicOp, BornTimestamp: now.UnixMilli(), Body: body, Properties: markProperties}
	if len(commits) > 0 {
		m.Properties = slices.Clone(markProperties).Append(propCommits, string(commits))
	}
	return m
}

// eachMarked calls fn for each offset that a mark's body names. Old brokers
// wrote one offset without a comma.
func eachMarked(body []byte, fn func(message.Offset)) {
	for len(body) > 0 {
		word := body
		if i := bytes.IndexByte(body, ','); i >= 0 {
			word, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(word)), 10, 64); err == nil && n >= 0 {
			fn(message.Offset(n))
		}
	}
}

// isMark tells whether a record of the op topic settles halves.
func isMark(v message.View) bool {
	tags, _ := v.Properties().Get(message.PropTags)
	return string(tags) == markTag
}

// immunity is how long after its birth a half is left in peace.
func immunity(p message.Properties, timeout time.Duration) (d time.Duration, own bool) {
	text, ok := p.Get(message.PropCheckImmunity)
	if !ok {
		return timeout, false
	}
	seconds, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil || seconds < 0 {
		return timeout, true
	}
	return time.Duration(seconds) * time.Second, true
}

// checkTimes is how often a half says that it was asked about.
func checkTimes(p message.Properties) int32 {
	n, err := strconv.ParseInt(p.Value(message.PropCheckTimes), 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}

// preparedOffset is where a half was that was stored again.
func preparedOffset(p message.Properties) (message.Offset, bool) {
	text, ok := p.Get(message.PropPreparedOffset)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return message.Offset(n), err == nil && n >= 0
}
