package remoting

import (
	"encoding/binary"
	"math"
	"strconv"
)

const (
	maxHeader = 1<<24 - 1 // its length has 24 bits
	maxRemark = 32 << 10
	preamble  = 8 // frame length, encoding, header length
)

// header collects what a frame's header will hold. Fields are encoded as they
// are added, because the encoding is known from the start.
type header struct {
	encoding byte
	language byte
	code     int
	opaque   int32
	flag     int32
	remark   string
	ext      []byte
	bad      bool // something that the encoding cannot carry
}

func (h *header) reset(encoding byte, code int, opaque, flag int32) {
	*h = header{encoding: encoding, language: LangJava, code: code, opaque: opaque, flag: flag, ext: h.ext[:0]}
}

func (h *header) str(key, value string) {
	if h.encoding == EncodingBinary {
		h.binaryKey(key, len(value))
		h.ext = append(h.ext, value...)
		return
	}
	h.jsonKey(key)
	h.ext = appendEscaped(h.ext, value)
	h.ext = append(h.ext, '"')
}

func (h *header) bytes(key string, value []byte) {
	if h.encoding == EncodingBinary {
		h.binaryKey(key, len(value))
		h.ext = append(h.ext, value...)
		return
	}
	h.jsonKey(key)
	h.ext = appendEscaped(h.ext, value)
	h.ext = append(h.ext, '"')
}

func (h *header) int(key string, value int64) {
	if h.encoding == EncodingBinary {
		var digits [20]byte
		d := strconv.AppendInt(digits[:0], value, 10)
		h.binaryKey(key, len(d))
		h.ext = append(h.ext, d...)
		return
	}
	h.jsonKey(key)
	h.ext = strconv.AppendInt(h.ext, value, 10)
	h.ext = append(h.ext, '"')
}

func (h *header) jsonKey(key string) {
	ext := h.ext
	if len(ext) > 0 {
		ext = append(ext, ',', '"')
	} else {
		ext = append(ext, '"')
	}
	ext = appendEscaped(ext, key)
	h.ext = append(ext, '"', ':', '"')
}

// fixed adds fields that are encoded already.
func (h *header) fixed(f *FixedFields) {
	if h.encoding == EncodingBinary {
		h.ext = append(h.ext, f.binary...)
		return
	}
	if len(h.ext) > 0 && len(f.json) > 0 {
		h.ext = append(h.ext, ',')
	}
	h.ext = append(h.ext, f.json...)
}

func (h *header) binaryKey(key string, value int) {
	if len(key) > math.MaxInt16 {
		h.bad = true
		return
	}
	h.ext = binary.BigEndian.AppendUint16(h.ext, uint16(len(key)))
	h.ext = append(h.ext, key...)
	h.ext = binary.BigEndian.AppendUint32(h.ext, uint32(value))
}

// append appends the header's bytes. Members of the JSON form stand in
// alphabetical order, as Apache writes them.
func (h *header) append(out []byte) []byte {
	if h.encoding == EncodingBinary {
		out = binary.BigEndian.AppendUint16(out, uint16(h.code))
		out = append(out, h.language)
		out = binary.BigEndian.AppendUint16(out, Version)
		out = binary.BigEndian.AppendUint32(out, uint32(h.opaque))
		out = binary.BigEndian.AppendUint32(out, uint32(h.flag))
		out = binary.BigEndian.AppendUint32(out, uint32(len(h.remark)))
		out = append(out, h.remark...)
		out = binary.BigEndian.AppendUint32(out, uint32(len(h.ext)))
		return append(out, h.ext...)
	}
	out = append(out, `{"code":`...)
	out = strconv.AppendInt(out, int64(h.code), 10)
	if len(h.ext) > 0 {
		out = append(out, `,"extFields":{`...)
		out = append(out, h.ext...)
		out = append(out, '}')
	}
	if h.flag == flagResponse && h.language == LangJava {
		out = append(out, `,"flag":1,"language":"JAVA","opaque":`...)
	} else {
		out = append(out, `,"flag":`...)
		out = strconv.AppendInt(out, int64(h.flag), 10)
		out = append(out, `,"language":"`...)
		out = append(out, LanguageName(h.language)...)
		out = append(out, `","opaque":`...)
	}
	out = strconv.AppendInt(out, int64(h.opaque), 10)
	if h.remark != "" {
		out = append(out, `,"remark":"`...)
		out = appendEscaped(out, h.remark)
		out = append(out, '"')
	}
	return append(out, `,"serializeTypeCurrentRPC":"JSON","version":`+versionText+`}`...)
}

const versionText = "513" // Version; a test holds them together

// appendFrame appends a whole frame, or leaves out as it is and says false
// where a frame cannot carry it.
func (h *header) appendFrame(out, body []byte) ([]byte, bool) {
	start := len(out)
	out = append(out, 0, 0, 0, 0, 0, 0, 0, 0)
	out = h.append(out)
	size := len(out) - start - preamble
	if h.bad || size > maxHeader || int64(size)+int64(len(body)) > math.MaxInt32-preamble {
		return out[:start], false
	}
	out = append(out, body...)
	h.putLengths(out[start:], size)
	return out, true
}

// putLengths fills the preamble of a frame whose header has the given size.
func (h *header) putLengths(frame []byte, size int) {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	binary.BigEndian.PutUint32(frame[4:], uint32(size)|uint32(h.encoding)<<24)
}

const hexDigits = "0123456789abcdef"

// plain says which bytes stand for themselves in a JSON string. Everything past
// ASCII does: the protocol is UTF-8 and does not escape it, nor <, > and &.
var plain = func() (t [256]bool) {
	for i := range t {
		t[i] = i >= ' ' && i != '"' && i != '\\'
	}
	return t
}()

// allPlain says whether no byte of s needs an escape, eight bytes at once: a
// byte of (w-eachSpace)&^w has its high bit set where w has one below a space,
// and likewise as in special for quotes and backslashes. Bytes past ASCII may
// pass for such ones; then the long way decides.
func allPlain(s []byte) bool {
	for len(s) >= 8 {
		w := binary.LittleEndian.Uint64(s)
		q, e := w^('"'*eachOne), w^('\\'*eachOne)
		if ((w-' '*eachOne)&^w|(q-eachOne)&^q|(e-eachOne)&^e)&eachHigh != 0 {
			return false
		}
		s = s[8:]
	}
	for _, b := range s {
		if !plain[b] {
			return false
		}
	}
	return true
}

func appendEscaped[T string | []byte](out []byte, s T) []byte {
	if allPlain([]byte(s)) {
		return append(out, s...)
	}
	from := 0
	for i := 0; i < len(s); i++ {
		b := s[i]
		if plain[b] {
			continue
		}
		out = append(out, s[from:i]...)
		from = i + 1
		switch b {
		case '"', '\\':
			out = append(out, '\\', b)
		case '\n':
			out = append(out, '\\', 'n')
		case '\r':
			out = append(out, '\\', 'r')
		case '\t':
			out = append(out, '\\', 't')
		default:
			out = append(out, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
		}
	}
	return append(out, s[from:]...)
}
