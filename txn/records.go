package txn

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/merlinmq/merlin/message"
)

// reserved is the room in bytes that the properties of a half leave for what is
// noted when it is carried forward, asked about, committed or given up.
const reserved = 128

// Prepare turns a message into its half: real topic and queue become
// properties, and it loses its transaction bits, so that the half queue lists
// it. The properties may grow into their spare capacity.
func Prepare(m *message.Message) error {
	key, _ := m.Properties.Get(message.PropUniqueKey)
	id := string(key)
	p := m.Properties.Append(message.PropTransactionID, id)
	p = p.Append(message.PropRealTopic, m.Topic)
	p = p.Append(message.PropRealQueueID, strconv.Itoa(int(m.QueueID)))
	if room := message.MaxPropertiesSize - reserved; len(p) > room {
		return fmt.Errorf("%w: the properties take %d bytes with those of a transaction, which has room for %d", message.ErrTooLarge, len(p), room)
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
	m.Topic, m.QueueID, m.PreparedPosition = topic, int32(queue), 0
	if checks > 0 {
		m.Properties = noted(m.Properties, message.PropCheckTimes, strconv.Itoa(int(checks)))
	}
	return m, nil
}

// noted sets a property that may be missing, unless there is no room for it: a
// half of another broker may be full, and must not be held up by a note.
func noted(p message.Properties, name, value string) message.Properties {
	if with := p.Set(name, value); len(with) <= message.MaxPropertiesSize {
		return with
	}
	return p
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

// What a mark says beyond the halves that it settles, in one property. Marks of
// other brokers say nothing.
const (
	// propCommits names, in the form of a mark's body, the halves of it that were
	// committed; the others were rolled back. A power cut may keep the mark and
	// lose a final message before it.
	propCommits = "MERLIN_COMMITS"
	// propRollbacks says that all were rolled back.
	propRollbacks = "MERLIN_ROLLBACKS"
	// propCopied names the topic that the half was stored in again. A power cut
	// may keep the mark and lose the copy.
	propCopied = "MERLIN_COPIED"
)

// mark is the record that settles the halves that its body names. name is what
// it says of them, one of the properties above, or empty.
func mark(body []byte, name, value string, now time.Time) message.Message {
	m := message.Message{Topic: message.TopicOp, BornTimestamp: now.UnixMilli(), Body: body, Properties: markProperties}
	if name != "" {
		m.Properties = slices.Clone(markProperties).Append(name, value)
	}
	return m
}

// endMark is the mark of ends. commits are the committed halves of its body.
func endMark(body, commits []byte, now time.Time) message.Message {
	if len(commits) > 0 {
		return mark(body, propCommits, string(commits), now)
	}
	return mark(body, propRollbacks, "true", now)
}

// settles is what a mark says of one half.
type settles struct {
	off     message.Offset
	verdict Verdict // Unknown where the mark does not say
	copied  string  // the topic of the half's copy, if there must be one
}

// readMark calls fn for each half that a mark settles.
func readMark(v message.View, fn func(settles)) {
	p := v.Properties()
	other, copied := Unknown, p.Value(propCopied)
	commits := map[message.Offset]bool(nil)
	if list, ok := p.Get(propCommits); ok {
		other, commits = Rollback, map[message.Offset]bool{}
		eachMarked(list, func(off message.Offset) { commits[off] = true })
	} else if _, ok := p.Get(propRollbacks); ok {
		other = Rollback
	}
	switch copied {
	case message.TopicHalf:
		other = carried
	case message.TopicCheckMax:
		other = Discarded
	}
	eachMarked(v.Body(), func(off message.Offset) {
		s := settles{off: off, verdict: other, copied: copied}
		if commits[off] {
			s.verdict = Commit
		}
		fn(s)
	})
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
