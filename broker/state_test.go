package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// testDB is a database in memory; opening tables over it again is a restart.
func testDB(t *testing.T) *kv.DB {
	t.Helper()
	db, err := kv.Open("memory", kv.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// wantKind checks that the error is a refusal of that kind; -1 is no error.
func wantKind(t *testing.T, what string, err error, kind Kind) {
	t.Helper()
	var refusal *Error
	switch {
	case kind < 0:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case !errors.As(err, &refusal):
		t.Errorf("%s = %v, want a refusal of kind %d", what, err, kind)
	case refusal.Kind != kind:
		t.Errorf("%s = %v of kind %d, want kind %d", what, err, refusal.Kind, kind)
	}
}

const noRefusal = Kind(-1)

func TestTopicsFromTheStart(t *testing.T) {
	cfg := DefaultSettings()
	topics := must(openTopics(testDB(t), cfg, time.Now, nil))
	for name, want := range map[string][2]int32{
		"TBW102": {8, 7}, "BenchmarkTest": {1024, 6}, "DefaultCluster": {16, 7}, "broker-a": {1, 7},
		"SELF_TEST_TOPIC": {1, 6}, "OFFSET_MOVED_EVENT": {1, 6}, "SCHEDULE_TOPIC_XXXX": {18, 6},
		"DefaultCluster_REPLY_TOPIC": {1, 6}, "rmq_sys_REVIVE_LOG_DefaultCluster": {8, 6},
		"rmq_sys_SYNC_BROKER_MEMBER_broker-a": {1, 1}, "RMQ_SYS_TRANS_HALF_TOPIC": {1, 6},
		"RMQ_SYS_TRANS_OP_HALF_TOPIC": {1, 6}, "RMQ_SYS_TRACE_TOPIC": {1, 6}, "rmq_sys_wheel_timer": {1, 6},
	} {
		topic := topics.Lookup([]byte(name))
		if topic == nil || topic.ReadQueues != want[0] || topic.WriteQueues != want[0] || topic.Perm != want[1] {
			t.Errorf("%s = %+v, want %d queues and permission %d", name, topic, want[0], want[1])
		}
		if !slices.Contains(topics.System(), name) {
			t.Errorf("%s is not listed as the broker's own", name)
		}
	}
	if !topics.LookupString("SCHEDULE_TOPIC_XXXX").NoSend || topics.LookupString("TBW102").NoSend {
		t.Error("NoSend is wrong")
	}
	cfg.AutoCreateTopic.Store(false)
	if must(openTopics(testDB(t), cfg, time.Now, nil)).LookupString("TBW102") != nil {
		t.Error("TBW102 is there without automatic creation")
	}
}

// TestTopicsFromTheStartBySettings: clusterTopicEnable and brokerTopicEnable
// decide who may use those topics, as in Apache's broker, traceTopicEnable and
// msgTraceTopicName whether and how the trace topic is named.
func TestTopicsFromTheStartBySettings(t *testing.T) {
	cfg := DefaultSettings()
	cfg.ClusterTopic, cfg.BrokerTopic, cfg.TraceTopic = false, false, "my_traces"
	topics := must(openTopics(testDB(t), cfg, time.Now, nil))
	for _, name := range []string{"DefaultCluster", "broker-a"} {
		if topic := topics.LookupString(name); topic == nil || topic.Perm != PermInherit {
			t.Errorf("%s = %+v, want permission %d", name, topic, PermInherit)
		}
	}
	if topic := topics.LookupString("my_traces"); topic == nil || topic.WriteQueues != 1 || topic.Perm != permReadWrite || !topics.IsSystem("my_traces") {
		t.Errorf("the trace topic is %+v", topic)
	}
	if topics.LookupString("RMQ_SYS_TRACE_TOPIC") != nil {
		t.Error("there is a trace topic of the usual name, too")
	}
	cfg.TraceTopic = ""
	topics = must(openTopics(testDB(t), cfg, time.Now, nil))
	if topics.LookupString("my_traces") != nil || topics.IsSystem("") {
		t.Error("there is a trace topic, and none is wanted")
	}
}

func TestTopicAutoCreation(t *testing.T) {
	for _, c := range []struct {
		name, topic, template string
		wanted                int32
		auto                  bool
		queues                int32
		kind                  Kind
	}{
		{"as the client wants", "t", "TBW102", 4, true, 4, noRefusal},
		{"never more than the template", "t", "TBW102", 100, true, 8, noRefusal},
		{"at least one", "t", "TBW102", -3, true, 1, noRefusal},
		{"after another template", "t", "DefaultCluster", 12, true, 12, noRefusal},
		{"template without inherit", "t", "BenchmarkTest", 4, true, 0, KindTopicNotExist},
		{"no such template", "t", "nope", 4, true, 0, KindTopicNotExist},
		{"off", "t", "TBW102", 4, false, 0, KindTopicNotExist},
		{"off, but another template inherits", "t", "DefaultCluster", 4, false, 4, noRefusal},
		{"retry topics need nothing", "%RETRY%g", "", 0, false, 1, noRefusal},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultSettings()
			var told []string
			db := testDB(t)
			topics := must(openTopics(db, cfg, time.Now, func(change TopicChange) {
				for _, topic := range change.Changed {
					told = append(told, topic.Name)
				}
			}))
			cfg.AutoCreateTopic.Store(c.auto)
			before := topics.Version()
			topic, err := topics.CreateForSend(c.topic, c.template, c.wanted, false)
			wantKind(t, "CreateForSend", err, c.kind)
			if c.kind != noRefusal {
				if topics.LookupString(c.topic) != nil || len(told) != 0 {
					t.Errorf("a refused topic is there, told %v", told)
				}
				return
			}
			want := TopicConfig{Name: c.topic, ReadQueues: c.queues, WriteQueues: c.queues, Perm: 6, FilterType: "SINGLE_TAG"}
			if diff := cmp.Diff(want, topic.TopicConfig); diff != "" {
				t.Error(diff)
			}
			if topics.Version().Counter != before.Counter+1 || !slices.Equal(told, []string{c.topic}) {
				t.Errorf("version %v after %v, told %v", topics.Version(), before, told)
			}
			again, err := topics.CreateForSend(c.topic, c.template, 1, false)
			if err != nil || again != topic {
				t.Errorf("the second creation = %v, %v", again, err)
			}
			restarted := must(openTopics(db, cfg, time.Now, nil))
			if diff := cmp.Diff(topic, restarted.Lookup([]byte(c.topic))); diff != "" || restarted.Version() != topics.Version() {
				t.Errorf("after a restart: %s, version %v", diff, restarted.Version())
			}
		})
	}
}

