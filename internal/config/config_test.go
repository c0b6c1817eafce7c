package config

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEveryApacheSettingHasAFate(t *testing.T) {
	for _, role := range []Role{Broker, NameServer} {
		keys := Keys(role)
		for name, k := range keys {
			if name != k.Name {
				t.Errorf("%s is filed under %s", k.Name, name)
			}
			if k.Note == "" {
				t.Errorf("%s, %s: neither used nor a reason why not", role, name)
			}
			switch k.Kind {
			case Bool, Int, Int64, Float, Text, Millis, Seconds, Size, Enum:
			default:
				t.Errorf("%s has the kind %q", name, k.Kind)
			}
			if k.Used && k.Own && apacheHas(name) {
				t.Errorf("%s is Apache's and not Merlin's own", name)
			}
			if k.Used && k.Default != "" {
				if got, err := k.parse(k.Default); err != nil || got != k.Default {
					t.Errorf("%s: its own default %q parses to %q, %v", name, k.Default, got, err)
				}
			}
		}
	}
	if n := len(Keys(Broker)); n < 500 {
		t.Errorf("only %d settings of a broker are known", n)
	}
	all := Keys(Broker)
	for old, now := range renamed {
		if _, ok := all[now]; !ok {
			t.Errorf("%s is renamed to %s, which is no setting", old, now)
		}
		if _, ok := all[old]; ok {
			t.Errorf("%s is renamed and a setting too", old)
		}
	}
	for name := range mistaken {
		if _, ok := all[name]; ok && name != "clusterName" {
			t.Errorf("%s counts as a mistake and is a setting", name)
		}
	}
}

func apacheHas(name string) bool { return strings.Contains(apacheTable, "\n"+name+"\t") }

