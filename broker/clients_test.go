package broker

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeClient counts what it is told.
type fakeClient struct {
	port uint16

	mu       sync.Mutex // guards notified
	notified map[string]int
}

func (f *fakeClient) RemoteAddr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), f.port)
}

func (f *fakeClient) NotifyConsumersChanged(group string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.notified == nil {
		f.notified = map[string]int{}
	}
	f.notified[group]++
}

// told returns how often the client was told of the group since the last time.
func (f *fakeClient) told(group string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.notified[group]
	delete(f.notified, group)
	return n
}

func (f *fakeClient) ResetOffsets(*OffsetReset)                      {}
func (f *fakeClient) CheckTransaction(*TransactionCheck) error       { return nil }
func (f *fakeClient) Ask(context.Context, *Question) ([]byte, error) { return nil, nil }

func testClients(t *testing.T) (*Clients, *Groups) {
	db := testDB(t)
	groups := must(openGroups(db, DefaultSettings(), time.Now))
	return must(openClients(db, groups, time.Now)), groups
}

func consume(id, group string, subs ...*Subscription) *Heartbeat {
	return &Heartbeat{ClientID: id, Consumers: []ConsumerHeartbeat{{Group: group, Type: ConsumePassively, Subscriptions: subs}}}
}

func subscription(topic string, version int64) *Subscription {
	s, err := ParseSubscription(topic, "*", "", version)
	if err != nil {
		panic(err)
	}
	return s
}

func TestMembersAreToldOfChanges(t *testing.T) {
	clients, groups := testClients(t)
	a, b := &fakeClient{port: 1}, &fakeClient{port: 2}
	step := func(what string, wantA, wantB int, do func()) {
		t.Helper()
		do()
		if gotA, gotB := a.told("g"), b.told("g"); gotA != wantA || gotB != wantB {
			t.Errorf("%s: told %d and %d times, want %d and %d", what, gotA, gotB, wantA, wantB)
		}
	}
	beat := func(c *fakeClient, h *Heartbeat) func() {
		return func() { wantKind(t, "Heartbeat", clients.Heartbeat(c, h), noRefusal) }
	}
	t1, t2 := subscription("t1", 1), subscription("t2", 1)
	step("the first member", 1, 0, beat(a, consume("a", "g", t1)))
	step("the same again", 0, 0, beat(a, consume("a", "g", t1)))
	step("a second member", 1, 1, beat(b, consume("b", "g", t1)))
	step("a newer subscription to the same topic", 0, 0, beat(b, consume("b", "g", subscription("t1", 2))))
	step("another topic", 1, 1, beat(a, consume("a", "g", t1, t2)))
	if clients.Subscription("g", "t1").Version != 2 {
		t.Error("an older subscription replaced a newer one")
	}
	step("a topic less", 1, 1, beat(a, consume("a", "g", t1)))
	if clients.Subscription("g", "t2") != nil {
		t.Error("t2 is still subscribed to")
	}
	step("left out because unchanged", 0, 0, func() {
		h := consume("a", "g")
		h.Partial = true
		beat(a, h)()
	})
	if clients.Subscription("g", "t1") == nil {
		t.Error("a partial heartbeat took the subscriptions away")
	}
	step("a member leaves", 1, 0, func() { clients.Unregister(b, "", "g") })
	step("it leaves again", 0, 0, func() { clients.Unregister(b, "", "g") })
	c := DefaultGroupConfig("g")
	c.NotifyMembers = false
	wantKind(t, "Update", groups.Update(c), noRefusal)
	step("told nothing, as the group is set", 0, 0, beat(b, consume("b", "g", t1)))
	step("the connection breaks", 0, 0, func() { clients.Closed(b) })
	wantKind(t, "Update", groups.Update(DefaultGroupConfig("g")), noRefusal)
	step("broadcasting members share nothing", 0, 0, func() {
		h := consume("b", "g", t1)
		h.Consumers[0].Model = Broadcasting
		beat(b, h)()
	})
}

func TestHeartbeatIsInTheListsAtOnce(t *testing.T) {
	clients, _ := testClients(t)
	a, again := &fakeClient{port: 1}, &fakeClient{port: 2}
	h := consume("id", "g", subscription("t", 1))
	h.Producers, h.Language, h.Version = []string{"p", "q"}, 9, 317
	for _, c := range []Client{a, again} {
		wantKind(t, "Heartbeat", clients.Heartbeat(c, h), noRefusal)
		if got := clients.ConsumerIDs("g"); !slices.Equal(got, []string{"id"}) {
			t.Errorf("ConsumerIDs = %q", got)
		}
	}
	group, ok := clients.Consumers("g")
	if !ok || len(group.Members) != 2 || group.Members[0].Version != 317 || group.Members[0].Language != 9 || len(group.Subscriptions) != 1 || group.Type != ConsumePassively {
		t.Errorf("Consumers = %+v, %v", group, ok)
	}
	if info, ok := clients.Consumer("g", "id"); !ok || info.ID != "id" {
		t.Errorf("Consumer = %v, %v", info, ok)
	}
	if _, ok := clients.Consumer("g", "other"); ok {
		t.Error("an unknown member is found")
	}
	if diff := cmp.Diff([]string{"g"}, clients.GroupsOf("t")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"p", "q"}, clients.ProducerGroups()); diff != "" {
		t.Error(diff)
	}
	picked := map[Client]int{}
	for range 10 {
		info, ok := clients.PickProducer("p")
		if !ok {
			t.Fatal("no producer")
		}
		picked[info.Client]++
	}
	if picked[a] != 5 || picked[again] != 5 {
		t.Errorf("producers take turns: %v", picked)
	}
	if info, ok := clients.Producer("id"); !ok || info.ID != "id" {
		t.Errorf("Producer = %v, %v", info, ok)
	}
	clients.Closed(a)
	clients.Closed(again)
	if len(clients.of)+len(clients.consumers)+len(clients.producers)+len(clients.turn) != 0 {
		t.Error("something is left of connections that are gone")
	}
	if _, ok := clients.PickProducer("p"); ok || clients.ConsumerIDs("g") != nil {
		t.Error("members are left")
	}
	if clients.Subscription("g", "t") == nil {
		t.Error("the subscription went with the last member")
	}
	wantKind(t, "Forget", clients.Forget("g"), noRefusal)
	if clients.Subscription("g", "t") != nil {
		t.Error("the subscription outlives its group")
	}
}

