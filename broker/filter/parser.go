package filter

import (
	"math"
	"slices"
	"strconv"
)

// Bounds of an expression.
const (
	MaxLength = 64 << 10 // bytes of its text
	MaxDepth  = 500      // parentheses, signs and NOTs inside each other
)

// Compile reads an expression. Errors are *SyntaxError.
func Compile(text string) (*Expression, error) {
	if len(text) > MaxLength {
		return nil, &SyntaxError{Pos: MaxLength, Reason: "the expression is longer than " + strconv.Itoa(MaxLength) + " bytes"}
	}
	p := parser{text: text}
	if err := p.advance(); err != nil {
		return nil, err
	}
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	if root, err = p.condition(root, 0); err != nil {
		return nil, err
	}
	e := &Expression{text: text, root: root, names: p.names}
	for _, name := range p.names {
		e.firsts[name[0]>>6] |= 1 << (name[0] & 63)
	}
	if len(p.names) > few {
		e.places = make(map[string]int, len(p.names))
		for i, name := range p.names {
			e.places[name] = i
		}
	}
	return e, nil
}

type parser struct {
	text  string
	token token // the next one
	names []string
	depth int
}

func (p *parser) advance() error {
	t, err := next(p.text, p.token.pos+len(p.token.text))
	if err == nil {
		p.token = t
	}
	return err
}

func (p *parser) fail(pos int, format string, args ...any) error {
	return syntax(p.text, pos, format, args...)
}

// accept takes the next token if it is of that kind.
func (p *parser) accept(kind tokenKind) (bool, error) {
	if p.token.kind != kind {
		return false, nil
	}
	return true, p.advance()
}

func (p *parser) expect(kind tokenKind, what string) (token, error) {
	t := p.token
	if t.kind != kind {
		return t, p.missing(what)
	}
	return t, p.advance()
}

func (p *parser) missing(what string) error {
	if p.token.kind == tEnd {
		return p.fail(p.token.pos, "the expression ends where %s should follow", what)
	}
	return p.fail(p.token.pos, "%s should stand here", what)
}

func (p *parser) or() (*node, error)  { return p.chain(tOr, opOr, (*parser).and) }
func (p *parser) and() (*node, error) { return p.chain(tAnd, opAnd, (*parser).equality) }

func (p *parser) chain(word tokenKind, op opcode, part func(*parser) (*node, error)) (*node, error) {
	start := p.token.pos
	first, err := part(p)
	if err != nil || p.token.kind != word {
		return first, err
	}
	all := &node{op: op}
	for {
		if first, err = p.condition(first, start); err != nil {
			return nil, err
		}
		all.parts = append(all.parts, first)
		if p.token.kind != word {
			return all, nil
		}
		if err = p.advance(); err != nil {
			return nil, err
		}
		start = p.token.pos
		if first, err = part(p); err != nil {
			return nil, err
		}
	}
}

func (p *parser) equality() (*node, error) {
	start := p.token.pos
	left, err := p.comparison()
	for err == nil {
		at := p.token.pos
		switch p.token.kind {
		case tEqual, tNotEqual:
			not := p.token.kind == tNotEqual
			if err = p.advance(); err != nil {
				return nil, err
			}
			right, e := p.comparison()
			if err = e; err != nil {
				return nil, err
			}
			if err = p.mayEqual(left, right, at); err != nil {
				return nil, err
			}
			left = &node{op: opEqual, left: left, right: right, not: not}
		case tIs:
			if left, err = p.isNull(left); err != nil {
				return nil, err
			}
		default:
			return left, nil
		}
		if p.tooLong(left) {
			return nil, p.fail(start, "more than %d comparisons follow on one another here", MaxDepth)
		}
	}
	return nil, err
}

// tooLong keeps chains of comparisons, which nest to the left, from growing
// without end.
func (p *parser) tooLong(n *node) bool {
	n.chain = 1
	if n.left != nil {
		n.chain += n.left.chain
	}
	return n.chain > MaxDepth
}

func (p *parser) isNull(left *node) (*node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	not, err := p.accept(tNot)
	if err != nil {
		return nil, err
	}
	if _, err = p.expect(tNull, "NULL"); err != nil {
		return nil, err
	}
	return &node{op: opIsNull, left: left, not: not}, nil
}

