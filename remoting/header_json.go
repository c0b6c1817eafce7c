package remoting

import (
	"bytes"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// json reads a JSON header by hand: one pass, no allocation, members in any
// order, unknown ones skipped, numbers and booleans taken for strings where a
// field should be one. It is as lenient as Apache's parser with what clients
// are known to send, and strict about where a value ends.
func (d *Decoder) json(h []byte, r *Request) error {
	s := scanner{b: h}
	first := len(d.fields)
	r.Language = LangUnknown
	ok := false
	if p := d.shapeOf(h); p != nil {
		ok = p.json(d, &s, r)
	} else {
		ok = s.header(d, r)
	}
	if !ok {
		e := &HeaderError{Reason: s.reason, At: s.i, Opaque: r.Opaque, HasOpaque: s.opaque, IsResponse: r.IsResponse()}
		if !e.HasOpaque {
			e.Opaque, e.HasOpaque = findOpaque(h[min(s.i, len(h)):])
		}
		return e
	}
	r.Fields = d.fields[first:len(d.fields):len(d.fields)]
	return nil
}

// findOpaque looks for the opaque behind the place where the header broke.
func findOpaque(h []byte) (int32, bool) {
	const member = `"opaque":`
	at := bytes.Index(h, []byte(member))
	if at < 0 {
		return 0, false
	}
	s := scanner{b: h, i: at + len(member)}
	return s.int32()
}

// scanner walks over a JSON text. Its methods return false, with the reason,
// where the text is not what they read.
type scanner struct {
	b        []byte
	i        int
	opaque   bool // the header's opaque was read
	opaqueAt int  // where its digits begin; -1 if it is there twice, or written as no client does
	reason   string
}

func (s *scanner) fail(reason string) bool {
	if s.reason == "" {
		s.reason = reason
	}
	return false
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// next skips white space and returns the byte behind it, or 0 at the end.
func (s *scanner) next() byte {
	if s.i < len(s.b) && s.b[s.i] > ' ' {
		return s.b[s.i]
	}
	s.space()
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) header(d *Decoder, r *Request) bool {
	if s.next() != '{' {
		return s.fail("it is not a JSON object")
	}
	for more, ok := s.firstMember(); more; more, ok = s.nextMember() {
		if !ok {
			return false
		}
		if s.quickMember(r) {
			continue
		}
		key, ok := s.key()
		if !ok || !s.member(key, d, r) {
			return false
		}
	}
	if s.reason != "" {
		return false
	}
	if s.next(); s.i < len(s.b) {
		return s.fail("there is text behind its closing brace")
	}
	return true
}

// firstMember steps over an opening brace and says whether a member follows;
// ok is false where neither a member nor the closing brace does.
func (s *scanner) firstMember() (more, ok bool) {
	s.i++
	switch s.next() {
	case '}':
		s.i++
		return false, true
	case '"':
		return true, true
	}
	return true, s.fail("a member's name is missing")
}

// nextMember steps over the comma to the next member, or over the closing
// brace.
func (s *scanner) nextMember() (more, ok bool) {
	if i := s.i; i+1 < len(s.b) && s.b[i] == ',' && s.b[i+1] == '"' {
		s.i++
		return true, true
	}
	switch s.next() {
	case ',':
		s.i++
		if s.next() == '"' {
			return true, true
		}
		return true, s.fail("a member's name is missing")
	case '}':
		s.i++
		return false, true
	}
	return true, s.fail("a comma or the closing brace is missing")
}

func (s *scanner) key() ([]byte, bool) {
	if key := s.quickKey(); key != nil {
		return key, true
	}
	key, ok := s.string()
	if !ok {
		return nil, false
	}
	if s.next() != ':' {
		return nil, s.fail("a colon is missing")
	}
	s.i++
	return key, true
}

func (s *scanner) member(key []byte, d *Decoder, r *Request) bool {
	if s.null() {
		return true
	}
	var n int32
	ok := true
	switch string(key) {
	case "code":
		n, ok = s.int32()
		r.Code = int(n)
	case "version":
		n, ok = s.int32()
		r.Version = int(n)
	case "opaque":
		r.Opaque, ok = s.int32()
		s.opaque, s.opaqueAt = ok, -1
	case "flag":
		r.Flag, ok = s.int32()
	case "language":
		ok = s.language(r)
	case "remark":
		if s.next() != '"' {
			return s.skip()
		}
		r.Remark, ok = s.string()
	case "extFields":
		ok = s.fields(d)
	default:
		return s.skip()
	}
	return ok
}

// null steps over the word null.
func (s *scanner) null() bool {
	if s.next() == 'n' && len(s.b)-s.i >= 4 && string(s.b[s.i:s.i+4]) == "null" {
		s.i += 4
		return true
	}
	return false
}

// int32 reads a number, quoted or not, with a fraction of zeros at most.
func (s *scanner) int32() (int32, bool) {
	if n, ok := s.digits(); ok {
		return n, true
	}
	var text []byte
	if s.next() == '"' {
		var ok bool
		if text, ok = s.string(); !ok {
			return 0, false
		}
	} else {
		text = s.literal()
	}
	if dot := bytes.IndexByte(text, '.'); dot > 0 && len(bytes.Trim(text[dot+1:], "0")) == 0 {
		text = text[:dot]
	}
	n, ok := ParseInt(text)
	if !ok || int64(int32(n)) != n {
		return 0, s.fail("a number of 32 bits is expected")
	}
	return int32(n), true
}

// digits reads what a number nearly always is, and nothing else: digits with a
// comma or brace behind them.
func (s *scanner) digits() (int32, bool) {
	const most = 10
	var n int64
	for i := s.i; i < len(s.b) && i <= s.i+most; i++ {
		switch d := s.b[i] - '0'; {
		case d <= 9 && i < s.i+most:
			n = n*10 + int64(d)
		case i > s.i && n <= math.MaxInt32 && (s.b[i] == ',' || s.b[i] == '}'):
			s.i = i
			return int32(n), true
		default:
			return 0, false
		}
	}
	return 0, false
}

// literal reads an unquoted word: a number, true, false.
func (s *scanner) literal() []byte {
	s.space()
	from := s.i
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ',', '}', ']', ' ', '\t', '\n', '\r', '"', ':', '{', '[':
			return s.b[from:s.i]
		}
		s.i++
	}
	return s.b[from:s.i]
}

