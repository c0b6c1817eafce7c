package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
	"github.com/merlinmq/merlin/test/harness"
)

// Sizes that make several files of everything, in both brokers' spelling.
var smallFiles = []string{"mappedFileSizeCommitLog=1048576", "mappedFileSizeConsumeQueue=4000", "maxHashSlotNum=500", "maxIndexNum=4000"}

func sets(lines []string) (flags []string) {
	for _, l := range lines {
		flags = append(flags, "--set", l)
	}
	return flags
}

// corpus is what was sent: by topic and queue, by offset.
type corpus map[string]map[int][]stored

type stored struct{ key, tag, body string }

func (c corpus) add(topic string, queue int, offset int64, s ...stored) error {
	if c[topic] == nil {
		c[topic] = map[int][]stored{}
	}
	if n := len(c[topic][queue]); offset != int64(n) {
		return fmt.Errorf("%s queue %d: offset %d, want %d", topic, queue, offset, n)
	}
	c[topic][queue] = append(c[topic][queue], s...)
	return nil
}

// send adds n messages to each of four queues of two topics, some in batches.
func (c corpus) send(t *testing.T, w *harness.Wire, name string, n int) {
	t.Helper()
	for i := range n {
		for _, topic := range []string{"orders", "events"} {
			for queue := range 4 {
				s := stored{fmt.Sprintf("%s-%s-%d-%d", name, topic, queue, i), fmt.Sprint("tag", i%3), strings.Repeat(name+" ", 1+i%200)}
				if err := c.add(topic, queue, w.Send(topic, queue, s.properties(), []byte(s.body), false), s); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var body []byte
	var list []stored
	for i := range 10 {
		s := stored{fmt.Sprintf("%s-batch-%d", name, i), "batch", fmt.Sprint("in a batch ", i)}
		body = message.AppendBatchItem(body, message.BatchItem{Body: []byte(s.body), Properties: s.properties()})
		list = append(list, s)
	}
	if err := c.add("orders", 1, w.Send("orders", 1, nil, body, true), list...); err != nil {
		t.Fatal(err)
	}
}

func (s stored) properties() message.Properties {
	return message.Properties(nil).Append(message.PropKeys, s.key).Append(message.PropTags, s.tag)
}

// check wants all of it, byte for byte and by key.
func (c corpus) check(t *testing.T, w *harness.Wire) {
	t.Helper()
	for topic, queues := range c {
		for queue, list := range queues {
			end := w.Read(topic, queue, 0, func(offset int64, v message.View) {
				if offset >= int64(len(list)) {
					t.Errorf("%s queue %d has offset %d, which nobody sent", topic, queue, offset)
					return
				}
				want := list[offset]
				p := v.Properties()
				if got := (stored{p.Value(message.PropKeys), p.Value(message.PropTags), string(v.Body())}); got != want {
					t.Errorf("%s queue %d offset %d: %+v, want %+v", topic, queue, offset, got, want)
				}
			})
			if end != int64(len(list)) {
				t.Errorf("%s queue %d ends at %d, want %d", topic, queue, end, len(list))
			}
			for i := 0; i < len(list); i += 37 {
				if n := w.Find(topic, list[i].key); n != 1 {
					t.Errorf("the key %s finds %d messages, want 1", list[i].key, n)
				}
			}
		}
	}
}

// TestApacheOpensOurFolder writes a folder with Merlin, exports it, starts
// Apache's broker on it, and goes on there; and then with Merlin again.
// MERLIN_JAVA=1 makes missing tools a failure.
func TestApacheOpensOurFolder(t *testing.T) {
	if testing.Short() || harness.External() != "" {
		t.Skip("starts brokers")
	}
	apache := apacheJars(t, "5.5.0")
	dir, sent := t.TempDir(), corpus{}
	s := harness.StartIn(t, dir, sets(smallFiles)...)
	w := harness.DialBroker(t, s.Broker)
	sent.send(t, w, "merlin", 200)
	w.CreateGroup("readers")
	w.Commit("readers", "orders", 2, 123)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	export(t, dir)
	b := startApache(t, apache, dir)
	w = harness.DialBroker(t, b.addr)
	sent.check(t, w)
	if n := w.Committed("readers", "orders", 2); n != 123 {
		t.Errorf("Apache's broker has the offset %d of the group, want 123", n)
	}
	sent.send(t, w, "apache", 20)
	w.Commit("readers", "orders", 2, 150)
	w.CreateGroup("late")
	w.Commit("late", "events", 0, 7)
	b.stop(t)
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	w = harness.DialBroker(t, s.Broker)
	sent.check(t, w)
	for _, c := range []struct {
		group, topic string
		queue        int
		want         int64
	}{{"readers", "orders", 2, 150}, {"late", "events", 0, 7}} {
		if n := w.Committed(c.group, c.topic, c.queue); n != c.want {
			t.Errorf("back in Merlin the group %s is at %d, want %d", c.group, n, c.want)
		}
	}
	sent.send(t, w, "again", 5)
	sent.check(t, w)
}

// TestApacheFoldersAreServed starts Merlin on the folders of real Apache
// brokers, clean and killed, reads everything through the wire and goes on.
func TestApacheFoldersAreServed(t *testing.T) {
	if testing.Short() || harness.External() != "" {
		t.Skip("starts brokers")
	}
	for _, name := range []string{golden.Clean550, golden.Kill550, golden.Clean497, golden.Kill497} {
		t.Run(name, func(t *testing.T) {
			dir, m := golden.Unpack(t, name)
			s := harness.StartIn(t, dir, "--set", "mappedFileSizeCommitLog="+strconv.FormatInt(m.SegmentSize, 10),
				"--set", "mappedFileSizeConsumeQueue=1000", "--set", "maxHashSlotNum=500", "--set", "maxIndexNum=400")
			w := harness.DialBroker(t, s.Broker)
			for _, q := range m.Live.Queues {
				if message.IsSystemTopic(q.Topic) || strings.HasPrefix(q.Topic, "RMQ_SYS") || q.Topic == message.TopicSchedule {
					continue // grow by themselves: due delays, checks
				}
				n := 0
				end := w.Read(q.Topic, int(q.Queue), q.Min, func(offset int64, v message.View) {
					if n < len(q.Positions) && int64(v.Position()) != q.Positions[n] {
						t.Errorf("%s queue %d offset %d is the record at %d, was that at %d", q.Topic, q.Queue, offset, v.Position(), q.Positions[n])
					}
					n++
				})
				if end < q.Max {
					t.Errorf("%s queue %d ends at %d, ended at %d", q.Topic, q.Queue, end, q.Max)
				}
			}
			for _, o := range m.Live.Offsets {
				if strings.HasPrefix(o.Topic, "RMQ_SYS") || m.Stop == "kill" {
					continue // a kill costs Apache up to 5 s of commits
				}
				if n := w.Committed(o.Group, o.Topic, int(o.Queue)); n != o.Offset {
					t.Errorf("%s is at %d of %s queue %d, was at %d", o.Group, n, o.Topic, o.Queue, o.Offset)
				}
			}
			end := w.Read("orders", 0, 0, func(int64, message.View) {})
			if next := w.Send("orders", 0, nil, []byte("goes on"), false); next != end {
				t.Errorf("the next message got the offset %d, want %d", next, end)
			}
		})
	}
}

func export(t *testing.T, dir string) {
	t.Helper()
	args := append([]string{"store", "export", "--data", dir}, sets(smallFiles)...)
	if out, err := exec.Command(harness.Build(t), args...).CombinedOutput(); err != nil {
		t.Fatalf("merlin store export: %v\n%s", err, out)
	}
}

// apacheJars fetches Apache's broker once, from Maven Central through mvn, and
// returns its class path.
func apacheJars(t *testing.T, version string) string {
	t.Helper()
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("MERLIN_JAVA") == "1" {
				t.Fatal(err)
			}
			t.Skipf("%s is missing", tool)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "merlin-java", "broker-"+version)
	lib := filepath.Join(dir, "lib")
	if _, err := os.Stat(filepath.Join(dir, "done")); err == nil {
		return filepath.Join(lib, "*")
	}
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	pom := fmt.Sprintf(`<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>io.merlinmq</groupId><artifactId>apache-broker</artifactId><version>1</version>
<dependencies><dependency><groupId>org.apache.rocketmq</groupId><artifactId>rocketmq-broker</artifactId><version>%s</version></dependency></dependencies></project>
`, version)
	if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(pom), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "mvn", "-q", "-f", filepath.Join(dir, "pom.xml"), "dependency:copy-dependencies", "-DoutputDirectory="+lib)
	if err := os.WriteFile(filepath.Join(dir, "done"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(lib, "*")
}

// apacheBroker is a running broker of Apache's, without a name server.
type apacheBroker struct {
	addr   string
	cmd    *exec.Cmd
	exited chan error
	out    string // file
}

func startApache(t *testing.T, classpath, store string) *apacheBroker {
	t.Helper()
	home, port := t.TempDir(), freePort(t)
	conf := filepath.Join(home, "broker.conf")
	text := strings.Join(append([]string{
		"brokerClusterName=DefaultCluster", "brokerName=broker-a", "brokerId=0", "brokerIP1=127.0.0.1", fmt.Sprint("listenPort=", port),
		fmt.Sprint("haListenPort=", freePort(t)), "storePathRootDir=" + store, "autoCreateTopicEnable=true", "timerWheelEnable=true", "",
	}, smallFiles...), "\n")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	b := &apacheBroker{addr: fmt.Sprint("127.0.0.1:", port), out: filepath.Join(home, "out"), exited: make(chan error, 1)}
	out, err := os.Create(b.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	b.cmd = exec.Command("java", "-Xms512m", "-Xmx512m", "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
		"--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED",
		"-Duser.home="+home, "-Drocketmq.home.dir="+home, "-cp", classpath, "org.apache.rocketmq.broker.BrokerStartup", "-c", conf)
	b.cmd.Stdout, b.cmd.Stderr = out, out
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { b.exited <- b.cmd.Wait() }()
	t.Cleanup(func() {
		if b.cmd != nil {
			_ = b.cmd.Process.Kill() // the test has failed already
			<-b.exited
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		said, err := os.ReadFile(b.out)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(said, []byte("boot success")) {
			return b
		}
		select {
		case err := <-b.exited:
			b.cmd = nil
			t.Fatalf("Apache's broker ended before it was ready: %v\n%s", err, said)
		case <-ctx.Done():
			t.Fatalf("Apache's broker was not ready within two minutes\n%s", said)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends it by SIGTERM.
func (b *apacheBroker) stop(t *testing.T) {
	t.Helper()
	cmd := b.cmd
	b.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-b.exited:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) { // 143 is how a JVM ends on SIGTERM
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill() // reported below
		<-b.exited
		t.Fatal("Apache's broker did not end within a minute of SIGTERM")
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}
