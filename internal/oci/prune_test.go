package oci

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

func TestPruneCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := openCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, b, p := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)+partialSuffix
	for _, name := range []string{a, b, p, "somebody's notes"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(digest string) bool { return digest == "sha256:"+a }
	names := func(pruned []api.Pruned, err error) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, one := range pruned {
			if one.Kind != "blob" || one.FreedBytes < 4096 {
				t.Errorf("got %+v", one)
			}
			names = append(names, one.Name)
		}
		return names
	}

	release, err := Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Hold(dir)
	if err != nil {
		t.Fatal("two pulls at once:", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := Prune(dir, keep, false); !errors.Is(err, api.ErrInUse) {
		t.Errorf("while a pull reads: got %v, want ErrInUse", err)
	}
	if err := second(); err != nil {
		t.Fatal(err)
	}

	download, err := os.Open(filepath.Join(c.dir, p))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(download.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got, want := names(Prune(dir, keep, true)), []string{b}; !slices.Equal(got, want) {
		t.Errorf("dry run during a download: %q, want %q", got, want)
	}
	if err := download.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := names(Prune(dir, keep, true)), []string{b, p}; !slices.Equal(got, want) {
		t.Errorf("dry run: %q, want %q", got, want)
	}
	if got, want := names(Prune(dir, keep, false)), []string{b, p}; !slices.Equal(got, want) {
		t.Errorf("pruned: %q, want %q", got, want)
	}
	left, err := os.ReadDir(c.dir)
	if err != nil || len(left) != 2 || left[0].Name() != a {
		t.Errorf("left: %v, %v; want the blob that is kept and what is not ours", left, err)
	}
}
