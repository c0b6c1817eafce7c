package filter

import (
	"bytes"
	"slices"
	"sync"

	"github.com/merlinmq/merlin/message"
)

// Expression is a compiled filter. See the package comment.
type Expression struct {
	text   string
	root   *node
	names  []string       // the properties it asks for; a node's slot is the place here
	places map[string]int // of the names, if they are many
	firsts [4]uint64      // the names' first bytes, one bit each
}

// few is how many properties an expression may ask for without a pooled table.
const few = 8

// String returns the text that was compiled.
func (e *Expression) String() string { return e.text }

// Asks tells whether the expression asks for one of these properties.
func (e *Expression) Asks(p message.Properties) bool {
	for name := range p.All() {
		if slices.Contains(e.names, string(name)) {
			return true
		}
	}
	return false
}

// Match tells whether a message with these properties is let through.
func (e *Expression) Match(p message.Properties) bool {
	if len(e.names) <= few {
		var slots [few][]byte
		e.fill(slots[:len(e.names)], p)
		return e.root.test(slots[:]) == isTrue
	}
	return e.matchMany(p)
}

// tables are the slots of expressions with many properties.
var tables = sync.Pool{New: func() any { return new([][]byte) }}

func (e *Expression) matchMany(p message.Properties) bool {
	table := tables.Get().(*[][]byte)
	slots := *table
	if cap(slots) < len(e.names) {
		slots = make([][]byte, len(e.names))
	}
	slots = slots[:len(e.names)]
	clear(slots)
	e.fill(slots, p)
	matches := e.root.test(slots) == isTrue
	*table = slots
	tables.Put(table)
	return matches
}

