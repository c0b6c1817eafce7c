package consumequeue

import (
	"iter"

	"github.com/merlinmq/merlin/message"
)

// Table is the queues of one folder. Its methods are safe for concurrent use.
type Table struct{}

// Queue is one queue of a topic. A handle stays good for the life of the
// table, or until the topic is deleted. Put belongs to one goroutine at a
// time; everything else is safe for concurrent use.
type Queue struct{}

func Open(dir string, o Options) (*Table, error)         { panic("soon") }
func (t *Table) Queue(topic string, id int32) *Queue     { panic("soon") }
func (t *Table) Lookup(topic string, id int32) *Queue    { panic("soon") }
func (t *Table) Topic(topic string) []*Queue             { panic("soon") }
func (t *Table) All() iter.Seq[*Queue]                   { panic("soon") }
func (t *Table) Delete(topic string) error               { panic("soon") }
func (t *Table) Flush() error                            { panic("soon") }
func (t *Table) TruncateFrom(pos message.Position) error { panic("soon") }
func (t *Table) DropBefore(min message.Position) error   { panic("soon") }
func (t *Table) FromSnapshot() bool                      { panic("soon") }
func (t *Table) SetStamp(stamp string)                   { panic("soon") }
func (t *Table) Failed() error                           { panic("soon") }
func (t *Table) Stats() Stats                            { panic("soon") }
func (t *Table) Close() error                            { panic("soon") }

func (q *Queue) Topic() string                                            { panic("soon") }
func (q *Queue) ID() int32                                                { panic("soon") }
func (q *Queue) Min() message.Offset                                      { panic("soon") }
func (q *Queue) Max() message.Offset                                      { panic("soon") }
func (q *Queue) Tail() Tail                                               { panic("soon") }
func (q *Queue) Put(off message.Offset, e Entry) error                    { panic("soon") }
func (q *Queue) Read(from message.Offset, dst []Entry) (n int, err error) { panic("soon") }
func (q *Queue) TruncateFrom(pos message.Position) error                  { panic("soon") }
func (q *Queue) DropBefore(min message.Position) error                    { panic("soon") }