func TestDefaults(t *testing.T) {
	b, n := New(Broker), New(NameServer)
	for _, c := range []struct{ got, want any }{
		{b.Int("listenPort"), 10911}, {n.Int("listenPort"), 9876},
		{b.Text("brokerClusterName"), "DefaultCluster"}, {b.Text("brokerIP1"), ""},
		{b.Bool("autoCreateTopicEnable"), true}, {b.Bool("traceTopicEnable"), true}, {b.Bool("recallMessageEnable"), true},
		{b.Bool("enablePropertyFilter"), true}, {b.Int64("timerMaxDelaySec"), int64(10 * 365 * 86400)},
		{b.Int64("mappedFileSizeCommitLog"), int64(1 << 30)}, {b.Int("maxMessageSize"), 4 << 20},
		{b.Duration("transactionTimeOut"), 6 * time.Second}, {b.Duration("serverChannelMaxIdleTimeSeconds"), 2 * time.Minute},
		{b.Text("flushDiskType"), "ASYNC_FLUSH"}, {b.Int("fileReservedTime"), 72}, {b.Text("deleteWhen"), "04"},
		{n.Bool("returnOrderTopicConfigToBroker"), true}, {n.Duration("scanNotActiveBrokerInterval"), 5 * time.Second},
		{b.keys["transactionCheckInterval"].Apache4, "60000"}, {b.keys["enablePropertyFilter"].Apache, "false"},
	} {
		if c.got != c.want {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
}

func TestEveryGivenSettingHasOneLine(t *testing.T) {
	t.Setenv("MERLIN_TEST_NAME", "broker-x")
	file := write(t, `# a broker.conf as they are found
brokerClusterName = DefaultCluster
brokerName=${MERLIN_TEST_NAME}
brokerId=0
! another comment
deleteWhen=04
fileReservedTime:48
flushDiskType ASYNC_FLUSH
mapedFileSizeCommitLog=64m
storePathConsumerQueue=/tmp/q
storePathIndex=/tmp/i
sendMessageThreadPoolNums=128
namesrv.addr=a:9876
autoCreateTopicEnabled=true
aclEnable=true
authenticationEnabled=false
orderMessageEnable=true
grpcServerPort=8081
namesrvAddr=127.0.0.1:9876;\
    127.0.0.2:9876
qqqqqqqqqqqqqqq=1
fileReservedTime=24
`)
	c, lines, err := Load(Broker, file, []string{"maxMessageSize=65536", " listenPort = 0 "})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		at   string
		key  string
		is   Verdict
		says string
	}{
		{":2", "brokerClusterName", Used, "used"},
		{":3", "brokerName", Used, "used"},
		{":4", "brokerId", Used, "used"},
		{":6", "deleteWhen", Used, "used"},
		{":7", "fileReservedTime", Ignored, "given again at " + file + ":22"},
		{":8", "flushDiskType", Used, "used"},
		{":9", "mapedFileSizeCommitLog", Renamed, "renamed to mappedFileSizeCommitLog"},
		{":10", "storePathConsumerQueue", Unknown, "did you mean storePathConsumeQueue?"},
		{":11", "storePathIndex", Ignored, "follows from storePathRootDir"},
		{":12", "sendMessageThreadPoolNums", Ignored, "no pools"},
		{":13", "namesrv.addr", Unknown, "did you mean namesrvAddr?"},
		{":14", "autoCreateTopicEnabled", Unknown, "did you mean autoCreateTopicEnable?"},
		{":15", "aclEnable", Ignored, "everybody"},
		{":16", "authenticationEnabled", Ignored, "access control"},
		{":17", "orderMessageEnable", Unknown, "a setting of the name server"},
		{":18", "grpcServerPort", Unknown, "proxy"},
		{":19", "namesrvAddr", Used, "used"},
		{":21", "qqqqqqqqqqqqqqq", Unknown, "nothing in Merlin has it"},
		{":22", "fileReservedTime", Used, "used"},
		{"--set", "maxMessageSize", Used, "used"},
		{"--set", "listenPort", Used, "used"},
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d: %v", len(lines), len(want), lines)
	}
	for i, w := range want {
		l := lines[i]
		if l.Key != w.key || !strings.HasSuffix(l.Source, w.at) || l.Verdict != w.is || !strings.Contains(l.Text, w.says) {
			t.Errorf("line %d: got %v (%s), want %s %s %q", i, l, l.Verdict, w.key, w.is, w.says)
		}
		if warned := l.Key == "aclEnable" || l.Verdict == Unknown; l.Warn != warned {
			t.Errorf("%s warns: %v, want %v", l.Key, l.Warn, warned)
		}
	}
	if got := c.Int64("mappedFileSizeCommitLog"); got != 64<<20 {
		t.Errorf("64m is %d", got)
	}
	if got := c.Text("brokerName"); got != "broker-x" {
		t.Errorf("brokerName is %q", got)
	}
	if got := c.Text("namesrvAddr"); got != "127.0.0.1:9876;127.0.0.2:9876" {
		t.Errorf("a continued line gives %q", got)
	}
	if c.Int("fileReservedTime") != 24 || c.Int("maxMessageSize") != 65536 || c.Int("listenPort") != 0 {
		t.Errorf("the later setting does not win: %s", c)
	}
	if !c.Given("listenPort") || c.Given("brokerIP1") {
		t.Error("Given is wrong")
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "broker.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBadValuesNameTheirPlaceAndWhatIsAllowed(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"listenPort=abc", "whole number from 0 to 65535"},
		{"listenPort=65536", "whole number from 0 to 65535"},
		{"listenPort=", "whole number from 0 to 65535"},
		{"autoCreateTopicEnable=maybe", "true or false"},
		{"flushDiskType=SOMETIMES", "ASYNC_FLUSH, SYNC_FLUSH"},
		{"mappedFileSizeCommitLog=1x", "bytes; 64k"},
		{"mapedFileSizeCommitLog=3g", "whole number from 65536 to 2147483647"},
		{"transactionTimeOut=6 seconds", "milliseconds"},
		{"brokerName=${MERLIN_NO_SUCH_VARIABLE}", "neither ${user.home} nor a variable"},
		{"brokerName=${open", "${ without }"},
		{"brokerRole=SLAVE", "does not replicate"},
		{"diskMaxUsedSpaceRatio=0", "from 1 to 100"},
	} {
		file := write(t, "brokerId=0\n"+c.line+"\n")
		_, lines, err := Load(Broker, file, nil)
		if err == nil {
			t.Errorf("%s is taken", c.line)
			continue
		}
		key, _, _ := strings.Cut(c.line, "=")
		for _, part := range []string{file + ":2", key, c.says} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", c.line, err, part)
			}
		}
		if len(lines) != 2 {
			t.Errorf("%s: %d lines come with the error", c.line, len(lines))
		}
	}
	for _, set := range []string{"listenPort", "=1", ""} {
		if _, _, err := Load(Broker, "", []string{set}); err == nil || !strings.Contains(err.Error(), "key=value") {
			t.Errorf("--set %q: %v", set, err)
		}
	}
	if _, _, err := Load(Broker, filepath.Join(t.TempDir(), "no.conf"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
	// A setting that is ignored is not checked: Apache's broker ignores it too.
	if _, _, err := Load(Broker, "", []string{"sendMessageThreadPoolNums=many"}); err != nil {
		t.Error(err)
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       int64
	}{
		{"maxMessageSize", "4M", 4 << 20}, {"maxMessageSize", "64kb", 64 << 10}, {"storeMaxBytes", "2t", 2 << 40}, {"storeMaxBytes", "1GiB", 1 << 30},
		{"transactionTimeOut", "6s", 6000}, {"transactionTimeOut", "1500ms", 1500}, {"timerMaxDelaySec", "48h", 172800},
	} {
		got, _, err := Load(Broker, "", []string{c.key + "=" + c.value})
		if err != nil {
			t.Error(err)
		} else if got.Int64(c.key) != c.want {
			t.Errorf("%s=%s is %d, want %d", c.key, c.value, got.Int64(c.key), c.want)
		}
	}
	for _, bad := range []string{"storeMaxBytes=9223372036854775807k", "storeMaxBytes=-1k", "timerMaxDelaySec=1500ms", "storeMaxBytes=k", "brokerId=1k"} {
		if _, _, err := Load(Broker, "", []string{bad}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestUpdate(t *testing.T) {
	c := New(Broker)
	var told []string
	c.Subscribe("maxMessageSize", func(k, v string) { told = append(told, k+"="+v) })
	if err := c.Update("maxMessageSize", "1m"); err != nil {
		t.Fatal(err)
	}
	if c.Int("maxMessageSize") != 1<<20 || strings.Join(told, ",") != "maxMessageSize=1048576" {
		t.Errorf("after the update: %d, told %v", c.Int("maxMessageSize"), told)
	}
	for _, w := range []struct {
		key, value string
		is         error
	}{
		{"storePathRootDir", "/etc", ErrForbidden}, {"configBlackList", "", ErrForbidden}, {"rocketmqHome", "/x;touch /tmp/y", ErrForbidden},
		{"listenPort", "1", ErrRestart}, {"nonsense", "1", ErrUnknown}, {"aclEnable", "true", ErrUnknown},
	} {
		if err := c.Update(w.key, w.value); !errors.Is(err, w.is) {
			t.Errorf("%s=%s: %v, want %v", w.key, w.value, err, w.is)
		}
	}
	if err := c.Update("listenPort", "10911"); err != nil {
		t.Errorf("a value sent back as it is: %v", err)
	}
	if err := c.Update("maxMessageSize", "lots"); err == nil || c.Int("maxMessageSize") != 1<<20 {
		t.Errorf("a bad value: %v, and the setting is %d", err, c.Int("maxMessageSize"))
	}
}

func TestStringReadsBack(t *testing.T) {
	c, _, err := Load(Broker, "", []string{`brokerName=a\b`, "listenPort=1234"})
	if err != nil {
		t.Fatal(err)
	}
	text := c.String()
	if !strings.Contains(text, "listenPort=1234\n") || !strings.Contains(text, "flushDiskType=ASYNC_FLUSH\n") || strings.Contains(text, "aclEnable") {
		t.Errorf("the dump is\n%s", text)
	}
	again, lines, err := Load(Broker, write(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if l.Verdict != Used {
			t.Errorf("of its own dump: %v", l)
		}
	}
	if again.String() != text {
		t.Errorf("read back it is\n%s", again)
	}
}

func TestRandomNamesFindTheirNeighbour(t *testing.T) {
	keys := Keys(Broker)
	for name, k := range keys {
		if !k.Own || len(name) < 8 {
			continue
		}
		for i := 1; i < len(name); i++ {
			typo := name[:i] + name[i+1:]
			if _, exists := keys[typo]; exists || renamed[typo] != "" {
				continue
			}
			near := nearest(typo, keys)
			if distance(typo, near, 9) > 1 {
				t.Errorf("%s is one letter away from %s, but %q is suggested", typo, name, near)
			}
		}
	}
	if nearest(strings.Repeat("x", 1<<20), keys) != "" {
		t.Error("a huge name has a neighbour")
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add("a=b\nc: d\\\n e\n#x\n\\u0041=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseFile("f", text)
		if err != nil {
			return
		}
		last := 0
		for _, s := range all {
			n, err := strconv.Atoi(strings.TrimPrefix(s.source, "f:"))
			if err != nil || n < last || n > strings.Count(text, "\n")+1 {
				t.Fatalf("setting %q at %s", s.key, s.source)
			}
			last = n
		}
		_, _ = New(Broker).take(all)
	})
}

// TestCommitLogFolder: storePathCommitLog says no more than where the log is
// anyway, or else warns.
func TestCommitLogFolder(t *testing.T) {
	for _, c := range []struct {
		sets []string
		warn bool
	}{
		{[]string{"storePathCommitLog=/d/store/commitlog", "storePathRootDir=/d/store"}, false},
		{[]string{"storePathRootDir=/d/store/", "storePathCommitLog=/d/store/commitlog/"}, false},
		{[]string{"storePathRootDir=/d/store", "storePathCommitLog=/fast/commitlog"}, true},
		{[]string{"storePathCommitLog=/fast/commitlog"}, true},
	} {
		_, lines, err := Load(Broker, "", c.sets)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if l.Key == "storePathCommitLog" && (l.Verdict != Ignored || l.Warn != c.warn || !strings.Contains(l.Text, "link")) {
				t.Errorf("%v: %s, warning %v, want %v", c.sets, l, l.Warn, c.warn)
			}
		}
	}
}
