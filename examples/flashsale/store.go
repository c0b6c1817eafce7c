package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// States of an order. It goes from placed to soldOut, reserved or failed, and
// from reserved to paid or cancelled.
const (
	statePlaced    = "placed"    // written together with its half message
	stateReserved  = "reserved"  // an item is held for it
	stateSoldOut   = "sold_out"  // there was none left
	statePaid      = "paid"      // the held item is sold
	stateCancelled = "cancelled" // not paid in time, the item went back
	stateFailed    = "failed"    // its message ended in the dead-letter queue
)

// Verdicts on a local transaction.
const (
	verdictCommit   = "commit"
	verdictRollback = "rollback"
)

// schema is understood by SQLite and PostgreSQL. What the services must agree
// on is in primary keys, so that it holds across processes: one verdict for a
// transaction, one order for an id, one reservation for an order.
var schema = []string{
	`CREATE TABLE orders (
		id TEXT PRIMARY KEY, kind TEXT NOT NULL, product TEXT NOT NULL, buyer BIGINT NOT NULL,
		state TEXT NOT NULL, created_ms BIGINT NOT NULL)`,
	`CREATE INDEX orders_by_state ON orders (state)`,
	`CREATE TABLE transactions (
		tx TEXT PRIMARY KEY, order_id TEXT NOT NULL, verdict TEXT NOT NULL, checks INTEGER NOT NULL DEFAULT 0)`,
	`CREATE TABLE stock (product TEXT PRIMARY KEY, total BIGINT NOT NULL, remaining BIGINT NOT NULL)`,
	`CREATE TABLE reservations (
		order_id TEXT PRIMARY KEY, product TEXT NOT NULL, state TEXT NOT NULL)`,
	`CREATE TABLE dead_letters (order_id TEXT PRIMARY KEY, topic TEXT NOT NULL)`,
}

var (
	errUnknownProduct = errors.New("the warehouse does not know the product")
	errNoOrder        = errors.New("there is no such order")
)

// Order is an order as it is stored, and the body of its messages.
type Order struct {
	ID      string `json:"id"`
	Tx      string `json:"tx,omitempty"` // the transaction that a message belongs to
	Kind    string `json:"kind"`         // the tag: flash or normal
	Product string `json:"product"`
	Buyer   int    `json:"buyer"`
	State   string `json:"state,omitempty"`
}

// Store is the shop's database. All changes of one message or one request
// happen in one database transaction. Safe for concurrent use, also by several
// processes.
//
// Parameters are written $1, $2 in the order of their first use: PostgreSQL
// takes them as numbers and SQLite as names, which it numbers in that order.
type Store struct {
	write *sql.DB // SQLite: one connection, so that writers queue here
	read  *sql.DB
}

// openStore opens PostgreSQL at url or, if that is empty, the file.
func openStore(url, file string) (*Store, error) {
	if url != "" {
		return openPostgres(url)
	}
	return openSQLite(file)
}

// Close closes the database.
func (s *Store) Close() error {
	if s.read == s.write {
		return s.write.Close()
	}
	return errors.Join(s.read.Close(), s.write.Close())
}

// Fill makes the tables and puts the products into the warehouse.
func (s *Store) Fill(ctx context.Context, products map[string]int) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		for _, q := range schema {
			if _, err := tx.ExecContext(ctx, q); err != nil {
				return fmt.Errorf("making the tables: %w", err)
			}
		}
		for name, n := range products {
			if _, err := tx.ExecContext(ctx, `INSERT INTO stock (product, total, remaining) VALUES ($1, $2, $2)`, name, n); err != nil {
				return fmt.Errorf("filling the warehouse: %w", err)
			}
		}
		return nil
	})
}

// Place is the local transaction of an order: the order and the verdict on its
// message are written at once. The verdict is rollback when the buyer has this
// order already, or when a check has given the transaction up before.
func (s *Store) Place(ctx context.Context, o Order, now time.Time) (verdict string, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		fresh, err := changed(tx.ExecContext(ctx, `INSERT INTO transactions (tx, order_id, verdict) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			o.Tx, o.ID, verdictCommit))
		if err != nil {
			return err
		}
		if !fresh {
			return tx.QueryRowContext(ctx, `SELECT verdict FROM transactions WHERE tx = $1`, o.Tx).Scan(&verdict)
		}
		fresh, err = changed(tx.ExecContext(ctx, `INSERT INTO orders (id, kind, product, buyer, state, created_ms) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
			o.ID, o.Kind, o.Product, o.Buyer, statePlaced, now.UnixMilli()))
		if err != nil {
			return err
		}
		if verdict = verdictCommit; fresh {
			return nil
		}
		verdict = verdictRollback
		_, err = tx.ExecContext(ctx, `UPDATE transactions SET verdict = $1 WHERE tx = $2`, verdict, o.Tx)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("placing order %s: %w", o.ID, err)
	}
	return verdict, nil
}

// Settle answers a check. A transaction that is not there is given up for good:
// the verdict is written, so that a late Place cannot succeed after the message
// has been rolled back.
func (s *Store) Settle(ctx context.Context, txID, orderID string) (verdict string, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO transactions (tx, order_id, verdict) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			txID, orderID, verdictRollback); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE transactions SET checks = checks + 1 WHERE tx = $1`, txID); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT verdict FROM transactions WHERE tx = $1`, txID).Scan(&verdict)
	})
	if err != nil {
		return "", fmt.Errorf("settling transaction %s of order %s: %w", txID, orderID, err)
	}
	return verdict, nil
}

