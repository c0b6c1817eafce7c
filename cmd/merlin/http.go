package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// httpServer answers /healthz, /readyz and /metrics from the first moment on,
// while the log is still being recovered.
type httpServer struct {
	listener net.Listener
	server   *http.Server
	registry *prometheus.Registry
	done     chan struct{}

	ready       atomic.Bool
	stage       atomic.Pointer[string] // what the start is doing
	recovered   atomic.Int64           // bytes
	recoverGoal atomic.Int64
}

func listenHTTP(addr string, log *slog.Logger) (*httpServer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("the HTTP port: %w; choose another with --http-listen", err)
	}
	h := &httpServer{listener: l, registry: prometheus.NewRegistry(), done: make(chan struct{})}
	h.setStage("starting")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.registry, promhttp.HandlerOpts{}))
	h.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(h.done)
		if err := h.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the HTTP server ended", "error", err)
		}
	}()
	return h, nil
}

func (h *httpServer) setStage(s string) { h.stage.Store(&s) }

func (h *httpServer) progress(done, total int64) {
	h.recovered.Store(done)
	h.recoverGoal.Store(total)
}

func (h *httpServer) readyz(w http.ResponseWriter, _ *http.Request) {
	if h.ready.Load() {
		fmt.Fprintln(w, "ready")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprint(w, *h.stage.Load())
	if goal := h.recoverGoal.Load(); goal > 0 {
		fmt.Fprintf(w, ": %d of %d bytes of the log read", h.recovered.Load(), goal)
	}
	fmt.Fprintln(w)
}

func (h *httpServer) close(ctx context.Context) error {
	err := h.server.Shutdown(ctx)
	<-h.done
	return err
}