func TestSubscriptionsSurviveARestart(t *testing.T) {
	db := testDB(t)
	groups := must(openGroups(db, DefaultSettings(), time.Now))
	clients := must(openClients(db, groups, time.Now))
	sql := must(ParseSubscription("t2", "a > 1", ExpressionSQL, 9))
	tags := must(ParseSubscription("t1", "A || B", "", 1844674407370955161))
	wantKind(t, "Heartbeat", clients.Heartbeat(&fakeClient{}, consume("a", "g", sql, tags)), noRefusal)
	restarted := must(openClients(db, groups, time.Now))
	if diff := cmp.Diff([]*Subscription{tags, sql}, restarted.Subscriptions("g")); diff != "" {
		t.Error(diff)
	}
	if model, ok := restarted.Subscribed("g"); !ok || model != Clustering {
		t.Error("the group is unknown after a restart")
	}
	if _, online := restarted.Consumers("g"); online {
		t.Error("members survived the restart")
	}
}

// TestClientLifeIsASetting: a client counts as gone after Clients.life, which
// the broker takes from its settings.
func TestClientLifeIsASetting(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	db := testDB(t)
	clients := must(openClients(db, must(openGroups(db, DefaultSettings(), time.Now)), func() time.Time { return now }))
	clients.life = 30 * time.Second
	wantKind(t, "Heartbeat", clients.Heartbeat(&fakeClient{}, consume("a", "g", subscription("t", 1))), noRefusal)
	now = now.Add(29 * time.Second)
	if gone := clients.Expire(); gone != 0 {
		t.Errorf("%d clients are gone after 29 s", gone)
	}
	now = now.Add(2 * time.Second)
	if gone := clients.Expire(); gone != 1 {
		t.Errorf("%d clients are gone after 31 s, want 1", gone)
	}
}

// TestClientsModel runs random heartbeats, departures and silences against
// plain maps.
func TestClientsModel(t *testing.T) {
	clients, _ := testClients(t) // outside of the bubble, which goleveldb's goroutines would keep open
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 3))
		type seat struct {
			conn  int
			group string
		}
		consumers, producers := map[seat]time.Time{}, map[seat]time.Time{}
		conns := make([]*fakeClient, 5)
		for i := range conns {
			conns[i] = &fakeClient{port: uint16(i)}
		}
		for step := range 3000 {
			time.Sleep(time.Duration(rng.IntN(20)) * time.Second)
			conn, group := rng.IntN(len(conns)), fmt.Sprint("g", rng.IntN(3))
			here := seat{conn, group}
			switch rng.IntN(8) {
			case 0, 1, 2:
				h := consume(fmt.Sprint("id", conn), group, subscription("t", 1))
				consumers[here] = time.Now()
				if rng.IntN(2) == 0 {
					h.Producers = []string{group}
					producers[here] = time.Now()
				}
				if err := clients.Heartbeat(conns[conn], h); err != nil {
					t.Fatal(err)
				}
			case 3:
				clients.Unregister(conns[conn], group, "")
				delete(producers, here)
			case 4:
				clients.Unregister(conns[conn], "", group)
				delete(consumers, here)
			case 5:
				clients.Closed(conns[conn])
				mine := func(s seat, _ time.Time) bool { return s.conn == conn }
				maps.DeleteFunc(consumers, mine)
				maps.DeleteFunc(producers, mine)
			case 6:
				clients.Expire()
				old := func(_ seat, at time.Time) bool { return time.Since(at) > clientLife }
				maps.DeleteFunc(consumers, old)
				maps.DeleteFunc(producers, old)
			}
			var ids, makers []string
			for s := range consumers {
				if s.group == group {
					ids = append(ids, fmt.Sprint("id", s.conn))
				}
			}
			for s := range producers {
				if s.group == group {
					makers = append(makers, fmt.Sprint("id", s.conn))
				}
			}
			slices.Sort(ids)
			slices.Sort(makers)
			var got []string
			for _, p := range clients.Producers(group) {
				got = append(got, p.ID)
			}
			if !slices.Equal(clients.ConsumerIDs(group), ids) || !slices.Equal(got, makers) {
				t.Fatalf("seed %d step %d: consumers %q and producers %q, want %q and %q", seed, step, clients.ConsumerIDs(group), got, ids, makers)
			}
		}
		time.Sleep(2 * clientLife)
		if clients.Expire(); len(clients.of)+len(clients.consumers)+len(clients.producers) != 0 {
			t.Error("silent clients are left")
		}
	})
}

func BenchmarkSubscriptionLookup(b *testing.B) {
	clients := &Clients{subs: newNameTable[groupSubscriptions]()}
	clients.subs.set("group", &groupSubscriptions{byTopic: map[string]*Subscription{"topic": {}}})
	for b.Loop() {
		if clients.Subscription("group", "topic") == nil {
			b.Fatal("not found")
		}
	}
}
