package pop

import (
	"sync"
	"testing"

	"github.com/merlinmq/merlin/message"
)

// fakeLog is a Log in memory; queue i of topic t holds records first[i] and on.
type fakeLog struct {
	mu     sync.Mutex
	queues map[int32]*fakeQueue
}

type fakeQueue struct {
	first   message.Offset
	records [][]byte
}

func newFakeLog() *fakeLog { return &fakeLog{queues: map[int32]*fakeQueue{}} }

func (l *fakeLog) queue(id int32) *fakeQueue {
	q := l.queues[id]
	if q == nil {
		q = &fakeQueue{}
		l.queues[id] = q
	}
	return q
}

func (l *fakeLog) put(t testing.TB, topic string, queue int32, body string) message.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue(queue)
	off := q.first + message.Offset(len(q.records))
	rec, err := message.AppendRecord(nil, &message.Message{Topic: topic, QueueID: queue, Body: []byte(body), BornHost: testHost, StoreHost: testHost})
	if err != nil {
		t.Fatal(err)
	}
	message.Patch(rec, off, message.Position(off)*1000, 1)
	q.records = append(q.records, rec)
	return off
}

// Read implements Log.
func (l *fakeLog) Read(r *Read, dst []byte) (ReadResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue(r.Queue)
	if r.Offset < q.first {
		return ReadResult{Next: q.first, Body: dst}, nil
	}
	res := ReadResult{Next: r.Offset, Body: dst}
	for n := 0; n < r.Max && int(res.Next-q.first) < len(q.records); {
		rec := q.records[res.Next-q.first]
		if n > 0 && len(res.Body)-len(dst)+len(rec) > r.MaxBytes {
			break
		}
		res.Next++
		if r.MatchRecord != nil && !r.MatchRecord(message.View(rec)) {
			continue
		}
		res.Body = append(res.Body, rec...)
		n++
	}
	return res, nil
}

// QueueMin implements Log.
func (l *fakeLog) QueueMin(_ string, queue int32) message.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue(queue).first
}

// QueueMax implements Log.
func (l *fakeLog) QueueMax(_ string, queue int32) message.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue(queue)
	return q.first + message.Offset(len(q.records))
}

// drop is retention: the queue begins at the offset.
func (l *fakeLog) drop(queue int32, below message.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue(queue)
	if n := int(below - q.first); n > 0 {
		n = min(n, len(q.records))
		q.records, q.first = q.records[n:], q.first+message.Offset(n)
	}
}

// cut is what a power cut does to the end of a log that was not flushed.
func (l *fakeLog) cut(queue int32, at message.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queue(queue)
	q.records = q.records[:max(0, min(len(q.records), int(at-q.first)))]
}
