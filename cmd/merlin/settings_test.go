package main

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/config"
)

// TestUsedSettingsAreRead: of each setting that Merlin says it uses somebody
// asks for the value, and of each that can change while it runs somebody is
// told.
func TestUsedSettingsAreRead(t *testing.T) {
	given := map[string]string{"namesrvAddr": "127.0.0.1:9876", "brokerIP1": "127.0.0.1", "needWaitForService": "true", "storePathRootDir": t.TempDir()}
	for _, role := range []config.Role{config.Broker, config.NameServer} {
		var sets []string
		for name, k := range config.Keys(role) {
			if !k.Used {
				continue
			}
			value, ok := given[name]
			if !ok {
				value = k.Default
			}
			sets = append(sets, name+"="+value)
		}
		f := &serveFlags{withBroker: role == config.Broker, sets: sets, namesrvAddr: ":0", brokerAddr: ":0"}
		a := &app{streams: streams{out: io.Discard, err: io.Discard, env: func(string) string { return "" }}}
		set, err := f.loadSettings(t.Context(), a, func(string) bool { return false })
		if err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		if unread := set.config.Unread(); len(unread) > 0 {
			t.Errorf("the %s says of %q that they are used, and nothing reads them or, while it runs, their changes", role, unread)
		}
		if len(sets) < 10 {
			t.Errorf("%s: only %d settings", role, len(sets))
		}
	}
}

// TestSettingsReachTheBroker: what is given arrives where the broker reads it,
// at the start and, of what can change while it runs, later.
func TestSettingsReachTheBroker(t *testing.T) {
	c, _, err := config.Load(config.Broker, "", []string{
		"brokerName=b", "flushIntervalConsumeQueue=7s", "flushDelayOffsetInterval=9s", "channelExpiredTimeout=30000", "clusterTopicEnable=false",
		"brokerTopicEnable=false", "msgTraceTopicName=traces", "maxTransferCountOnMessageInMemory=64", "maxTransferBytesOnMessageInMemory=1m",
		"maxTransferCountOnMessageInDisk=16", "maxTransferBytesOnMessageInDisk=128k", "syncFlushTimeout=2s", "defaultQueryMaxNum=5",
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := brokerSettings(c)
	if err != nil {
		t.Fatal(err)
	}
	if s.CheckpointEvery != 7*time.Second || s.DelaySaveEvery != 9*time.Second || s.ClientLife != 30*time.Second {
		t.Error(s.CheckpointEvery, s.DelaySaveEvery, s.ClientLife)
	}
	if s.ClusterTopic || s.BrokerTopic || s.TraceTopic != "traces" {
		t.Error(s.ClusterTopic, s.BrokerTopic, s.TraceTopic)
	}
	for _, hot := range []struct {
		key       string
		value     *atomic.Int64
		given     int64
		text      string
		isChanged int64
	}{
		{"maxTransferCountOnMessageInMemory", &s.Transfer.HotCount, 64, "65", 65},
		{"maxTransferBytesOnMessageInMemory", &s.Transfer.HotBytes, 1 << 20, "2m", 2 << 20},
		{"maxTransferCountOnMessageInDisk", &s.Transfer.ColdCount, 16, "17", 17},
		{"maxTransferBytesOnMessageInDisk", &s.Transfer.ColdBytes, 128 << 10, "1k", 1 << 10},
		{"syncFlushTimeout", &s.SyncFlushTimeoutMs, 2000, "3s", 3000},
		{"defaultQueryMaxNum", &s.QueryMax, 5, "6", 6},
	} {
		if got := hot.value.Load(); got != hot.given {
			t.Errorf("%s is %d, want %d", hot.key, got, hot.given)
		}
		if err := c.Update(hot.key, hot.text); err != nil || hot.value.Load() != hot.isChanged {
			t.Errorf("%s changed to %s is %d, %v", hot.key, hot.text, hot.value.Load(), err)
		}
	}
}

// TestSettingsShowWhatHolds: tools that ask a broker for its configuration see
// its name and folder, also where nobody has given them.
func TestSettingsShowWhatHolds(t *testing.T) {
	dir := t.TempDir()
	f := &serveFlags{withBroker: true, data: dir, namesrvAddr: ":0", brokerAddr: ":0"}
	a := &app{streams: streams{out: io.Discard, err: io.Discard, env: func(string) string { return "" }}, nameServers: "127.0.0.1:1;127.0.0.1:2"}
	set, err := f.loadSettings(t.Context(), a, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	text := "\n" + set.config.String()
	for _, want := range []string{"brokerName=" + set.broker.Settings.Name, "storePathRootDir=" + dir, "namesrvAddr=127.0.0.1:1;127.0.0.1:2"} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no line %q in %s", want, text)
		}
	}
}

// TestFlagsBeforeSettings: a setting that a flag overrules does not count, and
// its line says so.
func TestFlagsBeforeSettings(t *testing.T) {
	for _, c := range []struct{ role, flag, key, value string }{
		{"server", "data", "storePathRootDir", "/elsewhere"},
		{"server", "broker-listen", "listenPort", "23456"},
		{"server", "broker-listen", "bindAddress", "192.0.2.1"},
		{"server", "namesrv", "namesrvAddr", "192.0.2.1:9876"},
		{"server", "http-listen", "httpListen", "192.0.2.1:80"},
		{"nameserver", "namesrv-listen", "listenPort", "23456"},
		{"nameserver", "namesrv-listen", "bindAddress", "192.0.2.1"},
		{"nameserver", "http-listen", "httpListen", "192.0.2.1:80"},
	} {
		t.Run(c.role+" "+c.key, func(t *testing.T) {
			for _, flagged := range []bool{false, true} {
				f := &serveFlags{withBroker: c.role == "server", sets: []string{c.key + "=" + c.value}, data: t.TempDir(),
					namesrvAddr: "127.0.0.1:0", brokerAddr: "127.0.0.1:0", httpAddr: "127.0.0.1:0"}
				a := &app{streams: streams{out: io.Discard, err: io.Discard, env: func(string) string { return "" }}}
				want := "used"
				if flagged {
					want = "ignored because --" + c.flag + " is given"
				}
				if c.flag == "namesrv" && flagged {
					a.nameServers = "127.0.0.1:1"
				}
				set, err := f.loadSettings(t.Context(), a, func(flag string) bool { return flagged && flag == c.flag })
				if err != nil {
					t.Fatal(err)
				}
				if len(set.lines) != 1 || set.lines[0].Text != want {
					t.Errorf("with the flag %t: %v, want %s", flagged, set.lines, want)
				}
				held := strings.Join(append([]string{set.dir, set.namesAddr, set.brokerAddr, set.httpAddr}, set.nameServers...), " ")
				if counts := strings.Contains(held+" ", c.value+" ") || strings.Contains(held, c.value+":"); counts == flagged {
					t.Errorf("with the flag %t: %s, given %s=%s", flagged, held, c.key, c.value)
				}
			}
		})
	}
}
