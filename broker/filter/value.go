package filter

import (
	"bytes"
	"cmp"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// verdict is the outcome of a condition.
type verdict uint8

const (
	isFalse verdict = iota
	isTrue
	isNull
	failed // Apache's evaluator throws: the message does not match, whatever else the expression says
)

func verdictOf(b bool) verdict {
	if b {
		return isTrue
	}
	return isFalse
}

type valueKind uint8

const (
	null valueKind = iota
	boolean
	integer // 32 bits
	long
	double
	text
	broken // evaluating it failed
)

// value is what an operand evaluates to.
type value struct {
	kind  valueKind
	n     int64   // of boolean (0, 1), integer and long
	f     float64 // of double
	bytes []byte  // of text; belongs to the message or to the expression
}

func (v *value) isNumber() bool { return v.kind == integer || v.kind == long || v.kind == double }

func (v *value) asDouble() float64 {
	if v.kind == double {
		return v.f
	}
	return float64(v.n)
}

// negated returns -v, and null for what is no number.
func (v *value) negated() value {
	switch v.kind {
	case integer:
		return value{kind: integer, n: int64(-int32(v.n))}
	case long:
		return value{kind: long, n: -v.n}
	case double:
		return value{kind: double, f: -v.f}
	case broken:
		return *v
	}
	return value{}
}

// compare orders two values that are not null, converting as Apache's
// evaluator does: a text becomes what it is compared with. Values that have no
// order, such as a number and a boolean, are answered with -1. It returns
// false where the conversion throws.
func compare(l, r *value) (int, bool) {
	switch {
	case l.kind == text && r.kind == text:
		return bytes.Compare(l.bytes, r.bytes), true
	case l.kind == text:
		converted, ok := convert(l.bytes, r.kind)
		return compareAlike(&converted, r), ok
	case r.kind == text:
		// A boolean on the left is cast to a string there, which throws.
		converted, ok := convert(r.bytes, l.kind)
		return compareAlike(l, &converted), ok && l.kind != boolean
	case (l.kind == boolean) != (r.kind == boolean):
		return -1, true
	}
	return compareAlike(l, r), true
}

func compareAlike(l, r *value) int {
	if l.kind == double || r.kind == double {
		return compareDoubles(l.asDouble(), r.asDouble())
	}
	return cmp.Compare(l.n, r.n)
}

// compareDoubles orders as Java does: -0 before 0, and NaN, which equals
// itself, after everything.
func compareDoubles(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b && a != 0:
		return 0
	}
	return cmp.Compare(javaBits(a), javaBits(b))
}

func javaBits(f float64) int64 {
	if f != f {
		return 0x7ff8000000000000
	}
	return int64(math.Float64bits(f))
}

func convert(b []byte, to valueKind) (value, bool) {
	switch to {
	case boolean:
		v := value{kind: boolean}
		if isTrueWord(b) {
			v.n = 1
		}
		return v, true
	case integer:
		n, ok := parseInteger(b, math.MaxInt32)
		return value{kind: integer, n: n}, ok
	case long:
		n, ok := parseInteger(b, math.MaxInt64)
		return value{kind: long, n: n}, ok
	case double:
		f, ok := parseDouble(b)
		return value{kind: double, f: f}, ok
	}
	return value{}, false
}

func isTrueWord(b []byte) bool {
	return len(b) == 4 && b[0]|0x20 == 't' && b[1]|0x20 == 'r' && b[2]|0x20 == 'u' && b[3]|0x20 == 'e'
}

// parseInteger reads what Java's Integer.valueOf and Long.valueOf read: an
// optional sign and decimal digits of any script.
func parseInteger(b []byte, most uint64) (int64, bool) {
	negative := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		negative = b[0] == '-'
		b = b[1:]
	}
	if negative {
		most++
	}
	if len(b) == 0 {
		return 0, false
	}
	n := uint64(0)
	for len(b) > 0 {
		digit := uint64(b[0] - '0')
		size := 1
		if b[0] >= utf8.RuneSelf {
			var ok bool
			if digit, size, ok = foreignDigit(b); !ok {
				return 0, false
			}
		}
		if digit > 9 || n > most/10 {
			return 0, false
		}
		if n = n*10 + digit; n > most {
			return 0, false
		}
		b = b[size:]
	}
	if negative {
		return -int64(n), true
	}
	return int64(n), true
}

// foreignDigit reads a digit outside ASCII. Java looks at UTF-16 units, so
// only those of the basic plane count.
func foreignDigit(b []byte) (digit uint64, size int, ok bool) {
	r, size := utf8.DecodeRune(b)
	for i := range unicode.Nd.R16 {
		if in := &unicode.Nd.R16[i]; r >= rune(in.Lo) && r <= rune(in.Hi) {
			return uint64(r-rune(in.Lo)) % 10, size, true
		}
	}
	return 0, size, false
}

// parseDouble reads what Java's Double.valueOf reads.
func parseDouble(b []byte) (float64, bool) {
	for len(b) > 0 && b[0] <= ' ' {
		b = b[1:]
	}
	for len(b) > 0 && b[len(b)-1] <= ' ' {
		b = b[:len(b)-1]
	}
	unsigned := b
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		unsigned = b[1:]
	}
	switch string(unsigned) {
	case "":
		return 0, false
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		if b[0] == '-' {
			return math.Inf(-1), true
		}
		return math.Inf(1), true
	}
	if !isDigit(unsigned[0]) && unsigned[0] != '.' {
		return 0, false // the names of infinity that Go knows and Java does not
	}
	for _, c := range unsigned {
		if c == '_' {
			return 0, false
		}
	}
	if last := b[len(b)-1] | 0x20; last == 'f' || last == 'd' {
		b = b[:len(b)-1]
	}
	// The string does not outlive the call.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(b), len(b)), 64)
	if err != nil && !outOfRange(err) {
		return 0, false
	}
	return f, true
}

func outOfRange(err error) bool {
	e, ok := err.(*strconv.NumError)
	return ok && e.Err == strconv.ErrRange
}
