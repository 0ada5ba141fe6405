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

// need skips a test without what it needs, or fails where it must not be missing.
func need(t *testing.T, what string, there bool) {
	t.Helper()
	if there {
		return
	}
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	if slices.Contains(required, what) || slices.Contains(required, "all") {
		t.Fatalf("%s is required and missing", what)
	}
	t.Skipf("needs %s", what)
}

// A file system that really is full. Nothing may stay in the way there.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	need(t, "root", os.Geteuid() == 0)
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 3<<20)
	ref := s.push(t, c, c.simple(stored), "v1")
	o := testOptions(t)
	if err := unix.Mount("tmpfs", o.CacheDir, "tmpfs", 0, "size=2m"); err != nil {
		need(t, "root", false)
	}
	t.Cleanup(func() { unix.Unmount(o.CacheDir, unix.MNT_DETACH) })
	img, err := Resolve(t.Context(), mustNormalize(t, ref), o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = readLayer(t, img.Layers[0], nil)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), o.CacheDir) || !strings.Contains(api.HintOf(err), "make room") {
		t.Errorf("got %v, hint %q, want ENOSPC, where, and what to do", err, api.HintOf(err))
	}
	left, err := filepath.Glob(filepath.Join(o.CacheDir, "blobs", "sha256", sumOf(stored).Hex+"*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
