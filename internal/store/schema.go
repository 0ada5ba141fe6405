package store

import (
	"context"
	"database/sql"
	"fmt"

	"banger/internal/api"
)

// migrations[i] takes a database from version i to i+1; the version is SQLite's
// user_version. What has been released is never changed, only added to.
var migrations = []string{
	`CREATE TABLE images (
		id              TEXT PRIMARY KEY,
		name            TEXT UNIQUE,      -- NULL: replaced, but a VM still uses it
		ref             TEXT NOT NULL,
		digest          TEXT NOT NULL,
		platform        TEXT NOT NULL,
		managed         INTEGER NOT NULL,
		rootfs_path     TEXT NOT NULL,
		kernel_ref      TEXT NOT NULL,
		kernel_path     TEXT NOT NULL,
		initrd_path     TEXT NOT NULL,
		modules_dir     TEXT NOT NULL,
		size_bytes      INTEGER NOT NULL,
		rootfs_mtime    INTEGER NOT NULL, -- of an unmanaged file: changed since means an error
		created_at      INTEGER NOT NULL,
		process         TEXT NOT NULL,    -- JSON
		warnings        TEXT NOT NULL     -- JSON
	) STRICT;
	CREATE TABLE vms (
		id         TEXT PRIMARY KEY,
		name       TEXT NOT NULL UNIQUE,
		image_id   TEXT NOT NULL REFERENCES images(id),
		ephemeral  INTEGER NOT NULL,
		cpus       INTEGER NOT NULL,
		memory_mib INTEGER NOT NULL,
		disk_bytes INTEGER NOT NULL,
		dir        TEXT NOT NULL,
		created_at INTEGER NOT NULL
	) STRICT;
	CREATE INDEX vms_by_image ON vms(image_id);`,
}

func migrate(ctx context.Context, db *sql.DB) error {
	s := &Store{db}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version > len(migrations) {
			return api.Hint(
				fmt.Errorf("its schema is version %d, this build knows up to %d", version, len(migrations)),
				"a newer banger wrote it: use that one, or set BANGER_HOME to another directory")
		}
		for ; version < len(migrations); version++ {
			if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
				return fmt.Errorf("migrate to version %d: %w", version+1, err)
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}