// Reserve holds an item for an order, or finds that there is none left. The
// reservation's key is the order's id, so a message that comes twice changes
// nothing the second time. It returns the order's state.
func (s *Store) Reserve(ctx context.Context, o Order) (state string, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		fresh, err := changed(tx.ExecContext(ctx, `INSERT INTO reservations (order_id, product, state) VALUES ($1, $2, 'held') ON CONFLICT DO NOTHING`, o.ID, o.Product))
		if err != nil {
			return err
		}
		if !fresh {
			return tx.QueryRowContext(ctx, `SELECT state FROM orders WHERE id = $1`, o.ID).Scan(&state)
		}
		state = stateReserved
		held, err := changed(tx.ExecContext(ctx, `UPDATE stock SET remaining = remaining - 1 WHERE product = $1 AND remaining > 0`, o.Product))
		if err != nil {
			return err
		}
		if !held {
			if err := s.soldOut(ctx, tx, o); err != nil {
				return err
			}
			state = stateSoldOut
		}
		ok, err := changed(tx.ExecContext(ctx, `UPDATE orders SET state = $1 WHERE id = $2 AND state = $3`, state, o.ID, statePlaced))
		if err == nil && !ok {
			err = errNoOrder // a message without its order: nothing of it may stay
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reserving for order %s: %w", o.ID, err)
	}
	return state, nil
}

func (s *Store) soldOut(ctx context.Context, tx *sql.Tx, o Order) error {
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM stock WHERE product = $1`, o.Product).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return errUnknownProduct
	}
	_, err := tx.ExecContext(ctx, `UPDATE reservations SET state = 'refused' WHERE order_id = $1`, o.ID)
	return err
}

// Pay sells the held item. It returns the order's state: paid, also the second
// time, or what stands against it.
func (s *Store) Pay(ctx context.Context, id string) (state string, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		ok, err := changed(tx.ExecContext(ctx, `UPDATE orders SET state = $1 WHERE id = $2 AND state = $3`, statePaid, id, stateReserved))
		if err != nil {
			return err
		}
		if ok {
			if _, err := tx.ExecContext(ctx, `UPDATE reservations SET state = 'sold' WHERE order_id = $1`, id); err != nil {
				return err
			}
		}
		return tx.QueryRowContext(ctx, `SELECT state FROM orders WHERE id = $1`, id).Scan(&state)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoOrder
	}
	if err != nil {
		return "", fmt.Errorf("paying order %s: %w", id, err)
	}
	return state, nil
}

// Expire cancels a reserved order that is not paid and gives its item back.
// It does nothing to an order in another state.
func (s *Store) Expire(ctx context.Context, id string) (cancelled bool, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		cancelled, err = s.expire(ctx, tx, id)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cancelling order %s: %w", id, err)
	}
	return cancelled, nil
}

func (s *Store) expire(ctx context.Context, tx *sql.Tx, id string) (bool, error) {
	ok, err := changed(tx.ExecContext(ctx, `UPDATE orders SET state = $1 WHERE id = $2 AND state = $3`, stateCancelled, id, stateReserved))
	if err != nil || !ok {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE reservations SET state = 'returned' WHERE order_id = $1`, id); err != nil {
		return false, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE stock SET remaining = remaining + 1 WHERE product = (SELECT product FROM reservations WHERE order_id = $1)`, id)
	return true, err
}

// Bury records that a message of the order ended in a dead-letter queue. The
// order fails, and an item that is held for it goes back.
func (s *Store) Bury(ctx context.Context, id, topic string) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		fresh, err := changed(tx.ExecContext(ctx, `INSERT INTO dead_letters (order_id, topic) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id, topic))
		if err != nil || !fresh {
			return err
		}
		if _, err := s.expire(ctx, tx, id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE orders SET state = $1 WHERE id = $2 AND state = $3`, stateFailed, id, statePlaced)
		return err
	})
	if err != nil {
		return fmt.Errorf("recording the dead letter of order %s: %w", id, err)
	}
	return nil
}

// Order returns an order. The error is errNoOrder if there is none.
func (s *Store) Order(ctx context.Context, id string) (Order, error) {
	o := Order{ID: id}
	err := s.read.QueryRowContext(ctx, `SELECT kind, product, buyer, state FROM orders WHERE id = $1`, id).Scan(&o.Kind, &o.Product, &o.Buyer, &o.State)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoOrder
	}
	if err != nil {
		return o, fmt.Errorf("order %s: %w", id, err)
	}
	return o, nil
}

// InState returns the ids of all orders in a state.
func (s *Store) InState(ctx context.Context, state string) ([]string, error) {
	return s.strings(ctx, `SELECT id FROM orders WHERE state = $1 ORDER BY id`, state)
}

func (s *Store) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []string{}
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// counts runs a query of (name, number) rows.
func (s *Store) counts(ctx context.Context, query string) (map[string]int, error) {
	rows, err := s.read.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	m := map[string]int{}
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			return nil, err
		}
		m[name] = n
	}
	return m, rows.Err()
}

func (s *Store) inTx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func changed(r sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}
