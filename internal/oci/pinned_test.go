package oci

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcr "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"banger/internal/api"
)

// A layout and a tar that have changed: what was meant is found by its digest, or
// said to be gone.
func TestResolveDigest(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := ggcr.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	ref := mustNormalize(t, "oci:"+dir)
	var digests []string
	for range 2 {
		img, err := random.Image(10, 1)
		if err == nil {
			err = path.ReplaceImage(img, func(v1.Descriptor) bool { return true })
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := Resolve(t.Context(), ref, Options{})
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, got.Digest)
	}
	for _, digest := range digests {
		if got, err := ResolveDigest(t.Context(), ref, digest, Options{}); err != nil || got.Digest != digest {
			t.Errorf("got %+v, %v; want %s", got, err, digest)
		}
	}
	if _, err := ResolveDigest(t.Context(), ref, digests[0][:len(digests[0])-4]+"0000", Options{}); !errors.Is(err, api.ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a digest that is not there: got %v", err)
	}

	file := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(file, make([]byte, 1024), 0o600); err != nil {
		t.Fatal(err)
	}
	tar := mustNormalize(t, "tar:"+file)
	was, err := Resolve(t.Context(), tar, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ResolveDigest(t.Context(), tar, was.Digest, Options{}); err != nil {
		t.Error(err)
	}
	if _, err := ResolveDigest(t.Context(), tar, digests[0], Options{}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("a tar that is another one: got %v, want ErrNotFound", err)
	}
}
