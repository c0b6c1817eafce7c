package broker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// TestOffsetsModel runs random calls against a plain map, with restarts: what a
// restart finds is what was there at the last Flush, with later deletions.
func TestOffsetsModel(t *testing.T) {
	type key struct {
		group, topic string
		queue        int32
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	db := testDB(t)
	offsets := must(openOffsets(db, time.Now))
	model, safe := map[key]message.Offset{}, map[key]message.Offset{}
	name := func(prefix string) string { return fmt.Sprint(prefix, rng.IntN(4)) }
	check := func(step int) {
		for g := range 4 {
			for top := range 4 {
				for q := range int32(3) {
					k := key{fmt.Sprint("g", g), fmt.Sprint("t", top), q}
					want, has := model[k]
					if got, found := offsets.Query(k.group, k.topic, q); got != want || found != has {
						t.Fatalf("seed %d step %d: %v = %d, %v, want %d, %v", seed, step, k, got, found, want, has)
					}
				}
			}
		}
	}
	for step := range 2000 {
		k := key{name("g"), name("t"), rng.Int32N(3)}
		switch n := rng.IntN(100); {
		case n < 80:
			model[k] = message.Offset(rng.Int64N(1000))
			offsets.Commit(k.group, k.topic, k.queue, model[k])
		case n < 85:
			wantKind(t, "Flush", offsets.Flush(), noRefusal)
			safe = maps.Clone(model)
		case n < 88:
			offsets.Clone(k.group, "g0", k.topic)
			for from, v := range maps.Clone(model) {
				if from.group == k.group && from.topic == k.topic {
					model[key{"g0", k.topic, from.queue}] = v
				}
			}
		case n < 93:
			gone := func(o key, _ message.Offset) bool { return o.group == k.group }
			if n == 92 {
				wantKind(t, "DeleteGroup", offsets.DeleteGroup(k.group), noRefusal)
			} else if n == 91 {
				gone = func(o key, _ message.Offset) bool { return o.topic == k.topic }
				wantKind(t, "DeleteTopic", offsets.DeleteTopic(k.topic), noRefusal)
			} else {
				gone = func(o key, _ message.Offset) bool { return o.topic == k.topic && o.group == k.group }
				wantKind(t, "Delete", offsets.Delete(k.group, k.topic), noRefusal)
			}
			maps.DeleteFunc(model, gone)
			maps.DeleteFunc(safe, gone)
		case n == 99:
			offsets = must(openOffsets(db, time.Now))
			model = maps.Clone(safe)
		default:
			check(step)
		}
	}
	check(2000)
}

func TestOffsetsLists(t *testing.T) {
	offsets := must(openOffsets(testDB(t), time.Now))
	for _, pair := range [][2]string{{"g1", "t1"}, {"g1", "t2"}, {"g2", "t1"}} {
		offsets.Commit(pair[0], pair[1], 3, 5)
	}
	if got := offsets.TopicsOf("g1"); !slices.Equal(got, []string{"t1", "t2"}) {
		t.Errorf("TopicsOf = %q", got)
	}
	if got := offsets.GroupsOf("t1"); !slices.Equal(got, []string{"g1", "g2"}) {
		t.Errorf("GroupsOf = %q", got)
	}
	if got := offsets.OfTopic("g1", "t1"); len(got) != 1 || got[3] != 5 {
		t.Errorf("OfTopic = %v", got)
	}
	offsets.Commit("g1", "t1", 3, 4)
	offsets.Commit("g1", "t1", 3, 4)
	if got, _ := offsets.Query("g1", "t1", 3); got != 4 || offsets.Backwards() != 1 {
		t.Errorf("after going back: %d, %d times", got, offsets.Backwards())
	}
	offsets.CommitPull("g1", "t1", 3, 9)
	if got, ok := offsets.QueryPull("g1", "t1", 3); got != 9 || !ok {
		t.Errorf("QueryPull = %d, %v", got, ok)
	}
	if got, _ := offsets.Query("g1", "t1", 3); got != 4 {
		t.Errorf("a pull offset became a committed one: %d", got)
	}
	before := offsets.Version()
	wantKind(t, "Flush", offsets.Flush(), noRefusal)
	wantKind(t, "Flush", offsets.Flush(), noRefusal)
	if n := offsets.Version().Counter - before.Counter; n != 1 {
		t.Errorf("one Flush of two wrote something, the version counts %d", n)
	}
}

func TestOffsetsKeepWhatCouldNotBeWritten(t *testing.T) {
	db := testDB(t)
	offsets := must(openOffsets(db, time.Now))
	offsets.Commit("g", "t", 0, 7)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if offsets.Flush() == nil {
		t.Fatal("Flush to a closed database succeeded")
	}
	if p := offsets.committed.find(groupTopic{"t", "g"}); len(p.dirty) != 1 {
		t.Error("what could not be written is no longer marked as changed")
	}
}

func TestOffsetsConcurrently(t *testing.T) {
	db := testDB(t)
	offsets := must(openOffsets(db, time.Now))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				offsets.Commit(fmt.Sprint("g", w), "t", int32(i%3), message.Offset(i))
				if i%50 == 0 {
					if err := offsets.Flush(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	wantKind(t, "Flush", offsets.Flush(), noRefusal)
	restarted := must(openOffsets(db, time.Now))
	for w := range 4 {
		if got, _ := restarted.Query(fmt.Sprint("g", w), "t", 1); got != 499 {
			t.Errorf("group %d: %d after a restart", w, got)
		}
	}
}

func BenchmarkOffsetCommit(b *testing.B) {
	offsets := &Offsets{}
	offsets.committed.pairs = map[groupTopic]*groupOffsets{}
	n := message.Offset(0)
	for b.Loop() {
		n++
		offsets.Commit("group", "topic", 3, n)
	}
}
