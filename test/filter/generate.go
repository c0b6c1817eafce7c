package filter

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Case is an expression and the property sets it is asked about.
type Case struct {
	Text string
	Sets []Set
}

// Set is a message's properties.
type Set map[string]string

var names = []string{"a", "b", "c", "TAGS", "$d", "_e1", "KEYS", "gone"}

var values = []string{
	"0", "1", "5", "5", "10", "-1", "-5", "+5", "007", "5.0", "5.5", ".5", "5.", "1e3", "5L", "5d", "5f", "0x5", "0x1p3", "0X.8P1F", "1_0",
	"NaN", "-NaN", "Infinity", "-Infinity", "+Infinity", "inf", "nan", "infinity", "1e400", "-1e400", "1e-400", "-0.0", "0.0", "-0", " 5", "5 ", "\t5\n", " ",
	"2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
	"9007199254740993", "3.14159", "1E+2", "1E-2", "1e", "1e+", "e5", "-", "+", "--5", "+-5", ".", "0x", "0x1", "1dd", "1fd", "5 5",
	"true", "TRUE", "True", "false", "FALSE", "truE ", "t", "yes", "x", "X", "abc", "abcabc", "hello world", "it's", "''", "%", "a",
	"é", "日本語", "日本", "😀", "😀x", "٣", "１２", "-٣", "𝟓", "ſ", "K", "null", "NULL", "\u00a05", "\u20035",
}

var numbers = []string{
	"0", "1", "5", "5", "10", "42", "2147483647", "2147483648", "5L", "10l", "9223372036854775807", "9007199254740993", "9007199254740992",
	"5.0", "5.5", ".5", "5.", "5E0", "1e3", "5.E1", "9007199254740992.0", "1E400", "0.0", "0e1", "1e-400", "4.9E-324", "9223372036854775808", "007", "0L", "5LL", "1.5f", "00.5", "01e1",
}

var literals = []string{
	"''", "'x'", "'X'", "'5'", "'5.0'", "'abc'", "'bc'", "'b'", "'it''s'", "''''", "'true'", "'TRUE'", "'日本'", "'😀'", "'é'", "' '", "'a\nb'", "'--'", "'/*'", "'world'", "'hello'", "'null'", "'10'", "'-5'",
}

// Generator makes cases out of a seed.
type Generator struct{ rng *rand.Rand }

// NewGenerator returns a generator of the seed's cases.
func NewGenerator(seed uint64) *Generator {
	return &Generator{rand.New(rand.NewPCG(seed, 0x5351))}
}

func pick[T any](g *Generator, from []T) T { return from[g.rng.IntN(len(from))] }

func (g *Generator) oneIn(n int) bool { return g.rng.IntN(n) == 0 }

// Set returns a property set.
func (g *Generator) Set() Set {
	s := Set{}
	for _, n := range names[:len(names)-1] {
		if !g.oneIn(4) {
			s[n] = pick(g, values)
		}
	}
	if g.oneIn(10) {
		s["other"] = "x"
	}
	return s
}

// Expression returns an expression; some do not compile.
func (g *Generator) Expression() string {
	text := g.spell(g.condition(g.rng.IntN(4)))
	switch g.rng.IntN(8) {
	case 0:
		return g.damage(text)
	case 1:
		return text + " " + pick(g, append(words, "?", "'x", "%", "/*", ";", "--", "-- x", "-- x\n;", "/**/", "/* * / ** */ ;", "\u00a0", "é"))
	}
	return text
}

var words = []string{
	"AND", "OR", "NOT", "IS", "NULL", "IN", "BETWEEN", "CONTAINS", "STARTSWITH", "ENDSWITH", "TRUE", "FALSE", "=", "<>", "<", "<=", ">", ">=", "(", ")", ",",
	"+", "-", "a", "b", "5", "5.5", "'x'", "''", "IS NULL", "IS NOT NULL", "NOT IN ('x')", "= 5", "> 5", "AND TRUE", "OR a IS NULL", "!=", "==", "LIKE", "a.b", ".5",
}

// damage changes some words of a text.
func (g *Generator) damage(text string) string {
	parts := strings.Split(text, " ")
	for range 1 + g.rng.IntN(2) {
		at := g.rng.IntN(len(parts))
		switch g.rng.IntN(4) {
		case 0:
			parts[at] = pick(g, words)
		case 1:
			parts[at] = ""
		case 2:
			parts[at] += " " + pick(g, words)
		case 3:
			other := g.rng.IntN(len(parts))
			parts[at], parts[other] = parts[other], parts[at]
		}
	}
	if g.oneIn(6) {
		all := []rune(strings.Join(parts, " "))
		if len(all) > 0 {
			all[g.rng.IntN(len(all))] = pick(g, []rune("'\"()-+*/=<>!.,;0L eE\n\r\t\f\v\\x_$#é😀\u017f\u212a\u0130"))
		}
		return string(all)
	}
	return strings.Join(parts, " ")
}

