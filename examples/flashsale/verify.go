package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/merlinmq/merlin/client"
)

// rules are what must hold at the end: each query finds what breaks its rule.
var rules = []struct{ name, query string }{
	{"stock is never below zero", `SELECT product FROM stock WHERE remaining < 0`},
	{"sold is never above stock", `SELECT s.product FROM stock s WHERE s.total <
		(SELECT count(*) FROM orders o WHERE o.product = s.product AND o.state = 'paid')`},
	{"no stock leaks: left + held + sold is what there was", `SELECT s.product FROM stock s WHERE s.total <> s.remaining +
		(SELECT count(*) FROM reservations r WHERE r.product = s.product AND r.state IN ('held', 'sold'))`},
	{"every paid order has its stock", `SELECT o.id FROM orders o LEFT JOIN reservations r ON r.order_id = o.id
		WHERE o.state = 'paid' AND (r.state IS NULL OR r.state <> 'sold')`},
	{"nothing is sold without a paid order", `SELECT r.order_id FROM reservations r LEFT JOIN orders o ON o.id = r.order_id
		WHERE r.state = 'sold' AND (o.state IS NULL OR o.state <> 'paid')`},
	{"nothing is held for nobody", `SELECT order_id FROM reservations WHERE state = 'held'`},
	{"every cancelled order gave its item back", `SELECT o.id FROM orders o LEFT JOIN reservations r ON r.order_id = o.id
		WHERE o.state = 'cancelled' AND (r.state IS NULL OR r.state <> 'returned')`},
	{"every order is decided", `SELECT id FROM orders WHERE state IN ('placed', 'reserved')`},
	{"every order has exactly one committed transaction", `SELECT o.id FROM orders o WHERE
		(SELECT count(*) FROM transactions t WHERE t.order_id = o.id AND t.verdict = 'commit') <> 1`},
	{"only orders of unknown products are in the dead-letter queue", `SELECT d.order_id FROM dead_letters d LEFT JOIN orders o ON o.id = d.order_id
		WHERE o.product IS NULL OR o.product <> '` + ghost + `'`},
	{"every order of an unknown product is in the dead-letter queue", `SELECT o.id FROM orders o LEFT JOIN dead_letters d ON d.order_id = o.id
		WHERE o.product = '` + ghost + `' AND (d.order_id IS NULL OR o.state <> 'failed')`},
}

// posted reads what the broker has let out: every message of the orders topic,
// also those that came twice. Buyers and services have no part in it.
func (w *world) posted(ctx context.Context) (list []Order, err error) {
	topic := w.cfg.names().orders()
	err = retry(ctx, 30*time.Second, func() error {
		list = nil
		return w.admin.Read(ctx, client.ReadOptions{Topic: topic, From: client.Earliest, Queue: -1}, func(m *client.Message) error {
			o, err := decodeOrder(m.Body)
			if err != nil { // it belongs to no transaction, which the proof sees
				o = Order{ID: fmt.Sprintf("no order (queue %d, offset %d)", m.Queue, m.Offset)}
			}
			list = append(list, o)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is in %s: %w", topic, err)
	}
	return list, nil
}

// letOut holds the messages that the broker let out against the verdicts that
// the shop wrote: of a committed transaction at least one, of another none.
func (w *world) letOut(ctx context.Context, posted []Order, check func(name string, bad []string)) error {
	commits, err := w.store.strings(ctx, `SELECT tx FROM transactions WHERE verdict = $1`, verdictCommit)
	if err != nil {
		return err
	}
	orders, err := w.store.strings(ctx, `SELECT id FROM orders`)
	if err != nil {
		return err
	}
	committed, known, messages := set(commits), set(orders), map[string]int{}
	var foreign, lonely, lost []string
	for _, o := range posted {
		messages[o.Tx]++
		if !committed[o.Tx] {
			foreign = append(foreign, o.ID)
		}
		if !known[o.ID] {
			lonely = append(lonely, o.ID)
		}
	}
	for _, tx := range commits {
		if messages[tx] == 0 {
			lost = append(lost, tx)
		}
	}
	fmt.Fprintf(w.out, "messages: %d let out for %d committed transactions, %d of them again\n", len(posted), len(commits), len(posted)-len(messages))
	check("every committed transaction has its message", lost)
	check("no message went out of a transaction that is not committed", foreign)
	check("no message went out without its order", lonely)
	return nil
}

func set(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, v := range list {
		m[v] = true
	}
	return m
}

// prove checks the rules, what the buyers were told, and the messages that were
// posted, against the database. The error names what is broken.
func (w *world) prove(ctx context.Context, t told, posted []Order) error {
	if err := w.summary(ctx, t); err != nil {
		return err
	}
	broken := 0
	check := func(name string, bad []string) {
		if len(bad) == 0 {
			fmt.Fprintf(w.out, "  ok      %s\n", name)
			return
		}
		broken++
		fmt.Fprintf(w.out, "  BROKEN  %s: %d, such as %s\n", name, len(bad), strings.Join(bad[:min(3, len(bad))], ", "))
	}
	for _, r := range rules {
		bad, err := w.store.strings(ctx, r.query)
		if err != nil {
			return fmt.Errorf("checking that %s: %w", r.name, err)
		}
		check(r.name, bad)
	}
	if err := w.letOut(ctx, posted, check); err != nil {
		return fmt.Errorf("checking what the broker let out: %w", err)
	}
	all, err := w.store.strings(ctx, `SELECT id FROM orders ORDER BY id`)
	if err != nil {
		return err
	}
	paid, err := w.store.InState(ctx, statePaid)
	if err != nil {
		return err
	}
	var accepted []string
	for id := range t.accepted {
		accepted = append(accepted, id)
	}
	check("every order that a buyer was promised is there", missing(accepted, all))
	check("every payment that was confirmed is there", missing(t.paid, paid))
	if broken > 0 {
		return fmt.Errorf("%d rules are broken", broken)
	}
	fmt.Fprintln(w.out, "all is right")
	return nil
}

// missing returns what is in want but not in the sorted list.
func missing(want, have []string) (bad []string) {
	for _, id := range want {
		if _, ok := slices.BinarySearch(have, id); !ok {
			bad = append(bad, id)
		}
	}
	return bad
}

func (w *world) summary(ctx context.Context, t told) error {
	s, err := w.store.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		p := s.Stock[productOf(kind)]
		fmt.Fprintf(w.out, "%s: %d in all, %d sold, %d left\n", productOf(kind), p.Total, p.Sold, p.Left)
	}
	fmt.Fprintf(w.out, "orders: %d paid, %d cancelled, %d sold out, %d failed (dead letters)\n",
		s.Orders[statePaid], s.Orders[stateCancelled], s.Orders[stateSoldOut], s.Orders[stateFailed])
	fmt.Fprintf(w.out, "transactions: %d committed, %d rolled back, %d decided by check-back; %d requests had to be sent again\n",
		s.Transactions[verdictCommit], s.Transactions[verdictRollback], s.Checked, t.again)
	return nil
}