// mayEqual refuses what = and <> cannot compare.
func (p *parser) mayEqual(left, right *node, pos int) error {
	for _, n := range []*node{left, right} {
		if n.op == opConstant && n.constant.kind == null {
			return p.fail(pos, "NULL cannot be compared; write IS NULL or IS NOT NULL")
		}
	}
	if left.op == opConstant && right.op == opConstant && left.constant.kind == boolean && right.constant.kind != boolean {
		return p.fail(pos, "TRUE and FALSE cannot be compared with a number or a string")
	}
	return nil
}

func (p *parser) comparison() (*node, error) {
	start := p.token.pos
	left, err := p.unary()
	for err == nil {
		switch p.token.kind {
		case tGreater, tGreaterEqual, tLess, tLessEqual:
			left, err = p.order(left)
		case tNot, tContains, tStartsWith, tEndsWith, tBetween, tIn:
			left, err = p.word(left)
		default:
			return left, nil
		}
		if err == nil && p.tooLong(left) {
			return nil, p.fail(start, "more than %d comparisons follow on one another here", MaxDepth)
		}
	}
	return nil, err
}

var orderOf = map[tokenKind]opcode{tGreater: opGreater, tGreaterEqual: opGreaterEqual, tLess: opLess, tLessEqual: opLessEqual}

func (p *parser) order(left *node) (*node, error) {
	sign := p.token
	if err := p.advance(); err != nil {
		return nil, err
	}
	right, err := p.unary()
	if err != nil {
		return nil, err
	}
	if err := p.mayOrder(sign, left, right); err != nil {
		return nil, err
	}
	return &node{op: orderOf[sign.kind], left: left, right: right}, nil
}

// mayOrder refuses operands that have no order.
func (p *parser) mayOrder(at token, operands ...*node) error {
	for _, n := range operands {
		if n.op == opConstant && !n.constant.isNumber() {
			return p.fail(at.pos, "%s compares numbers and properties, not strings, TRUE, FALSE or NULL", at.text)
		}
		if n.isCondition() {
			return p.fail(at.pos, "%s compares numbers and properties, not the outcome of a condition", at.text)
		}
	}
	return nil
}

// word reads the comparisons that are written in words.
func (p *parser) word(left *node) (*node, error) {
	not, err := p.accept(tNot)
	if err != nil {
		return nil, err
	}
	t := p.token
	switch t.kind {
	case tContains, tStartsWith, tEndsWith, tBetween, tIn:
	default:
		return nil, p.missing("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH after NOT")
	}
	if err = p.advance(); err != nil {
		return nil, err
	}
	switch t.kind {
	case tBetween:
		return p.between(left, t, not)
	case tIn:
		return p.in(left, t, not)
	}
	literal, err := p.expect(tString, "a string in single quotes")
	if err != nil {
		return nil, err
	}
	op := opContains
	switch t.kind {
	case tStartsWith:
		op = opStartsWith
	case tEndsWith:
		op = opEndsWith
	}
	return &node{op: op, left: left, not: not, search: []byte(unquote(literal.text))}, nil
}

func (p *parser) between(left *node, at token, not bool) (*node, error) {
	low, err := p.unary()
	if err != nil {
		return nil, err
	}
	if _, err = p.expect(tAnd, "AND and the upper bound"); err != nil {
		return nil, err
	}
	high, err := p.unary()
	if err != nil {
		return nil, err
	}
	if err = p.mayOrder(at, left, low, high); err != nil {
		return nil, err
	}
	if not {
		return &node{op: opOr, parts: []*node{{op: opLess, left: left, right: low}, {op: opGreater, left: left, right: high}}}, nil
	}
	if low.op == opConstant && high.op == opConstant {
		if order, _ := compare(&high.constant, &low.constant); order < 0 {
			return nil, p.fail(at.pos, "the lower bound of BETWEEN is above the upper one")
		}
	}
	return &node{op: opAnd, parts: []*node{{op: opGreaterEqual, left: left, right: low}, {op: opLessEqual, left: left, right: high}}}, nil
}

// manyChoices is the size of an IN list from which on it is a set.
const manyChoices = 8

