package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/merlinmq/merlin/client"
)

// standstill is how long nothing may change before a run that is not done is
// given up.
const standstill = 2 * time.Minute

// sell lets the buyers come, waits until everything is decided, offers once
// more what unpaid orders gave back, and proves that all is right. calm, if
// not nil, returns when nothing is killed any more.
func (w *world) sell(ctx context.Context, calm func() error) error {
	d := newDriver(w)
	defer d.close()
	payCtx, stopPaying := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.pay(payCtx) })
	defer wg.Wait()
	defer stopPaying()

	list := crowd(w.cfg.run, w.cfg.buyers)
	fmt.Fprintf(w.out, "%d orders of %d buyers for %d items (%d more of another product)\n", len(list), w.cfg.buyers, w.cfg.items, w.cfg.buyers)
	begin := time.Now()
	err := d.order(ctx, list, w.cfg.spread)
	if err == nil {
		took := time.Since(begin)
		limit := ""
		if w.cfg.rate > 0 {
			limit = fmt.Sprintf("; the inventory service handles %d/s at most", w.cfg.rate)
		}
		fmt.Fprintf(w.out, "all orders are taken after %.1f s: %.0f/s%s\n", took.Seconds(), float64(len(list))/took.Seconds(), limit)
	}
	if calm != nil {
		err = errors.Join(err, calm())
	}
	if err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	if err := w.late(ctx, d); err != nil {
		return err
	}
	stopPaying()
	wg.Wait()
	posted, err := w.posted(ctx)
	if err != nil {
		return err
	}
	if err := w.prove(ctx, d.told(), posted); err != nil {
		return err
	}
	if w.cfg.stay {
		fmt.Fprintln(w.out, "the page stays up until Ctrl-C")
		<-ctx.Done()
	}
	return nil
}

// late sends new buyers for the flash items that came back.
func (w *world) late(ctx context.Context, d *driver) error {
	left, err := w.store.counts(ctx, `SELECT product, remaining FROM stock`)
	if err != nil {
		return err
	}
	n := left[productOf(kindFlash)]
	if n == 0 {
		return nil
	}
	fmt.Fprintf(w.out, "%d items came back; %d late buyers\n", n, 2*n)
	var list []Order
	for b := range 2 * n {
		list = append(list, Order{ID: fmt.Sprintf("%s-late-%05d", w.cfg.run, b), Kind: kindFlash, Product: productOf(kindFlash), Buyer: w.cfg.buyers + b})
	}
	if err := d.order(ctx, list, 0); err != nil {
		return err
	}
	return w.settle(ctx)
}

// settle waits until every order is paid, cancelled, refused or failed, and no
// transaction is open.
func (w *world) settle(ctx context.Context) error {
	last, since := "", time.Now()
	for {
		n, err := w.store.counts(ctx, `SELECT state, count(*) FROM orders GROUP BY state`)
		if err != nil {
			return err
		}
		pending, err := pendingHalves(ctx, w.admin, w.cfg.names())
		if err == nil && n[statePlaced]+n[stateReserved]+pending == 0 {
			return nil
		}
		if now := fmt.Sprint(n, pending); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > standstill {
			return fmt.Errorf("nothing has changed for %v: %d orders wait for an item, %d for payment, %d transactions are open (%w)",
				standstill, n[statePlaced], n[stateReserved], pending, errors.Join(errStuck, err))
		}
		if !sleep(ctx, 300*time.Millisecond) {
			return ctx.Err()
		}
	}
}

var errStuck = errors.New("stuck")

// pendingHalves asks the broker how many of our transactions are open. Brokers
// other than Merlin do not know the question: 0 then.
func pendingHalves(ctx context.Context, admin *client.Admin, n names) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, _, err := admin.Transactions(ctx, client.TransactionFilter{Group: n.orderGroup(), Max: 1000})
	if _, refused := client.CodeOf(err); refused {
		return 0, nil
	}
	return len(list), err
}
