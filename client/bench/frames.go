package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/merlinmq/merlin/message"
)

// Opaques are ten digits whatever their value, so that patching one never
// moves the frame's bytes: bit 30 is always set.
const (
	opaqueBase = 1 << 30
	opaqueMask = opaqueBase - 1
)

const (
	seqDigits    = 10 // hex digits of a message's number in its key
	uniqueDigits = 12 // hex digits of a unique key that change: time and counter
)

// identity is what tells one connection's messages from all others.
type identity struct {
	unique string // first 20 hex digits of its unique keys
	key    string // what its keys start with
}

// newIdentity makes the names of connection conn of a run.
func newIdentity(addr [4]byte, pid int, run uint32, conn int) identity {
	return identity{
		unique: fmt.Sprintf("%02X%02X%02X%02X%04X%05X%03X", addr[0], addr[1], addr[2], addr[3], uint16(pid), run&0xFFFFF, conn&0xFFF),
		key:    keyPrefix(run) + fmt.Sprintf("%03X", conn&0xFFF),
	}
}

// keyPrefix is what all keys of a run start with.
func keyPrefix(run uint32) string { return fmt.Sprintf("b%08X", run) }

// parseKey takes a key of the run apart.
func parseKey(key []byte, prefix string) (conn int, seq uint64, found bool) {
	if len(key) != len(prefix)+3+seqDigits || string(key[:len(prefix)]) != prefix {
		return 0, 0, false
	}
	c, ok1 := parseHex(key[len(prefix) : len(prefix)+3])
	seq, ok2 := parseHex(key[len(prefix)+3:])
	return int(c), seq, ok1 && ok2
}

func parseHex(b []byte) (v uint64, found bool) {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | uint64(c-'0')
		case 'A' <= c && c <= 'F':
			v = v<<4 | uint64(c-'A'+10)
		default:
			return 0, false
		}
	}
	return v, true
}

// shape is what all messages of a run have in common.
type shape struct {
	group, topic string
	size         int // bytes of a body
	batch        int // messages in a frame
	queues       int
	keys, tags   bool
	txn          bool
	delayLevel   int
	delay        time.Duration
}

// itemPlace says where in a frame the changing parts of one message stand.
type itemPlace struct{ unique, key int } // key is -1 without one

// sendFrames are a few equal send requests in one buffer, encoded once: what
// differs from message to message has a fixed width and is patched in place.
type sendFrames struct {
	buf     []byte
	size    int // bytes of one frame
	count   int
	opaque  int
	born    int
	queue   int // the digits, the closing quote and blanks up to queueWidth+1
	width   int
	items   []itemPlace
	monthMs int64 // where the time in unique keys starts
}

// maxFrameBytes bounds the bytes that a connection keeps pre-encoded.
const maxFrameBytes = 8 << 20

// newSendFrames encodes up to count frames.
func newSendFrames(s shape, id identity, count int, now time.Time) sendFrames {
	f := sendFrames{
		width:   len(strconv.Itoa(s.queues - 1)),
		monthMs: time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, now.Location()).UnixMilli(),
	}
	frame := f.encode(s, id, now)
	f.size = len(frame)
	f.count = max(1, min(count, maxFrameBytes/f.size))
	f.buf = bytes.Repeat(frame, f.count)
	return f
}

func (f *sendFrames) encode(s shape, id identity, now time.Time) []byte {
	props := properties(s, id)
	code, sysFlag := codeSendV2, message.SysFlag(0)
	if s.batch > 1 {
		code = codeSendBatch
	}
	if s.txn {
		sysFlag = message.FlagPrepared
	}
	var w requestWriter
	w.begin(nil, code)
	w.text("a", s.group)
	w.text("b", s.topic)
	w.text("c", message.TopicAutoCreate)
	w.int("d", int64(s.queues))
	w.open("e")
	f.queue = len(w.b)
	w.b = append(w.b, bytes.Repeat([]byte{' '}, f.width+1)...)
	w.int("f", int64(sysFlag))
	w.open("g")
	f.born = len(w.b)
	w.b = strconv.AppendInt(w.b, now.UnixMilli(), 10)
	w.close()
	w.int("h", 0)
	w.open("i")
	if s.batch <= 1 {
		at := len(w.b)
		w.b = appendEscaped(w.b, props)
		f.items = []itemPlace{places(w.b, at, id)}
	}
	w.close()
	w.int("j", 0)
	w.text("k", "false")
	w.text("m", strconv.FormatBool(s.batch > 1))

	body := filler(s.size)
	if s.batch > 1 {
		item := message.AppendBatchItem(nil, message.BatchItem{Body: body, Properties: props})
		body = bytes.Repeat(item, s.batch)
	}
	frame, opaque := w.end(opaqueBase, body)
	f.opaque = opaque
	if s.batch > 1 {
		item := len(body) / s.batch
		for at := len(frame) - len(body); at < len(frame); at += item {
			f.items = append(f.items, places(frame[:at+item], at, id))
		}
	}
	f.patchQueue(frame, 0)
	return frame
}

