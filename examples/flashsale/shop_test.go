package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be a service process of the chaos run.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// merlinBinary is the binary that MERLIN_BIN names, or a fresh one.
func merlinBinary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a server")
	}
	if path := os.Getenv("MERLIN_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "merlin")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/merlinmq/merlin/cmd/merlin").CombinedOutput(); err != nil {
		t.Fatalf("building merlin: %v\n%s", err, out)
	}
	return path
}

func shopRun(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(args, &out, &errs); code != 0 {
		t.Fatalf("flashsale %s: exit code %d\n%s%s", strings.Join(args, " "), code, &out, &errs)
	}
	t.Logf("%s", &out)
	return out.String()
}

func TestShop(t *testing.T) {
	bin := merlinBinary(t)
	small := []string{"--merlin", bin, "--listen", "127.0.0.1:0", "--buyers", "300", "--items", "10", "--rate", "200", "--pay-timeout", "2s", "--forget", "0.05"}
	t.Run("rush", func(t *testing.T) {
		out := shopRun(t, append(small, "--spread", "100ms")...)
		for _, want := range []string{"the flash item: 10 in all", "3 failed", "all is right"} {
			if !strings.Contains(out, want) {
				t.Errorf("the output does not say %q", want)
			}
		}
		if strings.Contains(out, " 0 decided by check-back") {
			t.Error("no transaction was decided by check-back")
		}
	})
	t.Run("chaos", func(t *testing.T) {
		out := shopRun(t, append([]string{"chaos", "--spread", "5s", "--kills", "4", "--seed", "1"}, small...)...)
		for _, victim := range []string{"orders", "inventory", "payments", "merlin server"} {
			if !strings.Contains(out, "killed "+victim) {
				t.Errorf("%s was not killed", victim)
			}
		}
	})
}

