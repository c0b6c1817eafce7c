package remoting

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// A client writes its headers one like the other: the same members and fields
// in the same order, and most of them with the same value. So a JSON header is
// laid beside an earlier one, its shape, and only the values that differ are
// read. Where the texts are equal they mean the same; behind a value that
// differs, which ends where JSON says that it does, they are compared again. A
// header that differs elsewhere is read as if there were no other.

const (
	// shapeCount is how many shapes a decoder remembers, by their codes.
	shapeCount = 8
	// maxShape is how many bytes a header may have to be remembered.
	maxShape = 1 << 10
	// shapePatience is how many headers in a row must differ from a shape
	// before it is replaced: to remember one in vain costs more than to read it.
	shapePatience = 16
	// maxEscaped is how many values with escapes a header with a shape may have.
	maxEscaped = 4
)

// shape is a header that was read.
type shape struct {
	text   []byte  // as it came
	spans  []span  // its values, in order
	whole  Request // its members
	opaque bool    // it has one
	wait   int     // for so many headers that differ
}

// span is a value in the text of a shape: of a string what stands between the
// quotes.
type span struct {
	key, keyEnd int // both 0 for the opaque, which is no field
	from, to    int
	escaped     bool
}

// escapedValue is a field's value that must be unescaped, and where it stands.
type escapedValue struct{ field, from, to int }

// shapeOf returns the place of the shape for headers that begin as h does, or
// nil. What clients write begins with the code.
func (d *Decoder) shapeOf(h []byte) *shape {
	const start = `{"code":`
	if len(h) < len(start)+4 || len(h) > maxShape || string(h[:len(start)]) != start {
		return nil
	}
	w := binary.LittleEndian.Uint32(h[len(start):])
	return &d.shapes[(w^w>>8^w>>16)%shapeCount]
}

// json reads h with the help of the shape, or by s where it differs.
func (p *shape) json(d *Decoder, s *scanner, r *Request) bool {
	first := len(d.fields)
	if read, ok := p.read(d, s, r); read {
		p.wait = shapePatience
		return ok
	}
	if p.wait > 0 {
		p.wait--
		return s.header(d, r)
	}
	p.wait = shapePatience
	text := append(p.text[:0], s.b...) // before anything is unescaped in place
	p.text = nil
	if !s.header(d, r) {
		return false
	}
	if len(r.Remark) == 0 && p.learn(text, s, d.fields[first:]) {
		p.text, p.whole = text, Request{Code: r.Code, Version: r.Version, Language: r.Language, Flag: r.Flag, Opaque: r.Opaque}
	}
	return true
}

// learn finds the values of a header that has been read, and says false where
// one does not stand in the text as clients write it.
func (p *shape) learn(text []byte, s *scanner, fields []Field) bool {
	p.spans, p.opaque = p.spans[:0], s.opaque
	place := func(v []byte) int { return cap(s.b) - cap(v) }
	for _, f := range fields {
		v := span{key: place(f.Key), from: place(f.Value)}
		v.keyEnd = v.key + len(f.Key)
		if text[v.key-1] != '"' || text[v.keyEnd] != '"' || !bytes.Equal(text[v.key:v.keyEnd], f.Key) || text[v.from-1] != '"' {
			return false
		}
		walk := scanner{b: text, i: v.from - 1}
		if !walk.skipString() {
			return false
		}
		v.to = walk.i - 1
		v.escaped = bytes.IndexByte(text[v.from:v.to], '\\') >= 0
		p.spans = append(p.spans, v)
	}
	switch {
	case s.opaqueAt < 0:
		return false
	case s.opaqueAt > 0:
		walk := scanner{b: text, i: s.opaqueAt}
		if _, ok := walk.digits(); !ok {
			return false
		}
		p.spans = append(p.spans, span{from: s.opaqueAt, to: walk.i})
		slices.SortFunc(p.spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	}
	return true
}

// read reads the header if it has the shape; else it changes nothing. ok is
// false where a value cannot be unescaped.
func (p *shape) read(d *Decoder, s *scanner, r *Request) (read, ok bool) {
	h, t := s.b, p.text
	if t == nil {
		return false, false
	}
	first := len(d.fields)
	d.fields = slices.Grow(d.fields, len(p.spans))
	m := match{p: p, h: h, fields: d.fields[first : first+len(p.spans)], opaque: p.whole.Opaque}
	for i, j := 0, 0; ; {
		n := common(h[i:], t[j:])
		i, j = i+n, j+n
		m.pass(i, j)
		if j == len(t) {
			if i != len(h) {
				return false, false
			}
			break
		}
		if m.next == len(p.spans) || j < p.spans[m.next].from {
			return false, false
		}
		v := &p.spans[m.next]
		if i, ok = m.differing(v, i-j); !ok {
			return false, false
		}
		j = v.to
	}
	if m.count > maxEscaped {
		return false, false
	}
	r.Code, r.Version, r.Language, r.Flag, r.Opaque = p.whole.Code, p.whole.Version, p.whole.Language, p.whole.Flag, m.opaque
	s.opaque = p.opaque
	for _, e := range m.escaped[:m.count] {
		if m.fields[e.field].Value, ok = s.unescape(e.from, special(h, e.from)); !ok {
			return true, false
		}
	}
	d.fields = d.fields[:first+m.found]
	return true, true
}

// match is a header that is laid beside a shape.
type match struct {
	p       *shape
	h       []byte
	fields  []Field // room for one a span
	found   int     // of them
	next    int     // span
	opaque  int32
	count   int // of values with escapes, kept while there is room
	escaped [maxEscaped]escapedValue
}

// pass takes over the values that end before the place j of the shape, where
// the header is at i.
func (m *match) pass(i, j int) {
	by, h := i-j, m.h
	for ; m.next < len(m.p.spans); m.next++ {
		v := &m.p.spans[m.next]
		if v.to >= j {
			return
		}
		if v.keyEnd == 0 {
			continue
		}
		if v.escaped {
			m.mustUnescape(v.from+by, v.to+by)
		}
		f := &m.fields[m.found]
		f.Key, f.Value = h[v.key+by:v.keyEnd+by], h[v.from+by:v.to+by]
		m.found++
	}
}

// differing reads the next value, which is not the shape's and begins so many
// bytes behind where that does. It returns where it ends.
func (m *match) differing(v *span, by int) (end int, ok bool) {
	h, from := m.h, v.from+by
	m.next++
	if v.keyEnd == 0 {
		walk := scanner{b: h, i: from}
		m.opaque, ok = walk.digits()
		return walk.i, ok
	}
	end = special(h, from)
	if end < len(h) && h[end] == '\\' {
		for end < len(h) && h[end] == '\\' {
			end = special(h, min(end+2, len(h)))
		}
		m.mustUnescape(from, end)
	}
	if end == len(h) {
		return end, false
	}
	f := &m.fields[m.found]
	f.Key, f.Value = h[v.key+by:v.keyEnd+by], h[from:end]
	m.found++
	return end, true
}

func (m *match) mustUnescape(from, to int) {
	if m.count < maxEscaped {
		m.escaped[m.count] = escapedValue{m.found, from, to}
	}
	m.count++
}

// common returns for how many bytes a and b begin alike.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for i+64 <= n && string(a[i:i+64]) == string(b[i:i+64]) {
		i += 64
	}
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)>>3
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
