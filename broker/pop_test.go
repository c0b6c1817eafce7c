package broker

import (
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

func popRequest(group string) *PopRequest {
	return &PopRequest{Group: group, Topic: "orders", QueueID: -1, MaxCount: 3, Invisible: time.Minute}
}

// given is a message that a pop gave.
type given struct {
	body   string
	times  int32
	handle PopHandle
	offset message.Offset
}

func popOnce(t *testing.T, b *Broker, r *PopRequest) (list []given) {
	t.Helper()
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	res, body, err := b.Pop(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range res.Queues {
		for _, m := range q.Messages {
			v, err := message.Parse(body)
			if err != nil {
				t.Fatal(err)
			}
			if v.QueueID() != q.Queue || v.QueueOffset() != m.Offset || v.ReconsumeTimes() != m.Times {
				t.Errorf("the record is queue %d, offset %d, attempt %d, the answer says %d, %+v", v.QueueID(), v.QueueOffset(), v.ReconsumeTimes(), q.Queue, m)
			}
			body = body[len(v):]
			list = append(list, given{string(v.Body()), m.Times, PopHandle{r.Group, r.Topic, q.Queue, res.PopTime}, m.Offset})
		}
	}
	return list
}

type popBook struct{ sent, acked map[string]bool }

type popCrash struct {
	when string
	fsys *vfs.Mem
	kv   string
	book popBook
}

// TestPopCrashes sends, pops and acknowledges, cuts the power at random moments
// and opens what is left: what was acknowledged never comes again, everything
// else does.
func TestPopCrashes(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	dir := t.TempDir()
	fsys := vfs.NewMem()
	if err := fsys.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	settings := func(s *Settings) {
		s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems, s.NoIndex, s.SyncFlush = 1<<16, 100, 100, 400, true, true
		s.DefaultTopicQueues = 2
	}
	b := openBrokerOn(t, dir, fsys, settings)
	book := popBook{map[string]bool{}, map[string]bool{}}
	var crashes []popCrash
	crash := func(when string) {
		c := popCrash{when: when, kv: filepath.Join(t.TempDir(), "kv"), book: popBook{maps.Clone(book.sent), maps.Clone(book.acked)}}
		if c.fsys = fsys.CrashClone(nil); rng.Intn(2) == 0 {
			c.fsys = fsys.CrashClone(rng)
		}
		if err := os.CopyFS(c.kv, os.DirFS(filepath.Join(dir, "kv"))); err == nil { // else it was being written
			crashes = append(crashes, c)
		}
	}
	var out []given
	for round := range 25 {
		s := b.NewSender()
		for i := range 4 {
			r := request("orders", fmt.Sprintf("%d-%d", round, i), "")
			r.QueueID = int32(rng.Intn(2))
			s.Add(r)
		}
		for _, r := range s.Commit() {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		waitSafe(t, s.WhenSafe)
		for i := range 4 {
			book.sent[fmt.Sprintf("%d-%d", round, i)] = true
		}
		out = append(out, popOnce(t, b, popRequest("g"))...)
		crash(fmt.Sprintf("round %d, popped", round))
		rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		for range min(len(out), rng.Intn(4)) {
			if err := b.AckPop(&out[0].handle, out[0].offset); err != nil {
				t.Fatal(err)
			}
			if err := b.PopsSafe(); err != nil {
				t.Fatal(err)
			}
			book.acked[out[0].body] = true
			out = out[1:]
			crash(fmt.Sprintf("round %d, acknowledged", round))
		}
		if len(out) > 0 && rng.Intn(2) == 0 {
			newTime, err := b.ChangePop(&out[0].handle, out[0].offset, time.Hour, false)
			if err != nil {
				t.Fatal(err)
			}
			out[0].handle.PopTime = newTime
			crash(fmt.Sprintf("round %d, changed", round))
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 20 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for i, c := range crashes {
		if testing.Short() && i%5 > 0 {
			continue
		}
		if checkPops(t, dir, &c, settings); t.Failed() {
			return
		}
	}
	t.Logf("%d crashes", len(crashes))
}

func checkPops(t *testing.T, dir string, c *popCrash, change func(*Settings)) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, "kv")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "kv"), os.DirFS(c.kv)); err != nil {
		t.Fatal(err)
	}
	s := DefaultSettings()
	change(s)
	b, err := Open(dir, Options{FS: c.fsys, Settings: s, StoreHost: testAddr, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	if err != nil {
		t.Fatalf("%s: %v", c.when, err)
	}
	defer b.Close()
	came := map[string]bool{}
	for {
		list := popOnce(t, b, popRequest("g"))
		if len(list) == 0 {
			break
		}
		for _, m := range list {
			if came[m.body] || c.book.acked[m.body] {
				t.Errorf("%s: %s came, acknowledged before %t, came before %t", c.when, m.body, c.book.acked[m.body], came[m.body])
			}
			came[m.body] = true
		}
	}
	for body := range c.book.sent {
		if !came[body] && !c.book.acked[body] {
			t.Errorf("%s: %s never came", c.when, body)
		}
	}
}

// TestPopsAndGroups: what pops leave is seen as progress, and goes with the
// group, the topic, and across a restart.
func TestPopsAndGroups(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir, func(s *Settings) { s.DefaultTopicQueues = 1 })
	for i := range 6 {
		mustSend(t, b, request("orders", fmt.Sprint(i), "")) // queue 0
	}
	list := popOnce(t, b, popRequest("g"))
	if len(list) != 3 || list[0].body != "0" {
		t.Fatalf("%v", list)
	}
	for _, i := range []int{0, 2} {
		if err := b.AckPop(&list[i].handle, list[i].offset); err != nil {
			t.Fatal(err)
		}
	}
	progress := func(what string, want message.Offset) {
		t.Helper()
		if got := b.ConsumeProgress("g", "orders")[0].Committed; got != want {
			t.Errorf("%s: %d is committed, want %d", what, got, want)
		}
	}
	progress("one of three is not acknowledged", 1)
	if err := b.AckPop(&list[1].handle, list[1].offset); err != nil {
		t.Fatal(err)
	}
	progress("all are acknowledged", 3)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, dir, nil)
	progress("after a restart", 3)
	if list = popOnce(t, b, popRequest("g")); len(list) != 3 || list[0].body != "3" {
		t.Errorf("after a restart: %v", list)
	}
	if err := b.CommitOffset("g", "orders", 0, 6); err != nil {
		t.Fatal(err)
	}
	if st := b.PopQueues("g")[0]; st.InFlight != 3 {
		t.Errorf("a commit of somebody else takes what is out: %+v", st)
	}
	if _, err := b.ResetOffsets(&ResetRequest{Group: "g", Topic: "orders", Queue: -1, Offset: -1, Timestamp: 0, Force: true}); err != nil {
		t.Fatal(err)
	}
	progress("after a reset", 0)
	if list = popOnce(t, b, popRequest("g")); len(list) != 3 || list[0].body != "0" || list[0].times != 0 {
		t.Errorf("after a reset: %v", list)
	}
	if err := b.DeleteGroup("g", true); err != nil {
		t.Fatal(err)
	}
	wantKind(t, "an acknowledgement for a deleted group", b.AckPop(&list[0].handle, 0), KindGroupNotExist)
	if list = popOnce(t, b, popRequest("g")); len(list) != 3 || list[0].body != "0" {
		t.Errorf("the group anew: %v", list)
	}
	if err := b.DeleteTopic("orders"); err != nil {
		t.Fatal(err)
	}
	if n := len(b.PopQueues("")); n != 0 {
		t.Errorf("%d queues are left", n)
	}
}

// TestPopsBury: a message that was handed out too often goes to the dead
// letters though nobody pops any more, with what is needed to send it again.
func TestPopsBury(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	cfg := DefaultGroupConfig("g")
	cfg.RetryMaxTimes = 1
	if err := b.groups.Update(cfg); err != nil {
		t.Fatal(err)
	}
	mustSend(t, b, request("orders", "bad", ""))
	for times := range int32(2) {
		r := popRequest("g")
		r.Invisible = time.Millisecond
		var list []given
		for len(list) == 0 { // at most a few milliseconds
			list = popOnce(t, b, r)
		}
		if list[0].times != times {
			t.Fatalf("attempt %d: %+v", times, list)
		}
	}
	dead := message.DLQTopic("g")
	for deadline := time.Now().Add(10 * time.Second); b.store.QueueMax(dead, 0) == 0 && time.Now().Before(deadline); {
		b.sweepPops()
		if err := b.store.WaitVisible(); err != nil {
			t.Fatal(err)
		}
	}
	v, err := b.store.RecordAt(dead, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if p := v.Properties(); string(v.Body()) != "bad" || v.ReconsumeTimes() != 2 || p.Value(message.PropRetryTopic) != "orders" || p.Value(PropDeadReason) != DeadMaxAttempts {
		t.Errorf("the dead letter says %d attempts, %v", v.ReconsumeTimes(), p.Map())
	}
	if st := b.PopQueues("g")[0]; st.InFlight != 0 || st.Floor != 1 {
		t.Errorf("%+v", st)
	}
}

func TestPopRefusals(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	mustSend(t, b, request("orders", "x", ""))
	for what, c := range map[string]struct {
		change func(*PopRequest)
		want   Kind
	}{
		"33 messages":          {func(r *PopRequest) { r.MaxCount = 33 }, KindInvalidParameter},
		"none":                 {func(r *PopRequest) { r.MaxCount = 0 }, KindInvalidParameter},
		"no invisible time":    {func(r *PopRequest) { r.Invisible = 0 }, KindInvalidParameter},
		"four days":            {func(r *PopRequest) { r.Invisible = 96 * time.Hour }, KindInvalidParameter},
		"queue -2":             {func(r *PopRequest) { r.QueueID = -2 }, KindInvalidParameter},
		"no topic":             {func(r *PopRequest) { r.Topic = "none" }, KindTopicNotExist},
		"a bad group":          {func(r *PopRequest) { r.Group = "a b" }, KindGroupNotExist},
		"a broken expression":  {func(r *PopRequest) { r.Expression, r.ExpressionType = "a = ", ExpressionSQL }, KindSubscriptionParse},
		"a type that is none":  {func(r *PopRequest) { r.Expression, r.ExpressionType = "a", "X" }, KindSubscriptionParse},
		"a tag expression bad": {func(r *PopRequest) { r.Expression, r.ExpressionType = "||", ExpressionTag }, KindSubscriptionParse},
	} {
		r := popRequest("g")
		c.change(r)
		_, _, err := b.Pop(r, nil)
		wantKind(t, what, err, c.want)
	}
	list := popOnce(t, b, popRequest("g"))
	h := list[0].handle
	wantKind(t, "an offset beyond the end", b.AckPop(&h, 9), KindNoMessage)
	forged := h
	forged.PopTime--
	wantKind(t, "a forged time", b.AckPop(&forged, 0), KindNoMessage)
	forged = h
	forged.Group = "other"
	wantKind(t, "a group that there is not", b.AckPop(&forged, 0), KindGroupNotExist)
	_, err := b.ChangePop(&h, 0, 96*time.Hour, false)
	wantKind(t, "a change by four days", err, KindInvalidParameter)
	if st, _ := b.PopStats(); st.InFlight != 1 || st.Acked != 0 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
}

// TestAcksOfWhatRetentionTook: the rest of a batch counts all the same.
func TestAcksOfWhatRetentionTook(t *testing.T) {
	b := openBroker(t, t.TempDir(), func(s *Settings) { s.DefaultTopicQueues = 1 })
	for i := range 3 {
		mustSend(t, b, request("orders", fmt.Sprint(i), ""))
	}
	list := popOnce(t, b, popRequest("g"))
	if len(list) != 3 {
		t.Fatalf("%v", list)
	}
	if _, err := b.store.ForgetTo("orders", list[0].handle.Queue, 1); err != nil {
		t.Fatal(err)
	}
	h := list[0].handle
	wantKind(t, "none is there", b.AckPop(&h, 0, 7), KindNoMessage)
	offsets := []message.Offset{0, 1, 2}
	wantKind(t, "two of three are there", b.AckPop(&h, offsets...), noRefusal)
	if !slices.Equal(offsets, []message.Offset{0, 1, 2}) {
		t.Errorf("the caller's list is now %v", offsets)
	}
	if st, _ := b.PopStats(); st.Acked != 2 {
		t.Errorf("%+v", st)
	}
}