func testStore(t *testing.T, products map[string]int) *Store {
	t.Helper()
	s, err := openStore("", filepath.Join(t.TempDir(), "shop.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Fill(t.Context(), products); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVerdictsStand(t *testing.T) {
	s, ctx, now := testStore(t, nil), t.Context(), time.UnixMilli(1)
	place := func(tx, id, want string) {
		t.Helper()
		if v, err := s.Place(ctx, Order{ID: id, Tx: tx, Kind: kindFlash, Product: "p"}, now); err != nil || v != want {
			t.Errorf("place %s by %s: %q, %v; want %s", id, tx, v, err, want)
		}
	}
	settle := func(tx, id, want string) {
		t.Helper()
		if v, err := s.Settle(ctx, tx, id); err != nil || v != want {
			t.Errorf("settle %s: %q, %v; want %s", tx, v, err, want)
		}
	}
	place("t1", "a", verdictCommit)
	place("t1", "a", verdictCommit)   // the same transaction again
	place("t2", "a", verdictRollback) // the same order in another one
	settle("t1", "a", verdictCommit)
	settle("t2", "a", verdictRollback)
	settle("t3", "b", verdictRollback) // checked before it was placed:
	place("t3", "b", verdictRollback)  // too late
	if _, err := s.Order(ctx, "b"); !errors.Is(err, errNoOrder) {
		t.Errorf("order b: %v, want %v", err, errNoOrder)
	}
}

// TestStockIsExact lets many reserve, pay and cancel at once, each more than once.
func TestStockIsExact(t *testing.T) {
	s, ctx := testStore(t, map[string]int{"p": 5}), t.Context()
	w := &world{cfg: config{}, out: io.Discard, store: s}
	var wg sync.WaitGroup
	var posted []Order
	for i := range 40 {
		o := Order{ID: fmt.Sprint("o", i), Tx: fmt.Sprint("t", i), Kind: kindFlash, Product: "p"}
		if _, err := s.Place(ctx, o, time.UnixMilli(1)); err != nil {
			t.Fatal(err)
		}
		posted = append(posted, o)
		for range 2 {
			wg.Go(func() {
				if _, err := s.Reserve(ctx, o); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if _, err := s.Pay(ctx, o.ID); err != nil {
						t.Error(err)
					}
				}
				if _, err := s.Expire(ctx, o.ID); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if err := w.prove(ctx, told{}, posted); err != nil {
		t.Error(err)
	}
}

func TestUnknownProduct(t *testing.T) {
	s, ctx := testStore(t, map[string]int{"p": 1}), t.Context()
	o := Order{ID: "a", Tx: "t", Kind: kindFlash, Product: ghost}
	if _, err := s.Place(ctx, o, time.UnixMilli(1)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // nothing of the first try may stay
		if _, err := s.Reserve(ctx, o); !errors.Is(err, errUnknownProduct) {
			t.Errorf("reserve: %v, want %v", err, errUnknownProduct)
		}
	}
	if err := s.Bury(ctx, o.ID, "dlq"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Order(ctx, o.ID); err != nil || got.State != stateFailed {
		t.Errorf("order: %+v, %v; want state %s", got, err, stateFailed)
	}
}

// TestProofSeesWrongs breaks the books in every way a rule stands against.
func TestProofSeesWrongs(t *testing.T) {
	good := Order{ID: "a", Tx: "t", Kind: kindFlash, Product: "p"}
	for _, c := range []struct {
		name, query string
		posted      []Order
	}{
		{name: "stock is never below zero", query: `UPDATE stock SET remaining = -1`},
		{name: "sold is never above stock", query: `UPDATE stock SET total = 0`},
		{name: "no stock leaks", query: `UPDATE stock SET remaining = remaining - 1`},
		{name: "every paid order has its stock", query: `DELETE FROM reservations`},
		{name: "nothing is sold without a paid order", query: `UPDATE orders SET state = 'cancelled'`},
		{name: "nothing is held for nobody", query: `UPDATE reservations SET state = 'held'`},
		{name: "every cancelled order gave its item back", query: `UPDATE orders SET state = 'cancelled'`},
		{name: "every order is decided", query: `UPDATE orders SET state = 'placed'`},
		{name: "every order has exactly one committed transaction", query: `UPDATE transactions SET verdict = 'rollback'`},
		{name: "every committed transaction has its message", posted: []Order{}},
		{name: "no message went out of a transaction that is not committed", posted: []Order{good, {ID: "a", Tx: "rolled back"}}},
		{name: "no message went out of a transaction that is not committed", query: `UPDATE transactions SET verdict = 'rollback'`},
		{name: "no message went out without its order", query: `DELETE FROM orders`},
		{name: "only orders of unknown products", query: `INSERT INTO dead_letters (order_id, topic) VALUES ('a', 'dlq')`},
		{name: "every order of an unknown product", query: `UPDATE orders SET product = '` + ghost + `'`},
		{name: "every order that a buyer was promised", query: `DELETE FROM orders`},
		{name: "every payment that was confirmed", query: `UPDATE orders SET state = 'cancelled'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, ctx := testStore(t, map[string]int{"p": 1}), t.Context()
			o := good
			if _, err := s.Place(ctx, o, time.UnixMilli(1)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Reserve(ctx, o); err != nil {
				t.Fatal(err)
			}
			if state, err := s.Pay(ctx, o.ID); err != nil || state != statePaid {
				t.Fatalf("pay: %q, %v", state, err)
			}
			var out bytes.Buffer
			w := &world{out: &out, store: s}
			said := told{accepted: map[string]Order{"a": o}, paid: []string{"a"}}
			posted := []Order{good, good} // at least once is enough, and twice is no harm
			if err := w.prove(ctx, said, posted); err != nil {
				t.Fatalf("before: %v\n%s", err, &out)
			}
			if c.query != "" {
				if _, err := s.write.ExecContext(ctx, c.query); err != nil {
					t.Fatal(err)
				}
			}
			if c.posted != nil {
				posted = c.posted
			}
			out.Reset()
			if err := w.prove(ctx, said, posted); err == nil || !strings.Contains(out.String(), "BROKEN  "+c.name) {
				t.Errorf("the proof says %v:\n%s", err, &out)
			}
		})
	}
}

func TestPaceSpreads(t *testing.T) {
	p := newPace(200)
	begin := time.Now()
	for range 11 {
		if err := p.wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("11 at 200/s took %v, want 50 ms or more", took)
	}
}

func TestWrongFlags(t *testing.T) {
	for _, args := range [][]string{{"nothing"}, {"--buyers", "0"}, {"--forget", "2"}, {"chaos", "extra"}} {
		if code := run(args, io.Discard, io.Discard); code != 2 {
			t.Errorf("%q: exit code %d, want %d", args, code, 2)
		}
	}
}

func TestOrderWants(t *testing.T) {
	mux := http.NewServeMux()
	(&orderService{}).routes(mux)
	for _, body := range []string{"", "{", `{"id":"a","kind":"other","product":"p"}`, `{"kind":"flash","product":"p"}`} {
		r, err := http.NewRequest(http.MethodPost, "/orders", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: status %d, want %d", body, w.Code, http.StatusBadRequest)
		}
	}
}
