package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// chaos is the run in which every service is a process of its own, and these
// and the server are killed at random and started again on the same data.
func chaos(ctx context.Context, cfg config, out io.Writer) error {
	return withWorld(ctx, cfg, out, func(w *world) (err error) {
		w.page = newPage(w.store, w.admin, w.cfg)
		front := w.cfg
		front.roles = "" // the services run elsewhere
		s, err := startShop(ctx, front, w.store, w.page.routes)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		defer w.page.start(ctx)()
		var victims []*process
		defer func() {
			for _, p := range victims {
				if p != w.server { // the world stops it, after the services
					err = errors.Join(err, p.stop())
				}
			}
		}()
		for _, role := range []string{"orders", "inventory", "payments"} {
			p, err := serviceProcess(w.cfg, role)
			if err != nil {
				return err
			}
			if err := p.start(ctx); err != nil {
				return err
			}
			victims = append(victims, p)
		}
		w.ordersURL, w.paymentsURL = "http://"+victims[0].said("http"), "http://"+victims[2].said("http")
		if w.server != nil {
			victims = append(victims, w.server)
		}
		fmt.Fprintf(out, "live page: http://%s; %d kills to come, seed %d\n", s.addr, w.cfg.kills, w.cfg.seed)
		return w.sellUnderFire(ctx, victims)
	})
}

// sellUnderFire sells while a killer is at work.
func (w *world) sellUnderFire(ctx context.Context, victims []*process) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before waiting
	taken, done := make(chan struct{}), make(chan error, 1)
	wg.Go(func() { done <- w.killer(ctx, victims, taken) })
	return w.sell(ctx, func() error {
		close(taken)
		return <-done
	})
}

// killer kills and restarts until it has done so cfg.kills times. The first
// kills hit every victim but the order service once; then it is left to chance.
// The last one is the order service when all orders are taken: it must answer
// checks although it has nothing to send any more.
func (w *world) killer(ctx context.Context, victims []*process, taken <-chan struct{}) error {
	rng := rand.New(rand.NewPCG(w.cfg.seed, 0))
	first := rng.Perm(len(victims) - 1)
	begin := time.Now()
	gap := w.cfg.spread / time.Duration(w.cfg.kills+1)
	for n := range w.cfg.kills {
		if !sleep(ctx, gap/2+time.Duration(rng.Int64N(int64(gap)+1))) {
			return ctx.Err()
		}
		p := victims[rng.IntN(len(victims))]
		switch {
		case n == w.cfg.kills-1:
			p = victims[0]
			select {
			case <-taken:
			case <-ctx.Done():
				return ctx.Err()
			}
		case n < len(first):
			p = victims[1+first[n]]
		}
		if err := p.kill(); err != nil {
			return fmt.Errorf("killing %s: %w", p.name, err)
		}
		away := time.Duration(rng.Int64N(int64(2 * time.Second)))
		line := fmt.Sprintf("%5.1f s  killed %s, started again after %.1f s", time.Since(begin).Seconds(), p.name, away.Seconds())
		fmt.Fprintln(w.out, line)
		w.page.tell(line)
		if !sleep(ctx, away) {
			return ctx.Err()
		}
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	return nil
}
