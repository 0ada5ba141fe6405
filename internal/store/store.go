// Package store keeps the rows: which images and which VMs there are, in one
// SQLite file. [Open] makes or migrates it; the methods of [Store] are the
// queries, one each.
//
// The files that rows speak of belong to the packages image and vm; whether a
// VM runs is told by its supervisor, not by its row. The database is in WAL
// mode with foreign keys on, and only the daemon opens it.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"modernc.org/sqlite" // the driver "sqlite", and its error type
	sqlite3 "modernc.org/sqlite/lib"

	"banger/internal/api"
)

// Store is an open database. Its methods may be called by several at once.
type Store struct {
	db *sql.DB
}

// Open opens the database at path, makes it when it is missing, and migrates it
// to the schema of this build. A database of a newer build is refused.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := migrate(ctx, path); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db, err := connect(path, url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	})
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return &Store{db}, nil
}

// connect opens the file with options of SQLite and its driver.
func connect(path string, query url.Values) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	// One writer is SQLite's rule; one connection makes every caller wait in Go
	// rather than fail with SQLITE_BUSY.
	db.SetMaxOpenConns(1)
	return db, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// inTx runs f in one transaction.
func (s *Store) inTx(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// querier is a *sql.DB or *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect returns the rows that scan reads.
func collect[T any](ctx context.Context, db querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// notFound turns "no rows" into api.ErrNotFound.
func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return api.ErrNotFound
	}
	return err
}

// refersToNothing says whether err is a violated foreign key.
func refersToNothing(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

// taken says whether err is a violated UNIQUE constraint.
func taken(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// Times are stored as UTC nanoseconds since 1970.

func fromTime(t time.Time) int64 { return t.UnixNano() }

func toTime(ns int64) time.Time { return time.Unix(0, ns).UTC() }
