package remoting

import (
	"encoding/binary"
	"math/bits"
)

// The quick way through what clients write: no white space, no escape in a
// key, no escape in a value but \u000n, as those between properties. Whatever
// looks otherwise is left to the way that knows all of JSON.

const (
	eachOne  = 0x0101010101010101
	eachHigh = 0x8080808080808080

	escapeZeros     = uint64('\\') | uint64('u')<<8 | uint64('0')<<16 | uint64('0')<<24 | uint64('0')<<32
	escapeZerosMask = 1<<40 - 1
	escapeLen       = 6
)

// specials marks the first byte of w, little-endian, that is a quote or a
// backslash by its high bit: a byte of q or e is zero where the text has the
// one looked for, and the lowest bit that is left of (x-eachOne)&^x&eachHigh
// belongs to the first zero byte.
func specials(w uint64) uint64 {
	q, e := w^('"'*eachOne), w^('\\'*eachOne)
	return ((q-eachOne)&^q | (e-eachOne)&^e) & eachHigh
}

// special returns the place of the first quote or backslash of b from i on, or
// len(b).
func special(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		if m := specials(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for i < len(b) && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// quickMember reads a member that stands as clients write it, without white
// space, and says false, with nothing read, of any other. s.i is at the quote
// that it begins with.
func (s *scanner) quickMember(r *Request) bool {
	b, i := s.b, s.i
	if i+16 > len(b) {
		return false
	}
	const sevenBytes = 1<<56 - 1
	w := binary.LittleEndian.Uint64(b[i:])
	var n int32
	var ok bool
	switch {
	case w&sevenBytes == wordCode:
		s.i = i + 7
		n, ok = s.digits()
		r.Code = int(n)
	case w&sevenBytes == wordFlag:
		s.i = i + 7
		n, ok = s.digits()
		r.Flag = n
	case w == wordOpaque && b[i+8] == ':':
		s.i = i + 9
		n, ok = s.digits()
		if r.Opaque, s.opaque = n, s.opaque || ok; s.opaqueAt == 0 {
			s.opaqueAt = i + 9
		} else {
			s.opaqueAt = -1
		}
	case w == wordVersion && b[i+8] == '"' && b[i+9] == ':':
		s.i = i + 10
		n, ok = s.digits()
		r.Version = int(n)
	case w == wordLanguage && string(b[i+8:i+12]) == `e":"`:
		s.i = i + 11
		var name []byte
		name, ok = s.string()
		r.Language = languageOf(name)
	case w == wordSerialize:
		const whole = `"serializeTypeCurrentRPC":"JSON"`
		ok = len(b)-i >= len(whole) && string(b[i:i+len(whole)]) == whole
		s.i = i + len(whole)
	}
	if !ok {
		s.i = i
	}
	return ok
}

// What loads of eight bytes give where these texts stand.
var (
	wordCode      = wordOf(`"code":`)
	wordFlag      = wordOf(`"flag":`)
	wordOpaque    = wordOf(`"opaque"`)
	wordVersion   = wordOf(`"version`)
	wordLanguage  = wordOf(`"languag`)
	wordSerialize = wordOf(`"seriali`)
)

func wordOf(text string) (w uint64) {
	for i := range len(text) {
		w |= uint64(text[i]) << (8 * i)
	}
	return w
}

// quickFields reads simple fields from the quote at s.i on, until one is not
// or none follows. With read, s.i is behind the last one's value; ok is false
// where a value cannot be read.
func (s *scanner) quickFields(d *Decoder) (read, ok bool) {
	b, i, fields := s.b, s.i, d.fields
	for i+8 <= len(b) && len(fields) < d.most {
		key := i + 1
		end := key + 1
		if b[end] != '"' || b[key] == '\\' || b[key] == '"' {
			end = special(b, key)
		}
		if end+3 > len(b) || b[end] != '"' || b[end+1] != ':' || b[end+2] != '"' {
			break
		}
		from := end + 3
		if from+8 > len(b) {
			break
		}
		m := specials(binary.LittleEndian.Uint64(b[from:]))
		to := from + bits.TrailingZeros64(m)>>3 // from+8 where there is none
		if m == 0 {
			to = special(b, to)
		}
		next := to + 1
		var value []byte
		switch {
		case to >= len(b):
			s.i = to
			return true, s.fail("a string is not closed")
		case b[to] == '"':
			value = b[from:to]
		default:
			if value, ok = s.unescape(from, to); !ok {
				return true, false
			}
			next = s.i
		}
		fields = append(fields, Field{Key: b[key:end], Value: value})
		s.i, read = next, true
		if next+1 >= len(b) || b[next] != ',' || b[next+1] != '"' {
			break
		}
		i = next + 1
	}
	d.fields = fields
	return read, true
}

// quickKey reads a member's name and the colon behind it where nothing stands
// between them and the name has no escape; else it returns nil.
func (s *scanner) quickKey() []byte {
	from := s.i + 1
	end := special(s.b, from)
	if end+2 > len(s.b) || s.b[end] != '"' || s.b[end+1] != ':' {
		return nil
	}
	s.i = end + 2
	return s.b[from:end]
}

// quickUnescape unescapes from the backslash at i on, as long as there are no
// escapes but \u0000 to \u0009, and writes from w on, which may be i. It
// returns where it is: at the closing quote, at another escape, or within eight
// bytes of the end.
func quickUnescape(b []byte, i, w int) (at, written int) {
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		if x&escapeZerosMask == escapeZeros && b[i+5]-'0' <= 9 {
			b[w] = b[i+5] - '0'
			w++
			i += escapeLen
			continue
		}
		m := specials(x)
		if m == 0 {
			// What lies behind w+8 has not been read over: w is at most i.
			binary.LittleEndian.PutUint64(b[w:], x)
			i, w = i+8, w+8
			continue
		}
		n := bits.TrailingZeros64(m) >> 3
		if n == 0 {
			break
		}
		w += copy(b[w:], b[i:i+n])
		i += n
	}
	return i, w
}
