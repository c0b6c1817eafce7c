package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"hash/fnv"
	"net/http"
	"time"

	rmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// orderService takes orders. An order is a row in the database and a message
// for the inventory service, both or none: the half message is stored first,
// then the row is written, and the verdict on the row decides the message.
// When the verdict does not reach the broker it asks back.
type orderService struct {
	store    *Store
	topic    string
	producer rmq.TransactionProducer
	forget   float64 // share of verdicts that are kept from the broker, so that it asks back
	now      func() time.Time
}

func startOrders(ctx context.Context, cfg config, store *Store) (*orderService, error) {
	s := &orderService{store: store, topic: cfg.names().orders(), forget: cfg.forget, now: time.Now}
	var err error
	if s.producer, err = startTransactionProducer(cfg.namesrv, cfg.names().orderGroup(), s); err != nil {
		return nil, err
	}
	if err := s.greet(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// greet sends a message that is no order and so is rolled back. A producer
// looks for brokers, and lets them know of itself, only after it has sent
// something; without that, a service that starts again after the rush would
// never be asked about what it left open.
func (s *orderService) greet(ctx context.Context) error {
	return retry(ctx, time.Minute, func() error {
		_, err := s.producer.SendMessageInTransaction(ctx, primitive.NewMessage(s.topic, []byte("{}")))
		return err
	})
}

func (s *orderService) close() error { return s.producer.Shutdown() }

// ExecuteLocalTransaction implements primitive.TransactionListener: the half
// message is stored, now the order.
func (s *orderService) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	o, err := decodeOrder(m.Body)
	if err != nil {
		return primitive.RollbackMessageState
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	verdict, err := s.store.Place(ctx, o, s.now())
	if err != nil || s.forgets(o.ID) {
		return primitive.UnknowState // the check will find out
	}
	return localState(verdict)
}

// CheckLocalTransaction implements primitive.TransactionListener: the broker
// has not heard the verdict.
func (s *orderService) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	o, err := decodeOrder(m.Body)
	if err != nil {
		return primitive.RollbackMessageState
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	verdict, err := s.store.Settle(ctx, o.Tx, o.ID)
	if err != nil {
		return primitive.UnknowState
	}
	return localState(verdict)
}

// forgets picks the same orders every time.
func (s *orderService) forgets(id string) bool {
	h := fnv.New32a()
	h.Write([]byte(id))
	return float64(h.Sum32()%10000) < s.forget*10000
}

func localState(verdict string) primitive.LocalTransactionState {
	if verdict == verdictCommit {
		return primitive.CommitMessageState
	}
	return primitive.RollbackMessageState
}

func (s *orderService) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST /orders", s.post)
	mux.HandleFunc("GET /orders/{id}", s.get)
	mux.HandleFunc("GET /orders", s.list)
}

// post takes an order: 202 when it is placed, 200 when the buyer had placed it
// before, 503 when it is not known to be placed and must be sent again.
func (s *orderService) post(w http.ResponseWriter, r *http.Request) {
	var o Order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&o); err != nil || o.ID == "" || o.Product == "" ||
		(o.Kind != kindFlash && o.Kind != kindNormal) {
		http.Error(w, `want {"id": "...", "kind": "flash" or "normal", "product": "...", "buyer": 1}`, http.StatusBadRequest)
		return
	}
	if old, err := s.store.Order(r.Context(), o.ID); err == nil {
		writeJSON(w, http.StatusOK, old)
		return
	}
	o.Tx, o.State = rand.Text(), ""
	body, err := json.Marshal(o)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m := primitive.NewMessage(s.topic, body).WithTag(o.Kind).WithKeys([]string{o.ID})
	if _, err := s.producer.SendMessageInTransaction(r.Context(), m); err != nil {
		http.Error(w, "try again: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	placed, err := s.store.Order(r.Context(), o.ID)
	if err != nil {
		http.Error(w, "try again: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	writeJSON(w, http.StatusAccepted, placed)
}

func (s *orderService) get(w http.ResponseWriter, r *http.Request) {
	o, err := s.store.Order(r.Context(), r.PathValue("id"))
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	writeJSON(w, http.StatusOK, o)
}

// list answers with the ids of the orders in a state.
func (s *orderService) list(w http.ResponseWriter, r *http.Request) {
	ids, err := s.store.InState(r.Context(), r.URL.Query().Get("state"))
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	writeJSON(w, http.StatusOK, ids)
}

func statusOf(err error) int {
	if errors.Is(err, errNoOrder) {
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the status is out: a reader that is gone is nobody to tell
}
