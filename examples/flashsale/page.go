package main

import (
	"context"
	_ "embed" // the page
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/merlinmq/merlin/client"
)

//go:embed page.html
var pageHTML []byte

const (
	samplePeriod = 500 * time.Millisecond
	sampleCount  = 240 // two minutes
)

// Shelf is one product in the warehouse.
type Shelf struct {
	Total int `json:"total"`
	Left  int `json:"left"`
	Held  int `json:"held"`
	Sold  int `json:"sold"`
}

// Snapshot is the shop as the database has it.
type Snapshot struct {
	Orders       map[string]int   `json:"orders"`       // by state
	Transactions map[string]int   `json:"transactions"` // by verdict
	Checked      int              `json:"checked"`      // transactions that the broker asked about
	Stock        map[string]Shelf `json:"stock"`        // by product
}

// Snapshot counts orders, transactions and stock.
func (s *Store) Snapshot(ctx context.Context) (Snapshot, error) {
	var v Snapshot
	var total, left, held, sold, checked map[string]int
	for _, q := range []struct {
		to    *map[string]int
		query string
	}{
		{&v.Orders, `SELECT state, count(*) FROM orders GROUP BY state`},
		{&v.Transactions, `SELECT verdict, count(*) FROM transactions GROUP BY verdict`},
		{&checked, `SELECT 'checked', count(*) FROM transactions WHERE checks > 0`},
		{&total, `SELECT product, total FROM stock`},
		{&left, `SELECT product, remaining FROM stock`},
		{&held, `SELECT product, count(*) FROM reservations WHERE state = 'held' GROUP BY product`},
		{&sold, `SELECT product, count(*) FROM reservations WHERE state = 'sold' GROUP BY product`},
	} {
		var err error
		if *q.to, err = s.counts(ctx, q.query); err != nil {
			return v, err
		}
	}
	v.Checked = checked["checked"]
	v.Stock = map[string]Shelf{}
	for p := range total {
		v.Stock[p] = Shelf{Total: total[p], Left: left[p], Held: held[p], Sold: sold[p]}
	}
	return v, nil
}

// sample is one point of the page's curves.
type sample struct {
	At        int64   `json:"at"`        // milliseconds since 1970
	Taken     float64 `json:"taken"`     // orders per second
	Processed float64 `json:"processed"` // orders per second
	Depth     int     `json:"depth"`     // orders that wait for the inventory service
}

// report is what the page asks for.
type report struct {
	Snapshot
	Buyers  int            `json:"buyers"`
	Pending int            `json:"pending"` // open transactions at the broker, -1 when it does not answer
	Lag     map[string]int `json:"lag"`     // messages behind the committed offset, by kind of order
	Chaos   []string       `json:"chaos"`   // the newest kills, newest first
	Samples []sample       `json:"samples"`
}

// page is the live page. It looks at the database and at the broker, so it
// does not matter where the services run. Safe for concurrent use.
type page struct {
	store *Store
	admin *client.Admin
	names names

	mu     sync.Mutex
	report report // guarded by mu; its slices and maps are never changed, only replaced
	taken  int    // the sampler's: counts at the last sample
	done   int
}

func newPage(store *Store, admin *client.Admin, cfg config) *page {
	return &page{store: store, admin: admin, names: cfg.names(), report: report{Buyers: cfg.buyers, Samples: []sample{}, Chaos: []string{}}}
}

func (p *page) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(pageHTML)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		r := p.report
		p.mu.Unlock()
		writeJSON(w, http.StatusOK, r)
	})
}

// start samples until the returned function is called, which waits for the end.
func (p *page) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(samplePeriod)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if err := p.sample(ctx, now, now.Sub(last)); err != nil {
					slog.Debug("the page has no new figures", "error", err)
					continue
				}
				last = now
			}
		}
	})
	wg.Go(func() {
		for sleep(ctx, time.Second) {
			p.askBroker(ctx)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func (p *page) sample(ctx context.Context, now time.Time, since time.Duration) error {
	s, err := p.store.Snapshot(ctx)
	if err != nil {
		return err
	}
	taken := 0
	for _, n := range s.Orders {
		taken += n
	}
	depth := s.Orders[statePlaced]
	done := taken - depth
	point := sample{At: now.UnixMilli(), Depth: depth,
		Taken: float64(taken-p.taken) / since.Seconds(), Processed: max(0, float64(done-p.done)/since.Seconds())}
	p.taken, p.done = taken, done
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Snapshot = s
	old := p.report.Samples
	p.report.Samples = append(append([]sample{}, old[max(0, len(old)-sampleCount+1):]...), point)
	return nil
}

// askBroker asks for what only the broker knows.
func (p *page) askBroker(ctx context.Context) {
	pending, err := pendingHalves(ctx, p.admin, p.names)
	if err != nil {
		pending = -1
	}
	lag := map[string]int{}
	for _, kind := range kinds {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		g, err := p.admin.Group(ctx, p.names.inventory(kind))
		cancel()
		if err == nil {
			lag[kind] = int(g.Lag)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Pending, p.report.Lag = pending, lag
}

// tell shows a line about a kill.
func (p *page) tell(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.report.Chaos
	p.report.Chaos = append([]string{line}, old[:min(len(old), 9)]...)
}
