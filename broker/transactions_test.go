package broker

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
	"github.com/merlinmq/merlin/txn"
)

const halfProps = "TRAN_MSG\x01true\x02PGROUP\x01g\x02UNIQ_KEY\x01K1\x02TAGS\x01a\x02"

// end ends one transaction.
func end(b *Broker, e TransactionEnd) error {
	ender := b.NewEnder()
	ender.Add(e)
	return ender.Commit()[0].Err
}

// sendHalf stores a half and returns where it is.
func sendHalf(t *testing.T, b *Broker, topic, props string) TransactionEnd {
	t.Helper()
	return sendHalfBorn(t, b, topic, props, time.Now())
}

func sendHalfBorn(t *testing.T, b *Broker, topic, props string, born time.Time) TransactionEnd {
	t.Helper()
	r := request(topic, "half", props)
	r.BornTimestamp = born.UnixMilli()
	r.SysFlag = message.FlagPrepared
	r.QueueID = 1
	res := send(b, r)
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	if res.QueueID != 1 {
		t.Errorf("the answer to a half names queue %d, want the one asked for", res.QueueID)
	}
	_, pos, err := message.ParseOffsetID(string(res.AppendMessageID(nil)))
	if err != nil {
		t.Fatal(err)
	}
	return TransactionEnd{Group: "g", Offset: res.Offset, Position: pos}
}

func TestTransactionIsVisibleOnceAfterItsCommit(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	e := sendHalf(t, b, "orders", halfProps)
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if n := b.store.QueueMax("orders", 1); n != 0 {
		t.Fatalf("a half is visible: %d messages", n)
	}
	e.Verdict = TransactionCommit
	for range 3 {
		if err := end(b, e); err != nil {
			t.Fatal(err)
		}
	}
	got := pullAll(t, b, "orders", 1, 1)
	m := got[0]
	if len(got) != 1 || b.store.QueueMax("orders", 1) != 1 {
		t.Fatalf("%d messages after three commits", b.store.QueueMax("orders", 1))
	}
	if string(m.Body) != "half" || m.SysFlag.Transaction() != message.FlagCommit || m.PreparedPosition != e.Position || m.Properties.TagCode() != 97 {
		t.Errorf("the final message is %+v", m)
	}
	for name, want := range map[string]string{"TRAN_MSG": "true", "PGROUP": "g", "__transactionId__": "K1", "REAL_TOPIC": "", "REAL_QID": ""} {
		if v := m.Properties.Value(name); v != want {
			t.Errorf("property %s is %q, want %q", name, v, want)
		}
	}
	ops := pullAll(t, b, message.TopicOp, 0, 1)
	if string(ops[0].Body) != "0," || ops[0].Properties.Value("TAGS") != "d" {
		t.Errorf("the mark is %q with %v", ops[0].Body, ops[0].Properties.Map())
	}
	e.Verdict = TransactionRollback
	var refusal *Error
	if err := end(b, e); !errors.As(err, &refusal) || refusal.Kind != KindSystem {
		t.Errorf("a rollback after the commit: %v", err)
	}
}

