package message

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// OffsetID returns the id that a broker gives a stored message: address, port
// and position in upper-case hex, 32 characters for IPv4 and 56 for IPv6.
func OffsetID(storeHost netip.AddrPort, pos Position) string {
	return string(AppendOffsetID(make([]byte, 0, 56), storeHost, pos))
}

// AppendOffsetID appends the id to dst.
func AppendOffsetID(dst []byte, storeHost netip.AddrPort, pos Position) []byte {
	var raw [28]byte
	b := binary.BigEndian.AppendUint64(appendHost(raw[:0], storeHost), uint64(pos))
	return appendUpperHex(dst, b)
}

func appendUpperHex(dst, b []byte) []byte {
	const digits = "0123456789ABCDEF"
	n := len(dst)
	dst = slices.Grow(dst, 2*len(b))[:n+2*len(b)]
	out := dst[n:]
	for i, c := range b {
		out[2*i], out[2*i+1] = digits[c>>4], digits[c&15]
	}
	return dst
}

// ParseOffsetID takes an offset id apart. It fails when the text is not 32 or
// 56 hex characters.
func ParseOffsetID(id string) (storeHost netip.AddrPort, pos Position, err error) {
	if len(id) != 32 && len(id) != 56 {
		return storeHost, 0, fmt.Errorf("message: %q is not an offset id: want 32 or 56 hex characters, got %d", id, len(id))
	}
	raw, err := hex.DecodeString(id)
	if err != nil {
		return storeHost, 0, fmt.Errorf("message: %q is not an offset id: %w", id, err)
	}
	n := len(raw) - 8
	return hostAt(raw, n), Position(binary.BigEndian.Uint64(raw[n:])), nil
}

// UniqueIDs makes unique keys as Apache's clients do: address, process, class
// loader hash, milliseconds since the start of the month, counter. Safe for
// concurrent use; the zero value is not usable, see NewUniqueIDs.
type UniqueIDs struct {
	prefix  string
	counter atomic.Uint32
}

// NewUniqueIDs returns a generator for this process at the given address.
func NewUniqueIDs(addr netip.Addr, seed uint32) *UniqueIDs {
	var raw []byte
	if addr = addr.Unmap(); addr.Is6() {
		raw = addr.AsSlice()
	} else if addr.IsValid() {
		raw = addr.AsSlice()
	} else {
		raw = make([]byte, 4)
	}
	raw = binary.BigEndian.AppendUint16(raw, uint16(os.Getpid()))
	raw = binary.BigEndian.AppendUint32(raw, seed)
	return &UniqueIDs{prefix: string(appendUpperHex(nil, raw))}
}

// Next returns a new unique key for a message born now.
func (u *UniqueIDs) Next(now time.Time) string {
	var raw [6]byte
	binary.BigEndian.PutUint32(raw[:], uint32(now.Sub(monthStart(now)).Milliseconds()))
	binary.BigEndian.PutUint16(raw[4:], uint16(u.counter.Add(1)))
	return string(appendUpperHex([]byte(u.prefix), raw[:]))
}

func monthStart(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, t.Location())
}

// UniqueIDTime returns when the message of a unique key was born, reckoned
// back from now, and false if the text is no unique key. A key holds the time
// within its month only: the newest month that is not in the future is taken.
func UniqueIDTime(id string, now time.Time) (time.Time, bool) {
	if len(id) != 32 && len(id) != 56 {
		return time.Time{}, false
	}
	raw, err := hex.DecodeString(strings.ToUpper(id))
	if err != nil {
		return time.Time{}, false
	}
	ms := time.Duration(binary.BigEndian.Uint32(raw[len(raw)-6:])) * time.Millisecond
	born := monthStart(now).Add(ms)
	if born.After(now.Add(time.Minute)) {
		born = monthStart(monthStart(now).Add(-time.Hour)).Add(ms)
	}
	return born, true
}
