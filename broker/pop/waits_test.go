package pop

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shop is what waiters of a test come for.
type shop struct {
	mu    sync.Mutex
	goods int
	from  time.Time // when something becomes visible; zero: nothing does
}

func (s *shop) ready(Line) (bool, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.goods > 0, s.from
}

type visitor struct {
	shop  *shop
	gone  bool
	said  chan string
	began time.Time
	after time.Duration
	of    *Holder
}

func (v *visitor) Holder() *Holder { return v.of }

func (s *shop) visitor() *visitor {
	return &visitor{shop: s, said: make(chan string, 2), began: time.Now(), of: &Holder{}}
}

func (v *visitor) Gone() bool { return v.gone }

func (v *visitor) Try() bool {
	v.shop.mu.Lock()
	defer v.shop.mu.Unlock()
	if !v.shop.from.IsZero() && !time.Now().Before(v.shop.from) {
		v.shop.from = time.Time{}
		v.shop.goods++
	}
	if v.shop.goods == 0 {
		return false
	}
	v.shop.goods--
	v.after = time.Since(v.began)
	v.said <- "got"
	return true
}

func (v *visitor) TimeUp() {
	v.after = time.Since(v.began)
	v.said <- "late"
}

func (v *visitor) want(t *testing.T, what, word string, after time.Duration) {
	t.Helper()
	select {
	case said := <-v.said:
		if said != word || v.after != after {
			t.Errorf("%s: %s after %v, want %s after %v", what, said, v.after, word, after)
		}
	default:
		t.Errorf("%s: no answer, want %s", what, word)
	}
}

func (v *visitor) wantNothing(t *testing.T, what string) {
	t.Helper()
	select {
	case said := <-v.said:
		t.Errorf("%s: %s", what, said)
	default:
	}
}

func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{}
		w := NewWaits(WaitOptions{MaxLine: 3, MaxAll: 4, Ready: s.ready})
		all := Line{Key: Key{Topic: "t", Group: "g", Queue: -1}}
		park := func(l Line, wait time.Duration) *visitor {
			v := s.visitor()
			if err := w.Park(l, time.Now().Add(wait), v, 1); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return v
		}
		a, b, c := park(all, time.Second), park(all, 5*time.Second), park(all, 5*time.Second)
		if err := w.Park(all, time.Now().Add(time.Second), s.visitor(), 1); !errors.Is(err, ErrLineFull) {
			t.Errorf("a fourth in line: %v", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		a.want(t, "the first", "late", time.Second)
		s.goods = 1
		w.Arrived("t", 3)
		synctest.Wait()
		b.want(t, "the second", "got", time.Second)
		c.wantNothing(t, "the third, for whom nothing was left")
		s.goods = 1
		w.Arrived("other", 3)
		synctest.Wait()
		c.wantNothing(t, "after a message of another topic")
		s.goods = 0

		s.from = time.Now().Add(700 * time.Millisecond)
		w.Visible(Key{Topic: "t", Group: "g", Queue: 2}, s.from.UnixMilli())
		time.Sleep(time.Second)
		synctest.Wait()
		c.want(t, "the third, when something became visible", "got", 1700*time.Millisecond)

		d, e := park(all, 10*time.Second), park(all, 10*time.Second)
		one := park(Line{Key: Key{Topic: "t", Group: "g", Queue: 1}}, 10*time.Second)
		if n := w.LineLen(all.Key); n != 2 || w.Len() != 3 {
			t.Errorf("%d in line, %d in all", n, w.Len())
		}
		d.gone = true
		s.goods = 1
		w.Arrived("t", 0)
		synctest.Wait()
		d.wantNothing(t, "one that is gone")
		e.want(t, "the one behind it", "got", 0)
		one.wantNothing(t, "one that waits for another queue")
		w.Close()
		one.want(t, "at the end", "late", 0)
		if w.Len() != 0 || len(w.topics) != 0 || w.alarms.Len() != 0 {
			t.Errorf("left: %d waiters, %d topics, %d alarms", w.Len(), len(w.topics), w.alarms.Len())
		}
		if err := w.Park(all, time.Now(), s.visitor(), 1); !errors.Is(err, ErrFull) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestWaitsMissNothing: what came between a look and the parking is found.
func TestWaitsMissNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shop{goods: 1}
		w := NewWaits(WaitOptions{MaxLine: 3, MaxAll: 4, Ready: s.ready})
		defer w.Close()
		v := s.visitor()
		if err := w.Park(Line{Key: testKey}, time.Now().Add(time.Hour), v, 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		v.want(t, "what was there already", "got", 0)
		s.from = time.Now().Add(time.Minute)
		v = s.visitor()
		if err := w.Park(Line{Key: testKey}, time.Now().Add(time.Hour), v, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		v.want(t, "what was to become visible", "got", time.Minute)
	})
}

// One connection gets its share of the room, and takes nothing with it when it
// leaves.
func TestWaitsOfOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 10_000
		s := &shop{}
		w := NewWaits(WaitOptions{MaxLine: 100, MaxAll: room, Ready: s.ready})
		defer w.Close()
		var greedy, other Holder
		var all []*visitor
		fill := func(h *Holder) (n int) {
			for ; ; n++ {
				v := s.visitor()
				v.of = h
				err := w.Park(Line{Key: Key{Topic: "t", Group: "g", Queue: int32(n % 150)}}, time.Now().Add(time.Hour), v, 1)
				if errors.Is(err, ErrFull) {
					return n
				}
				if err != nil {
					t.Fatal(err)
				}
				if h == &greedy {
					all = append(all, v)
				}
			}
		}
		a, b := fill(&greedy), fill(&other)
		if a != room/5 || b != room*4/25 || w.Len() != a+b {
			t.Errorf("they parked %d and %d, %d in all", a, b, w.Len())
		}
		w.Leave(&greedy)
		synctest.Wait()
		if w.Len() != b || w.room.Used() != b || len(greedy.waiters) != 0 || w.alarms.Len() != b {
			t.Errorf("%d wait and take %d of the room, %d alarms are set; want %d", w.Len(), w.room.Used(), w.alarms.Len(), b)
		}
		if fill(&greedy) != 0 {
			t.Error("one that left was parked")
		}
		s.goods = 1
		w.Arrived("t", 0)
		synctest.Wait()
		if w.Len() != b-1 || s.goods != 0 {
			t.Errorf("%d wait after a message, %d are left of it", w.Len(), s.goods)
		}
		for _, v := range all {
			v.wantNothing(t, "one of the connection that left")
		}
	})
}
