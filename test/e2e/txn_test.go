package e2e

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/test/harness"
)

// settler decides by the message's body and counts what it is asked.
type settler struct {
	mu     sync.Mutex
	checks map[string]int // guarded by mu
}

func (s *settler) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	switch string(m.Body) {
	case "commit":
		return primitive.CommitMessageState
	case "rollback":
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func (s *settler) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks[string(m.Body)]++
	switch body := string(m.Body); {
	case body == "checked, committed", body == "unknown twice" && s.checks[body] > 2:
		return primitive.CommitMessageState
	case body == "checked, rolled back":
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func (s *settler) asked(body string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checks[body]
}

// TestTransactions: commit, rollback, and no word until the broker asks; a half
// from before a crash of the broker is asked about after it.
func TestTransactions(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	s := harness.Start(t, "--set", "transactionTimeOut=500", "--set", "transactionCheckInterval=1500")
	w := newWorld(t, s.Namesrv)
	topic := w.topic("txn", 2)
	var in inbox
	w.consume("txnread", topic, "*", in.take)
	decide := &settler{checks: map[string]int{}}
	start := func() func(bodies ...string) {
		p, err := producer.NewTransactionProducer(decide, producer.WithNameServer(w.ns), producer.WithGroupName(w.name("txn")), producer.WithInstanceName(w.instance()))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Shutdown() })
		return func(bodies ...string) {
			for _, b := range bodies {
				r, err := p.SendMessageInTransaction(context.Background(), primitive.NewMessage(topic, []byte(b)).WithTag("T"))
				if err != nil || r.Status != primitive.SendOK || r.TransactionID == "" {
					t.Fatalf("send %q: %+v, %v", b, r, err)
				}
			}
		}
	}
	send := start()
	send("commit", "rollback", "checked, committed", "checked, rolled back", "unknown twice", "never settled")
	w.eventually("the committed messages", func() bool {
		return slices.Equal(in.bodies(), []string{"checked, committed", "commit", "unknown twice"})
	})
	if decide.asked("commit") != 0 || decide.asked("checked, rolled back") != 1 || decide.asked("unknown twice") != 3 {
		t.Errorf("asked %v", decide.checks)
	}
	if err := errors.Join(s.Kill(), s.Restart()); err != nil {
		t.Fatal(err)
	}
	before := decide.asked("never settled")
	operate(t, w)
	w.eventually("a check of the half from before the crash", func() bool { return decide.asked("never settled") > before })
	w.eventually("the message that was committed by hand", func() bool { return slices.Contains(in.bodies(), "by hand") })
	if want := []string{"by hand", "checked, committed", "commit", "unknown twice"}; !slices.Equal(in.bodies(), want) {
		t.Errorf("delivered: %v, want %v", in.bodies(), want)
	}
	if decide.asked("commit") != 0 || decide.asked("checked, rolled back") != 1 || decide.asked("unknown twice") != 3 {
		t.Errorf("what was settled was asked about again: %v", decide.checks)
	}
}

// operate looks at the pending transactions as an operator does, and commits one.
func operate(t *testing.T, w *world) {
	t.Helper()
	p, err := producer.NewTransactionProducer(&settler{checks: map[string]int{}}, producer.WithNameServer(w.ns), producer.WithGroupName(w.name("gone")), producer.WithInstanceName(w.instance()))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	topic := w.name("txn")
	if _, err := p.SendMessageInTransaction(context.Background(), primitive.NewMessage(topic, []byte("by hand")).WithKeys([]string{"order-1"})); err != nil {
		t.Fatal(err)
	}
	p.Shutdown() // nobody is left to ask
	admin, err := client.Open(client.Options{NameServers: w.ns})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var list []client.Transaction
	w.eventually("the transaction without a producer is listed", func() bool {
		var pending int
		list, pending, err = admin.Transactions(ctx, client.TransactionFilter{Group: w.name("gone")})
		return err == nil && pending == 2 && len(list) == 1 && list[0].Orphan
	})
	if x := list[0]; x.Topic != topic || x.Keys != "order-1" || x.State != "pending" || x.Checks > 1 {
		t.Errorf("listed as %+v", x)
	}
	done, err := admin.Transaction(ctx, "order-1", "", client.CommitTransaction)
	if err != nil || done.State != "commit" {
		t.Fatalf("%+v, %v", done, err)
	}
	w.eventually("its timeline ends with the delivery", func() bool {
		done, err = admin.Transaction(ctx, "order-1", "", client.ShowTransaction)
		return err == nil && len(done.Steps) > 0 && done.Steps[len(done.Steps)-1].What == "delivered"
	})
	if _, err := admin.Transaction(ctx, "order-1", "", client.RollbackTransaction); err == nil {
		t.Error("a rollback after the commit was taken")
	}
	if _, err := admin.Transaction(ctx, "order-2", "", client.ShowTransaction); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a transaction that is not there: %v", err)
	}
}
