package filter

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/merlinmq/merlin/message"
)

func properties(pairs map[string]string) message.Properties {
	var p message.Properties
	for name, v := range pairs {
		p = p.Append(name, v)
	}
	return p
}

// The golden files hold property sets in their first line and, in every other,
// an expression and what Apache's filter classes say: "!" if it does not
// compile, otherwise T, F, N for null and X for an exception of each set.
// Written by go test ./test/filter -run TestGolden -write.
func TestApacheVerdicts(t *testing.T) {
	files, err := filepath.Glob("testdata/apache-*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(b))
		lines.Buffer(nil, 1<<20)
		lines.Scan()
		var sets []map[string]string
		if err := json.Unmarshal(lines.Bytes(), &sets); err != nil {
			t.Fatal(err)
		}
		cases := 0
		for ; lines.Scan(); cases++ {
			var c [2]string
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Fatal(err)
			}
			checkVerdicts(t, c[0], c[1], sets)
		}
		if cases < 500 {
			t.Errorf("%s holds %d cases", name, cases)
		}
	}
}

func checkVerdicts(t *testing.T, text, want string, sets []map[string]string) {
	t.Helper()
	e, err := Compile(text)
	if (err != nil) != (want == "!") {
		t.Errorf("%q: got the error %v, want %q", text, err, want)
		return
	}
	if err != nil {
		return
	}
	for i, set := range sets {
		var slots [][]byte
		for _, name := range e.names {
			slots = append(slots, []byte(nil))
			if v := set[name]; v != "" {
				slots[len(slots)-1] = []byte(v)
			}
		}
		if got := "FTNX"[e.root.test(slots)]; got != want[i] {
			t.Errorf("%q of %q: got %c, want %c", text, set, got, want[i])
		}
		if got := e.Match(properties(set)); got != (want[i] == 'T') {
			t.Errorf("%q of %q: matches: %v, want %c", text, set, got, want[i])
		}
	}
}

// What users get wrong is answered with the place and a reason.
func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct {
		text string
		pos  int
		says string
	}{
		{"", 0, "the expression ends where a property"},
		{"a > ", 4, "the expression ends where"},
		{"a > 'x'", 2, "not strings"},
		{"a = NULL", 2, "IS NULL"},
		{"a LIKE 'x' AND ?", 0, ""}, // compiles: what follows a is ignored
		{"a = 1 AND b ! 2", 12, "nothing in the filter language"},
		{"a IN (1)", 6, "a string in single quotes"},
		{"5 IN ('x')", 2, "IN needs the name of a property"},
		{"a IN ('x'", 9, "where ) or a comma"},
		{"a BETWEEN 5 AND 1", 2, "above the upper one"},
		{"a BETWEEN 1 OR 5", 12, "AND and the upper bound"},
		{"a = 'x", 4, "no closing quote"},
		{"a = 1 /* x", 6, "no */"},
		{"a = 9223372036854775808", 4, "64 bits"},
		{"a = 1e999", 4, "too large"},
		{"a = 0.0", 4, "above zero"},
		{"TRUE = 5", 5, "TRUE and FALSE"},
		{"(a = 1) > 5", 8, "the outcome of a condition"},
		{"a = 1 AND 5", 10, "neither true nor false"},
		{"(a = 1", 6, "a closing parenthesis"},
		{"a NOT LIKE 'x'", 6, "after NOT"},
		{"a IS 5", 5, "NULL"},
		{"日 = 1", 0, "nothing in the filter language"},
		{strings.Repeat("(", MaxDepth) + "a" + strings.Repeat(")", MaxDepth), MaxDepth, "nested deeper"},
		{"a" + strings.Repeat(" = a", MaxDepth+1), 0, "follow on one another"},
		{strings.Repeat(" ", MaxLength) + "a", MaxLength, "longer than"},
	} {
		_, err := Compile(c.text)
		if c.says == "" {
			if err != nil {
				t.Errorf("%.40q: %v", c.text, err)
			}
			continue
		}
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("%.40q: got %v, want a syntax error", c.text, err)
			continue
		}
		if e.Pos != c.pos || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.40q: got %q, want %q at %d", c.text, err, c.says, c.pos)
		}
	}
}

