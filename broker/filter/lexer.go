package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// SyntaxError says where and why an expression does not compile.
type SyntaxError struct {
	Pos    int    // bytes before the place
	Reason string // for whoever wrote the expression
	near   string // what stands at the place
}

// Error implements error.
func (e *SyntaxError) Error() string {
	if e.near == "" {
		return fmt.Sprintf("at position %d: %s", e.Pos, e.Reason)
	}
	return fmt.Sprintf("at position %d, near %q: %s", e.Pos, e.near, e.Reason)
}

type tokenKind uint8

const (
	tEnd tokenKind = iota
	tName
	tString
	tDecimal
	tFloat
	tAnd
	tBetween
	tContains
	tEndsWith
	tFalse
	tIn
	tIs
	tNot
	tNull
	tOr
	tStartsWith
	tTrue
	tEqual
	tNotEqual
	tLess
	tLessEqual
	tGreater
	tGreaterEqual
	tOpen
	tClose
	tComma
	tPlus
	tMinus
)

var keywords = [...]struct {
	word string
	kind tokenKind
}{
	{"AND", tAnd}, {"BETWEEN", tBetween}, {"CONTAINS", tContains}, {"ENDSWITH", tEndsWith}, {"FALSE", tFalse},
	{"IN", tIn}, {"IS", tIs}, {"NOT", tNot}, {"NULL", tNull}, {"OR", tOr}, {"STARTSWITH", tStartsWith}, {"TRUE", tTrue},
}

type token struct {
	kind tokenKind
	pos  int
	text string // as it stands in the expression
}

// next returns the token at or after pos, the longest that fits there.
func next(text string, pos int) (token, error) {
	pos, err := skip(text, pos)
	if err != nil {
		return token{}, err
	}
	if pos == len(text) {
		return token{kind: tEnd, pos: pos}, nil
	}
	kind, size := tEnd, 0
	switch c := text[pos]; {
	case isLetter(c):
		size = 1
		for pos+size < len(text) && (isLetter(text[pos+size]) || isDigit(text[pos+size])) {
			size++
		}
		kind = wordKind(text[pos : pos+size])
	case c == '\'':
		if size = quoted(text[pos:]); size == 0 {
			return token{}, syntax(text, pos, "the string has no closing quote; a quote inside a string is written twice")
		}
		kind = tString
	case isDigit(c), c == '.':
		kind, size = number(text[pos:])
	default:
		kind, size = sign(text[pos:])
	}
	if size == 0 {
		return token{}, syntax(text, pos, "nothing in the filter language begins like this; "+allowed)
	}
	return token{kind, pos, text[pos : pos+size]}, nil
}

const allowed = "it has names, numbers, 'strings', ( ) , = <> < <= > >= + - and comments"

// skip returns where the blanks and comments at pos end.
func skip(text string, pos int) (int, error) {
	for pos < len(text) {
		rest := text[pos:]
		switch {
		case strings.IndexByte(" \t\n\r\f", rest[0]) >= 0:
			pos++
		case strings.HasPrefix(rest, "--"):
			i := strings.IndexAny(rest, "\n\r")
			if i < 0 {
				return pos, nil
			}
			pos += i + 1
		case strings.HasPrefix(rest, "/*"):
			i := strings.Index(rest[2:], "*/")
			if i < 0 {
				return pos, syntax(text, pos, "the comment has no */ at its end")
			}
			pos += i + 4
		default:
			return pos, nil
		}
	}
	return pos, nil
}

func isLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '$'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func wordKind(word string) tokenKind {
	for i := range keywords {
		if k := &keywords[i]; len(k.word) == len(word) && strings.EqualFold(k.word, word) {
			return k.kind
		}
	}
	return tName
}

// quoted returns the size of the string literal that text begins with, or 0.
func quoted(text string) int {
	for i := 1; i < len(text); i++ {
		if text[i] != '\'' {
			continue
		}
		if i+1 == len(text) || text[i+1] != '\'' {
			return i + 1
		}
		i++
	}
	return 0
}

// unquote returns what a string literal means.
func unquote(literal string) string {
	return strings.ReplaceAll(literal[1:len(literal)-1], "''", "'")
}

// number returns the longest number that text begins with: an integer is 0 or
// begins with another digit, a float has a point or an exponent.
func number(text string) (tokenKind, int) {
	whole := digits(text)
	size := whole
	if size < len(text) && text[size] == '.' {
		fraction := digits(text[size+1:])
		if whole+fraction == 0 {
			return tEnd, 0
		}
		size += 1 + fraction
	}
	if e := exponent(text[size:]); e > 0 {
		return tFloat, size + e
	}
	switch {
	case size > whole:
		return tFloat, size
	case text[0] == '0':
		return tDecimal, 1
	case size < len(text) && (text[size] == 'L' || text[size] == 'l'):
		return tDecimal, size + 1
	}
	return tDecimal, size
}

func digits(text string) int {
	n := 0
	for n < len(text) && isDigit(text[n]) {
		n++
	}
	return n
}

func exponent(text string) int {
	if text == "" || text[0] != 'E' && text[0] != 'e' {
		return 0
	}
	at := 1
	if at < len(text) && (text[at] == '+' || text[at] == '-') {
		at++
	}
	if n := digits(text[at:]); n > 0 {
		return at + n
	}
	return 0
}

func sign(text string) (tokenKind, int) {
	second := byte(0)
	if len(text) > 1 {
		second = text[1]
	}
	switch text[0] {
	case '=':
		return tEqual, 1
	case '<':
		switch second {
		case '>':
			return tNotEqual, 2
		case '=':
			return tLessEqual, 2
		}
		return tLess, 1
	case '>':
		if second == '=' {
			return tGreaterEqual, 2
		}
		return tGreater, 1
	case '(':
		return tOpen, 1
	case ')':
		return tClose, 1
	case ',':
		return tComma, 1
	case '+':
		return tPlus, 1
	case '-':
		return tMinus, 1
	}
	return tEnd, 0
}

func syntax(text string, pos int, format string, args ...any) error {
	near := text[pos:]
	if len(near) > 20 {
		end := 20
		for end > 0 && !utf8.RuneStart(near[end]) {
			end--
		}
		near = near[:end]
	}
	return &SyntaxError{Pos: pos, Reason: fmt.Sprintf(format, args...), near: near}
}
