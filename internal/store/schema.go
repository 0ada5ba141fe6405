package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

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

	// An image has any number of names, and remembers where it came from.
	`CREATE TABLE image_names (           -- in the order of rowid: the oldest first
		name     TEXT PRIMARY KEY,
		image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
	) STRICT;
	CREATE INDEX image_names_by_image ON image_names(image_id);
	INSERT INTO image_names (name, image_id) SELECT name, id FROM images WHERE name IS NOT NULL ORDER BY created_at, id;

	CREATE TABLE images_2 (
		id              TEXT PRIMARY KEY,
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
		rootfs_mtime    INTEGER NOT NULL, -- changed since means an error
		created_at      INTEGER NOT NULL,
		process         TEXT NOT NULL,    -- JSON
		source          TEXT NOT NULL,    -- JSON
		added           TEXT NOT NULL,    -- JSON; null: made before this was known
		warnings        TEXT NOT NULL     -- JSON
	) STRICT;
	INSERT INTO images_2 SELECT id, ref, digest, platform, managed, rootfs_path, kernel_ref, kernel_path, initrd_path,
		modules_dir, size_bytes, rootfs_mtime, created_at, process, '{}', 'null', warnings FROM images;
	DROP TABLE images;
	ALTER TABLE images_2 RENAME TO images;`,
}

// migrate takes the database at path to the version of this build. A newer one is
// refused, and not a byte of it is changed.
func migrate(ctx context.Context, path string) error {
	version, err := readVersion(ctx, path)
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return api.Hint(
			fmt.Errorf("its schema is version %d, this build knows up to %d", version, len(migrations)),
			"a newer banger wrote it: use that one, or set BANGER_HOME to another directory")
	}
	if version == len(migrations) {
		return nil
	}
	// Foreign keys are off, so that a table can be replaced by a new one of the
	// same name (https://www.sqlite.org/lang_altertable.html, section 7).
	db, err := connect(path, url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "synchronous(FULL)"}})
	if err != nil {
		return err
	}
	err = (&Store{db}).inTx(ctx, func(tx *sql.Tx) error { return upgrade(ctx, tx, version, len(migrations)) })
	return errors.Join(err, db.Close())
}

// upgrade takes a database from one version to another.
func upgrade(ctx context.Context, tx *sql.Tx, from, to int) error {
	for version := from; version < to; version++ {
		if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
			return fmt.Errorf("migrate to version %d: %w", version+1, err)
		}
	}
	if problems, err := checkForeignKeys(ctx, tx); err != nil || len(problems) > 0 {
		return errors.Join(fmt.Errorf("migrate to version %d: %d broken references", to, len(problems)), err)
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", to))
	return err
}

// readVersion returns the schema's version, 0 when there is no database yet. It
// changes no file and makes none beside it, as SQLite does when it opens one in
// WAL mode.
func readVersion(ctx context.Context, path string) (version int, err error) {
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return 0, nil
	}
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		// After a crash the log may hold what counts. SQLite reads it, from a copy:
		// there it may recover.
		dir, err := os.MkdirTemp("", "banger-db-")
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		there := filepath.Join(dir, "copy.db")
		if err := errors.Join(copyFile(there, path), copyFile(there+"-wal", path+"-wal")); err != nil {
			return 0, err
		}
		return userVersion(ctx, there, nil)
	}
	return userVersion(ctx, path, url.Values{"mode": {"ro"}, "immutable": {"1"}})
}

func userVersion(ctx context.Context, path string, query url.Values) (version int, err error) {
	db, err := connect(path, query)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version, err
}

func copyFile(dst, src string) error {
	b, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return os.WriteFile(dst, b, 0o600)
}