func TestRolledBackIsNeverDelivered(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	e := sendHalf(t, b, "orders", halfProps)
	e.Verdict = TransactionRollback
	if err := end(b, e); err != nil {
		t.Fatal(err)
	}
	e.Verdict = TransactionCommit
	if err := end(b, e); err == nil {
		t.Error("a commit after the rollback was taken")
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if n := b.store.QueueMax("orders", 1); n != 0 {
		t.Errorf("%d messages after a rollback", n)
	}
}

func TestEndsThatAreRefused(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	e := sendHalf(t, b, "orders", halfProps)
	plain := send(b, request("orders", "plain", "UNIQ_KEY\x01P\x02"))
	_, plainPos, _ := message.ParseOffsetID(string(plain.AppendMessageID(nil)))
	late := sendHalfBorn(t, b, "orders", halfProps+"CHECK_IMMUNITY_TIME_IN_SECONDS\x011\x02", time.Now().Add(-7*time.Second))
	e.Verdict, late.Verdict = TransactionCommit, TransactionCommit
	for _, row := range []struct {
		name string
		end  func() TransactionEnd
		kind Kind
	}{
		{"beyond the log", func() TransactionEnd { x := e; x.Position = 1 << 40; return x }, KindSystem},
		{"no record's start", func() TransactionEnd { x := e; x.Position++; return x }, KindSystem},
		{"negative", func() TransactionEnd { x := e; x.Position = -1; return x }, KindSystem},
		{"a plain message", func() TransactionEnd { x := e; x.Position = plainPos; return x }, KindSystem},
		{"another offset", func() TransactionEnd { x := e; x.Offset++; return x }, KindSystem},
		{"another group", func() TransactionEnd { x := e; x.Group = "h"; return x }, KindSystem},
		{"too late", func() TransactionEnd { return late }, KindIllegalOperation},
	} {
		x := row.end()
		var refusal *Error
		if err := end(b, x); !errors.As(err, &refusal) || refusal.Kind != row.kind {
			t.Errorf("%s: %v, want kind %d", row.name, err, row.kind)
		}
	}
	if err := end(b, e); err != nil {
		t.Errorf("the right end after the wrong ones: %v", err)
	}
	foreign := e
	foreign.Group, foreign.Verdict, foreign.FromCheck = "stranger", TransactionUnknown, true
	if err := end(b, foreign); err == nil {
		t.Error("an unknown from another group is taken for an answer")
	}
	s := b.TransactionStats()
	for group, why := range map[string]txn.Reason{"g": txn.ReasonOffset, "h": txn.ReasonGroup, "stranger": txn.ReasonGroup} {
		if s.Refused[txn.Refusal{Group: group, Reason: why}] == 0 {
			t.Errorf("no refusal of %s because of %s is counted: %v", group, why, s.Refused)
		}
	}
	if s.Unknown != 0 {
		t.Errorf("%d ends without a verdict are counted, want none that was refused", s.Unknown)
	}
}

func TestHalfWithADelayIsRefused(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	for _, delay := range []string{"DELAY\x013\x02", "TIMER_DELAY_SEC\x015\x02"} {
		var refusal *Error
		if err := send(b, request("orders", "half", halfProps+delay)).Err; !errors.As(err, &refusal) || refusal.Kind != KindIllegalMessage {
			t.Errorf("%q: %v", delay, err)
		}
	}
	if n := b.TransactionStats().Refused[txn.Refusal{Group: "g", Reason: txn.ReasonDelayed}]; n != 2 {
		t.Errorf("%d refusals are counted, want 2", n)
	}
	b.cfg.RejectTransactions.Store(true)
	var refusal *Error
	if err := send(b, request("orders", "half", halfProps)).Err; !errors.As(err, &refusal) || refusal.Kind != KindNoPermission {
		t.Errorf("with rejectTransactionMessage: %v", err)
	}
}

// fakeProducer notes what it is asked.
type fakeProducer struct {
	mu     sync.Mutex
	checks []*TransactionCheck // guarded by mu
}

func (p *fakeProducer) RemoteAddr() netip.AddrPort                     { return testAddr }
func (p *fakeProducer) NotifyConsumersChanged(string)                  {}
func (p *fakeProducer) ResetOffsets(*OffsetReset)                      {}
func (p *fakeProducer) Ask(context.Context, *Question) ([]byte, error) { return nil, errors.New("no") }
func (p *fakeProducer) CheckTransaction(c *TransactionCheck) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checks = append(p.checks, c)
	return nil
}

func (p *fakeProducer) wait(t *testing.T, n int) []*TransactionCheck {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		p.mu.Lock()
		list := p.checks
		p.mu.Unlock()
		if len(list) >= n {
			return list
		}
		if time.Now().After(end) {
			t.Fatalf("%d checks came, want %d", len(list), n)
		}
	}
}

