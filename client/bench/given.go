package bench

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
)

// given is what the answer to a pop says of the messages in it, and what their
// acknowledgements are made of.
type given struct {
	popTime, invisible, revive int64
	queues                     []givenQueue
	count                      int // messages
}

// givenQueue is the messages of one queue.
type givenQueue struct {
	flag    []byte // 0: of the topic itself, else of a retry topic
	queue   int64
	start   int64 // the lowest offset
	offsets []int64
}

// parse reads the handles of an answer. What it keeps dies with the answer.
func (g *given) parse(a *answer) error {
	var ok [5]bool
	var starts, offsets []byte
	g.popTime, ok[0] = a.int(`"popTime":`)
	g.invisible, ok[1] = a.int(`"invisibleTime":`)
	g.revive, ok[2] = a.int(`"reviveQid":`)
	starts, ok[3] = a.text(`"startOffsetInfo":`)
	offsets, ok[4] = a.text(`"msgOffsetInfo":`)
	if ok != [5]bool{true, true, true, true, true} {
		return fmt.Errorf("%w: a pop's answer without its handles: %q", errFrame, clip(a.header))
	}
	g.queues, g.count = g.queues[:0], 0
	for len(offsets) > 0 {
		var part []byte
		part, offsets, _ = bytes.Cut(offsets, []byte{';'})
		if !g.parseQueue(part, starts) {
			return fmt.Errorf("%w: msgOffsetInfo %q, startOffsetInfo %q", errFrame, part, starts)
		}
	}
	if got := countRecords(a.body); got != g.count {
		return fmt.Errorf("%w: %d records and %d offsets", errFrame, got, g.count)
	}
	return nil
}

// parseQueue reads "flag queue offset,offset…".
func (g *given) parseQueue(part, starts []byte) bool {
	if len(g.queues) < cap(g.queues) { // its offsets are used again
		g.queues = g.queues[:len(g.queues)+1]
	} else {
		g.queues = append(g.queues, givenQueue{})
	}
	q := &g.queues[len(g.queues)-1]
	q.offsets = q.offsets[:0]
	flag, rest, found1 := bytes.Cut(part, []byte{' '})
	queue, list, found2 := bytes.Cut(rest, []byte{' '})
	q.flag = flag
	var err error
	if q.queue, err = strconv.ParseInt(string(queue), 10, 32); err != nil || !found1 || !found2 {
		return false
	}
	at := bytes.Index(starts, part[:len(flag)+1+len(queue)+1])
	if at < 0 || at > 0 && starts[at-1] != ';' {
		return false
	}
	start, _, _ := bytes.Cut(starts[at+len(flag)+len(queue)+2:], []byte{';'})
	if q.start, err = strconv.ParseInt(string(start), 10, 64); err != nil {
		return false
	}
	for len(list) > 0 {
		var word []byte
		word, list, _ = bytes.Cut(list, []byte{','})
		off, err := strconv.ParseInt(string(word), 10, 64)
		if err != nil || off < q.start || off-q.start > 1<<16 {
			return false
		}
		q.offsets = append(q.offsets, off)
	}
	g.count += len(q.offsets)
	return true
}

// appendBatch appends the body that acknowledges all of it.
func (g *given) appendBatch(b []byte, run *popping) []byte {
	b = append(b, `{"brokerName":"`...)
	b = append(b, run.broker...)
	b = append(b, `","acks":[`...)
	var bits [1<<13 + 1]byte
	for i := range g.queues {
		q := &g.queues[i]
		n := 0
		for _, off := range q.offsets {
			at := int(off - q.start)
			for ; n <= at/8; n++ {
				bits[n] = 0
			}
			bits[at/8] |= 1 << (at % 8)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, `{"c":"`...), run.Group...), `","t":"`...)
		b = append(append(append(b, run.Topic...), `","r":"`...), q.flag...)
		b = strconv.AppendInt(append(b, `","so":`...), q.start, 10)
		b = strconv.AppendInt(append(b, `,"q":`...), q.queue, 10)
		b = strconv.AppendInt(append(b, `,"rq":`...), g.revive, 10)
		b = strconv.AppendInt(append(b, `,"pt":`...), g.popTime, 10)
		b = strconv.AppendInt(append(b, `,"it":`...), g.invisible, 10)
		b = base64.StdEncoding.AppendEncode(append(b, `,"b":"`...), bits[:n])
		b = append(b, `"}`...)
	}
	return append(b, `]}`...)
}

// appendOne appends the request that acknowledges one message.
func (g *given) appendOne(b []byte, run *popping, q *givenQueue, offset int64, opaque int32) []byte {
	var w requestWriter
	w.begin(b, codeAck)
	w.text("consumerGroup", run.Group)
	w.text("topic", run.Topic)
	w.int("queueId", q.queue)
	w.int("offset", offset)
	w.open("extraInfo")
	for _, n := range [...]int64{q.start, g.popTime, g.invisible, g.revive} {
		w.b = append(strconv.AppendInt(w.b, n, 10), ' ')
	}
	w.b = append(append(w.b, q.flag...), ' ')
	w.b = append(append(w.b, run.broker...), ' ')
	w.b = append(strconv.AppendInt(w.b, q.queue, 10), ' ')
	w.b = strconv.AppendInt(w.b, offset, 10)
	w.close()
	frame, _ := w.end(opaque, nil)
	return frame
}

// countRecords counts the records of a body, whose sizes stand first; -1 when
// one of the sizes cannot be.
func countRecords(body []byte) (n int) {
	for len(body) >= 4 {
		size := int(binary.BigEndian.Uint32(body))
		if size < 4 || size > len(body) {
			return -1
		}
		body = body[size:]
		n++
	}
	return n
}
