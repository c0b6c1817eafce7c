package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxFrame bounds what a server may make the load allocate.
const maxFrame = 64 << 20

var errFrame = errors.New("bench: the server sent a frame that cannot be read")

// answer is one response read in place: header and body point into the
// connection's buffer and die with the next read.
type answer struct {
	code   int
	opaque int32
	binary bool // ROCKETMQ header encoding
	header []byte
	body   []byte
}

// nextAnswer takes the first frame of b. It returns the bytes it used, 0 if
// the frame is not whole yet.
func nextAnswer(b []byte, a *answer) (used int, err error) {
	if len(b) < 4 {
		return 0, nil
	}
	size := int(binary.BigEndian.Uint32(b))
	if size < 4 || size > maxFrame {
		return 0, fmt.Errorf("%w: length %d", errFrame, size)
	}
	if len(b) < 4+size {
		return 0, nil
	}
	head := binary.BigEndian.Uint32(b[4:])
	n := int(head & 0xFFFFFF)
	if n > size-4 {
		return 0, fmt.Errorf("%w: a header of %d bytes in a frame of %d", errFrame, n, size)
	}
	a.binary = head>>24 == 1
	a.header = b[8 : 8+n]
	a.body = b[8+n : 4+size]
	if a.binary {
		if n < 21 {
			return 0, fmt.Errorf("%w: a binary header of %d bytes", errFrame, n)
		}
		a.code = int(int16(binary.BigEndian.Uint16(a.header)))
		a.opaque = int32(binary.BigEndian.Uint32(a.header[5:]))
		return 4 + size, nil
	}
	// A quote inside a JSON string is escaped, so that these texts can only
	// be member names; no answer that the load asks for has such ext fields.
	code, found := jsonInt(a.header, `"code":`)
	opaque, found2 := jsonInt(a.header, `"opaque":`)
	if !found || !found2 {
		return 0, fmt.Errorf("%w: header %q", errFrame, clip(a.header))
	}
	a.code, a.opaque = int(code), int32(opaque)
	return 4 + size, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 200)] }

// jsonInt returns the number behind a member name, quoted or not.
func jsonInt(header []byte, name string) (int64, bool) {
	i := bytes.Index(header, []byte(name))
	if i < 0 {
		return 0, false
	}
	return parseInt(header[i+len(name):])
}

// parseInt reads a decimal number behind blanks and a quote.
func parseInt(b []byte) (v int64, found bool) {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '"') {
		i++
	}
	negative := i < len(b) && b[i] == '-'
	if negative {
		i++
	}
	first := i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' && i-first < 19 {
		v = v*10 + int64(b[i]-'0')
		i++
	}
	if negative {
		v = -v
	}
	return v, i > first
}

// int returns an ext field that holds a number. quoted is the field's name as
// it stands in a JSON header: `"name":`.
func (a *answer) int(quoted string) (int64, bool) {
	if !a.binary {
		return jsonInt(a.header, quoted)
	}
	value, found := a.binaryField(quoted[1 : len(quoted)-2])
	if !found {
		return 0, false
	}
	v, err := strconv.ParseInt(string(value), 10, 64)
	return v, err == nil
}

// text returns an ext field whose value holds no escapes.
func (a *answer) text(quoted string) ([]byte, bool) {
	if a.binary {
		return a.binaryField(quoted[1 : len(quoted)-2])
	}
	i := bytes.Index(a.header, []byte(quoted))
	if i < 0 {
		return nil, false
	}
	rest := bytes.TrimLeft(a.header[i+len(quoted):], " ")
	if len(rest) == 0 || rest[0] != '"' {
		return nil, false
	}
	end := bytes.IndexByte(rest[1:], '"')
	if end < 0 {
		return nil, false
	}
	return rest[1 : 1+end], true
}

func (a *answer) binaryField(name string) ([]byte, bool) {
	remark := int(binary.BigEndian.Uint32(a.header[13:]))
	if remark < 0 || remark > len(a.header)-21 {
		return nil, false
	}
	b := a.header[17+remark+4:]
	for len(b) >= 2 {
		k := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+k+4 {
			break
		}
		v := int(binary.BigEndian.Uint32(b[2+k:]))
		if v < 0 || v > len(b)-6-k {
			break
		}
		if string(b[2:2+k]) == name {
			return b[6+k : 6+k+v], true
		}
		b = b[6+k+v:]
	}
	return nil, false
}

// remark returns the server's text. It allocates: for errors only.
func (a *answer) remark() string {
	if a.binary {
		n := int(binary.BigEndian.Uint32(a.header[13:]))
		if n < 0 || n > len(a.header)-17 {
			return ""
		}
		return string(a.header[17 : 17+n])
	}
	var h struct{ Remark string }
	if json.Unmarshal(a.header, &h) != nil {
		return ""
	}
	return h.Remark
}

// ServerError is an answer with a code that is not success.
type ServerError struct {
	Addr   string
	Did    string // what was asked for
	Code   int
	Remark string
}

// Error implements error.
func (e *ServerError) Error() string {
	return fmt.Sprintf("%s: %s answered code %d: %s", e.Did, e.Addr, e.Code, e.Remark)
}

// answers is what a connection has received and nobody has looked at.
type answers struct {
	buf  []byte // grows to hold the largest answer
	have int
}

// fill reads once.
func (in *answers) fill(r io.Reader) error {
	n, err := r.Read(in.buf[in.have:])
	in.have += n
	return err
}

// each calls fn with every whole answer, which is valid until fn returns.
func (in *answers) each(fn func(*answer) error) error {
	var a answer
	pos := 0
	for {
		used, err := nextAnswer(in.buf[pos:in.have], &a)
		if err != nil {
			return err
		}
		if used == 0 {
			break
		}
		if err := fn(&a); err != nil {
			return err
		}
		pos += used
	}
	if pos == 0 && in.have == len(in.buf) {
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
	in.have = copy(in.buf, in.buf[pos:in.have])
	return nil
}
