package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/client"
)

// terminal returns streams that claim to be one.
func terminal() (streams, *bytes.Buffer, *bytes.Buffer) {
	var out, err bytes.Buffer
	return streams{in: strings.NewReader(""), out: &out, err: &err, outTerminal: true, errTerminal: true, env: func(string) string { return "" }}, &out, &err
}

func TestTableOnATerminalAndInAPipe(t *testing.T) {
	r := &rows{head: []any{"TOPIC", "N"}, nums: []int{2}}
	r.add("a", 1)
	r.add("long name", 10000)
	s, out, _ := terminal()
	a := &app{streams: s}
	a.table(out, r)
	lines := strings.Split(out.String(), "\n")
	if len(lines) < 4 || !strings.Contains(lines[1], "──") || !strings.HasSuffix(strings.TrimRight(lines[2], " "), "    1") {
		t.Errorf("terminal:\n%s", out)
	}
	out.Reset()
	a.outTerminal = false
	a.table(out, r)
	if got := out.String(); got != "TOPIC\tN\na\t1\nlong name\t10000\n" {
		t.Errorf("pipe: %q", got)
	}
}

func TestProgressWaitsTwoSeconds(t *testing.T) {
	s, _, err := terminal()
	a := &app{streams: s}
	p := a.progress("work")
	p.set(1, 2)
	if err.Len() > 0 {
		t.Errorf("a bar at once: %q", err)
	}
	p.start = time.Now().Add(-3 * time.Second)
	p.set(1, 2)
	if !strings.Contains(err.String(), "work") {
		t.Errorf("no bar after three seconds: %q", err)
	}
	p.done()
	err.Reset()
	a.errTerminal = false
	p = a.progress("work")
	p.start = time.Now().Add(-3 * time.Second)
	p.set(1, 2)
	if err.Len() > 0 {
		t.Errorf("a bar without a terminal: %q", err)
	}
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		args string
		want int
	}{{"--help", exitOK}, {"topic list --help", exitOK}, {"frob", exitUsage}, {"topic list --frob", exitUsage}, {"query", exitUsage}, {"topic", exitUsage},
		{"send t", exitUsage}, {"topic list --namesrv 127.0.0.1:1", exitFailed}} {
		s, _, _ := terminal()
		s.inTerminal = true
		if got := run(context.Background(), strings.Fields(tt.args), s); got != tt.want {
			t.Errorf("merlin %s: exit code %d, want %d", tt.args, got, tt.want)
		}
	}
}

func TestNumbered(t *testing.T) {
	f := &sendFlags{count: 3, keys: []string{"k%d", "x"}, queue: -1}
	m := numbered("t", []byte("n %d of %d"), f, map[string]string{"p": "v%d"}, 2)
	if string(m.Body) != "n 2 of 2" || m.Keys[0] != "k2" || m.Keys[1] != "x" || m.Properties["p"] != "v2" {
		t.Errorf("%+v", m)
	}
	f.count = 1
	if m = numbered("t", []byte("100 %d"), f, nil, 1); string(m.Body) != "100 %d" {
		t.Errorf("a single message was changed: %s", m.Body)
	}
}

func TestParseDelay(t *testing.T) {
	for in, want := range map[string]struct {
		level int
		d     time.Duration
	}{"": {}, "3": {3, 0}, "5s": {0, 5 * time.Second}, "1500ms": {0, 1500 * time.Millisecond}} {
		if level, d, err := parseDelay(in); err != nil || level != want.level || d != want.d {
			t.Errorf("%q: %d %v %v", in, level, d, err)
		}
	}
	for _, bad := range []string{"0", "-1", "-5s", "soon"} {
		if _, _, err := parseDelay(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestShowBody(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\nb\tc": "a⏎b c", "\x00\x01": "(2 bytes that are no text)", "\xff": "(1 bytes that are no text)",
		strings.Repeat("x", 2000): strings.Repeat("x", 1000) + "… (2000 bytes)",
	} {
		if got := showBody(&client.Message{Body: []byte(in)}); got != want {
			t.Errorf("%.20q: %.40q, want %.40q", in, got, want)
		}
	}
	if got := showBody(&client.Message{Body: []byte("zz"), Compression: "lz4"}); got != "(2 bytes, compressed with lz4)" {
		t.Error(got)
	}
}

func TestBodyOf(t *testing.T) {
	s, _, _ := terminal()
	s.in = strings.NewReader("from stdin")
	a := &app{streams: s}
	cmd := a.sendCommand()
	for _, tt := range []struct {
		given []string
		want  string
	}{{[]string{"t", "arg"}, "arg"}, {[]string{"t", "-"}, "from stdin"}, {[]string{"t"}, ""}} {
		if b, err := a.bodyOf(cmd, tt.given, ""); err != nil || string(b) != tt.want {
			t.Errorf("%v: %q %v", tt.given, b, err)
		}
	}
}

func TestWords(t *testing.T) {
	for in, want := range map[int64]string{5: "5 µs", 999: "999 µs", 1500: "1.50 ms", 2_500_000: "2.50 s"} {
		if got := micros(in); got != want {
			t.Errorf("%d: %s", in, got)
		}
	}
	for in, want := range map[float64]string{0: "0s", 0.0123: "12ms", 61.26: "1m1.3s", 7200.4: "2h0m0s"} {
		if got := span(in); got != want {
			t.Errorf("%v: %s", in, got)
		}
	}
}
