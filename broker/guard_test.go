package broker

import (
	"fmt"
	"strings"
	"testing"
)

func TestSubscriptionGuard(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	var warned []string
	b.clients.warn = func(text string, _ ...any) { warned = append(warned, text) }
	conns := [4]*fakeClient{}
	for i := range conns {
		conns[i] = &fakeClient{port: uint16(i + 1)}
	}
	version := int64(0)
	beat := func(i int, expressions ...string) error {
		t.Helper()
		var subs []*Subscription
		for _, e := range expressions {
			topic, tags, _ := strings.Cut(e, ":")
			version++
			sub, err := ParseSubscription(topic, tags, ExpressionTag, version)
			if err != nil {
				t.Fatal(err)
			}
			subs = append(subs, sub)
		}
		return b.Heartbeat(conns[i], consume(fmt.Sprint("m", i), "g", subs...))
	}
	for i, c := range []struct {
		who      int
		what     []string
		warnings int
		conflict bool
	}{
		{0, []string{"a:x || y"}, 0, false},
		{1, []string{"a:y||x", "%RETRY%g:*"}, 0, false}, // the same
		{2, []string{"a:x"}, 1, true},
		{2, []string{"a:x"}, 1, true}, // told once
		{0, []string{"a:x || y"}, 1, true},
		{2, []string{"b:*"}, 2, true}, // a change is news
		{2, []string{"a:x || y"}, 2, false},
		{2, []string{"a:*"}, 3, true},
	} {
		if err := beat(c.who, c.what...); err != nil {
			t.Fatal(err)
		}
		if conflict := b.clients.Conflicts()["g"] != ""; len(warned) != c.warnings || conflict != c.conflict {
			t.Errorf("step %d: %d warnings, conflict %t; want %d, %t: %q", i, len(warned), conflict, c.warnings, c.conflict, warned)
		}
	}
	b.ClientClosed(conns[2])
	if len(b.clients.Conflicts()) != 0 {
		t.Error("the conflict outlives the member")
	}
	config := DefaultGroupConfig("g")
	config.Attributes = map[string]string{"+" + AttributeGuard: GuardReject}
	if err := b.groups.Update(config); err != nil {
		t.Fatal(err)
	}
	err := beat(3, "b:*")
	if err == nil || !strings.Contains(err.Error(), "m3") || !strings.Contains(err.Error(), AttributeGuard) {
		t.Errorf("a member that differs is taken: %v", err)
	}
	for i := range 2 {
		if err := beat(i, "a:x || y"); err != nil {
			t.Errorf("the member %d of the majority: %v", i, err)
		}
	}
	if err := beat(1, "a:z"); err == nil { // one against one: who was first stays
		t.Error("the later of two is taken")
	}
	if ids := b.clients.ConsumerIDs("g"); len(ids) != 1 || ids[0] != "m0" {
		t.Errorf("members %v, want m0 alone", ids)
	}
	if err := beat(0, "a:z"); err != nil { // alone it may change
		t.Error(err)
	}
}

func TestInitialPosition(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	for range 5 {
		if res := send(b, request("begin", "x", "")); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	r := request("begin", "x", "")
	r.QueueID = 0
	pullAll(t, b, "begin", 0, 5)
	for value, want := range map[string]int64{"latest": 5, "earliest": 0, "1": 0, "2200-01-01T00:00:00Z": 5} {
		c := DefaultGroupConfig("g")
		c.Attributes = map[string]string{"+" + AttributeInitial: value}
		if err := b.groups.Update(c); err != nil {
			t.Fatal(err)
		}
		for _, strict := range []bool{false, true} {
			if got, err := b.QueryOffset("g", "begin", 0, strict); err != nil || int64(got) != want {
				t.Errorf("%s: begins at %d, %v; want %d", value, got, err, want)
			}
		}
	}
	c := DefaultGroupConfig("g")
	c.Attributes = map[string]string{"+" + AttributeInitial: "yesterday"}
	if err := b.groups.Update(c); err == nil {
		t.Error("a position that is none is taken")
	}
	b.Offsets().Commit("g", "begin", 0, 3)
	if got, err := b.QueryOffset("g", "begin", 0, true); err != nil || got != 3 {
		t.Errorf("a committed offset does not go before: %d, %v", got, err)
	}
}
