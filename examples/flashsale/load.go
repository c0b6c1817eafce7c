package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// ghost is a product that nobody has: an order of it cannot be handled.
const ghost = "the ghost item"

// atOnce is how many buyers wait for an answer at the same time.
const atOnce = 128

// driver is the buyers. It remembers what the shop has told them, for the
// proof. Safe for concurrent use.
type driver struct {
	http                   *http.Client
	ordersURL, paymentsURL string
	payTimeout             time.Duration

	mu       sync.Mutex
	accepted map[string]Order // guarded by mu: orders that the shop said it has
	paid     map[string]bool  // guarded by mu: payments that the shop said it took
	again    int              // guarded by mu: requests that had to be sent again
}

func newDriver(w *world) *driver {
	return &driver{
		http:      &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}},
		ordersURL: w.ordersURL, paymentsURL: w.paymentsURL, payTimeout: w.cfg.payTimeout,
		accepted: map[string]Order{}, paid: map[string]bool{},
	}
}

func (d *driver) close() { d.http.CloseIdleConnections() }

// crowd makes the buyers' orders: all want the flash item, one in twenty also
// a normal one, and three of them something that does not exist.
func crowd(run string, buyers int) []Order {
	var list []Order
	for b := range buyers {
		list = append(list, Order{ID: fmt.Sprintf("%s-flash-%05d", run, b), Kind: kindFlash, Product: productOf(kindFlash), Buyer: b})
		if b%20 == 0 {
			list = append(list, Order{ID: fmt.Sprintf("%s-normal-%05d", run, b), Kind: kindNormal, Product: productOf(kindNormal), Buyer: b})
		}
		if b < 3 {
			list = append(list, Order{ID: fmt.Sprintf("%s-poison-%05d", run, b), Kind: kindFlash, Product: ghost, Buyer: b})
		}
	}
	return list
}

// order sends the orders, evenly over the time, each until the shop accepts it.
func (d *driver) order(ctx context.Context, list []Order, spread time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	begin := time.Now()
	for i, o := range list {
		if !sleep(ctx, time.Until(begin.Add(spread*time.Duration(i)/time.Duration(len(list))))) {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := d.orderOne(ctx, o); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (d *driver) orderOne(ctx context.Context, o Order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	status, err := d.insist(ctx, d.ordersURL+"/orders", body)
	if err != nil {
		return fmt.Errorf("order %s: %w", o.ID, err)
	}
	if status != http.StatusOK && status != http.StatusAccepted {
		return fmt.Errorf("order %s: the shop answers %d", o.ID, status)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.accepted[o.ID] = o
	return nil
}

// insist posts until the answer is one that does not ask to try again.
func (d *driver) insist(ctx context.Context, url string, body []byte) (status int, err error) {
	err = retry(ctx, 3*time.Minute, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		resp, err := d.http.Do(req)
		if err == nil {
			status = resp.StatusCode
			if err = resp.Body.Close(); err == nil && status < http.StatusInternalServerError {
				return nil
			}
			err = errors.Join(err, fmt.Errorf("the shop answers %d", status))
		}
		d.mu.Lock()
		d.again++
		d.mu.Unlock()
		return err
	})
	return status, err
}

// pay pays for what is reserved until ctx ends: four of five orders after a
// while of thinking, the others never. It returns when all payments that it
// has begun are answered.
func (d *driver) pay(ctx context.Context) {
	var wg sync.WaitGroup
	seen := map[string]bool{}
	for sleep(ctx, 250*time.Millisecond) {
		ids, err := d.reserved(ctx)
		if err != nil {
			continue // the shop is away, or ctx has ended
		}
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			if luck(id, "pays") >= 80 {
				continue
			}
			wg.Go(func() { d.payOne(ctx, id) })
		}
	}
	wg.Wait()
}

func (d *driver) payOne(ctx context.Context, id string) {
	if !sleep(ctx, d.payTimeout*time.Duration(luck(id, "thinks"))/200) {
		return
	}
	status, err := d.insist(ctx, d.paymentsURL+"/orders/"+url.PathEscape(id)+"/pay", nil)
	if err == nil && status == http.StatusOK {
		d.mu.Lock()
		d.paid[id] = true
		d.mu.Unlock()
	}
}

func (d *driver) reserved(ctx context.Context) (ids []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.ordersURL+"/orders?state="+stateReserved, nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the shop answers %d", resp.StatusCode)
	}
	return ids, json.NewDecoder(resp.Body).Decode(&ids)
}

// told is what the shop has told the buyers.
type told struct {
	accepted map[string]Order
	paid     []string
	again    int
}

func (d *driver) told() told {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := told{accepted: make(map[string]Order, len(d.accepted)), again: d.again}
	for id, o := range d.accepted {
		t.accepted[id] = o
	}
	for id := range d.paid {
		t.paid = append(t.paid, id)
	}
	return t
}

// luck is a number from 0 to 99 that is always the same for an order.
func luck(id, what string) int {
	h := fnv.New32a()
	h.Write([]byte(what + id))
	return int(h.Sum32()>>8) % 100
}

// sleep returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