func TestCheckReachesTheProducerAcrossARestart(t *testing.T) {
	dir := t.TempDir()
	quick := func(s *Settings) { s.TransactionTimeoutMs.Store(100); s.TransactionIntervalMs.Store(200) }
	b := openBroker(t, dir, quick)
	e := sendHalf(t, b, "orders", halfProps)
	p := &fakeProducer{}
	if err := b.clients.Heartbeat(p, &Heartbeat{ClientID: "c", Producers: []string{"g"}}); err != nil {
		t.Fatal(err)
	}
	c := p.wait(t, 2)[1]
	v, err := message.Parse(c.Record)
	if err != nil {
		t.Fatal(err)
	}
	if string(v.Topic()) != "orders" || v.QueueID() != 1 || c.HalfOffset != e.Offset || c.Position != e.Position ||
		c.MessageID != "K1" || v.Properties().Value(message.PropCheckTimes) != "2" || v.QueueOffset() != e.Offset {
		t.Errorf("the check is %+v with %s, %v", c, v.Topic(), v.Properties().Map())
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, dir, quick)
	asked := len(p.wait(t, 2))
	if err := b.clients.Heartbeat(p, &Heartbeat{ClientID: "c", Producers: []string{"g"}}); err != nil {
		t.Fatal(err)
	}
	c = p.wait(t, asked+1)[asked]
	if v, err = message.Parse(c.Record); err != nil || v.Properties().Value(message.PropCheckTimes) <= "2" {
		t.Errorf("the counter after the restart is %q, %v", v.Properties().Value(message.PropCheckTimes), err)
	}
	e.Verdict, e.FromCheck = TransactionCommit, true
	if err := end(b, e); err != nil {
		t.Fatal(err)
	}
	if got := pullAll(t, b, "orders", 1, 1); string(got[0].Body) != "half" {
		t.Errorf("got %q", got[0].Body)
	}
}

func TestSettingsOfTimeDoNotOverflow(t *testing.T) {
	for _, n := range []int64{1 << 40, 1<<63 - 1} {
		if d := seconds(n); d < 200*365*24*time.Hour {
			t.Errorf("%d s become %v", n, d)
		}
	}
	if ms(1500) != 1500*time.Millisecond || seconds(3) != 3*time.Second {
		t.Errorf("got %v and %v", ms(1500), seconds(3))
	}
}

