package broker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestLocksModel runs random calls against a plain list of who took what when.
func TestLocksModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 2))
		locks := newLocks(time.Now)
		type key struct {
			group string
			queue QueueRef
		}
		type taken struct {
			client string
			at     time.Time
		}
		model := map[key]taken{}
		lives := func(k key) (taken, bool) {
			m, ok := model[k]
			return m, ok && time.Since(m.at) <= lockLife
		}
		for step := range 5000 {
			time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
			group, client := fmt.Sprint("g", rng.IntN(2)), fmt.Sprint("c", rng.IntN(3))
			var queues []QueueRef
			for q := range int32(6) {
				if rng.IntN(2) == 0 {
					queues = append(queues, QueueRef{"t", "b", q})
				}
			}
			switch rng.IntN(5) {
			case 0, 1:
				var want []QueueRef
				for _, q := range queues {
					if m, ok := lives(key{group, q}); !ok || m.client == client {
						model[key{group, q}] = taken{client, time.Now()}
						want = append(want, q)
					}
				}
				if got := locks.Lock(group, client, queues); !slices.Equal(got, want) {
					t.Fatalf("seed %d step %d: %s of %s got %v, want %v", seed, step, client, group, got, want)
				}
			case 2:
				locks.Unlock(group, client, queues)
				for _, q := range queues {
					if model[key{group, q}].client == client {
						delete(model, key{group, q})
					}
				}
			case 3:
				locks.Sweep()
			case 4:
				any := false
				for q := range int32(6) {
					ref := QueueRef{"t", "b", q}
					m, ok := lives(key{group, ref})
					any = any || ok
					if client, at, held := locks.Holder(group, ref); held != ok || held && (client != m.client || !at.Equal(m.at)) {
						t.Fatalf("seed %d step %d: Holder = %q %v, want %v %v", seed, step, client, held, m, ok)
					}
				}
				if locks.Any(group) != any {
					t.Fatalf("seed %d step %d: Any(%s) = %v", seed, step, group, !any)
				}
			}
		}
		time.Sleep(2 * lockLife)
		if locks.Sweep(); len(locks.groups) != 0 {
			t.Errorf("%d groups are left when all locks are over", len(locks.groups))
		}
	})
}
