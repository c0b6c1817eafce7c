package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

func sqlPull(topic string, offset message.Offset, expression string) *PullRequest {
	return &PullRequest{
		Group: "g", Topic: topic, Offset: offset, MaxCount: 32, MaySuspend: true, Suspend: 20 * time.Second,
		OwnExpression: true, Expression: expression, ExpressionType: ExpressionSQL,
	}
}

// sendTo puts messages with these values of the property a into queue 0.
func sendTo(t *testing.T, b *Broker, topic string, values ...int) {
	t.Helper()
	for _, v := range values {
		if res := send(b, request(topic, fmt.Sprint(v), fmt.Sprintf("a\x01%d\x02", v))); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	pullAll(t, b, topic, 0, 1) // dispatched, from here on or soon
}

func TestPropertyFilter(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	sendTo(t, b, "orders", 1, 7, 3, 9)
	pullAll(t, b, "orders", 0, 4)
	res, body, err := b.Pull(sqlPull("orders", 0, "a > 5"), nil, nil)
	if err != nil || res.Status != PullFound || res.Count != 2 || res.Next != 4 {
		t.Fatalf("%+v, %v", res, err)
	}
	if v, err := message.Parse(body); err != nil || string(v.Body()) != "7" {
		t.Errorf("the first match: %v", err)
	}
	if res, _, err = b.Pull(sqlPull("orders", 0, "a > 50"), nil, nil); err != nil || res.Status != PullNoMatch || res.Next != 4 {
		t.Errorf("nothing matches: %+v, %v", res, err)
	}
	b.cfg.PropertyFilter.Store(false)
	if _, _, err = b.Pull(sqlPull("orders", 0, "a > 5"), nil, nil); kindOf(err) != KindSystem {
		t.Errorf("with filters off: %v", err)
	}
}

// An expression that does not compile is refused with the place, in the word
// that the client expects: its own expression's, or its group's filter's.
func TestWrongExpressions(t *testing.T) {
	var warned []string
	b := openBroker(t, t.TempDir(), nil)
	b.events.Warn = func(text string, pairs ...any) { warned = append(warned, fmt.Sprint(text, pairs)) }
	sendTo(t, b, "orders", 1)
	_, _, err := b.Pull(sqlPull("orders", 0, "a >"), nil, nil)
	if kindOf(err) != KindSubscriptionParse || !strings.Contains(fmt.Sprint(err), "position 3") {
		t.Errorf("its own expression: %v", err)
	}
	wrong := &Subscription{Topic: "orders", Expression: "a BETWEEN 5 AND 1", Type: ExpressionSQL, Version: 3}
	for range 2 {
		if err := b.Heartbeat(&fakeClient{}, consume("c", "g", wrong)); err != nil {
			t.Fatal(err)
		}
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "orders") {
		t.Errorf("two heartbeats warned %q", warned)
	}
	r := &PullRequest{Group: "g", Topic: "orders", MaxCount: 32}
	if _, _, err := b.Pull(r, nil, nil); kindOf(err) != KindFilterNotExist || !strings.Contains(fmt.Sprint(err), "position 2") {
		t.Errorf("the group's expression: %v", err)
	}
	if err := b.CheckFilter(wrong); kindOf(err) != KindSubscriptionParse {
		t.Errorf("CheckFilter = %v", err)
	}
	retry := &Subscription{Topic: message.RetryTopic("g"), Expression: "a BETWEEN 5 AND 1", Type: ExpressionSQL}
	if f, err := b.filterFor(retry); err != nil || f.Record != nil {
		t.Errorf("a retry topic is filtered: %v", err)
	}
	if err := b.CheckFilter(&Subscription{Topic: "orders", Expression: "x", Type: "GROOVY"}); kindOf(err) != KindSubscriptionParse {
		t.Errorf("a type of expression that nobody knows: %v", err)
	}
}

func TestFilterCacheIsBounded(t *testing.T) {
	b := &Broker{cfg: DefaultSettings()}
	for i := range filterCacheSize + 100 {
		if _, err := b.compile(&Subscription{Expression: fmt.Sprint("a = ", i), Type: ExpressionSQL}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.filters.byText); n != filterCacheSize {
		t.Errorf("%d expressions are kept", n)
	}
}

// What arrives and does not match leaves a parked pull parked; what matches
// wakes it, and it gets that alone.
func TestParkedPullIsNotWokenInVain(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	sendTo(t, b, "orders", 1)
	answers := make(chan PullResult, 10)
	r := sqlPull("orders", 1, "a > 5")
	res, _, err := b.Pull(r, nil, parkedFunc(func(r *PullRequest) {
		res, _, err := b.Repull(r, nil)
		if err != nil {
			t.Error(err)
		}
		answers <- res
	}))
	if err != nil || res.Status != PullParked {
		t.Fatalf("%+v, %v", res, err)
	}
	for i := range 200 {
		sendTo(t, b, "orders", i%5)
	}
	pullAll(t, b, "orders", 0, 201)
	select {
	case res := <-answers:
		t.Fatalf("answered without a match: %+v", res)
	case <-time.After(50 * time.Millisecond):
	}
	if n := b.Holds(); n != 1 {
		t.Fatalf("%d pulls are parked", n)
	}
	sendTo(t, b, "orders", 9)
	select {
	case res = <-answers:
	case <-time.After(10 * time.Second):
		t.Fatal("not woken")
	}
	if res.Status != PullFound || res.Count != 1 || res.Next != 202 {
		t.Errorf("%+v", res)
	}
	if len(answers) > 0 || b.Holds() != 0 {
		t.Errorf("%d more answers, %d parked", len(answers), b.Holds())
	}
}

// A match is never slept through, whatever the moment of its arrival.
func TestParkedPullMissesNoMatch(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	sendTo(t, b, "orders", 1)
	offset := message.Offset(1)
	for round := range 50 {
		answers := make(chan PullResult, 1)
		var senders sync.WaitGroup
		for _, v := range []int{1, 9, 2} {
			senders.Go(func() { send(b, request("orders", "x", fmt.Sprintf("a\x01%d\x02", v))) })
		}
		var res PullResult
		for res.Status = PullNoMatch; res.Status == PullNoMatch; offset = res.Next {
			var err error
			res, _, err = b.Pull(sqlPull("orders", offset, "a > 5"), nil, parkedFunc(func(r *PullRequest) {
				res, _, err := b.Repull(r, nil)
				if err != nil {
					t.Error(err)
				}
				answers <- res
			}))
			if err != nil {
				t.Fatal(err)
			}
			if res.Status == PullParked {
				select {
				case res = <-answers:
				case <-time.After(10 * time.Second):
					t.Fatalf("round %d: slept through a match", round)
				}
			}
		}
		if res.Status != PullFound || res.Count != 1 {
			t.Fatalf("round %d: %+v", round, res)
		}
		senders.Wait()
	}
}

// fakeScreen finds nothing worth an answer until told to, and says that it
// missed something so often.
type fakeScreen struct {
	mu            sync.Mutex
	worth         bool
	asked, missed int
}

func (s *fakeScreen) Worth(_ *PullRequest, buf []byte) (bool, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.worth, buf
}

func (s *fakeScreen) Missed(*PullRequest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed--
	return s.missed >= 0
}

func TestScreenedHoldKeepsItsPlaceAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(1)
		h.start()
		defer h.close()
		start := time.Now()
		w, s := &waiter{holder: &Holder{}}, &fakeScreen{missed: 2}
		p := &hold{key: queueKey{"t", 0}, request: &PullRequest{}, parked: w, screen: s, deadline: start.Add(20 * time.Second)}
		if h.park(p) != nil {
			t.Fatal("no room")
		}
		time.Sleep(5 * time.Second)
		h.arrived([]store.Arrival{{Topic: "t"}})
		synctest.Wait()
		if s.asked != 3 || w.count() != 0 || h.Len() != 1 {
			t.Fatalf("asked %d times, answered %d times, %d parked", s.asked, w.count(), h.Len())
		}
		if _, _, ok := parkOne(h, "t", 0, nil, time.Minute); ok {
			t.Error("its room was given away")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.answered.Sub(start); got != 20*time.Second || w.count() != 1 || s.asked != 3 {
			t.Errorf("answered %d times, after %v", w.count(), got)
		}
		if h.Len() != 0 {
			t.Errorf("%d parked", h.Len())
		}
	})
}

func TestCloseAnswersAScreenedHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHolds(1)
		h.start()
		w := &waiter{holder: &Holder{}}
		h.park(&hold{key: queueKey{"t", 0}, request: &PullRequest{}, parked: w, screen: &fakeScreen{}, deadline: time.Now().Add(time.Hour)})
		h.close()
		if w.count() != 1 {
			t.Errorf("answered %d times", w.count())
		}
	})
}

// BenchmarkFilteredScan reads a queue of which nothing matches; the time is
// that of one message.
func BenchmarkFilteredScan(b *testing.B) {
	s := DefaultSettings()
	s.SegmentSize = 64 << 20
	br, err := Open(b.TempDir(), Options{Settings: s, StoreHost: testAddr})
	if err != nil {
		b.Fatal(err)
	}
	defer br.Close()
	const messages = 20_000
	sender := br.NewSender()
	for i := range messages {
		r := request("orders", strings.Repeat("x", 200), fmt.Sprintf("a\x01%d\x02region\x01eu-%d\x02TAGS\x01TagA\x02UNIQ_KEY\x01C0A8010A00002A9F%016d\x02WAIT\x01true\x02", i, i%3, i))
		sender.Add(r)
		if i%100 == 99 {
			for _, res := range sender.Commit() {
				if res.Err != nil {
					b.Fatal(res.Err)
				}
			}
			sender = br.NewSender()
		}
	}
	for br.store.QueueMax("orders", 0) < messages {
		time.Sleep(time.Millisecond)
	}
	offset, body := message.Offset(0), []byte(nil)
	b.ResetTimer()
	b.ReportAllocs()
	for n := 0; n < b.N; {
		res, got, err := br.Pull(sqlPull("orders", offset, "a < 0 OR region = 'us-1' AND TAGS = 'TagA'"), body[:0], nil)
		if err != nil || res.Status == PullFound {
			b.Fatalf("%+v, %v", res, err)
		}
		n += int(res.Next - offset)
		body = got
		if offset = res.Next; offset == messages {
			offset = 0
		}
	}
}

