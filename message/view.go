package message

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// View is a record read in place: the accessors read the stored bytes, nothing
// is copied. Only bytes that Parse accepted may be used as a View; then no
// accessor panics.
type View []byte

// PeekSize returns the size and magic that the bytes claim, or ErrShort for
// fewer than eight bytes. It checks nothing else.
func PeekSize(b []byte) (size int, magic uint32, err error) {
	if len(b) < BlankSize {
		return 0, 0, fmt.Errorf("%w: %d bytes left", ErrShort, len(b))
	}
	return int(int32(binary.BigEndian.Uint32(b))), binary.BigEndian.Uint32(b[placeMagic:]), nil
}

// Parse takes the record at the start of b and checks that its lengths fit
// together. The body's checksum is checked by VerifyBody, the record's own
// position by the caller. Errors: ErrShort, ErrMagic, ErrBlank, ErrLayout.
func Parse(b []byte) (View, error) {
	size, magic, err := PeekSize(b)
	if err != nil {
		return nil, err
	}
	switch magic {
	case MagicV1, MagicV2:
	case MagicBlank:
		return nil, ErrBlank
	default:
		return nil, fmt.Errorf("%w: %#08x", ErrMagic, magic)
	}
	if size < minRecordSize {
		return nil, fmt.Errorf("%w: size %d", ErrLayout, size)
	}
	if size > len(b) {
		return nil, fmt.Errorf("%w: size %d, %d bytes left", ErrShort, size, len(b))
	}
	v := View(b[:size:size])
	if !v.layoutFits() {
		return nil, fmt.Errorf("%w: size %d", ErrLayout, size)
	}
	return v, nil
}

// Split takes a whole record apart as far as a filter needs it: the topic and
// the properties, in one go. It is false where Parse would fail, or would find a
// record of another length.
func Split(b []byte) (topic []byte, p Properties, ok bool) {
	if len(b) < minRecordSize || int(int32(binary.BigEndian.Uint32(b))) != len(b) {
		return nil, nil, false
	}
	v, lenSize := View(b), 1
	switch v.u32(placeMagic) {
	case MagicV1:
	case MagicV2:
		lenSize = 2
	default:
		return nil, nil, false
	}
	at := v.bodyPlace()
	if at+4 > len(b) {
		return nil, nil, false
	}
	n := int(int32(v.u32(at)))
	if n < 0 || n > len(b)-at-4-lenSize {
		return nil, nil, false
	}
	at += 4 + n
	if n = v.topicLen(at); n < 0 || n > len(b)-at-lenSize-2 {
		return nil, nil, false
	}
	at += lenSize
	topic = b[at : at+n : at+n]
	at += n
	if n = int(int16(binary.BigEndian.Uint16(b[at:]))); n < 0 || at+2+n != len(b) {
		return nil, nil, false
	}
	return topic, Properties(b[at+2 : len(b) : len(b)]), true
}

func (v View) layoutFits() bool {
	at := v.bodyPlace()
	if at+4 > len(v) {
		return false
	}
	n := int(int32(v.u32(at)))
	if n < 0 || n > len(v)-at-4 {
		return false
	}
	at += 4 + n
	lenSize := v.topicLenSize()
	if at+lenSize > len(v) {
		return false
	}
	n = v.topicLen(at)
	if n < 0 || n > len(v)-at-lenSize {
		return false
	}
	at += lenSize + n
	if at+2 > len(v) {
		return false
	}
	n = int(int16(binary.BigEndian.Uint16(v[at:])))
	return n >= 0 && at+2+n == len(v)
}

func (v View) u32(at int) uint32 { return binary.BigEndian.Uint32(v[at:]) }
func (v View) u64(at int) uint64 { return binary.BigEndian.Uint64(v[at:]) }

func (v View) bornHostSize() int {
	if v.SysFlag()&FlagBornV6 != 0 {
		return hostSize6
	}
	return hostSize4
}

func (v View) storeHostSize() int {
	if v.SysFlag()&FlagStoreV6 != 0 {
		return hostSize6
	}
	return hostSize4
}

func (v View) storeTimePlace() int { return placeBornHost + v.bornHostSize() }
func (v View) storeHostPlace() int { return v.storeTimePlace() + 8 }
func (v View) reconsumePlace() int { return v.storeHostPlace() + v.storeHostSize() }
func (v View) bodyPlace() int      { return v.reconsumePlace() + 12 }
func (v View) topicPlace() int     { return v.bodyPlace() + 4 + v.BodySize() }

