package store

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
)

// oldDatabase makes the database that a file of testdata describes.
func oldDatabase(t *testing.T, file string) string {
	t.Helper()
	script, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "banger.db")
	exec(t, path, string(script))
	return path
}

func exec(t *testing.T, path, script string) {
	t.Helper()
	db, err := connect(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), script); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateFromVersion1(t *testing.T) {
	ctx := t.Context()
	path := oldDatabase(t, "v1.sql")
	for range 2 { // the second time there is nothing to do
		s, err := Open(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		checkMigrated(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkMigrated(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	got, err := s.Image(ctx, "debian-bookworm")
	if err != nil {
		t.Fatal(err)
	}
	want := api.Image{
		ID: "0123456789ab", Name: "debian-bookworm", Names: []string{"debian-bookworm"},
		Ref: "docker.io/library/debian:bookworm", Digest: "sha256:12", Platform: "linux/amd64", Managed: true,
		RootfsPath: "/s/images/0123456789ab/rootfs.ext4", KernelRef: "debian", KernelPath: "/s/images/0123456789ab/vmlinux",
		InitrdPath: "/s/images/0123456789ab/initrd", ModulesDir: "/s/images/0123456789ab/modules.ext4",
		SizeBytes: 1 << 30, RootfsModTime: time.Unix(5, 6).UTC(), CreatedAt: time.Unix(7, 8).UTC(),
		Process:  api.Process{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=b"}, User: "u", WorkingDir: "/w"},
		Warnings: []api.Warning{{Kind: "k", Layer: "l", Path: "p", Message: "m"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("image differs (-want +got):\n%s", d)
	}
	if replaced, err := s.Image(ctx, "aaaaaaaaaaaa"); err != nil || len(replaced.Names) != 0 {
		t.Errorf("the replaced image has names %q, %v; want none", replaced.Names, err)
	}
	if mine, err := s.Image(ctx, "mine"); err != nil || mine.Managed || mine.RootfsPath != "/home/u/mine.ext4" {
		t.Errorf("the registered image is %+v, %v", mine, err)
	}
	vms, err := s.VMs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantVMs := []api.VM{
		{
			ID: "111111111111", Name: "dev", ImageID: "0123456789ab", ImageName: "debian-bookworm", CPUs: 2, MemoryMiB: 1024,
			DiskBytes: 2 << 30, Dir: "/s/vms/111111111111", CreatedAt: time.Unix(0, 9).UTC(),
		},
		{
			ID: "222222222222", Name: "old", ImageID: "aaaaaaaaaaaa", Ephemeral: true, CPUs: 1, MemoryMiB: 512,
			DiskBytes: 1 << 30, Dir: "/s/vms/222222222222", CreatedAt: time.Unix(0, 8).UTC(),
		},
	}
	if d := cmp.Diff(wantVMs, vms); d != "" {
		t.Errorf("VMs differ (-want +got):\n%s", d)
	}
	if problems, err := s.Check(ctx); err != nil || len(problems) != 0 {
		t.Errorf("check: %q, %v", problems, err)
	}
	// The keys that tie the tables together are tied to the new one.
	if err := s.DeleteImage(ctx, "0123456789ab"); !errors.Is(err, api.ErrInUse) {
		t.Errorf("delete an image with a VM: got %v, want ErrInUse", err)
	}
	if err := s.AddVM(ctx, api.VM{ID: "3", Name: "new", ImageID: "none"}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a VM of no image: got %v, want ErrNotFound", err)
	}
}

// What was released is in testdata, and migrations must still begin with it.
func TestReleasedMigrationsStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	exec(t, path, migrations[0])
	if d := cmp.Diff(schemaOf(t, oldDatabase(t, "v1.sql")), schemaOf(t, path)); d != "" {
		t.Errorf("schema version 1 is not what was released (-released +now):\n%s", d)
	}
}

func schemaOf(t *testing.T, path string) []string {
	t.Helper()
	db, err := connect(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all, err := collect(t.Context(), db, func(row scanner) (string, error) {
		var text string
		err := row.Scan(&text)
		return strings.Join(strings.Fields(text), " "), err
	}, "SELECT coalesce(sql, name) FROM sqlite_master ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFailedMigrationChangesNothing(t *testing.T) {
	path := oldDatabase(t, "v1.sql")
	exec(t, path, "INSERT INTO vms VALUES ('3', 'orphan', 'no such image', 0, 0, 0, 0, '', 0)")
	before := schemaOf(t, path)
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "broken reference") {
		t.Errorf("got %v, want an error about the broken reference", err)
	}
	if d := cmp.Diff(before, schemaOf(t, path)); d != "" {
		t.Errorf("the schema has changed (-before +after):\n%s", d)
	}
}

// files reads all files of a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

func TestNewerSchemaIsRefused(t *testing.T) {
	// newer makes the database of a banger to come in dir.
	newer := func(t *testing.T, dir string) *Store {
		s, err := Open(t.Context(), filepath.Join(dir, "banger.db"))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.inTx(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.Exec("CREATE TABLE future (x); PRAGMA user_version = 999")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		want []string
	}{
		"closed": {func(t *testing.T, dir string) {
			if err := newer(t, dir).Close(); err != nil {
				t.Fatal(err)
			}
		}, []string{"banger.db"}},
		// Only the log knows the version, as after a crash.
		"crashed": {func(t *testing.T, dir string) {
			there := t.TempDir()
			s := newer(t, there)
			for name, content := range files(t, there) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, "banger.db-shm")); err != nil {
				t.Fatal(err)
			}
		}, []string{"banger.db", "banger.db-wal"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, dir)
			before := files(t, dir)
			if got := slices.Sorted(maps.Keys(before)); !slices.Equal(got, c.want) {
				t.Fatalf("the test has made %q, want %q", got, c.want)
			}
			_, err := Open(context.Background(), filepath.Join(dir, "banger.db"))
			if err == nil || !strings.Contains(err.Error(), "version 999") || !strings.Contains(api.HintOf(err), "newer banger") {
				t.Errorf("got %v with hint %q", err, api.HintOf(err))
			}
			if d := cmp.Diff(before, files(t, dir)); d != "" {
				t.Error("the files of a refused database have changed")
			}
		})
	}
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is a letter to my aunt\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "not a database") {
		t.Errorf("got %v, want that it is no database", err)
	}
}

func TestCheckFindsBrokenReferences(t *testing.T) {
	path := filepath.Join(t.TempDir(), "banger.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if problems, err := s.Check(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("a new database: %q, %v", problems, err)
	}
	exec(t, path, "INSERT INTO vms VALUES ('3', 'orphan', 'no such image', 0, 0, 0, 0, '', 0)")
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0], "vms") {
		t.Errorf("got %q, %v; want one about vms", problems, err)
	}
}
