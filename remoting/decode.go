package remoting

import (
	"encoding/binary"
	"fmt"
)

// HeaderError says why a frame's header could not be read although the frame
// itself is whole, so that what follows it on the connection can be.
type HeaderError struct {
	Reason string
	At     int // byte of the header
	// Opaque is the request's id where that much could be read, so that the
	// sender can be told.
	Opaque     int32
	HasOpaque  bool
	IsResponse bool
}

func (e *HeaderError) Error() string {
	return fmt.Sprintf("the header cannot be read: %s at byte %d of it; check what encodes it", e.Reason, e.At)
}

// FramingError says that a length cannot be, so that nothing behind it on the
// connection can be found.
type FramingError struct{ Reason string }

func (e *FramingError) Error() string { return e.Reason }

// Decoder decodes frames and keeps the memory for their fields, so that in the
// long run it allocates nothing. It is for one goroutine.
type Decoder struct {
	fields []Field
	most   int // of fields, with those of the frame that is being decoded
	shapes [shapeCount]shape
}

// MaxFields is how many fields a header may have. Clients send about 20 and
// Apache's tools no more than 30; a field costs eight times what an empty one
// takes on the wire.
const MaxFields = 1024

// tooManyFields is the reason of a HeaderError.
var tooManyFields = fmt.Sprintf("it has more than the %d fields that are allowed", MaxFields)

// Reset takes back the fields of the requests that were decoded so far.
func (d *Decoder) Reset() { d.fields = d.fields[:0] }

// full says whether the header that is being decoded may have no further field.
func (d *Decoder) full() bool { return len(d.fields) >= d.most }

// Decode reads a whole frame without its first four bytes, the length, into r.
// r's slices point into the frame, whose escaped strings it unescapes in place:
// the frame cannot be decoded twice. The error is a *FramingError or a
// *HeaderError.
func (d *Decoder) Decode(frame []byte, r *Request) error {
	*r = Request{}
	if len(frame) < 4 {
		return &FramingError{fmt.Sprintf("a frame of %d bytes is too short for its own header", len(frame))}
	}
	word := binary.BigEndian.Uint32(frame)
	size := int(word & maxHeader)
	if size > len(frame)-4 {
		return &FramingError{fmt.Sprintf("the header says it has %d bytes, in a frame that has %d left", size, len(frame)-4)}
	}
	head := frame[4 : 4+size]
	d.most = len(d.fields) + MaxFields
	r.Body = frame[4+size:]
	r.Encoding = byte(word >> 24)
	switch r.Encoding {
	case EncodingJSON:
		return d.json(head, r)
	case EncodingBinary:
		return d.binary(head, r)
	}
	err := &HeaderError{Reason: fmt.Sprintf("the encoding %d is neither JSON (0) nor ROCKETMQ (1)", r.Encoding)}
	r.Encoding = EncodingJSON
	return err
}

// frameLength reads the length of the frame that b begins with, the four bytes
// of the length not counted.
func frameLength(b []byte, limit int) (int, error) {
	n := binary.BigEndian.Uint32(b)
	switch {
	case n < 4:
		return 0, &FramingError{fmt.Sprintf("a frame of %d bytes is too short for its own header", n)}
	case uint64(n)+4 <= uint64(limit):
		return int(n), nil
	case b[0] == 0x16:
		return 0, &FramingError{"this looks like TLS, which this listener does not speak; connect without it"}
	case string(b[:4]) == "GET " || string(b[:4]) == "POST" || string(b[:4]) == "HEAD" || string(b[:4]) == "PRI ":
		return 0, &FramingError{"this looks like HTTP; this port speaks RocketMQ's remoting protocol"}
	}
	return 0, &FramingError{fmt.Sprintf("a frame of %d bytes is above the limit of %d", uint64(n)+4, limit)}
}
