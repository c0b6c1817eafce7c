// Command record writes the golden frames in test/testdata/frames: it starts a real Apache RocketMQ behind recording
// proxies, lets Apache's Java clients, its admin client and rocketmq-client-go ask for one of everything, and keeps what passed.
// See README.md beside it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// conversation is one file: a server and one client that talks with it.
type conversation struct {
	name   string
	client string   // version of the Java client, or "go"
	java   []string // options of the client's JVM
}

var sessions = []struct {
	server string // option of both servers' JVMs
	label  string
	talks  []conversation
}{
	{"", "json", []conversation{
		{"java-5.5.0-json", "5.5.0", nil},
		{"java-4.9.7-json", "4.9.7", []string{"-Dorg.apache.rocketmq.client.sendSmartMsg=false"}},
		{"java-5.5.0-binary", "5.5.0", []string{"-Drocketmq.serialize.type=ROCKETMQ"}},
		{"java-4.9.7-binary", "4.9.7", []string{"-Drocketmq.serialize.type=ROCKETMQ"}},
		{"go-2.1.2-json", "go", nil},
	}},
	{"-Drocketmq.serialize.type=ROCKETMQ", "binary", []conversation{
		{"java-5.5.0-binary-server-binary", "5.5.0", []string{"-Drocketmq.serialize.type=ROCKETMQ"}},
		{"go-2.1.2-server-binary", "go", nil},
	}},
}

func main() {
	reference := flag.String("reference", os.Getenv("REFERENCE"), "script that starts Apache RocketMQ (up DIR, down DIR, classpath VERSION)")
	out := flag.String("out", "test/testdata/frames", "folder for the conversation files")
	sources := flag.String("java", "test/java/src", "sources of the Java traffic")
	port := flag.Int("port", 22700, "first of six ports that are free")
	only := flag.String("only", "", "record this conversation alone")
	most := flag.Int("most", 3, "frames kept of one sort (link, direction, code) in a file")
	limit := flag.Int("limit", 20000, "bytes of the largest frame kept")
	flag.Parse()
	if err := run(*reference, *out, *sources, *only, *port, *most, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(reference, out, sources, only string, port, most, limit int) error {
	if reference == "" {
		return errors.New("no -reference and no $REFERENCE: which script starts Apache RocketMQ?")
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "record")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for i, s := range sessions {
		base := port + 6*i
		p := &place{reference: reference, out: out, sources: sources, work: filepath.Join(work, s.label), most: most, limit: limit,
			namesrv: "127.0.0.1:" + strconv.Itoa(base+1)}
		wanted := false
		for _, t := range s.talks {
			wanted = wanted || only == "" || only == t.name
		}
		if wanted {
			if err := p.session(base, s.server, s.label, s.talks, only); err != nil {
				return err
			}
		}
	}
	return nil
}

// place is where one session runs.
type place struct {
	reference, out, sources, work, namesrv string
	most, limit                            int
}

func (p *place) session(base int, option, label string, talks []conversation, only string) (err error) {
	// The broker listens on 127.0.0.1 and tells clients 127.0.0.2, where the proxy stands before it.
	broker := strconv.Itoa(base + 4)
	ns, err := newProxy("client-namesrv", p.namesrv, "127.0.0.1:"+strconv.Itoa(base))
	if err != nil {
		return err
	}
	defer ns.ln.Close()
	reg, err := newProxy("broker-namesrv", "127.0.0.1:"+strconv.Itoa(base+3), "127.0.0.1:"+strconv.Itoa(base))
	if err != nil {
		return err
	}
	defer reg.ln.Close()
	br, err := newProxy("client-broker", "127.0.0.2:"+broker, "127.0.0.1:"+broker)
	if err != nil {
		return err
	}
	defer br.ln.Close()

	registration := newRecorder(p.most, p.limit)
	reg.record(registration)
	dir := filepath.Join(p.work, "apache")
	up := exec.Command(p.reference, "up", dir, strconv.Itoa(base), broker, "brokerIP1=127.0.0.2", "bindAddress=127.0.0.1",
		"namesrvAddr="+reg.ln.Addr().String(), "transactionTimeOut=1000", "transactionCheckInterval=2000", "recallMessageEnable=true")
	up.Env = append(os.Environ(), "JAVA_TOOL_OPTIONS="+option)
	up.Stdout, up.Stderr = os.Stdout, os.Stderr
	if err := up.Run(); err != nil {
		return fmt.Errorf("starting Apache RocketMQ: %w", err)
	}
	down := func() error { return exec.Command(p.reference, "down", dir).Run() }
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, down())
		}
	}()
	for _, t := range talks {
		if only != "" && only != t.name {
			continue
		}
		rec := newRecorder(p.most, p.limit)
		ns.record(rec)
		br.record(rec)
		fmt.Println("== " + t.name)
		if t.client == "go" {
			err = goTraffic(p.namesrv, label)
		} else {
			err = p.javaTraffic(t)
		}
		ns.record(nil)
		br.record(nil)
		if err == nil {
			err = rec.write(filepath.Join(p.out, t.name+".jsonl"))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	stopped = true
	if err := down(); err != nil {
		return err
	}
	return registration.write(filepath.Join(p.out, "broker-5.5.0-"+label+".jsonl"))
}

func (p *place) javaTraffic(t conversation) error {
	jars, err := exec.Command(p.reference, "classpath", t.client).Output()
	if err != nil {
		return fmt.Errorf("class path of %s: %w", t.client, err)
	}
	cp := strings.TrimSpace(string(jars))
	classes := filepath.Join(p.work, "classes-"+t.client)
	var files []string
	for _, dir := range []string{"common", "v" + t.client[:1]} {
		found, err := filepath.Glob(filepath.Join(p.sources, dir, "compat", "*.java"))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	if b, err := exec.Command("javac", append([]string{"-nowarn", "-encoding", "UTF-8", "-d", classes, "-cp", cp}, files...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("javac: %w\n%s", err, b)
	}
	label := strings.NewReplacer(".", "_", "-", "_").Replace(t.name)
	cmd := exec.Command("java", append(append([]string{}, t.java...), "-Duser.home="+p.work, "-Drocketmq.client.logRoot="+p.work,
		"-cp", classes+":"+cp, "compat.Traffic", p.namesrv, label)...)
	cmd.Stdout = os.Stdout
	return cmd.Run()
}
