package schedule

import (
	"encoding/binary"
	"strconv"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// Marks of progress in the kv store.
const (
	markIndexed     = "indexed"
	markDefinitions = "definitions"
)

// rows is what the kv store keeps. Apart from load its counts are guarded by
// Service.rowMu.
type rows struct {
	db        *kv.DB
	timed     *kv.Bucket[[]byte]         // rowKey -> real topic
	counts    *kv.Bucket[int64]          // real topic -> rows
	marks     *kv.Bucket[message.Offset] // how far queues were gone through
	skips     *kv.Bucket[int64]          // position of a level message -> due time
	schedules *kv.Bucket[Schedule]
	byTopic   map[string]int64
}

func newRows(db *kv.DB) *rows {
	return &rows{
		db: db, byTopic: make(map[string]int64),
		timed:     kv.NewBucket(db, "timer", kv.Bytes()),
		counts:    kv.NewBucket(db, "timercount", kv.Int64[int64]()),
		marks:     kv.NewBucket(db, "delay", kv.Int64[message.Offset]()),
		skips:     kv.NewBucket(db, "delayskip", kv.Int64[int64]()),
		schedules: kv.NewBucket(db, "cron", kv.JSON[Schedule]()),
	}
}

func (r *rows) load() error {
	return r.counts.Range(nil, nil, func(topic []byte, n int64) bool {
		r.byTopic[string(topic)] = n
		return true
	})
}

func (r *rows) total() (n int64) {
	for _, c := range r.byTopic {
		n += c
	}
	return n
}

func positionKey(pos message.Position) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(pos))
}

func parsePosition(b []byte) (message.Position, bool) {
	if len(b) != 8 {
		return 0, false
	}
	return message.Position(binary.BigEndian.Uint64(b)), true
}

// change is a set of changes of rows that are written together. It keeps the
// counts: after an error of write they are as before.
type change struct {
	rows  *rows
	batch kv.Batch
	delta map[string]int64
	added []rowKey
}

func (r *rows) change() *change { return &change{rows: r, delta: make(map[string]int64)} }

func (c *change) add(k rowKey, topic []byte) error {
	if err := c.rows.timed.PutTo(&c.batch, k.bytes(), topic); err != nil {
		return err
	}
	c.delta[string(topic)]++
	c.added = append(c.added, k)
	return nil
}

// remove takes a row away that is known to be there.
func (c *change) remove(k rowKey, topic string) {
	c.rows.timed.DeleteTo(&c.batch, k.bytes())
	c.delta[topic]--
}

// write applies the changes.
func (c *change) write(d kv.Durability) error {
	for topic, n := range c.delta {
		if n == 0 {
			continue
		}
		total := c.rows.byTopic[topic] + n
		if total <= 0 {
			c.rows.counts.DeleteTo(&c.batch, []byte(topic))
		} else if err := c.rows.counts.PutTo(&c.batch, []byte(topic), total); err != nil {
			return err
		}
	}
	if c.batch.Len() == 0 {
		return nil
	}
	if err := c.rows.db.Write(&c.batch, d); err != nil {
		return err
	}
	for topic, n := range c.delta {
		if c.rows.byTopic[topic] += n; c.rows.byTopic[topic] <= 0 {
			delete(c.rows.byTopic, topic)
		}
	}
	return nil
}

func levelMark(number int) []byte { return strconv.AppendInt([]byte("level/"), int64(number), 10) }
