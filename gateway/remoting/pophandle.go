package gateway

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/broker/pop"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting/body"
)

// The texts by which pops name messages, as Apache's clients take them apart:
//
//	startOffsetInfo   flag queue start[;…]        of each queue, the lowest offset of its messages
//	msgOffsetInfo     flag queue off,off,…[;…]    ascending, one for each record of the queue
//	orderCountInfo    flag queue n[;…] and flag qo<queue>%<offset> n[;…]
//	handle            start popTime invisible reviveQid flag broker queue offset
//
// The flag is 0: messages come again from the queue in which they are, not from
// retry topics (1 and 2). Clients make the handle, also named POP_CK or
// extraInfo, of the others. reviveQid is 999 for ordered pops, else 0.
const (
	popFlag       = "0"
	reviveNormal  = 0
	reviveOrdered = 999
)

func appendStarts(b []byte, queues []broker.PopQueue) []byte {
	for i := range queues {
		b = appendPopKey(b, i > 0, queues[i].Queue)
		b = strconv.AppendInt(b, int64(queues[i].Messages[0].Offset), 10)
	}
	return b
}

func appendOffsets(b []byte, queues []broker.PopQueue) []byte {
	for i := range queues {
		b = appendPopKey(b, i > 0, queues[i].Queue)
		for k, m := range queues[i].Messages {
			if k > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(m.Offset), 10)
		}
	}
	return b
}

// appendCounts tells how often messages came before: of each, and for clients
// that look at queues alone the lowest of a queue.
func appendCounts(b []byte, queues []broker.PopQueue) []byte {
	for i := range queues {
		least := queues[i].Messages[0].Times
		for _, m := range queues[i].Messages {
			least = min(least, m.Times)
		}
		b = appendPopKey(b, i > 0, queues[i].Queue)
		b = strconv.AppendInt(b, int64(least), 10)
		for _, m := range queues[i].Messages {
			if m.Times > 0 {
				b = fmt.Appendf(b, ";%s qo%d%%%d %d", popFlag, queues[i].Queue, m.Offset, m.Times)
			}
		}
	}
	return b
}

func appendPopKey(b []byte, more bool, queue int32) []byte {
	if more {
		b = append(b, ';')
	}
	b = append(append(b, popFlag...), ' ')
	return append(strconv.AppendInt(b, int64(queue), 10), ' ')
}

// popHandle is a handle taken apart.
type popHandle struct {
	Start     message.Offset
	PopTime   int64 // ms
	Invisible int64 // ms
	ReviveQid int32
	Flag      byte // '0', '1' or '2'
	Broker    string
	Queue     int32
	Offset    message.Offset // -1 if the handle has none
}

func (h *popHandle) String() string {
	s := fmt.Sprintf("%d %d %d %d %c %s %d", h.Start, h.PopTime, h.Invisible, h.ReviveQid, h.Flag, h.Broker, h.Queue)
	if h.Offset >= 0 {
		s += " " + strconv.FormatInt(int64(h.Offset), 10)
	}
	return s
}

// parsePopHandle reads a handle; the error says what is wrong with it.
func parsePopHandle(text []byte) (h popHandle, err error) {
	parts := bytes.Split(text, []byte{' '})
	if len(parts) != 7 && len(parts) != 8 {
		return h, badHandle(text, "it has %d parts, not 8", len(parts))
	}
	number := func(i int, low, high int64) int64 {
		n, perr := strconv.ParseInt(string(parts[i]), 10, 64)
		if err == nil && (perr != nil || n < low || n > high) {
			err = badHandle(text, "its part %d is %q", i+1, clip(parts[i]))
		}
		return n
	}
	const most, most32 = 1<<63 - 1, 1<<31 - 1
	h.Start = message.Offset(number(0, 0, most))
	h.PopTime = number(1, 0, most)
	h.Invisible = number(2, 0, most)
	h.ReviveQid = int32(number(3, 0, most32))
	if len(parts[4]) != 1 || parts[4][0] < '0' || parts[4][0] > '2' {
		return h, badHandle(text, "its part 5 is %q", clip(parts[4]))
	}
	h.Flag, h.Broker = parts[4][0], string(parts[5])
	h.Queue = int32(number(6, 0, most32))
	h.Offset = -1
	if len(parts) == 8 {
		h.Offset = message.Offset(number(7, 0, most))
	}
	return h, err
}

func badHandle(text []byte, format string, args ...any) error {
	return &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the handle %q is none that a pop gave: ", clip(text)) + fmt.Sprintf(format, args...)}
}

// maxBatchBits bounds the distance of offsets in one batch of acknowledgements.
const maxBatchBits = 1 << 16

// batchOffsets returns the offsets that the bits of a batch name, at most
// pop.MaxTake at a time as there are no more in one hand-out.
func batchOffsets(a *body.BatchAck) ([]message.Offset, error) {
	if len(a.Bits)*8 > maxBatchBits {
		return nil, &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the acknowledgement has %d bits; at most %d are allowed: send several", len(a.Bits)*8, maxBatchBits)}
	}
	if a.StartOffset < 0 {
		return nil, &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the acknowledgement begins at offset %d", a.StartOffset)}
	}
	list := make([]message.Offset, 0, pop.MaxTake)
	for i, b := range a.Bits {
		for ; b != 0; b &= b - 1 {
			list = append(list, message.Offset(a.StartOffset)+message.Offset(i*8+bits.TrailingZeros8(b)))
		}
	}
	return list, nil
}
