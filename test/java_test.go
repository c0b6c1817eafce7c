// Package test holds the tests of the whole that need more than Go: the official Java clients against a running server.
package test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"

	"github.com/merlinmq/merlin/test/harness"
)

// clients are the versions of the official Java client that are driven, with the folder of sources that only fit that major version.
var clients = []struct{ version, sources string }{{"5.5.0", "v5"}, {"4.9.8", "v4"}}

// group is a set of scenarios that one part of the server must pass. Switch a group on when its part has landed.
type group struct {
	name      string
	on        bool
	scenarios []string
	only5     []string                             // what only the 5.x client can do
	flags     []string                             // of the server
	run       func(t *testing.T, classpath string) // instead of scenarios
}

var groups = []group{
	{name: "main", on: true, scenarios: []string{"sync", "async", "oneway", "batch", "large", "compressed", "keys", "view", "refused", "push", "tags", "orderly",
		"broadcast", "rebalance", "resume", "from-where", "latency", "lite-subscribe", "lite-assign", "pull", "trace"}},
	{name: "admin", on: true, scenarios: []string{"admin", "mqadmin"}},
	{name: "delay", on: true, scenarios: []string{"delay"}, only5: []string{"timer", "recall"}},
	{name: "txn", on: true, scenarios: []string{"txn", "txn-check"}, flags: []string{"--set", "transactionTimeOut=1000", "--set", "transactionCheckInterval=2000"}},
	{name: "filter", on: true, scenarios: []string{"sql"}},
	{name: "request", on: true, scenarios: []string{"request"}},
	{name: "consume", on: true, scenarios: []string{"retry", "dlq", "reset"}},
	{name: "members", on: true, run: membersThatDie},
	{name: "pop", on: true, only5: []string{"pop", "pop-dead", "pop-orderly-listener"}},
}

func TestMain(m *testing.M) {
	rlog.SetLogLevel("error")
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

// TestJava runs every group that is on, with every client. MERLIN_JAVA=1 makes missing tools a failure instead of a reason
// to skip; MERLIN_GROUPS=delay,txn runs these groups, on or not ("all": every one); MERLIN_ADDR runs against that name server
// (an Apache broker must then have recallMessageEnable=true, transactionTimeOut=1000, transactionCheckInterval=2000).
func TestJava(t *testing.T) {
	forced := os.Getenv("MERLIN_JAVA") == "1"
	if testing.Short() && !forced {
		t.Skip("takes minutes")
	}
	for _, tool := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			if forced {
				t.Fatal(err)
			}
			t.Skipf("%s is missing", tool)
		}
	}
	wanted := strings.FieldsFunc(os.Getenv("MERLIN_GROUPS"), func(r rune) bool { return r == ',' })
	for _, c := range clients {
		t.Run(c.version, func(t *testing.T) {
			classpath := compile(t, c.version, c.sources)
			for _, g := range groups {
				if len(wanted) == 0 && !g.on || len(wanted) > 0 && !slices.Contains(wanted, g.name) && wanted[0] != "all" {
					continue
				}
				t.Run(g.name, func(t *testing.T) {
					if g.run != nil {
						g.run(t, classpath)
						return
					}
					scenarios := g.scenarios
					if c.sources == "v5" {
						scenarios = slices.Concat(scenarios, g.only5)
					}
					drive(t, classpath, harness.Start(t, g.flags...).Namesrv, scenarios)
				})
			}
		})
	}
}

// drive runs the scenarios in one JVM and makes each a subtest of its own.
func drive(t *testing.T, classpath, namesrv string, scenarios []string) {
	home := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "java", "-Xmx512m", "-XX:+UseSerialGC", "-Dparallel=4", "-Duser.home="+home, "-Drocketmq.client.logRoot="+home,
		"-cp", classpath, "compat.Main", namesrv, strings.Join(scenarios, ","))
	out, runErr := cmd.CombinedOutput()
	type result struct {
		good bool
		said string
	}
	results := map[string]result{}
	var said []string
	in := bufio.NewScanner(strings.NewReader(string(out)))
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		line := in.Text()
		words := strings.Fields(line)
		if len(words) == 4 && (words[0] == "PASS" || words[0] == "FAIL") && words[3] == "ms" {
			results[words[1]] = result{words[0] == "PASS", strings.Join(append(said, line), "\n")}
			said = nil
		} else if !strings.Contains(line, "RocketmqRemoting - ") && !strings.HasPrefix(line, "SLF4J") {
			said = append(said, line)
		}
	}
	for _, name := range scenarios {
		t.Run(name, func(t *testing.T) {
			r, ok := results[name]
			switch {
			case !ok:
				t.Fatalf("the driver ended before it (%v):\n%s", runErr, strings.Join(said, "\n"))
			case !r.good:
				t.Fatal(r.said)
			default:
				t.Log(r.said)
			}
		})
	}
}

// compile brings the client of one version and our driver into a cache folder and returns the class path. The driver is
// compiled every time, the jars are fetched once, from Maven Central through mvn.
func compile(t *testing.T, version, sources string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "merlin-java", version)
	lib := filepath.Join(dir, "lib")
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		if err := os.MkdirAll(lib, 0o755); err != nil {
			t.Fatal(err)
		}
		pom, err := os.ReadFile(filepath.Join("java", "pom.xml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, "mvn", "-q", "-f", filepath.Join(dir, "pom.xml"), "-Drocketmq.version="+version, "dependency:copy-dependencies", "-DoutputDirectory="+lib)
		if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var files []string
	for _, s := range []string{"common", sources} {
		found, err := filepath.Glob(filepath.Join("java", "src", s, "compat", "*.java"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no Java sources in %s: %v", s, err)
		}
		files = append(files, found...)
	}
	classes := t.TempDir()
	run(t, "javac", append([]string{"-nowarn", "-encoding", "UTF-8", "-d", classes, "-cp", filepath.Join(lib, "*")}, files...)...)
	return classes + string(filepath.ListSeparator) + filepath.Join(lib, "*")
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
