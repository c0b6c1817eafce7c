// Command flashsale is a small shop on Merlin: many buyers rush for a few
// items, and the shop never sells more than it has.
//
// The order service writes an order and its message in one step (transactional
// message with check-back), the inventory service holds items at its own pace
// and idempotently, the payment service cancels what is not paid in time
// (delayed message) and gives the item back. Messages that cannot be handled
// are retried and end in the dead-letter queue. Every run ends with a proof
// over the database and over what the buyers were told; the exit code is 1
// when it fails.
//
//	go run ./examples/flashsale          the rush, with a live page
//	go run ./examples/flashsale chaos    the same while services and broker are killed
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/merlinmq/merlin/client"
)

// config is what the flags say. It is handed on to service processes.
type config struct {
	namesrv    string // "" starts a server
	merlin     string // binary; "" builds it
	listen     string
	database   string // PostgreSQL; "" is the file
	data       string // folder
	run        string // part of all names
	buyers     int
	items      int
	rate       int // orders per second that the inventory service handles; 0 is no limit
	payTimeout time.Duration
	forget     float64
	spread     time.Duration // the time over which the buyers come
	stay       bool
	seed       uint64
	kills      int
	roles      string
}

func (c config) names() names { return names{run: c.run} }

func (c config) file() string { return filepath.Join(c.data, "shop.db") }

func (c config) open() (*Store, error) { return openStore(c.database, c.file()) }

// products are what the warehouse has. There is nothing called ghost in it.
func (c config) products() map[string]int {
	return map[string]int{productOf(kindFlash): c.items, productOf(kindNormal): c.buyers}
}

func productOf(kind string) string { return "the " + kind + " item" }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit code: 0, 1 when the proof or anything else failed, 2 for wrong flags.
func run(args []string, out, errs io.Writer) int {
	mode := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		mode, args = args[0], args[1:]
	}
	do := map[string]func(context.Context, config, io.Writer) error{"": rush, "chaos": chaos, "service": service}[mode]
	if do == nil {
		fmt.Fprintf(errs, "flashsale: there is no %q; want nothing or chaos\n", mode)
		return 2
	}
	cfg, err := parse(mode, args, errs)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	silenceClient()
	if err := do(ctx, cfg, out); err != nil {
		fmt.Fprintf(errs, "flashsale: %v\n", err)
		return 1
	}
	return 0
}

func parse(mode string, args []string, errs io.Writer) (config, error) {
	c := config{database: os.Getenv("DATABASE_URL")}
	f := flag.NewFlagSet("flashsale "+mode, flag.ContinueOnError)
	f.SetOutput(errs)
	spread := 5 * time.Second
	if mode == "chaos" {
		spread = time.Minute
	}
	f.StringVar(&c.namesrv, "namesrv", "", "name server of a running server, IP:PORT (default: start merlin server)")
	f.StringVar(&c.merlin, "merlin", "", "the merlin binary to start (default: build it)")
	f.StringVar(&c.listen, "listen", "127.0.0.1:8090", "address of the shop and its page")
	f.StringVar(&c.data, "data", "", "folder for the server's data and the embedded database (default: a temporary one)")
	f.StringVar(&c.run, "run", "", "name of this run, part of its topics and groups (default: random)")
	f.IntVar(&c.buyers, "buyers", 10000, "how many buyers come")
	f.IntVar(&c.items, "items", 100, "how many items there are")
	f.IntVar(&c.rate, "rate", 500, "orders per second that the inventory service handles, 0 for no limit")
	f.DurationVar(&c.payTimeout, "pay-timeout", 30*time.Second, "time to pay before an order is cancelled")
	f.Float64Var(&c.forget, "forget", 0.01, "share of transactions whose verdict is not sent, so that the broker asks back")
	f.DurationVar(&c.spread, "spread", spread, "time over which the buyers come")
	f.BoolVar(&c.stay, "stay", false, "keep the page up after the end, until Ctrl-C")
	f.Uint64Var(&c.seed, "seed", rand.Uint64(), "chaos: seed of what is killed when")
	f.IntVar(&c.kills, "kills", 20, "chaos: how many kills")
	f.StringVar(&c.roles, "roles", "orders,inventory,payments", "service: what the process runs")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if c.buyers < 1 || c.items < 1 || c.payTimeout <= 0 || c.kills < 0 || c.forget < 0 || c.forget > 1 || f.NArg() > 0 {
		fmt.Fprintln(errs, "flashsale: --buyers, --items and --pay-timeout must be above 0, --forget from 0 to 1; no other arguments")
		return c, errors.New("bad arguments")
	}
	if c.run == "" {
		c.run = fmt.Sprintf("%06x", rand.Uint32()&0xffffff)
	}
	return c, nil
}

// rush is the run with everything in good health.
func rush(ctx context.Context, cfg config, out io.Writer) error {
	return withWorld(ctx, cfg, out, func(w *world) (err error) {
		w.page = newPage(w.store, w.admin, w.cfg)
		s, err := startShop(ctx, w.cfg, w.store, w.page.routes)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		defer w.page.start(ctx)()
		fmt.Fprintf(out, "shop and live page: http://%s\n", s.addr)
		w.ordersURL, w.paymentsURL = "http://"+s.addr, "http://"+s.addr
		return w.sell(ctx, nil)
	})
}

// service runs some of the services in a process of their own, until SIGTERM.
func service(ctx context.Context, cfg config, out io.Writer) error {
	store, err := cfg.open()
	if err != nil {
		return err
	}
	s, err := startShop(ctx, cfg, store, nil)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	fmt.Fprintln(out, "http listening on", s.addr)
	fmt.Fprintln(out, "ready")
	<-ctx.Done()
	return errors.Join(s.close(), store.Close())
}

// world is what every run needs: a server, a database, an admin client.
type world struct {
	cfg    config
	out    io.Writer
	store  *Store
	admin  *client.Admin
	server *process // nil when it is not ours
	page   *page

	ordersURL, paymentsURL string
}

// withWorld starts the world, runs do, and takes the world down.
func withWorld(ctx context.Context, cfg config, out io.Writer, do func(*world) error) (err error) {
	w := &world{cfg: cfg, out: out}
	if w.cfg.data == "" {
		if w.cfg.data, err = os.MkdirTemp("", "flashsale"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(w.cfg.data)
				return
			}
			fmt.Fprintf(out, "the data is kept in %s\n", w.cfg.data)
		}()
	}
	if err := os.MkdirAll(w.cfg.data, 0o755); err != nil {
		return err
	}
	if err := w.fill(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.store.Close()) }()
	if w.cfg.namesrv == "" {
		if w.server, err = startMerlin(ctx, w.cfg); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.server.stop()) }()
		w.cfg.namesrv = w.server.said("namesrv")
	}
	if w.admin, err = client.Open(client.Options{NameServers: []string{w.cfg.namesrv}}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.admin.Close()) }()
	if err := createTopics(ctx, w.admin, w.cfg.names()); err != nil {
		return err
	}
	return do(w)
}

// fill makes an empty database with full shelves.
func (w *world) fill(ctx context.Context) (err error) {
	if w.cfg.database != "" {
		if err := clearPostgres(ctx, w.cfg.database); err != nil {
			return err
		}
	} else {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(w.cfg.file() + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if w.store, err = w.cfg.open(); err != nil {
		return err
	}
	if err := w.store.Fill(ctx, w.cfg.products()); err != nil {
		return errors.Join(err, w.store.Close())
	}
	return nil
}
