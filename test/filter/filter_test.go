package filter

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker/filter"
	"github.com/merlinmq/merlin/message"
)

const version = "5.5.0"

var (
	write = flag.Bool("write", false, "write the golden file of broker/filter anew, out of Apache's verdicts")
	count = flag.Int("expressions", 6000, "how many expressions to compare")
	seed  = flag.Uint64("seed", 0, "of the cases; 0 takes a new one")
)

const setsPerBatch, expressionsPerBatch = 20, 50

// Apache's classes and ours agree on every expression and every property set:
// whether it compiles, and whether it is true.
func TestAgreesWithApache(t *testing.T) {
	java := apache(t)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	g := NewGenerator(*seed)
	var cases []Case
	var sets []Set
	for i := range *count {
		if i%expressionsPerBatch == 0 {
			sets = g.sets(setsPerBatch)
		}
		cases = append(cases, Case{Text: g.Expression(), Sets: sets})
	}
	said := java.ask(t, cases)
	differ, compiled, verdicts := 0, 0, [256]int{}
	for i, c := range cases {
		if said[i] != "!" {
			compiled++
			for _, v := range []byte(said[i]) {
				verdicts[v]++
			}
		}
		if why := differs(c, said[i]); why != "" {
			if differ++; differ < 20 {
				t.Errorf("%q: %s", c.Text, why)
			}
		}
	}
	t.Logf("%d expressions, %d compile; true %d, false %d, null %d, failed %d", len(cases), compiled, verdicts['T'], verdicts['F'], verdicts['N'], verdicts['X'])
	if differ > 0 {
		t.Errorf("%d of %d expressions differ", differ, len(cases))
	}
	if compiled < len(cases)/2 || verdicts['T'] < len(cases) {
		t.Error("the generated cases say little: too few compile or match")
	}
}

func differs(c Case, said string) string {
	e, err := filter.Compile(c.Text)
	if (err != nil) != (said == "!") {
		if err != nil {
			return "compiles there, here: " + err.Error()
		}
		return "compiles here alone"
	}
	if err != nil {
		return ""
	}
	for i, set := range c.Sets {
		if e.Match(set.properties()) != (said[i] == 'T') {
			b, _ := json.Marshal(set)
			return "there " + said[i:i+1] + ", here the opposite, of " + string(b)
		}
	}
	return ""
}

func (g *Generator) sets(n int) []Set {
	all := []Set{{}}
	for len(all) < n {
		all = append(all, g.Set())
	}
	return all
}

func (s Set) properties() message.Properties {
	var p message.Properties
	for name, v := range s {
		p = p.Append(name, v)
	}
	return p
}

// TestGolden writes the cases that broker/filter checks without Java.
func TestGolden(t *testing.T) {
	if !*write {
		t.Skip("only with -write")
	}
	java := apache(t)
	g := NewGenerator(1)
	sets := g.sets(40)
	cases := []Case{{Text: "", Sets: sets}}
	for len(cases) < 800 {
		cases = append(cases, Case{Text: g.Expression(), Sets: sets})
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(sets); err != nil {
		t.Fatal(err)
	}
	for i, said := range java.ask(t, cases) {
		if err := enc.Encode([2]string{cases[i].Text, said}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join("..", "..", "broker", "filter", "testdata", "apache-"+version+".jsonl"), out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// jvm is a class path with Apache's filter classes and our driver.
type jvm string

// apache fetches the jars through mvn and compiles the driver, or skips.
// MERLIN_JAVA=1 makes missing tools a failure.
func apache(t *testing.T) jvm {
	forced := os.Getenv("MERLIN_JAVA") == "1"
	if testing.Short() && !forced {
		t.Skip("starts a JVM")
	}
	for _, tool := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			if forced {
				t.Fatal(err)
			}
			t.Skipf("%s is missing", tool)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "merlin-filter", version)
	lib := filepath.Join(dir, "lib")
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		if err := os.MkdirAll(lib, 0o755); err != nil {
			t.Fatal(err)
		}
		pom, err := filepath.Abs("pom.xml")
		if err != nil {
			t.Fatal(err)
		}
		run(t, "mvn", "-q", "-f", pom, "-Drocketmq.version="+version, "dependency:copy-dependencies", "-DoutputDirectory="+lib)
		if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	classes := t.TempDir()
	run(t, "javac", "-nowarn", "-encoding", "UTF-8", "-d", classes, "-cp", filepath.Join(lib, "*"), "Verdicts.java")
	return jvm(classes + string(filepath.ListSeparator) + filepath.Join(lib, "*"))
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// ask returns Apache's line for every case, see Verdicts.java.
func (path jvm) ask(t *testing.T, cases []Case) []string {
	var in bytes.Buffer
	word := func(s string) {
		in.WriteString(" " + base64.StdEncoding.EncodeToString([]byte(s)))
	}
	var sets []Set
	for _, c := range cases {
		if len(sets) == 0 || &sets[0] != &c.Sets[0] {
			sets = c.Sets
			in.WriteString("new\n")
			for _, set := range sets {
				in.WriteString("set")
				for name, v := range set {
					word(name)
					word(v)
				}
				in.WriteString("\n")
			}
		}
		in.WriteString("ask")
		word(c.Text)
		in.WriteString("\n")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", string(path), "Verdicts")
	cmd.Stdin = &in
	var failure strings.Builder
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, failure.String())
	}
	var said []string
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		said = append(said, lines.Text())
	}
	if len(said) != len(cases) {
		t.Fatalf("%d answers to %d cases\n%s", len(said), len(cases), failure.String())
	}
	return said
}