// TestTransactionsOfApachesFolders: what Apache's brokers left pending is, and
// can be ended; what they had settled is not.
func TestTransactionsOfApachesFolders(t *testing.T) {
	for _, name := range []string{golden.Clean550, golden.Kill550, golden.Clean497, golden.Kill497} {
		t.Run(name, func(t *testing.T) {
			dir, m := golden.Unpack(t, name)
			for round := range 2 { // from the files, and from our database
				s := DefaultSettings()
				s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = m.SegmentSize, int(m.Entries[0].FileSize/20), 500, 400
				s.TransactionMaxAgeSec.Store(1 << 40)
				b, err := Open(dir, Options{Settings: s, StoreHost: testAddr})
				if err != nil {
					t.Fatal(err)
				}
				list, n, err := b.Transactions(TransactionFilter{Max: 10_000})
				if err != nil || n != len(list) {
					t.Fatalf("%d of %d pending transactions are listed, %v", len(list), n, err)
				}
				byKey := map[string]TransactionInfo{}
				for _, x := range list {
					if _, twice := byKey[x.Key]; twice {
						t.Errorf("%s is pending twice", x.Key)
					}
					byKey[x.Key] = x
				}
				open := 0
				for _, h := range m.Live.Halves {
					x, pending := byKey[h.UniqueKey]
					if want := h.State == "unknown"; pending != want && (want || strings.Contains(name, "clean")) {
						t.Errorf("round %d: %s, which is %s, is pending: %v", round, h.UniqueKey, h.State, pending)
					}
					if pending {
						open++
						if x.Topic != h.Topic || x.Queue != h.Queue || x.Group != h.Group {
							t.Errorf("%+v is listed as %+v", h, x)
						}
					}
				}
				if open != n || open == 0 {
					t.Errorf("round %d: %d pending, %d of them known", round, n, open)
				}
				if round == 1 {
					x := list[0]
					if err := end(b, TransactionEnd{Group: x.Group, Offset: x.Offset, Position: x.Position, Verdict: TransactionCommit, FromCheck: true}); err != nil {
						t.Error(err)
					}
					if err := b.store.WaitVisible(); err != nil {
						t.Error(err)
					}
					if tl, err := b.Transaction(x.Key); err != nil || tl.State != "commit" {
						t.Errorf("shown as %+v, %v", tl, err)
					}
				}
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestRetentionCarriesPendingHalves: a half does not go with its segment, and
// is ended as its producer knows it.
func TestRetentionCarriesPendingHalves(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir, nil)
	e := sendHalf(t, b, "orders", halfProps)
	settled := sendHalf(t, b, "orders", halfProps)
	settled.Verdict = TransactionRollback
	if err := end(b, settled); err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("x", 100_000)
	for range 25 {
		if res := send(b, request("filler", body, "")); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.store.DropBefore(b.store.Max()); err != nil || n == 0 {
		t.Fatalf("%d segments dropped, %v", n, err)
	}
	if _, err := b.Record(e.Position); err == nil {
		t.Fatal("the half's first record is still there")
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	if s := b.TransactionStats(); s.Pending != 1 || s.Carried != 1 {
		t.Fatalf("%d pending, %d carried, want 1 and 1", s.Pending, s.Carried)
	}
	e.Verdict = TransactionCommit
	if err := end(b, e); err != nil {
		t.Fatal(err)
	}
	if got := pullAll(t, b, "orders", 1, 1); string(got[0].Body) != "half" || b.store.QueueMax("orders", 1) != 1 {
		t.Errorf("%d messages, the first is %q", b.store.QueueMax("orders", 1), got[0].Body)
	}
	settled.Verdict = TransactionCommit
	if err := end(b, settled); err == nil {
		t.Error("a half that went with its segment was committed after its rollback")
	}
}

func TestGivenUpHalfCanBeRead(t *testing.T) {
	b := openBroker(t, t.TempDir(), func(s *Settings) { s.TransactionMaxAgeSec.Store(1) })
	sendHalf(t, b, "orders", halfProps)
	for end := time.Now().Add(20 * time.Second); b.topics.LookupString(message.TopicCheckMax) == nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	m := pullAll(t, b, message.TopicCheckMax, 0, 1)[0]
	if string(m.Body) != "half" || m.Properties.Value(message.PropRealTopic) != "orders" {
		t.Errorf("the discarded half is %q with %v", m.Body, m.Properties.Map())
	}
	// The counter rises behind the message.
	for end := time.Now().Add(20 * time.Second); b.TransactionStats().Discarded == 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if s := b.TransactionStats(); s.Pending != 0 || s.Discarded != 1 {
		t.Errorf("stats %+v", s)
	}
}

// Without an index only the broker's own books tell how a transaction ended.
func TestOutcomeIsShownWithoutAnIndex(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir, func(s *Settings) { s.NoIndex = true })
	for _, v := range []txn.Verdict{txn.Commit, txn.Rollback} {
		e := sendHalf(t, b, "orders", halfProps)
		e.Verdict = v
		if err := end(b, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, dir, func(s *Settings) { s.NoIndex = true })
	for id, want := range map[string]string{"0": "commit", "1": "rollback"} {
		if tl, err := b.Transaction(id); err != nil || tl.State != want {
			t.Errorf("the half %s is shown as %+v, %v, want %s", id, tl, err, want)
		}
	}
}

// A half that cannot be read must not stop the retention of the log for good.
func TestRetentionGoesOnBeyondADamagedHalf(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir, nil)
	e := sendHalf(t, b, "orders", halfProps)
	body := strings.Repeat("x", 100_000)
	for range 25 {
		if res := send(b, request("filler", body, "")); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	if err := b.store.WaitVisible(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "commitlog", "00000000000000000000"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 8), int64(e.Position))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := b.store.DropBefore(b.store.Max()); err != nil || n == 0 {
		t.Fatalf("%d segments dropped, %v", n, err)
	}
	if s := b.TransactionStats(); s.Pending != 0 || s.Lost != 1 {
		t.Errorf("%d pending, %d lost, want 0 and 1", s.Pending, s.Lost)
	}
}