func (p *parser) in(left *node, at token, not bool) (*node, error) {
	if left.op != opProperty {
		return nil, p.fail(at.pos, "IN needs the name of a property before it")
	}
	if _, err := p.expect(tOpen, "a list of strings in parentheses"); err != nil {
		return nil, err
	}
	n := &node{op: opIn, left: left, not: not}
	for {
		literal, err := p.expect(tString, "a string in single quotes")
		if err != nil {
			return nil, err
		}
		n.choices = append(n.choices, unquote(literal.text))
		more, err := p.accept(tComma)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	if _, err := p.expect(tClose, ") or a comma and one more string"); err != nil {
		return nil, err
	}
	if len(n.choices) >= manyChoices {
		n.set = make(map[string]struct{}, len(n.choices))
		for _, c := range n.choices {
			n.set[c] = struct{}{}
		}
	}
	return n, nil
}

func (p *parser) unary() (*node, error) {
	if p.depth++; p.depth > MaxDepth {
		return nil, p.fail(p.token.pos, "the expression is nested deeper than %d", MaxDepth)
	}
	defer func() { p.depth-- }()
	t := p.token
	switch t.kind {
	case tPlus, tMinus, tNot:
	default:
		return p.primary()
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	start := p.token.pos
	inner, err := p.unary()
	if err != nil || t.kind == tPlus {
		return inner, err
	}
	if t.kind == tNot {
		if inner, err = p.condition(inner, start); err != nil {
			return nil, err
		}
		return &node{op: opNot, left: inner}, nil
	}
	// A negated number is no constant to the checks, as in Apache's parser.
	if inner.op == opConstant || inner.op == opNegated {
		return &node{op: opNegated, constant: inner.constant.negated()}, nil
	}
	return &node{op: opNegate, left: inner}, nil
}

func (p *parser) primary() (*node, error) {
	t := p.token
	if t.kind == tEnd {
		return nil, p.missing("a property, a literal or a parenthesis")
	}
	n := &node{op: opConstant}
	switch t.kind {
	case tString:
		n.constant = value{kind: text, bytes: []byte(unquote(t.text))}
	case tDecimal, tFloat:
		var err error
		if n.constant, err = p.number(t); err != nil {
			return nil, err
		}
	case tTrue:
		n.constant = value{kind: boolean, n: 1}
	case tFalse:
		n.constant = value{kind: boolean}
	case tNull:
	case tName:
		n.op, n.slot = opProperty, p.slotOf(t.text)
	case tOpen:
		if err := p.advance(); err != nil {
			return nil, err
		}
		inner, err := p.or()
		if err != nil {
			return nil, err
		}
		_, err = p.expect(tClose, "a closing parenthesis")
		return inner, err
	default:
		return nil, p.missing("a property, a literal or a parenthesis")
	}
	return n, p.advance()
}

func (p *parser) number(t token) (value, error) {
	if t.kind == tFloat {
		f, ok := parseDouble([]byte(t.text))
		switch {
		case !ok || math.IsInf(f, 0):
			return value{}, p.fail(t.pos, "the number %s is too large for a double", t.text)
		case f == 0:
			return value{}, p.fail(t.pos, "a number with a fraction must be above zero; write 0 instead of %s", t.text)
		}
		return value{kind: double, f: f}, nil
	}
	whole := t.text
	if last := whole[len(whole)-1]; last == 'l' || last == 'L' {
		whole = whole[:len(whole)-1]
	}
	n, ok := parseInteger([]byte(whole), math.MaxInt64)
	switch {
	case !ok:
		return value{}, p.fail(t.pos, "the number %s does not fit 64 bits", t.text)
	case n <= math.MaxInt32:
		return value{kind: integer, n: n}, nil
	}
	return value{kind: long, n: n}, nil
}

func (p *parser) slotOf(name string) int {
	if i := slices.Index(p.names, name); i >= 0 {
		return i
	}
	p.names = append(p.names, name)
	return len(p.names) - 1
}

// condition returns n as something that is true or false: a bare property is
// cast, and the rest refused.
func (p *parser) condition(n *node, pos int) (*node, error) {
	switch {
	case n.isCondition(), n.op == opConstant && (n.constant.kind == boolean || n.constant.kind == null):
		return n, nil
	case n.op == opProperty:
		return &node{op: opCast, left: n}, nil
	}
	return nil, p.fail(pos, "this is neither true nor false; a comparison should stand here")
}