// What the broker adds to every message is found where an expression asks for
// it, and not taken for a part of it where not.
func TestFiltersAndTheStamp(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	for i, p := range []string{"", "a\x01x\x02", "MSG_REGION\x01own\x02", "a\x01y\x02b\x01zMSG_REGION\x02"} {
		mustSend(t, b, request("stamp", fmt.Sprint(i), p))
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	for expression, want := range map[string]int{
		"a = 'x'": 1, "a IS NULL": 2, "b ENDSWITH 'N'": 1, "MSG_REGION = 'DefaultRegion'": 4, "CLUSTER IS NOT NULL AND a = 'y'": 1,
		"MSG_REGION = 'own'": 0, "UNIQ_KEY IS NOT NULL": 4, "TRACE_ON = 'true' OR a = 'x'": 4,
	} {
		res, _, err := b.Pull(sqlPull("stamp", 0, expression), nil, nil)
		if err != nil || res.Count != want {
			t.Errorf("%s: %d messages, %v; want %d", expression, res.Count, err, want)
		}
	}
}

// What strangers send costs a bounded number of bytes, however long each text.
func TestFilterCacheIsBoundedInBytes(t *testing.T) {
	b := &Broker{cfg: DefaultSettings()}
	kept := func() (n int) {
		for text := range b.filters.byText {
			n += len(text)
		}
		if n != b.filters.bytes {
			t.Errorf("%d bytes are kept, %d counted", n, b.filters.bytes)
		}
		return n
	}
	for i := range 40 {
		text := fmt.Sprintf("a = '%060000d'", i)
		for range 2 {
			if _, err := b.compile(&Subscription{Expression: text, Type: ExpressionSQL}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := kept(); n > filterCacheBytes || n < filterCacheBytes/2 {
		t.Errorf("%d bytes of expressions are kept", n)
	}
	before := kept()
	for i := range 20 {
		text := fmt.Sprintf("a = '%01000000d'", i)
		if _, err := b.compile(&Subscription{Expression: text, Type: ExpressionSQL}); kindOf(err) != KindSubscriptionParse || len(err.Error()) > 1000 {
			t.Fatalf("a text of %d bytes: %.1000s", len(text), fmt.Sprint(err))
		}
	}
	if n := kept(); n > before+100 {
		t.Errorf("texts that are too long cost %d bytes", n-before)
	}
	for _, kind := range []string{ExpressionTag, ExpressionSQL} {
		_, err := ParseSubscription("orders", strings.Repeat("a", MaxExpression+1), kind, 0)
		if kindOf(err) != KindSubscriptionParse || !strings.Contains(err.Error(), "65536 bytes") {
			t.Errorf("%s: %.1000s", kind, fmt.Sprint(err))
		}
	}
}
