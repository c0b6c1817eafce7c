package remoting

import (
	"fmt"
	"strconv"
)

// Encodings of a frame's header.
const (
	EncodingJSON   byte = 0
	EncodingBinary byte = 1
)

const (
	flagResponse = 1
	flagOneWay   = 2
)

// Field is one header field as it came: unescaped, otherwise untouched, so that
// a signature over the fields can be checked.
type Field struct{ Key, Value []byte }

// Request is one decoded frame. Its slices point into the connection's input
// and are valid until Serve returns; what must live longer is copied.
type Request struct {
	Code     int
	Version  int
	Language byte
	Encoding byte // of the header; the answer mirrors it
	Opaque   int32
	Flag     int32
	Remark   []byte
	Fields   []Field // in the order of the frame, unknown ones included
	Body     []byte

	settled bool // somebody answered, or took a Ticket to do so
}

// IsResponse says whether the frame answers a request of ours.
func (r *Request) IsResponse() bool { return r.Flag&flagResponse != 0 }

// OneWay says whether the sender marked the request as one that wants no
// answer. rocketmq-client-go never marks its own.
func (r *Request) OneWay() bool { return r.Flag&flagOneWay != 0 }

// Ticket is what is needed to answer a request after Serve has returned. Taking
// it says that the answer will come from elsewhere.
type Ticket struct {
	Opaque   int32
	Encoding byte
	OneWay   bool
}

// Ticket returns the request's ticket for Conn.Later.
func (r *Request) Ticket() Ticket {
	r.settled = true
	return Ticket{Opaque: r.Opaque, Encoding: r.Encoding, OneWay: r.OneWay()}
}

// Get returns a field's value as it came. Where a field is there twice the last
// one counts, as in Apache's map.
func (r *Request) Get(key string) ([]byte, bool) {
	for i := len(r.Fields) - 1; i >= 0; i-- {
		if string(r.Fields[i].Key) == key {
			return r.Fields[i].Value, true
		}
	}
	return nil, false
}

// Has says whether the field is there and not empty. The binary header cannot
// tell an empty field from none, so nothing else may either.
func (r *Request) Has(key string) bool {
	v, _ := r.Get(key)
	return len(v) > 0
}

// String returns a copy of a field that must be there. The error is a
// *FieldError.
func (r *Request) String(key string) (string, error) {
	v, _ := r.Get(key)
	if len(v) == 0 {
		return "", &FieldError{Code: r.Code, Field: key, Missing: true}
	}
	return string(v), nil
}

// StringOr returns a copy of a field, or def where it is missing or empty.
func (r *Request) StringOr(key, def string) string {
	if v, _ := r.Get(key); len(v) > 0 {
		return string(v)
	}
	return def
}

// Int32 returns a field that must be a 32-bit number. The error is a
// *FieldError that tells a missing field from a malformed one.
func (r *Request) Int32(key string) (int32, error) {
	n, err := r.integer(key, 32)
	return int32(n), err
}

// Int64 is Int32 for a 64-bit number.
func (r *Request) Int64(key string) (int64, error) { return r.integer(key, 64) }

// Bool returns a field that must be true or false, in any case.
func (r *Request) Bool(key string) (bool, error) {
	v, _ := r.Get(key)
	if len(v) == 0 {
		return false, &FieldError{Code: r.Code, Field: key, Missing: true}
	}
	if b, ok := parseBool(v); ok {
		return b, nil
	}
	return false, malformed(r.Code, key, v, "true or false")
}

// Int32Or, Int64Or and BoolOr return def where the field is missing or empty,
// and a *FieldError only where it is malformed.
func (r *Request) Int32Or(key string, def int32) (int32, error) {
	if !r.Has(key) {
		return def, nil
	}
	return r.Int32(key)
}

// Int64Or is described at Int32Or.
func (r *Request) Int64Or(key string, def int64) (int64, error) {
	if !r.Has(key) {
		return def, nil
	}
	return r.Int64(key)
}

// BoolOr is described at Int32Or.
func (r *Request) BoolOr(key string, def bool) (bool, error) {
	if !r.Has(key) {
		return def, nil
	}
	return r.Bool(key)
}

func (r *Request) integer(key string, bits int) (int64, error) {
	v, _ := r.Get(key)
	if len(v) == 0 {
		return 0, &FieldError{Code: r.Code, Field: key, Missing: true}
	}
	n, ok := ParseInt(v)
	if !ok || bits == 32 && int64(int32(n)) != n {
		return 0, malformed(r.Code, key, v, "a whole number of "+strconv.Itoa(bits)+" bits")
	}
	return n, nil
}

// FieldError says which header field of a request is missing or malformed. Its
// text is fit for the remark of the answer.
type FieldError struct {
	Code    int    // the request's
	Field   string // the name on the wire
	Missing bool   // else malformed
	Value   string // what came, cut to a readable length
	Want    string // what would have been right
}

func (e *FieldError) Error() string {
	if e.Missing {
		return fmt.Sprintf("%s needs the header field %q, which is missing or empty; set it and send again", CodeName(e.Code), e.Field)
	}
	return fmt.Sprintf("the header field %q of %s is %q, which is not %s; correct it and send again", e.Field, CodeName(e.Code), e.Value, e.Want)
}

func malformed(code int, key string, v []byte, want string) error {
	const readable = 64
	if len(v) > readable {
		v = v[:readable]
	}
	return &FieldError{Code: code, Field: key, Value: string(v), Want: want}
}

// ParseInt reads a whole decimal number of up to 64 bits with an optional sign,
// and nothing else. It allocates nothing.
func ParseInt(v []byte) (int64, bool) {
	i, neg := 0, false
	if len(v) > 0 && (v[0] == '-' || v[0] == '+') {
		neg = v[0] == '-'
		i = 1
	}
	if i == len(v) {
		return 0, false
	}
	var n uint64
	for ; i < len(v); i++ {
		d := v[i] - '0'
		if d > 9 || n > (1<<63)/10 {
			return 0, false
		}
		n = n*10 + uint64(d)
	}
	if neg {
		return -int64(n), n <= 1<<63
	}
	return int64(n), n < 1<<63
}

func parseBool(v []byte) (value, ok bool) {
	switch len(v) {
	case 4:
		return true, foldEqual(v, "true")
	case 5:
		return false, foldEqual(v, "false")
	}
	return false, false
}

func foldEqual(v []byte, lower string) bool {
	for i := range v {
		if v[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}