func (v View) topicLenSize() int {
	if v.u32(placeMagic) == MagicV2 {
		return 2
	}
	return 1
}

func (v View) topicLen(at int) int {
	if v.u32(placeMagic) == MagicV2 {
		return int(int16(binary.BigEndian.Uint16(v[at:])))
	}
	return int(int8(v[at]))
}

// Size returns the record's size in bytes.
func (v View) Size() int { return len(v) }

// BodyCRC returns the stored checksum of the body.
func (v View) BodyCRC() uint32 { return v.u32(placeBodyCRC) }

// QueueID returns the queue the record belongs to.
func (v View) QueueID() int32 { return int32(v.u32(placeQueueID)) }

// Flag returns the user's flag.
func (v View) Flag() int32 { return int32(v.u32(placeFlag)) }

// QueueOffset returns the record's place in its queue.
func (v View) QueueOffset() Offset { return Offset(v.u64(placeQueueOff)) }

// Position returns the position that the record says it stands at.
func (v View) Position() Position { return Position(v.u64(placePosition)) }

// SysFlag returns the system flag.
func (v View) SysFlag() SysFlag { return SysFlag(v.u32(placeSysFlag)) }

// BornTimestamp returns the producer's time, in ms.
func (v View) BornTimestamp() int64 { return int64(v.u64(placeBornTime)) }

// BornHost returns the producer's address.
func (v View) BornHost() netip.AddrPort { return hostAt(v[placeBornHost:], v.bornHostSize()) }

// StoreTimestamp returns the broker's time of the append, in ms.
func (v View) StoreTimestamp() int64 { return int64(v.u64(v.storeTimePlace())) }

// StoreHost returns the address of the broker that stored the record.
func (v View) StoreHost() netip.AddrPort { return hostAt(v[v.storeHostPlace():], v.storeHostSize()) }

// ReconsumeTimes returns how often the message was given back.
func (v View) ReconsumeTimes() int32 { return int32(v.u32(v.reconsumePlace())) }

// SetReconsumeTimes changes how often the message was consumed before, in
// place: the View must be of a copy. No checksum covers it.
func (v View) SetReconsumeTimes(n int32) {
	binary.BigEndian.PutUint32(v[v.reconsumePlace():], uint32(n))
}

// PreparedPosition returns the position of the transaction's half message.
func (v View) PreparedPosition() Position { return Position(v.u64(v.reconsumePlace() + 4)) }

// BodySize returns the stored body's size in bytes.
func (v View) BodySize() int { return int(v.u32(v.bodyPlace())) }

// Body returns the stored body, still compressed if it was.
func (v View) Body() []byte {
	at := v.bodyPlace() + 4
	n := v.BodySize()
	return v[at : at+n : at+n]
}

// Topic returns the topic's bytes.
func (v View) Topic() []byte {
	at := v.topicPlace()
	n := v.topicLen(at)
	at += v.topicLenSize()
	return v[at : at+n : at+n]
}

// Properties returns the encoded properties.
func (v View) Properties() Properties {
	at := v.topicPlace()
	at += v.topicLenSize() + v.topicLen(at) + 2
	return Properties(v[at:len(v):len(v)])
}

// VerifyBody compares the body with its checksum and returns ErrCRC if they differ.
func (v View) VerifyBody() error {
	if got := BodyCRC(v.Body()); got != v.BodyCRC() {
		return fmt.Errorf("%w: stored %#08x, computed %#08x", ErrCRC, v.BodyCRC(), got)
	}
	return nil
}

// OffsetID returns the record's message id as a broker hands it out.
func (v View) OffsetID() string { return OffsetID(v.StoreHost(), v.Position()) }

// Message returns the record in its parts. Body and Properties point into v.
func (v View) Message() Message {
	return Message{
		Topic: string(v.Topic()), QueueID: v.QueueID(), Flag: v.Flag(), SysFlag: v.SysFlag(),
		BornTimestamp: v.BornTimestamp(), BornHost: v.BornHost(),
		StoreTimestamp: v.StoreTimestamp(), StoreHost: v.StoreHost(),
		ReconsumeTimes: v.ReconsumeTimes(), PreparedPosition: v.PreparedPosition(),
		Body: v.Body(), Properties: v.Properties(), QueueOffset: v.QueueOffset(), Position: v.Position(),
	}
}

func hostAt(b []byte, size int) netip.AddrPort {
	port := uint16(binary.BigEndian.Uint32(b[size-4:]))
	if size == hostSize6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[:16])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), port)
}