// spell varies cases of keywords, blanks and comments.
func (g *Generator) spell(text string) string {
	if !g.oneIn(4) {
		return text
	}
	var b strings.Builder
	quoted := false
	for _, r := range text {
		if r == '\'' {
			quoted = !quoted
		}
		if r != ' ' || quoted || !g.oneIn(3) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(pick(g, []string{"  ", "\t", "\n", " /* x */ ", "/***/", " -- x\n", "--\r", " --x\r\n", "\f", " /* ' */ ", "/*/**/"}))
	}
	if out := b.String(); g.oneIn(2) {
		for _, k := range []string{"AND", "OR", "NOT", "IS", "NULL", "IN", "BETWEEN", "CONTAINS", "TRUE"} {
			out = strings.ReplaceAll(out, " "+k+" ", " "+strings.ToLower(k)+" ")
		}
		return out
	}
	return b.String()
}

func (g *Generator) condition(depth int) string {
	if depth > 0 && !g.oneIn(4) {
		switch g.rng.IntN(7) {
		case 0, 1:
			return g.condition(depth-1) + " AND " + g.condition(depth-1)
		case 2, 3:
			return g.condition(depth-1) + " OR " + g.condition(depth-1)
		case 4:
			return "( " + g.condition(depth-1) + " )"
		case 5:
			return "NOT ( " + g.condition(depth-1) + " )"
		default:
			return g.oddity(depth)
		}
	}
	not := ""
	if g.oneIn(3) {
		not = "NOT "
	}
	switch g.rng.IntN(14) {
	case 0, 1:
		return g.operand() + " " + pick(g, []string{"=", "<>"}) + " " + g.operand()
	case 2:
		return pick(g, names) + " " + pick(g, []string{"=", "<>"}) + " " + pick(g, literals)
	case 3:
		return pick(g, names) + " " + pick(g, []string{"=", "<>"}) + " " + pick(g, []string{"TRUE", "FALSE"})
	case 4, 5, 6:
		return g.number() + " " + pick(g, []string{"<", "<=", ">", ">="}) + " " + g.number()
	case 7:
		return g.number() + " " + not + "BETWEEN " + g.number() + " AND " + g.number()
	case 8:
		list := pick(g, literals)
		for range g.rng.IntN(pick(g, []int{1, 3, 12})) {
			list += " , " + pick(g, literals)
		}
		return pick(g, names) + " " + not + "IN ( " + list + " )"
	case 9, 10:
		return g.operand() + " " + not + pick(g, []string{"CONTAINS", "STARTSWITH", "ENDSWITH"}) + " " + pick(g, literals)
	case 11:
		return g.operand() + " IS " + not + "NULL"
	case 12:
		return not + pick(g, names)
	}
	return not + pick(g, []string{"TRUE", "FALSE", "NULL", pick(g, names)})
}

// oddity returns what nobody should write and some parser takes.
func (g *Generator) oddity(depth int) string {
	inner := g.condition(depth - 1)
	switch g.rng.IntN(9) {
	case 0:
		return "( " + inner + " ) = " + g.operand()
	case 1:
		return g.operand() + " <> ( " + inner + " )"
	case 2:
		return "( " + inner + " ) IS NULL"
	case 3:
		return "- ( " + inner + " ) < " + g.number()
	case 4:
		return "( " + inner + " ) CONTAINS " + pick(g, literals)
	case 5:
		return g.operand() + " = " + g.operand() + " = " + g.operand()
	case 6:
		return "NOT " + inner
	case 7:
		return "( " + inner + " ) = ( " + g.condition(depth-1) + " )"
	}
	return "+ ( " + inner + " )"
}

func (g *Generator) number() string {
	switch g.rng.IntN(12) {
	case 0, 1, 2, 3, 4, 5:
		return pick(g, names)
	case 6:
		return "- " + pick(g, numbers)
	case 7:
		return pick(g, []string{"+ ", "- - ", "- + ", "--"}) + pick(g, numbers)
	case 8:
		if g.oneIn(6) {
			return g.operand()
		}
	}
	return pick(g, numbers)
}

func (g *Generator) operand() string {
	switch g.rng.IntN(12) {
	case 0, 1, 2, 3, 4:
		return pick(g, names)
	case 5, 6:
		return pick(g, literals)
	case 7:
		return pick(g, []string{"TRUE", "FALSE", "NULL"})
	case 8:
		return fmt.Sprintf("( %s )", pick(g, names))
	case 9:
		return pick(g, []string{"- ", "+ "}) + pick(g, names)
	}
	return g.number()
}
