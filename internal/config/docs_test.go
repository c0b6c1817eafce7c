package config

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// What the documentation shows of the lines at the start is what a broker prints.
func TestDocumentedLinesAreReal(t *testing.T) {
	text, err := os.ReadFile("../../docs/coming-from-rocketmq.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^broker\.conf:(\d+): ([^:=]+=[^:]*): .*$`).FindAllStringSubmatch(string(text), -1)
	if len(shown) < 4 {
		t.Fatalf("the documentation shows %d lines, want one of each kind at least", len(shown))
	}
	var conf strings.Builder
	for _, s := range shown {
		n, err := strconv.Atoi(s[1])
		if err != nil {
			t.Fatal(err)
		}
		for strings.Count(conf.String(), "\n") < n-1 {
			conf.WriteByte('\n')
		}
		conf.WriteString(s[2] + "\n")
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("broker.conf", []byte(conf.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	_, lines, err := Load(Broker, "broker.conf", nil)
	if err != nil || len(lines) != len(shown) {
		t.Fatalf("%d lines for %d settings: %v", len(lines), len(shown), err)
	}
	for i, line := range lines {
		if got := line.String(); got != shown[i][0] {
			t.Errorf("the documentation shows\n%s, and a broker prints\n%s", shown[i][0], got)
		}
	}
}