// The last of several values counts, a broken pair does not.
func TestMatchReadsStoredBytes(t *testing.T) {
	e, err := Compile("a = '2' AND b IS NULL")
	if err != nil {
		t.Fatal(err)
	}
	for stored, want := range map[string]bool{
		"a\x012\x02":                     true,
		"a\x012":                         true,
		"a\x011\x02a\x012\x02":           true,
		"a\x012\x02a\x011\x02":           false,
		"a\x012\x02b\x01\x02":            true,
		"a\x012\x02b\x02\x01x\x02":       true,
		"a\x012\x02b\x01x\x02":           false,
		"aa\x012\x02":                    false,
		"":                               false,
		"x\x01y\x02a\x012\x02z\x01b\x02": true,
	} {
		if got := e.Match(message.Properties(stored)); got != want {
			t.Errorf("%q: %v, want %v", stored, got, want)
		}
	}
}

// An expression with many properties, and many in a list.
func TestManyProperties(t *testing.T) {
	var parts []string
	set := map[string]string{}
	for i := range 40 {
		parts = append(parts, fmt.Sprintf("p%d = 'v%d'", i, i))
		set[fmt.Sprint("p", i)] = fmt.Sprint("v", i)
	}
	e, err := Compile(strings.Join(parts, " AND "))
	if err != nil {
		t.Fatal(err)
	}
	p := properties(set)
	if !e.Match(p) {
		t.Error("does not match")
	}
	if e.Match(p.Without("p17")) || !e.Match(p) {
		t.Error("a property of the message before counts")
	}
	var list []string
	for i := range 3000 {
		list = append(list, fmt.Sprintf("'%d'", i))
	}
	if e, err = Compile("a IN (" + strings.Join(list, ",") + ")"); err != nil {
		t.Fatal(err)
	}
	if !e.Match(message.Properties("a\x012999\x02")) || e.Match(message.Properties("a\x013000\x02")) {
		t.Error("wrong in a long list")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	p := sample()
	for _, text := range append(samples, strings.Repeat("x1 IS NULL AND x2 IS NULL AND x3 IS NULL AND ", 3)+
		"x4 IS NULL AND x5 IS NULL AND x6 IS NULL AND x7 IS NULL AND x8 IS NULL AND x9 IS NULL") {
		e, err := Compile(text)
		if err != nil {
			t.Fatal(text, err)
		}
		matches := true
		if n := testing.AllocsPerRun(100, func() { matches = matches && e.Match(p) }); n != 0 {
			t.Errorf("%q: %v allocations", text, n)
		}
		if !matches {
			t.Errorf("%q does not match", text)
		}
	}
}

var samples = []string{
	"a = 'blue'",
	"n > 5 AND n <= 100",
	"price BETWEEN 1.5 AND 99.5",
	"region IN ('eu-1', 'eu-2', 'us-1') AND (TAGS = 'TagA' OR TAGS = 'TagB')",
	"a IS NOT NULL AND missing IS NULL AND region STARTSWITH 'eu' AND a CONTAINS 'lu' AND a <> 'red' AND price > n",
}

func sample() message.Properties {
	var p message.Properties
	for _, kv := range [][2]string{
		{"KEYS", "order-4711"}, {"UNIQ_KEY", "C0A8010A00002A9F0000000000000001"}, {"WAIT", "true"}, {"TAGS", "TagA"},
		{"a", "blue"}, {"n", "42"}, {"price", "42.25"}, {"region", "eu-2"}, {"MSG_REGION", "DefaultRegion"}, {"TRACE_ON", "true"},
		{"CLUSTER", "DefaultCluster"},
	} {
		p = p.Append(kv[0], kv[1])
	}
	return p
}

func BenchmarkMatch(b *testing.B) {
	p := sample()
	for _, text := range samples {
		e, err := Compile(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !e.Match(p) {
					b.Fatal("does not match")
				}
			}
		})
	}
}

// No text and no properties make the compiler or the evaluator panic; errors
// are placed inside the text, and the same bytes give the same verdict again.
func FuzzFilter(f *testing.F) {
	for _, text := range samples {
		f.Add(text, []byte(sample()))
	}
	f.Add("NOT (a - -5E10 <> +.5) /* x */ IS -- y\n NOT NULL", []byte("a\x01NaN\x02b\x010x1p3"))
	f.Fuzz(func(t *testing.T, text string, stored []byte) {
		e, err := Compile(text)
		if err != nil {
			var at *SyntaxError
			if !errors.As(err, &at) || at.Pos < 0 || at.Pos > len(text) || at.Reason == "" {
				t.Fatalf("%q: %#v", text, err)
			}
			return
		}
		if first, second := e.Match(stored), e.Match(stored); first != second {
			t.Fatalf("%q of %q: two verdicts", text, stored)
		}
		if e.root.test(make([][]byte, len(e.names))) > failed {
			t.Fatal("no verdict")
		}
	})
}
