package client

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/merlinmq/merlin/message"
)

// Message is a stored message for people: its own memory, body inflated where
// that is possible.
type Message struct {
	Topic       string
	Broker      string // its name; "" where only the address is known
	Queue       int
	Offset      message.Offset
	Position    message.Position
	ID          string // unique key, or the offset id of a message without one
	OffsetID    string
	Tags        string
	Keys        string
	Properties  map[string]string
	Born        time.Time
	BornHost    string
	Stored      time.Time
	StoreHost   string
	Reconsumed  int
	Flag        int
	SysFlag     message.SysFlag
	Body        []byte
	Compression string // "lz4" or "zstd" if Body is still compressed
}

// fromView copies a record.
func fromView(v message.View, broker string) *Message {
	props := v.Properties()
	m := &Message{
		Topic: string(v.Topic()), Broker: broker, Queue: int(v.QueueID()), Offset: v.QueueOffset(), Position: v.Position(),
		OffsetID: v.OffsetID(), Tags: props.Value(message.PropTags), Keys: props.Value(message.PropKeys), Properties: props.Map(),
		Born: time.UnixMilli(v.BornTimestamp()), BornHost: v.BornHost().String(), Stored: time.UnixMilli(v.StoreTimestamp()), StoreHost: v.StoreHost().String(),
		Reconsumed: int(v.ReconsumeTimes()), Flag: int(v.Flag()), SysFlag: v.SysFlag(),
	}
	if m.ID = props.Value(message.PropUniqueKey); m.ID == "" {
		m.ID = m.OffsetID
	}
	m.Body, m.Compression = inflate(v.SysFlag(), bytes.Clone(v.Body()))
	return m
}

// maxInflated bounds what a small body may blow up to.
const maxInflated = 64 << 20

// inflate undoes zlib, which clients have always used. What does not inflate
// is handed over as it is, as Apache's clients do.
func inflate(flag message.SysFlag, b []byte) ([]byte, string) {
	if flag&message.FlagCompressed == 0 {
		return b, ""
	}
	switch flag & message.FlagCompression {
	case 0x100:
		return b, "lz4"
	case 0x200:
		return b, "zstd"
	}
	r, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return b, ""
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxInflated))
	if err != nil {
		return b, ""
	}
	return plain, ""
}

// records reads every record of an answer's body.
func records(b []byte, broker string) ([]*Message, error) {
	var list []*Message
	for len(b) > 0 {
		v, err := message.Parse(b)
		if err != nil {
			return list, fmt.Errorf("a record from %s cannot be read: %w", broker, err)
		}
		list = append(list, fromView(v, broker))
		b = b[v.Size():]
	}
	return list, nil
}

// MarshalJSON writes the message with its body as text, or as base64 where it
// is no text.
func (m *Message) MarshalJSON() ([]byte, error) {
	type shape struct {
		Topic       string            `json:"topic"`
		Broker      string            `json:"broker,omitempty"`
		Queue       int               `json:"queue"`
		Offset      message.Offset    `json:"offset"`
		Position    message.Position  `json:"position"`
		ID          string            `json:"id"`
		OffsetID    string            `json:"offset_id"`
		Tags        string            `json:"tags,omitempty"`
		Keys        string            `json:"keys,omitempty"`
		Properties  map[string]string `json:"properties"`
		Born        time.Time         `json:"born"`
		BornHost    string            `json:"born_host"`
		Stored      time.Time         `json:"stored"`
		StoreHost   string            `json:"store_host"`
		Reconsumed  int               `json:"reconsumed"`
		Flag        int               `json:"flag"`
		SysFlag     message.SysFlag   `json:"sys_flag"`
		Body        *string           `json:"body,omitempty"`
		BodyBase64  []byte            `json:"body_base64,omitempty"`
		Compression string            `json:"compression,omitempty"`
	}
	s := shape{m.Topic, m.Broker, m.Queue, m.Offset, m.Position, m.ID, m.OffsetID, m.Tags, m.Keys, m.Properties, m.Born, m.BornHost, m.Stored, m.StoreHost,
		m.Reconsumed, m.Flag, m.SysFlag, nil, nil, m.Compression}
	if m.Compression == "" && utf8.Valid(m.Body) {
		text := string(m.Body)
		s.Body = &text
	} else {
		s.BodyBase64 = m.Body
	}
	return json.Marshal(s)
}
