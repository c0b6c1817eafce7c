package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/merlinmq/merlin/remoting"
)

// Transaction is a transaction as a broker of ours describes it.
type Transaction struct {
	Broker   string            `json:"broker"`
	Key      string            `json:"key"` // unique key of the message
	Group    string            `json:"group"`
	Topic    string            `json:"topic"`
	Queue    int32             `json:"queue"`
	Keys     string            `json:"keys,omitempty"`
	Tags     string            `json:"tags,omitempty"`
	Offset   int64             `json:"offset"` // of the half in its queue
	Position int64             `json:"position"`
	OffsetID string            `json:"offset_id"`
	BornHost string            `json:"born_host"`
	Born     time.Time         `json:"born"`
	Stored   time.Time         `json:"stored"`
	State    string            `json:"state"` // pending, commit, rollback, discarded
	Checks   int               `json:"checks"`
	Next     time.Time         `json:"next_check,omitzero"`
	Orphan   bool              `json:"without_producer,omitempty"` // nobody of its group is connected
	BodySize int               `json:"body_size"`
	Steps    []TransactionStep `json:"steps,omitempty"`
}

// TransactionStep is a line of a transaction's timeline.
type TransactionStep struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
	Text string    `json:"text"`
}

// TransactionFilter says which pending transactions to list. Empty fields
// match all; with a key, those that have ended are listed too.
type TransactionFilter struct {
	Group, Topic, Key string
	Age               time.Duration // at least
	Max               int           // of each broker
}

// Transactions lists the transactions of all brokers, oldest first, and how
// many are pending in all.
func (a *Admin) Transactions(ctx context.Context, f TransactionFilter) (list []Transaction, pending int, err error) {
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, b := range brokers {
		var fields remoting.Fields
		for name, value := range map[string]string{"group": f.Group, "topic": f.Topic, "key": f.Key} {
			if value != "" {
				fields.Str(name, value)
			}
		}
		fields.Int("ageMs", f.Age.Milliseconds())
		fields.Int("max", int64(f.Max))
		var out struct {
			Transactions []Transaction `json:"transactions"`
			Pending      int           `json:"pending"`
		}
		if err := a.callJSON(ctx, b, "list transactions", remoting.ReqListTransactions, fields, nil, &out); err != nil {
			return nil, 0, err
		}
		for i := range out.Transactions {
			out.Transactions[i].Broker = b.Name
		}
		list = append(list, out.Transactions...)
		pending += out.Pending
	}
	slices.SortStableFunc(list, func(x, y Transaction) int { return x.Born.Compare(y.Born) })
	return list, pending, nil
}

// TransactionAction is what can be asked for one transaction.
type TransactionAction int

// The actions.
const (
	ShowTransaction TransactionAction = iota
	CommitTransaction
	RollbackTransaction
	CheckTransaction
)

// Transaction does something with the transaction that an id names, at the
// broker that has it, and returns it with its timeline. The id may be a unique
// key, a key, an offset id, or an offset in the half queue; of several brokers,
// one may be named.
func (a *Admin) Transaction(ctx context.Context, id, broker string, do TransactionAction) (*Transaction, error) {
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	var fields remoting.Fields
	fields.Str("id", id)
	code, op := remoting.ReqShowTransaction, "show the transaction "
	switch do {
	case CommitTransaction:
		code, op = remoting.ReqResolveTransaction, "commit the transaction "
		fields.Bool("commit", true)
	case RollbackTransaction:
		code, op = remoting.ReqResolveTransaction, "roll back the transaction "
		fields.Bool("commit", false)
	case CheckTransaction:
		code, op = remoting.ReqCheckTransaction, "check the transaction "
	}
	for _, b := range brokers {
		if broker != "" && b.Name != broker {
			continue
		}
		t := &Transaction{Broker: b.Name}
		err := a.callJSON(ctx, b, op+id, code, fields, nil, t)
		switch {
		case err == nil:
			return t, nil
		case !isCode(err, remoting.RespQueryNotFound):
			return nil, err
		}
	}
	return nil, fmt.Errorf("no broker has such a transaction, %q: %w", id, ErrNotFound)
}