func TestTopicUpdate(t *testing.T) {
	db := testDB(t)
	var last TopicChange
	topics := must(openTopics(db, DefaultSettings(), time.Now, func(c TopicChange) { last = c }))
	good := TopicConfig{Name: "orders", ReadQueues: 8, WriteQueues: 4, Perm: 6, Attributes: map[string]string{"+message.type": "FIFO", "+queue.type": "SimpleCQ"}}
	wantKind(t, "create", topics.Update(good), noRefusal)
	if got := topics.LookupString("orders").Attributes; !maps.Equal(got, map[string]string{"message.type": "FIFO", "queue.type": "SimpleCQ"}) {
		t.Errorf("attributes = %v", got)
	}
	change := func(edit func(*TopicConfig)) TopicConfig {
		c := good
		c.Attributes = nil
		edit(&c)
		return c
	}
	attribute := func(pairs ...string) TopicConfig {
		return change(func(c *TopicConfig) {
			c.Attributes = map[string]string{}
			for i := 0; i < len(pairs); i += 2 {
				c.Attributes[pairs[i]] = pairs[i+1]
			}
		})
	}
	for _, c := range []struct {
		name   string
		config TopicConfig
		kind   Kind
	}{
		{"fewer queues", change(func(c *TopicConfig) { c.WriteQueues = 2 }), noRefusal},
		{"change an attribute", attribute("+message.type", "NORMAL"), noRefusal},
		{"remove an attribute", attribute("-message.type", ""), noRefusal},
		{"remove what is not there", attribute("-message.type", ""), KindSystem},
		{"change a fixed attribute", attribute("+queue.type", "BatchCQ"), KindSystem},
		{"unknown attribute", attribute("+color", "red"), KindSystem},
		{"unknown value", attribute("+message.type", "LOUD"), KindSystem},
		{"number out of range", attribute("+reserve.time", "-2"), KindSystem},
		{"no sign", attribute("message.type", "FIFO"), KindSystem},
		{"set and removed", attribute("+reserve.time", "1", "-reserve.time", ""), KindSystem},
		{"bad name", change(func(c *TopicConfig) { c.Name = "a b" }), KindInvalidParameter},
		{"empty name", change(func(c *TopicConfig) { c.Name = "" }), KindInvalidParameter},
		{"system topic", change(func(c *TopicConfig) { c.Name = "TBW102" }), KindInvalidParameter},
		{"cluster's topic", change(func(c *TopicConfig) { c.Name = "DefaultCluster" }), KindInvalidParameter},
		{"negative queues", change(func(c *TopicConfig) { c.ReadQueues = -1 }), KindInvalidParameter},
		{"too many queues", change(func(c *TopicConfig) { c.ReadQueues = MaxQueues + 1 }), KindInvalidParameter},
		{"permission", change(func(c *TopicConfig) { c.Perm = 16 }), KindInvalidParameter},
		{"filter type", change(func(c *TopicConfig) { c.FilterType = "X" }), KindInvalidParameter},
	} {
		before, version := topics.LookupString("orders"), topics.Version().Counter
		err := topics.Update(change(func(c *TopicConfig) { c.Name = "first" }), c.config)
		wantKind(t, c.name, err, c.kind)
		if c.kind != noRefusal && (topics.LookupString("orders") != before || topics.Version().Counter != version) {
			t.Errorf("%s: a refused list changed something", c.name)
		}
		if c.kind == noRefusal && len(last.Changed) != 2 {
			t.Errorf("%s: told %v", c.name, last)
		}
	}
	found, err := topics.Delete("orders")
	if err != nil || !found || topics.LookupString("orders") != nil || !slices.Equal(last.Deleted, []string{"orders"}) {
		t.Errorf("Delete = %v, %v, told %v", found, err, last)
	}
	if found, err := topics.Delete("orders"); found || err != nil {
		t.Errorf("the second Delete = %v, %v", found, err)
	}
	_, err = topics.Delete("TBW102")
	wantKind(t, "delete a system topic", err, KindInvalidParameter)
	if must(openTopics(db, DefaultSettings(), time.Now, nil)).LookupString("orders") != nil {
		t.Error("a deleted topic is back after a restart")
	}
	wantKind(t, "SetOrdered", topics.SetOrdered([]string{"first", "unknown"}), noRefusal)
	if !topics.LookupString("first").Order {
		t.Error("the topic is not ordered")
	}
	wantKind(t, "SetOrdered", topics.SetOrdered(nil), noRefusal)
	if topics.LookupString("first").Order {
		t.Error("the topic is still ordered")
	}
}

