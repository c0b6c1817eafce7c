package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// Message is one message in its parts: what a record holds. The byte slices
// may point into a buffer of the caller.
type Message struct {
	Topic            string
	QueueID          int32
	Flag             int32
	SysFlag          SysFlag
	BornTimestamp    int64 // ms since 1970
	BornHost         netip.AddrPort
	StoreTimestamp   int64 // ms since 1970, set by the append
	StoreHost        netip.AddrPort
	ReconsumeTimes   int32
	PreparedPosition Position // the half message of a committed transaction
	Body             []byte
	Properties       Properties
	QueueOffset      Offset   // set by the append
	Position         Position // set by the append
}

// Errors of encoding and decoding. They are wrapped with the numbers found.
var (
	// ErrTooLarge is returned when a part does not fit its length field.
	ErrTooLarge = errors.New("message: part too large for the record format")
	// ErrShort is returned when the bytes end before the record does.
	ErrShort = errors.New("message: record cut short")
	// ErrMagic is returned when the bytes do not start with a known magic.
	ErrMagic = errors.New("message: unknown magic")
	// ErrBlank is returned for the filler at the end of a segment.
	ErrBlank = errors.New("message: filler at the end of a segment")
	// ErrLayout is returned when the lengths inside a record contradict its size.
	ErrLayout = errors.New("message: lengths contradict the record size")
	// ErrCRC is returned when the body does not match its checksum.
	ErrCRC = errors.New("message: body does not match its checksum")
)

// BodyCRC returns the checksum that a record keeps of its body.
func BodyCRC(body []byte) uint32 {
	if len(body) == 0 {
		return 0
	}
	return crc32.ChecksumIEEE(body) & 0x7FFFFFFF
}

func hostSize(a netip.AddrPort) int {
	if is6(a) {
		return hostSize6
	}
	return hostSize4
}

func is6(a netip.AddrPort) bool { return a.Addr().Is6() && !a.Addr().Is4In6() }

// RecordSize returns the size in bytes that m takes as a record.
func RecordSize(m *Message) int {
	n := minRecordSize + len(m.Body) + len(m.Topic) + len(m.Properties)
	if len(m.Topic) > maxTopicV1 {
		n++
	}
	return n + hostSize(m.BornHost) + hostSize(m.StoreHost) - 2*hostSize4
}

// AppendRecord appends m as a record to dst and returns the longer slice. It
// picks V2 for topics over 127 bytes and sets the address bits of the system
// flag. The fields that an append assigns are taken from m as they are; see
// Patch. It fails with ErrTooLarge and then returns dst unchanged.
func AppendRecord(dst []byte, m *Message) ([]byte, error) {
	if len(m.Properties) > MaxPropertiesSize {
		return dst, fmt.Errorf("%w: properties take %d bytes, at most %d are allowed", ErrTooLarge, len(m.Properties), MaxPropertiesSize)
	}
	if len(m.Topic) > 32767 {
		return dst, fmt.Errorf("%w: topic of %d bytes", ErrTooLarge, len(m.Topic))
	}
	size := RecordSize(m)
	if int64(size) > 1<<31-1 {
		return dst, fmt.Errorf("%w: record of %d bytes", ErrTooLarge, size)
	}
	magic, flag := MagicV1, m.SysFlag&^(FlagBornV6|FlagStoreV6)
	if len(m.Topic) > maxTopicV1 {
		magic = MagicV2
	}
	if is6(m.BornHost) {
		flag |= FlagBornV6
	}
	if is6(m.StoreHost) {
		flag |= FlagStoreV6
	}
	be := binary.BigEndian
	dst = be.AppendUint32(dst, uint32(size))
	dst = be.AppendUint32(dst, magic)
	dst = be.AppendUint32(dst, BodyCRC(m.Body))
	dst = be.AppendUint32(dst, uint32(m.QueueID))
	dst = be.AppendUint32(dst, uint32(m.Flag))
	dst = be.AppendUint64(dst, uint64(m.QueueOffset))
	dst = be.AppendUint64(dst, uint64(m.Position))
	dst = be.AppendUint32(dst, uint32(flag))
	dst = be.AppendUint64(dst, uint64(m.BornTimestamp))
	dst = appendHost(dst, m.BornHost)
	dst = be.AppendUint64(dst, uint64(m.StoreTimestamp))
	dst = appendHost(dst, m.StoreHost)
	dst = be.AppendUint32(dst, uint32(m.ReconsumeTimes))
	dst = be.AppendUint64(dst, uint64(m.PreparedPosition))
	dst = be.AppendUint32(dst, uint32(len(m.Body)))
	dst = append(dst, m.Body...)
	if magic == MagicV2 {
		dst = be.AppendUint16(dst, uint16(len(m.Topic)))
	} else {
		dst = append(dst, byte(len(m.Topic)))
	}
	dst = append(dst, m.Topic...)
	dst = be.AppendUint16(dst, uint16(len(m.Properties)))
	return append(dst, m.Properties...), nil
}

func appendHost(dst []byte, a netip.AddrPort) []byte {
	switch {
	case is6(a):
		b := a.Addr().As16()
		dst = append(dst, b[:]...)
	case a.IsValid():
		b := a.Addr().Unmap().As4()
		dst = append(dst, b[:]...)
	default:
		dst = append(dst, 0, 0, 0, 0)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(a.Port()))
}

// Patch writes into an encoded record the fields that only the append knows.
func Patch(rec []byte, offset Offset, pos Position, storeTimestamp int64) {
	be := binary.BigEndian
	be.PutUint64(rec[placeQueueOff:], uint64(offset))
	be.PutUint64(rec[placePosition:], uint64(pos))
	be.PutUint64(rec[View(rec).storeTimePlace():], uint64(storeTimestamp))
}

// PutBlank writes the filler's head at the start of the rest of a segment.
// left must be at least BlankSize bytes long; only its head is written.
func PutBlank(left []byte, size int64) {
	binary.BigEndian.PutUint32(left, uint32(size))
	binary.BigEndian.PutUint32(left[placeMagic:], MagicBlank)
}