// properties returns the property string of a message, its changing parts as
// zeros.
func properties(s shape, id identity) message.Properties {
	var p message.Properties
	if s.keys {
		p = p.Append(message.PropKeys, id.key+string(bytes.Repeat([]byte{'0'}, seqDigits)))
	}
	p = p.Append(message.PropUniqueKey, id.unique+string(bytes.Repeat([]byte{'0'}, uniqueDigits)))
	if s.tags {
		p = p.Append(message.PropTags, "bench")
	}
	if s.txn {
		p = p.Append(message.PropTransaction, "true").Append(message.PropProducerGroup, s.group)
	}
	if s.delayLevel > 0 {
		p = p.Append(message.PropDelay, strconv.Itoa(s.delayLevel))
	}
	if s.delay > 0 {
		p = p.Append(message.PropTimerDelayMs, strconv.FormatInt(s.delay.Milliseconds(), 10))
	}
	return p
}

// places finds a message's changing parts behind at.
func places(b []byte, at int, id identity) itemPlace {
	p := itemPlace{key: -1}
	p.unique = at + bytes.Index(b[at:], []byte(id.unique)) + len(id.unique)
	if k := bytes.Index(b[at:], []byte(id.key)); k >= 0 {
		p.key = at + k + len(id.key)
	}
	return p
}

// filler returns a body of printable bytes that does not compress to nothing.
func filler(n int) []byte {
	b := make([]byte, n)
	x := uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte('!' + x%90)
		if b[i] == '"' || b[i] == '\\' {
			b[i] = 'o'
		}
	}
	return b
}

// patch makes frame i of the buffer the request of message numbers seq and on.
func (f *sendFrames) patch(i int, opaque int32, queue int, bornMs int64, seq uint64) {
	b := f.buf[i*f.size : (i+1)*f.size]
	putDecimal(b[f.opaque:f.opaque+10], int64(opaque))
	putDecimal(b[f.born:f.born+13], bornMs)
	f.patchQueue(b, queue)
	sinceMonth := uint64(uint32(bornMs - f.monthMs))
	for k, item := range f.items {
		n := seq + uint64(k)
		putHex(b[item.unique:item.unique+uniqueDigits], sinceMonth<<16|n&0xFFFF)
		if item.key >= 0 {
			putHex(b[item.key:item.key+seqDigits], n)
		}
	}
}

// patchQueue writes the queue's digits, their quote, and blanks: a header's
// numbers may not have leading zeros everywhere, but blanks behind a value are
// good in any JSON.
func (f *sendFrames) patchQueue(frame []byte, queue int) {
	b := frame[f.queue : f.queue+f.width+1]
	n := 1
	for v := queue; v >= 10; v /= 10 {
		n++
	}
	putDecimal(b[:n], int64(queue))
	b[n] = '"'
	for i := n + 1; i < len(b); i++ {
		b[i] = ' '
	}
}

// appendEndTransaction appends the request that commits the half message
// which a told about.
func appendEndTransaction(dst []byte, s *shape, opaque int32, a *answer) ([]byte, error) {
	msgID, found := a.text(`"msgId":`)
	offset, found2 := a.int(`"queueOffset":`)
	if !found || !found2 || len(msgID) < 16 {
		return dst, fmt.Errorf("%w: the answer to a half message lacks msgId or queueOffset: %q", errFrame, clip(a.header))
	}
	position, found := parseHex(msgID[len(msgID)-16:])
	if !found {
		return dst, fmt.Errorf("%w: msgId %q", errFrame, msgID)
	}
	unique, found := a.text(`"transactionId":`)
	if !found {
		unique = msgID
	}
	var w requestWriter
	w.begin(dst, codeEndTransaction)
	w.text("topic", s.topic)
	w.text("producerGroup", s.group)
	w.int("tranStateTableOffset", offset)
	w.int("commitLogOffset", int64(position))
	w.int("commitOrRollback", int64(message.FlagCommit))
	w.text("fromTransactionCheck", "false")
	w.open("msgId")
	w.b = append(w.b, unique...)
	w.close()
	w.open("transactionId")
	w.b = append(w.b, unique...)
	w.close()
	frame, _ := w.end(opaque, nil)
	return frame, nil
}

// appendPull appends a pull of up to n messages that neither waits nor leaves
// anything behind: it brings its own subscription, unless the group's is to
// filter, and commits nothing.
func appendPull(dst []byte, group, topic string, queue int, offset int64, n int, opaque int32, filtered bool) []byte {
	var w requestWriter
	w.begin(dst, codePull)
	w.text("consumerGroup", group)
	w.text("topic", topic)
	w.int("queueId", int64(queue))
	w.int("queueOffset", offset)
	w.int("maxMsgNums", int64(n))
	w.int("commitOffset", 0)
	w.int("suspendTimeoutMillis", 0)
	w.int("subVersion", 0)
	if filtered {
		w.int("sysFlag", 0)
		w.text("expressionType", "SQL92")
	} else {
		w.int("sysFlag", 4) // the request carries its subscription
		w.text("subscription", "*")
		w.text("expressionType", "TAG")
	}
	frame, _ := w.end(opaque, nil)
	return frame
}
