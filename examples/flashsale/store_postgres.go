package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// pgSchema keeps the shop's tables apart from everything else in the database.
const pgSchema = "flashsale"

// openPostgres opens the database at url. All tables live in pgSchema.
func openPostgres(url string) (*Store, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	cfg.RuntimeParams["search_path"] = pgSchema
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("the database of DATABASE_URL: %w", err)
	}
	return &Store{write: db, read: db}, nil
}

// clearPostgres drops what an earlier run left and makes an empty schema.
func clearPostgres(ctx context.Context, url string) error {
	s, err := openPostgres(url)
	if err != nil {
		return err
	}
	for _, q := range []string{"DROP SCHEMA IF EXISTS " + pgSchema + " CASCADE", "CREATE SCHEMA " + pgSchema} {
		if _, err := s.write.ExecContext(ctx, q); err != nil {
			_ = s.Close()
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return s.Close()
}
