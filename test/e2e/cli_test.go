package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/merlinmq/merlin/test/harness"
)

// TestCommands runs the scripts in testdata/cli: the commands as people type them, against a server.
//
// Beside what testscript brings there are three words. "until REGEXP merlin …" runs a command again and again until its
// output matches. "keep NAME REGEXP" makes a variable of the first group that matches the last output. "half TOPIC GROUP
// KEY" sends the half of a transaction that its producer does not end.
func TestCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	if harness.External() != "" {
		t.Skip("some of the commands work with our server only")
	}
	s := harness.Start(t)
	bin := t.TempDir()
	if err := os.Symlink(harness.Build(t), filepath.Join(bin, "merlin")); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/cli",
		Setup: func(e *testscript.Env) error {
			e.Setenv("NAMESRV_ADDR", s.Namesrv)
			e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until, "keep": keep, "half": half},
	})
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND...")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for end := time.Now().Add(45 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%q did not come within 45 s; the last run ended with %v:\n%s%s", args[0], err, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
		}
	}
}

func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keep NAME REGEXP")
	}
	found := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) < 2 {
		ts.Fatalf("%q is not in the last output:\n%s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], found[1])
}

func half(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: half TOPIC GROUP KEY")
	}
	p, err := producer.NewTransactionProducer(&settler{checks: map[string]int{}}, producer.WithNameServer(primitive.NamesrvAddr{ts.Getenv("NAMESRV_ADDR")}),
		producer.WithGroupName(args[1]), producer.WithInstanceName(args[2]), producer.WithSendMsgTimeout(10*time.Second))
	ts.Check(err)
	ts.Check(p.Start())
	r, err := p.SendMessageInTransaction(context.Background(), primitive.NewMessage(args[0], []byte("half of "+args[2])).WithTag("T").WithKeys([]string{args[2]}))
	ts.Check(err)
	ts.Check(p.Shutdown())
	if r.Status != primitive.SendOK {
		ts.Fatalf("the half was not stored: %s", r)
	}
}
