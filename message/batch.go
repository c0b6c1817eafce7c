package message

import (
	"encoding/binary"
	"fmt"
)

// BatchItem is one message of a batch body as it stands on the wire.
type BatchItem struct {
	Flag       int32
	Body       []byte
	Properties Properties
}

// NextBatchItem takes the first message of a batch body:
//
//	size 4 (itself included) | magic 4 | CRC 4 | flag 4 | body length 4 | body |
//	properties length 2 | properties
//
// Size, magic and CRC are not used, as in Apache's broker. It returns the rest
// of the body, or an error that names the place when the lengths do not fit.
func NextBatchItem(b []byte) (item BatchItem, rest []byte, err error) {
	const head = 20
	if len(b) < head {
		return item, nil, fmt.Errorf("%w: a batch item needs %d bytes, %d are left", ErrShort, head+2, len(b))
	}
	item.Flag = int32(binary.BigEndian.Uint32(b[12:]))
	n := int(int32(binary.BigEndian.Uint32(b[16:])))
	b = b[head:]
	if n < 0 || n > len(b)-2 {
		return item, nil, fmt.Errorf("%w: a batch item claims a body of %d bytes, %d are left", ErrShort, n, len(b))
	}
	item.Body, b = b[:n:n], b[n:]
	n = int(int16(binary.BigEndian.Uint16(b)))
	b = b[2:]
	if n < 0 || n > len(b) {
		return item, nil, fmt.Errorf("%w: a batch item claims properties of %d bytes, %d are left", ErrShort, n, len(b))
	}
	item.Properties, b = Properties(b[:n:n]), b[n:]
	return item, b, nil
}

// AppendBatchItem appends a message in the batch form to dst.
func AppendBatchItem(dst []byte, item BatchItem) []byte {
	be := binary.BigEndian
	dst = be.AppendUint32(dst, uint32(22+len(item.Body)+len(item.Properties)))
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = be.AppendUint32(dst, uint32(item.Flag))
	dst = be.AppendUint32(dst, uint32(len(item.Body)))
	dst = append(dst, item.Body...)
	dst = be.AppendUint16(dst, uint16(len(item.Properties)))
	return append(dst, item.Properties...)
}
