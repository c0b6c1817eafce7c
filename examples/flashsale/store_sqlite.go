package main

import (
	"database/sql"
	"fmt"
	"net/url"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// openSQLite opens the embedded database. Its log is written ahead (WAL), so
// readers never wait. There is one writer at a time: in this process because
// there is one connection, among processes because a transaction takes the
// lock when it begins and waits for it.
//
// A commit survives the end of the process, however sudden, but not
// necessarily a power cut (synchronous=NORMAL).
func openSQLite(file string) (*Store, error) {
	set := url.Values{}
	for _, p := range []string{"busy_timeout(20000)", "journal_mode(WAL)", "synchronous(NORMAL)"} {
		set.Add("_pragma", p)
	}
	set.Set("_txlock", "immediate")
	dsn := "file:" + file + "?" + set.Encode()
	write, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", file, err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", file, err)
	}
	read.SetMaxOpenConns(4)
	s := &Store{write: write, read: read}
	if err := write.Ping(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("opening %s: %w", file, err)
	}
	return s, nil
}
