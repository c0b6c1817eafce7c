package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestLocksModel runs random calls against a plain list of who took what when.
func TestLocksModel(t *testing.T) {
	clock := time.Unix(1e9, 0)
	now := func() time.Time { return clock }
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 2))
	db := testDB(t)
	life := func() time.Duration { return lockLife }
	locks := must(openLocks(db, life, now))
	type key struct {
		group string
		queue QueueRef
	}
	type taken struct {
		client string
		since  time.Time
		at     time.Time
	}
	model := map[key]taken{}
	lives := func(k key) (taken, bool) {
		m, ok := model[k]
		return m, ok && now().Sub(m.at) <= lockLife
	}
	for step := range 5000 {
		clock = clock.Add(time.Duration(rng.IntN(4000)) * time.Millisecond)
		group, client := fmt.Sprint("g", rng.IntN(2)), fmt.Sprint("c", rng.IntN(3))
		var queues []QueueRef
		for q := range int32(6) {
			if rng.IntN(2) == 0 {
				queues = append(queues, QueueRef{"t", "b", q})
			}
		}
		if rng.IntN(200) == 0 { // a restart: who holds what is known, and lasts as if it was refreshed now
			locks = must(openLocks(db, life, now))
			for k, m := range model {
				model[k] = taken{m.client, now(), now()}
			}
		}
		switch rng.IntN(5) {
		case 0, 1:
			var want []QueueRef
			for _, q := range queues {
				k := key{group, q}
				if m, ok := lives(k); !ok || m.client == client {
					since := now()
					if model[k].client == client {
						since = model[k].since
					}
					model[k] = taken{client, since, now()}
					want = append(want, q)
				}
			}
			got := must(locks.Lock(group, client, queues))
			slices.SortFunc(got, func(a, b QueueRef) int { return int(a.Queue - b.Queue) })
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d step %d: %s of %s got %v, want %v", seed, step, client, group, got, want)
			}
		case 2:
			if err := locks.Unlock(group, client, queues); err != nil {
				t.Fatal(err)
			}
			for _, q := range queues {
				if model[key{group, q}].client == client {
					delete(model, key{group, q})
				}
			}
		case 3:
			if err := locks.Sweep(); err != nil {
				t.Fatal(err)
			}
			for k := range model { // what is over is forgotten
				if _, ok := lives(k); !ok {
					delete(model, k)
				}
			}
		case 4:
			any := false
			for q := range int32(6) {
				ref := QueueRef{"t", "b", q}
				m, ok := lives(key{group, ref})
				any = any || ok
				got, held := locks.Holder(group, ref)
				if held != ok || held && (got != Lock{m.client, m.since, m.at, m.at.Add(lockLife)}) {
					t.Fatalf("seed %d step %d: Holder = %+v %v, want %v %v", seed, step, got, held, m, ok)
				}
			}
			if locks.Any(group) != any {
				t.Fatalf("seed %d step %d: Any(%s) = %v", seed, step, group, !any)
			}
		}
	}
	clock = clock.Add(2 * lockLife)
	if err := locks.Sweep(); err != nil {
		t.Fatal(err)
	}
	if len(locks.groups) != 0 || len(must(openLocks(db, life, now)).groups) != 0 {
		t.Errorf("%d groups are left when all locks are over", len(locks.groups))
	}
}
