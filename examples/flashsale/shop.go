package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// shop is the services of one process behind one HTTP address.
type shop struct {
	addr   string
	server *http.Server
	served chan error
	closes []func() error // of the services, in the order of starting
}

// startShop starts the services that cfg.roles names and serves their routes.
func startShop(ctx context.Context, cfg config, store *Store, more func(*http.ServeMux)) (*shop, error) {
	s := &shop{}
	mux := http.NewServeMux()
	if more != nil {
		more(mux)
	}
	for role := range strings.FieldsFuncSeq(cfg.roles, func(r rune) bool { return r == ',' }) {
		if err := s.startRole(ctx, role, cfg, store, mux); err != nil {
			return nil, errors.Join(fmt.Errorf("starting %s: %w", role, err), s.close())
		}
	}
	l, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w; choose another address with --listen", err), s.close())
	}
	s.serve(l, mux)
	return s, nil
}

func (s *shop) startRole(ctx context.Context, role string, cfg config, store *Store, mux *http.ServeMux) error {
	switch role {
	case "orders":
		o, err := startOrders(ctx, cfg, store)
		if err != nil {
			return err
		}
		o.routes(mux)
		s.closes = append(s.closes, o.close)
	case "inventory":
		i, err := startInventory(ctx, cfg, store)
		if err != nil {
			return err
		}
		s.closes = append(s.closes, i.close)
	case "payments":
		p, err := startPayments(ctx, cfg, store)
		if err != nil {
			return err
		}
		p.routes(mux)
		s.closes = append(s.closes, p.close)
	default:
		return errors.New("there is no such service; want orders, inventory or payments")
	}
	return nil
}

func (s *shop) serve(l net.Listener, mux *http.ServeMux) {
	s.addr = l.Addr().String()
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	s.served = make(chan error, 1)
	go func() { s.served <- s.server.Serve(l) }()
}

func (s *shop) close() error {
	var errs []error
	if s.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		errs = append(errs, s.server.Shutdown(ctx))
		if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
			errs = append(errs, err)
		}
	}
	for _, c := range s.closes {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
