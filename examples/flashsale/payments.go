package main

import (
	"context"
	"net/http"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// paymentService sells what is reserved, and cancels what is not paid when the
// order's timer message comes. Whoever changes the order's state first wins.
type paymentService struct {
	store *Store
	group rmq.PushConsumer
}

func startPayments(ctx context.Context, cfg config, store *Store) (*paymentService, error) {
	s := &paymentService{store: store}
	n := cfg.names()
	var err error
	s.group, err = startConsumer(ctx, cfg.namesrv, subscription{group: n.timeoutGroup(), topic: n.timeouts(), tags: "*", retries: 16, handle: s.expire})
	return s, err
}

func (s *paymentService) close() error { return s.group.Shutdown() }

func (s *paymentService) expire(ctx context.Context, m *primitive.MessageExt) error {
	o, err := decodeOrder(m.Body)
	if err != nil {
		return err
	}
	_, err = s.store.Expire(ctx, o.ID)
	return err
}

func (s *paymentService) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /orders/{id}/pay", s.pay)
}

// pay answers 200 when the order is paid and 409 when it cannot be any more.
func (s *paymentService) pay(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	state, err := s.store.Pay(r.Context(), id)
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	status := http.StatusOK
	if state != statePaid {
		status = http.StatusConflict
	}
	writeJSON(w, status, Order{ID: id, State: state})
}
