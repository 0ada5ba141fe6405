package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banger/internal/api"
	"banger/internal/oci"
)

// What cannot fit is said before anything is written or asked for, with how much
// it takes and how much is free.
func TestRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := oci.File{URL: "file:///nowhere", Digest: "sha256:" + strings.Repeat("a", 64), Size: 1 << 60}
	huge, err := file.Layer(oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ConvertFile(t.Context(), &oci.Image{Layers: []oci.Layer{huge}}, filepath.Join(dir, "disk.ext4"), Options{NoGuestFiles: true}, nil)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "at least 1EiB, and ") || !strings.Contains(api.HintOf(err), "make room there") {
		t.Errorf("disk: got %v, hint %q", err, api.HintOf(err))
	}
	b := published{entry: api.CatalogEntry{Bundle: &api.CatalogFile{URL: file.URL, Size: file.Size}}}
	err = b.write(t.Context(), filepath.Join(dir, "bundle.ext4"), &api.Image{Digest: file.Digest}, nil)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "at least 1EiB") {
		t.Errorf("bundle: got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}

	// On one file system a download counts twice.
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	file = oci.File{URL: "https://nowhere.invalid/x", Digest: file.Digest, Size: int64(st.Bavail) * st.Bsize / 4 * 3}
	l, err := file.Layer(oci.Options{CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	if err := room(dir, l); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("three quarters of what is free, twice: got %v", err)
	}
}
