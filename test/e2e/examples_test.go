package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/test/harness"
)

// clientGo is the client whose examples are run.
const clientGo = "github.com/apache/rocketmq-client-go/v2"

// TestClientExamples runs the examples that rocketmq-client-go comes with, unchanged but for the address. Left out are those
// of features that are tested elsewhere, and pull_from, which needs a Redis.
func TestClientExamples(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	t.Parallel()
	s := harness.Start(t)
	x := &examples{t: t, bin: buildExamples(t, s.Namesrv, "producer/simple", "producer/async", "producer/batch", "producer/tag",
		"consumer/simple", "consumer/tag", "consumer/orderly", "consumer/broadcast", "consumer/pull/pull", "consumer/pull/poll"), home: t.TempDir()}
	w := newWorld(t, s.Namesrv)
	p := w.producer("examples")
	send := func(topic, tag string, bodies ...string) {
		t.Helper()
		for _, b := range bodies {
			if _, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte(b)).WithTag(tag)); err != nil {
				t.Fatalf("send to %s: %v", topic, err)
			}
		}
	}

	for _, c := range []struct {
		name string
		sent int // lines that tell of a send
	}{{"producer/simple", 10}, {"producer/async", 10}, {"producer/batch", 1}, {"producer/tag", 3}} {
		out := x.finish(c.name)
		if n := strings.Count(out, "send message success: result=SendResult [sendStatus=0,"); n != c.sent || strings.Contains(out, "error") {
			t.Errorf("%s told of %d sends, want %d:\n%s", c.name, n, c.sent, out)
		}
	}
	// All the push consumers are of one group and subscribe to different things, so that one runs after the other.
	x.until("consumer/simple", func() {}, map[string]int{
		`body=Hello RocketMQ Go Client! \d,`: 10, `body=Hello RocketMQ Go Client!,`: 13, `body=Hello RocketMQ Go Client! num: \d,`: 10, `TAGS:Tag[ABC]\b`: 3,
	})
	send("TopicTest", "TagB", "b 0") // a topic must be there when a consumer starts
	send("min", "T", "to all 000")
	x.until("consumer/tag", func() {
		send("TopicTest", "TagA", "a 1", "a 2")
		send("TopicTest", "TagB", "b 1")
		send("TopicTest", "TagC", "c 1")
	}, map[string]int{`body=a \d,`: 2, `body=c 1,`: 1, `body=b \d,`: 0})
	x.until("consumer/orderly", func() { send("TopicTest", "T", numbered("in order", 0, 10)...) }, map[string]int{`body=in order \d{3},`: 10, `orderly context: `: 1})
	x.until("consumer/broadcast", func() { send("min", "T", numbered("to all", 1, 10)...) }, map[string]int{`body=to all \d{3},`: 10})
	// These two are of another group and of the namespace ns.
	send("ns%test-topic", "testPull", numbered("poll", 0, 5)...)
	send("ns%test-topic", "other", "not asked for")
	x.until("consumer/pull/poll", func() {}, map[string]int{`body=poll \d{3},`: 5, `not asked for`: 0})
	x.until("consumer/pull/pull", func() { send("ns%test-topic", "testPull", numbered("pull", 0, 5)...) }, map[string]int{`body=pull \d{3},`: 5, `pull message successfully`: 1, `not asked for`: 0})
}

// buildExamples copies examples of the client that go.mod names, puts addr in place of their address and returns the
// folder with the programs. They are built with the versions of our go.mod, so that only what is there already is needed.
func buildExamples(t *testing.T, addr string, names ...string) string {
	t.Helper()
	var list bytes.Buffer
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", clientGo)
	cmd.Stdout, cmd.Stderr = &list, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list -m %s: %v", clientGo, err)
	}
	from, dir := filepath.Join(strings.TrimSpace(list.String()), "examples"), t.TempDir()
	root := filepath.Join("..", "..")
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Replace(text, []byte("module github.com/merlinmq/merlin\n"), []byte("module examples\n"), 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		files, err := fs.Glob(os.DirFS(from), name+"/*.go")
		if err != nil || len(files) != 1 {
			t.Fatalf("the example %s has the files %q, want one (%v)", name, files, err)
		}
		text, err := os.ReadFile(filepath.Join(from, files[0]))
		if err != nil {
			t.Fatal(err)
		}
		const theirs = "127.0.0.1:9876"
		if bytes.Count(text, []byte(theirs)) != 1 {
			t.Fatalf("the example %s does not name %s once", name, theirs)
		}
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"), "main.go")
		if err := os.Mkdir(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, bytes.Replace(text, []byte(theirs), []byte(addr), 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "bin") + string(filepath.Separator)
	build := exec.Command("go", "build", "-o", bin, "./...")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build of the examples: %v\n%s", err, out)
	}
	return bin
}

type examples struct {
	t         *testing.T
	bin, home string
}

func (x *examples) command(ctx context.Context, name string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(x.bin, strings.ReplaceAll(name, "/", "_")))
	cmd.Env = append(os.Environ(), "HOME="+x.home)
	return cmd
}

// finish runs a program that ends by itself and returns what it printed.
func (x *examples) finish(name string) string {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := x.command(ctx, name)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		x.t.Fatalf("%s: %v\n%s", name, err, out.String())
	}
	return out.String()
}

// until runs a program that does not end by itself, and ends it when its output has what is wanted as often as wanted; what
// is wanted 0 times must not come. send runs when the program does.
func (x *examples) until(name string, send func(), want map[string]int) {
	x.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		x.t.Fatal(err)
	}
	defer r.Close()
	cmd := x.command(context.Background(), name)
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		x.t.Fatalf("%s: %v", name, err)
	}
	var mu sync.Mutex
	var out strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		in := bufio.NewReader(r)
		for {
			line, err := in.ReadString('\n')
			mu.Lock()
			out.WriteString(line)
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // none of them handles it
		_ = cmd.Wait()
		<-read
	}()
	send()
	missing := func() string {
		mu.Lock()
		defer mu.Unlock()
		for pattern, n := range want {
			if got := len(regexp.MustCompile(pattern).FindAllString(out.String(), -1)); got < n || n == 0 && got > 0 {
				return fmt.Sprintf("%q is %d times in the output, want %d", pattern, got, n)
			}
		}
		return ""
	}
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		why := missing()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			mu.Lock()
			defer mu.Unlock()
			x.t.Fatalf("%s: %s, after 90 s:\n%s", name, why, out.String())
		}
	}
}