func TestTopicsConcurrently(t *testing.T) {
	topics := must(openTopics(testDB(t), DefaultSettings(), time.Now, nil))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				name := fmt.Sprintf("t%d", (i+w)%50)
				made, err := topics.CreateForSend(name, "TBW102", 4, false)
				if err != nil || topics.Lookup([]byte(name)) != made {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	if n := topics.Version().Counter; n != 50 {
		t.Errorf("50 topics took %d changes", n)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	topics := must(openTopics(testDB(t), DefaultSettings(), time.Now, nil))
	name := []byte("RMQ_SYS_TRACE_TOPIC")
	if n := testing.AllocsPerRun(100, func() {
		if topics.Lookup(name) == nil {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
}

func TestGroups(t *testing.T) {
	db := testDB(t)
	cfg := DefaultSettings()
	groups := must(openGroups(db, cfg, time.Now))
	for _, name := range systemGroups {
		if groups.Lookup(name) == nil || !groups.IsSystem(name) {
			t.Errorf("%s is not there from the start", name)
		}
	}
	g, err := groups.AutoCreate("g1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(DefaultGroupConfig("g1"), g.GroupConfig); diff != "" {
		t.Error(diff)
	}
	_, err = groups.AutoCreate("bad name")
	wantKind(t, "bad name", err, KindGroupNotExist)
	cfg.AutoCreateGroup.Store(false)
	_, err = groups.AutoCreate("g2")
	wantKind(t, "automatic creation off", err, KindGroupNotExist)
	_, err = groups.AutoCreate("CID_RMQ_SYS_X")
	wantKind(t, "the broker's own", err, noRefusal)

	c := DefaultGroupConfig("g2")
	c.RetryMaxTimes, c.RetryPolicy = 3, RetryPolicy{Type: RetryExponential, InitialMs: 100, MaxMs: 1000, Multiplier: 2}
	wantKind(t, "create", groups.Update(c), noRefusal)
	bad := DefaultGroupConfig("g3")
	bad.RetryPolicy.Type = "NEVER"
	wantKind(t, "one of a list is bad", groups.Update(DefaultGroupConfig("g4"), bad), KindInvalidParameter)
	if groups.Lookup("g4") != nil {
		t.Error("a refused list changed something")
	}
	readable, err := groups.SetForbidden("g2", "t", false)
	if err != nil || readable || !groups.Lookup("g2").ForbidsRead("t") || groups.Lookup("g2").ForbidsRead("u") {
		t.Errorf("SetForbidden = %v, %v", readable, err)
	}
	_, err = groups.SetForbidden("nope", "t", false)
	wantKind(t, "SetForbidden of an unknown group", err, KindGroupNotExist)
	wantKind(t, "update", groups.Update(c), noRefusal)
	restarted := must(openGroups(db, cfg, time.Now))
	if diff := cmp.Diff(groups.All(), restarted.All()); diff != "" || restarted.Version() != groups.Version() {
		t.Errorf("after a restart: %s", diff)
	}
	if !restarted.Lookup("g2").ForbidsRead("t") {
		t.Error("what is forbidden was forgotten")
	}
	if found, err := groups.Delete("g2"); !found || err != nil || groups.Lookup("g2") != nil {
		t.Errorf("Delete = %v, %v", found, err)
	}
	if found, err := groups.Delete("g2"); found || err != nil {
		t.Errorf("the second Delete = %v, %v", found, err)
	}
}

func TestSubscriptions(t *testing.T) {
	codes := func(tags ...string) []int64 {
		var list []int64
		for _, tag := range tags {
			list = append(list, message.TagCode(tag))
		}
		slices.Sort(list)
		return list
	}
	for _, c := range []struct {
		expression, kind string
		codes            []int64
		all              bool
		refusal          Kind
	}{
		{"*", "", nil, true, noRefusal},
		{"", "TAG", nil, true, noRefusal},
		{"A", "TAG", codes("A"), false, noRefusal},
		{" A || B||A ", "TAG", codes("A", "B"), false, noRefusal},
		{"A||B||C", "", codes("A", "B", "C"), false, noRefusal},
		{"A||B||C||D||E", "", codes("A", "B", "C", "D", "E"), false, noRefusal},
		{"||", "", nil, false, KindSubscriptionParse},
		{"a > 1", "SQL92", nil, false, noRefusal},
		{" ", "SQL92", nil, false, KindSubscriptionParse},
		{"x", "GROOVY", nil, false, KindSubscriptionParse},
	} {
		s, err := ParseSubscription("t", c.expression, c.kind, 7)
		wantKind(t, c.expression, err, c.refusal)
		if err != nil {
			continue
		}
		if !slices.Equal(s.Codes, c.codes) || s.All() != c.all || s.Version != 7 {
			t.Errorf("%q = %+v", c.expression, s)
		}
		if !s.IsTag() {
			continue
		}
		match := s.TagMatcher()
		if (match == nil) != c.all {
			t.Errorf("%q: the matcher of all must be nil, and only that", c.expression)
		}
		for _, tag := range []string{"A", "B", "C", "D", "E", "F", ""} {
			code := message.TagCode(tag)
			if want := c.all || slices.Contains(c.codes, code); match != nil && match(code) != want {
				t.Errorf("%q matches %q: %v", c.expression, tag, !want)
			}
		}
	}
	told := NewSubscription("t", "A || B", "", 1, []string{"A", "B"}, nil)
	if !told.MatchTag(message.TagCode("B")) || told.MatchTag(message.TagCode("C")) {
		t.Error("codes that a heartbeat leaves out are not computed")
	}
	if !NewSubscription("t", "*", "TAG", 1, nil, []int64{5}).All() {
		t.Error("* is not everything")
	}
}