// fill puts the values of the named properties into their slots; nil is a
// property that the message lacks. No stored value is empty.
func (e *Expression) fill(slots [][]byte, p message.Properties) {
	if e.places != nil {
		for name, v := range p.All() {
			if i, ok := e.places[string(name)]; ok {
				slots[i] = v
			}
		}
		return
	}
	// As p.All, but a pair is taken apart only if it begins with a wanted name.
	for rest := []byte(p); len(rest) > 0; {
		pair := rest
		if i := bytes.IndexByte(rest, pairEnd); i >= 0 {
			pair, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if len(pair) == 0 || e.firsts[pair[0]>>6]&(1<<(pair[0]&63)) == 0 {
			continue
		}
		for i, wanted := range e.names {
			n := len(wanted)
			if len(pair) > n+1 && pair[n] == nameEnd && string(pair[:n]) == wanted {
				slots[i] = pair[n+1:]
				break
			}
		}
	}
}

// What ends a name and a pair in stored properties; see message.Properties. No
// name in an expression holds one.
const (
	nameEnd = 0x01
	pairEnd = 0x02
)

type opcode uint8

const (
	opConstant opcode = iota
	opProperty
	opNegated // a constant under a minus
	opNegate  // anything else under one
	opCast    // the rest are conditions
	opNot
	opAnd
	opOr
	opEqual
	opIsNull
	opGreater
	opGreaterEqual
	opLess
	opLessEqual
	opIn
	opContains
	opStartsWith
	opEndsWith
)

type node struct {
	op          opcode
	not         bool // of what opEqual, opIsNull, opIn and the searches find
	slot        int
	chain       int // comparisons nested to the left, in the parser
	constant    value
	left, right *node
	parts       []*node
	search      []byte
	choices     []string
	set         map[string]struct{} // the choices, if they are many
}

func (n *node) isCondition() bool { return n.op >= opCast }

// value evaluates n as an operand.
func (n *node) value(slots [][]byte) value {
	switch n.op {
	case opConstant, opNegated:
		return n.constant
	case opProperty:
		if b := slots[n.slot]; b != nil {
			return value{kind: text, bytes: b}
		}
		return value{}
	case opNegate:
		v := n.left.value(slots)
		return v.negated()
	}
	switch v := n.test(slots); v {
	case isNull:
		return value{}
	case failed:
		return value{kind: broken}
	default:
		return value{kind: boolean, n: int64(v)}
	}
}

// test evaluates n as a condition.
func (n *node) test(slots [][]byte) verdict {
	switch n.op {
	case opAnd:
		return n.all(slots)
	case opOr:
		return n.any(slots)
	case opNot:
		return negate(n.left.test(slots), true)
	case opEqual:
		return negate(n.equal(slots), n.not)
	case opGreater, opGreaterEqual, opLess, opLessEqual:
		return n.ordered(slots)
	case opIn:
		return n.in(slots)
	case opContains, opStartsWith, opEndsWith:
		return n.find(slots)
	case opIsNull:
		if n.left.op == opProperty {
			return verdictOf((slots[n.left.slot] == nil) != n.not)
		}
		v := n.left.value(slots)
		if v.kind == broken {
			return failed
		}
		return verdictOf((v.kind == null) != n.not)
	case opCast:
		if slots[n.left.slot] == nil {
			return isNull
		}
		return isFalse // properties are strings, never booleans
	}
	if n.constant.kind == null {
		return isNull
	}
	return verdictOf(n.constant.n != 0)
}

func negate(v verdict, not bool) verdict {
	if !not || v >= isNull {
		return v
	}
	return v ^ 1
}

func (n *node) all(slots [][]byte) verdict {
	unknown := false
	for _, part := range n.parts {
		switch part.test(slots) {
		case isFalse:
			return isFalse
		case failed:
			return failed
		case isNull:
			unknown = true
		}
	}
	if unknown {
		return isNull
	}
	return isTrue
}

func (n *node) any(slots [][]byte) verdict {
	unknown := false
	for _, part := range n.parts {
		switch part.test(slots) {
		case isTrue:
			return isTrue
		case failed:
			return failed
		case isNull:
			unknown = true
		}
	}
	if unknown {
		return isNull
	}
	return isFalse
}

// equal evaluates both sides, whatever the first one gives: a failure of
// either counts. Null on the left alone is null, on the right alone false.
func (n *node) equal(slots [][]byte) verdict {
	if n.left.op == opProperty && n.right.op == opConstant && n.right.constant.kind == text { // the most common one
		if b := slots[n.left.slot]; b != nil {
			return verdictOf(bytes.Equal(b, n.right.constant.bytes))
		}
		return isNull
	}
	l, r := n.left.value(slots), n.right.value(slots)
	switch {
	case l.kind == broken || r.kind == broken:
		return failed
	case l.kind == null && r.kind == null:
		return isTrue
	case l.kind == null:
		return isNull
	case r.kind == null:
		return isFalse
	}
	order, ok := compare(&l, &r)
	if !ok {
		return failed
	}
	return verdictOf(order == 0)
}

// ordered does not look at the right side if the left one is null.
func (n *node) ordered(slots [][]byte) verdict {
	l := n.left.value(slots)
	if l.kind == null {
		return isNull
	}
	if l.kind == broken {
		return failed
	}
	r := n.right.value(slots)
	if r.kind == null {
		return isNull
	}
	if r.kind == broken {
		return failed
	}
	order, ok := 0, false
	if l.kind == text && r.kind == text {
		order, ok = compareAsDoubles(l.bytes, r.bytes)
	} else {
		order, ok = compare(&l, &r)
	}
	if !ok {
		return failed
	}
	switch n.op {
	case opGreater:
		return verdictOf(order > 0)
	case opGreaterEqual:
		return verdictOf(order >= 0)
	case opLess:
		return verdictOf(order < 0)
	}
	return verdictOf(order <= 0)
}

func compareAsDoubles(l, r []byte) (int, bool) {
	a, ok := parseDouble(l)
	if !ok {
		return 0, false
	}
	b, ok := parseDouble(r)
	return compareDoubles(a, b), ok
}

func (n *node) in(slots [][]byte) verdict {
	b := slots[n.left.slot]
	if b == nil {
		return isNull
	}
	if n.set != nil {
		_, found := n.set[string(b)]
		return verdictOf(found != n.not)
	}
	for _, c := range n.choices {
		if string(b) == c {
			return verdictOf(!n.not)
		}
	}
	return verdictOf(n.not)
}

// find is false without something to look for or to look in, even with NOT.
// With nothing to look for, what stands on the left is not evaluated.
func (n *node) find(slots [][]byte) verdict {
	if len(n.search) == 0 {
		return isFalse
	}
	var in []byte
	if n.left.op == opProperty {
		if in = slots[n.left.slot]; in == nil {
			return isFalse
		}
	} else {
		v := n.left.value(slots)
		switch {
		case v.kind == broken:
			return failed
		case v.kind != text:
			return isFalse
		}
		in = v.bytes
	}
	found := false
	switch n.op {
	case opContains:
		found = bytes.Contains(in, n.search)
	case opStartsWith:
		found = bytes.HasPrefix(in, n.search)
	default:
		found = bytes.HasSuffix(in, n.search)
	}
	return verdictOf(found != n.not)
}
