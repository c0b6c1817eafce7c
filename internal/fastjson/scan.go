package fastjson

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner walks the input. It knows tokens, not types.
type scanner struct {
	data []byte
	pos  int
}

func (s *scanner) fail(text string) error { return &Error{Offset: s.pos, Text: text} }

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r', '\f', '\b':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) expect(c byte) error {
	if s.peek() != c {
		return s.fail("expected " + strconv.QuoteRune(rune(c)) + ", found " + s.found())
	}
	s.pos++
	return nil
}

// found names what stands at the position, for an error.
func (s *scanner) found() string {
	if s.pos >= len(s.data) {
		return "the end"
	}
	r, _ := utf8.DecodeRune(s.data[s.pos:])
	return strconv.QuoteRune(r)
}

// more is called after an element: it says whether another follows before the closing bracket, which it consumes.
func (s *scanner) more(closing byte) (bool, error) {
	switch c := s.peek(); c {
	case ',':
		s.pos++
		if s.peek() == closing {
			s.pos++
			return false, nil
		}
		return true, nil
	case closing:
		s.pos++
		return false, nil
	}
	return false, s.fail("expected ',' or " + strconv.QuoteRune(rune(closing)) + ", found " + s.found())
}

// open consumes an opening bracket and says whether the list or object has elements.
func (s *scanner) open(opening, closing byte) (bool, error) {
	if err := s.expect(opening); err != nil {
		return false, err
	}
	if s.peek() == closing {
		s.pos++
		return false, nil
	}
	return true, nil
}

// word reads a bare token: a number, a literal, an unquoted key.
func (s *scanner) word() (string, error) {
	s.peek()
	start := s.pos
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("+-._$", c) >= 0 || c >= utf8.RuneSelf {
			s.pos++
			continue
		}
		break
	}
	if s.pos == start {
		return "", s.fail("expected a value, found " + s.found())
	}
	return string(s.data[start:s.pos]), nil
}

// scalar reads a string, number or literal as text; quoted says which it was.
func (s *scanner) scalar() (text string, quoted bool, err error) {
	if c := s.peek(); c == '"' || c == '\'' {
		text, err = s.str()
		return text, true, err
	}
	text, err = s.word()
	return text, false, err
}

func (s *scanner) str() (string, error) {
	quote := s.peek()
	s.pos++
	start := s.pos
	for i := start; i < len(s.data); i++ { // most strings have no escapes
		if s.data[i] == quote {
			s.pos = i + 1
			return strings.ToValidUTF8(string(s.data[start:i]), "\uFFFD"), nil
		}
		if s.data[i] == '\\' {
			break
		}
	}
	var b []byte
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		s.pos++
		switch c {
		case quote:
			return strings.ToValidUTF8(string(b), "\uFFFD"), nil
		case '\\':
			var err error
			if b, err = s.escape(b); err != nil {
				return "", err
			}
		default:
			b = append(b, c)
		}
	}
	return "", s.fail("a string does not end")
}

const (
	escapeFrom = `bfnrtv0`
	escapeTo   = "\b\f\n\r\t\v\x00"
)

func (s *scanner) escape(b []byte) ([]byte, error) {
	if s.pos >= len(s.data) {
		return b, s.fail("a string does not end")
	}
	c := s.data[s.pos]
	s.pos++
	if i := strings.IndexByte(escapeFrom, c); i >= 0 {
		return append(b, escapeTo[i]), nil
	}
	switch c {
	case '"', '\'', '\\', '/':
		return append(b, c), nil
	case 'x':
		n, err := s.hex(2)
		return utf8.AppendRune(b, n), err
	case 'u':
		r, err := s.hex(4)
		if err != nil {
			return b, err
		}
		if utf16.IsSurrogate(r) && s.pos+1 < len(s.data) && s.data[s.pos] == '\\' && s.data[s.pos+1] == 'u' {
			back := s.pos
			s.pos += 2
			low, err := s.hex(4)
			if err != nil {
				return b, err
			}
			if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
				return utf8.AppendRune(b, full), nil
			}
			s.pos = back
		}
		return utf8.AppendRune(b, r), nil
	}
	s.pos--
	return b, s.fail("unknown escape " + s.found())
}

func (s *scanner) hex(n int) (rune, error) {
	if s.pos+n > len(s.data) {
		return 0, s.fail("a string does not end")
	}
	v, err := strconv.ParseUint(string(s.data[s.pos:s.pos+n]), 16, 32)
	if err != nil {
		return 0, s.fail("an escape wants " + strconv.Itoa(n) + " hexadecimal digits")
	}
	s.pos += n
	return rune(v), nil
}

// skip passes over one value of any shape.
func (s *scanner) skip(depth int) error {
	if depth > MaxDepth {
		return s.fail("nested too deep")
	}
	var opening, closing byte
	switch opening = s.peek(); opening {
	case '{':
		closing = '}'
	case '[':
		closing = ']'
	default:
		_, _, err := s.scalar()
		return err
	}
	more, err := s.open(opening, closing)
	for more && err == nil {
		if err = s.skip(depth + 1); err != nil {
			return err
		}
		if opening == '{' {
			if err = s.expect(':'); err != nil {
				return err
			}
			if err = s.skip(depth + 1); err != nil {
				return err
			}
		}
		more, err = s.more(closing)
	}
	return err
}