func (s *scanner) language(r *Request) bool {
	if s.next() == '"' {
		name, ok := s.string()
		r.Language = languageOf(name)
		return ok
	}
	n, ok := s.int32()
	if n >= 0 && int(n) < len(languages) {
		r.Language = byte(n)
	}
	return ok
}

func (s *scanner) fields(d *Decoder) bool {
	if s.next() != '{' {
		return s.fail("extFields is not an object")
	}
	for more, ok := s.firstMember(); more; more, ok = s.nextMember() {
		if !ok || !s.field(d) {
			return false
		}
	}
	return s.reason == ""
}

// field reads one field, and the simple ones behind it.
func (s *scanner) field(d *Decoder) bool {
	if read, ok := s.quickFields(d); read {
		return ok
	}
	if d.full() {
		return s.fail(tooManyFields)
	}
	key, ok := s.key()
	if !ok || s.null() {
		return ok
	}
	var value []byte
	if s.next() == '"' {
		value, ok = s.string()
	} else {
		at := s.i
		ok = s.skip()
		value = s.b[at:s.i]
	}
	d.fields = append(d.fields, Field{Key: key, Value: value})
	return ok
}

// skip steps over any value. Of nested ones only the brackets and strings are
// looked at.
func (s *scanner) skip() bool {
	depth := 0
	for {
		switch s.next() {
		case 0:
			return s.fail("a value is cut off")
		case '"':
			if !s.skipString() {
				return false
			}
		case '{', '[':
			depth++
			s.i++
		case '}', ']':
			if depth == 0 {
				return s.fail("a value is missing")
			}
			depth--
			s.i++
		case ',', ':':
			if depth == 0 {
				return s.fail("a value is missing")
			}
			s.i++
			continue
		default:
			if len(s.literal()) == 0 {
				return s.fail("a value is missing")
			}
		}
		if depth == 0 {
			return true
		}
	}
}

// skipString steps over a string and leaves it as it is, so that what skip
// steps over stays the text that it was.
func (s *scanner) skipString() bool {
	for s.i++; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '"':
			s.i++
			return true
		case '\\':
			s.i++
		}
	}
	return s.fail("a string is not closed")
}

// string reads a quoted string and returns it unescaped. A string with escapes
// is written over in place, which only ever makes it shorter.
func (s *scanner) string() ([]byte, bool) {
	from := s.i + 1
	i := special(s.b, from)
	if i >= len(s.b) {
		s.i = len(s.b)
		return nil, s.fail("a string is not closed")
	}
	if s.b[i] == '\\' {
		return s.unescape(from, i)
	}
	s.i = i + 1
	return s.b[from:i], true
}

// unescape goes on with a string that began at from and has its first escape at
// i.
func (s *scanner) unescape(from, i int) ([]byte, bool) {
	b := s.b
	i, w := quickUnescape(b, i, i)
	for i < len(b) {
		switch b[i] {
		case '"':
			s.i = i + 1
			return b[from:w], true
		case '\\':
			n, ok := s.escape(i, b[w:w])
			if !ok {
				return nil, false
			}
			w += n
			i = s.i
		default:
			run := special(b, i+1)
			w += copy(b[w:], b[i:run])
			i = run
		}
	}
	s.i = len(b)
	return nil, s.fail("a string is not closed")
}

// escape reads the escape at i, appends what it stands for to dst, which lies
// in front of it, and leaves s.i behind it.
func (s *scanner) escape(i int, dst []byte) (n int, ok bool) {
	b := s.b
	s.i = i
	if i+1 >= len(b) {
		return 0, s.fail("a string is not closed")
	}
	c := b[i+1]
	switch c {
	case '"', '\\', '/', '\'':
	case 'n':
		c = '\n'
	case 't':
		c = '\t'
	case 'r':
		c = '\r'
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'u':
		return s.unicode(i, dst)
	default:
		return 0, s.fail("an escape is not known")
	}
	s.i = i + 2
	return len(append(dst, c)), true
}

func (s *scanner) unicode(i int, dst []byte) (int, bool) {
	r, ok := hex4(s.b, i+2)
	if !ok {
		return 0, s.fail("an escape \\u needs four hexadecimal digits")
	}
	s.i = i + 6
	if utf16.IsSurrogate(r) {
		low, ok := rune(0), false
		if j := s.i; j+1 < len(s.b) && s.b[j] == '\\' && s.b[j+1] == 'u' {
			low, ok = hex4(s.b, j+2)
		}
		r = utf16.DecodeRune(r, low)
		if ok && r != utf8.RuneError {
			s.i += 6
		}
	}
	return len(utf8.AppendRune(dst, r)), true
}

func hex4(b []byte, i int) (rune, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	var r rune
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
