package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Check returns what SQLite finds wrong with the database, nothing when all is well.
func (s *Store) Check(ctx context.Context) ([]string, error) {
	var problems []string
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		found, err := collect(ctx, tx, func(row scanner) (string, error) {
			var text string
			err := row.Scan(&text)
			return text, err
		}, "PRAGMA integrity_check")
		if err != nil {
			return err
		}
		if len(found) != 1 || found[0] != "ok" {
			problems = found
		}
		broken, err := checkForeignKeys(ctx, tx)
		problems = append(problems, broken...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("check the database: %w", err)
	}
	return problems, nil
}

// checkForeignKeys finds rows that refer to rows that are not there.
func checkForeignKeys(ctx context.Context, tx *sql.Tx) ([]string, error) {
	return collect(ctx, tx, func(row scanner) (string, error) {
		var table, parent string
		var rowID sql.NullInt64
		var key int
		err := row.Scan(&table, &rowID, &parent, &key)
		return fmt.Sprintf("row %d of %s refers to a row of %s that is not there", rowID.Int64, table, parent), err
	}, "PRAGMA foreign_key_check")
}
