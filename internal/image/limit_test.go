package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/api"
	"banger/internal/oci"
)

// TestLimits has an image meet each limit: the error names it, and the hint what
// raises it. With the limit raised, the image is converted.
func TestLimits(t *testing.T) {
	t.Parallel()
	var layer bytes.Buffer
	gz := gzip.NewWriter(&layer)
	w := tar.NewWriter(gz)
	for i := range 20 {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint("file", i), Mode: 0o644, Size: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	gz.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "root.tar.gz")
	if err := os.WriteFile(path, layer.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	convert := func(l api.Limits) error {
		ref, err := oci.Normalize("tar:" + path)
		if err != nil {
			t.Fatal(err)
		}
		s := Store{Fetch: func() (oci.Options, error) { return oci.Options{}, nil }}
		fetch, err := s.fetchOptions(api.ImagePull{Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		src, err := oci.Resolve(t.Context(), ref, fetch)
		if err != nil {
			t.Fatal(err)
		}
		o := diskOptions(api.ImagePull{Limits: l, NoGuestFiles: true})
		o.Force, o.Sync = true, false
		_, err = ConvertFile(t.Context(), src, filepath.Join(dir, "disk.ext4"), o, nil)
		return err
	}
	for _, tc := range []struct {
		limits    api.Limits
		err, hint string
	}{
		{api.Limits{Bytes: 10 << 20}, "uncompressed (MaxLayerBytes)", "--limit bytes=1g"},
		{api.Limits{Entries: 19}, "limit of 19 entries (MaxEntries)", "--limit entries=38"},
		{api.Limits{MetadataBytes: 100}, "limit of 100 bytes of names and attributes (MaxMetadata)", "--limit metadata=1g"},
	} {
		err := convert(tc.limits)
		if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.Contains(api.HintOf(err), tc.hint) {
			t.Errorf("%+v: got %v, hint %q, want %q and %q", tc.limits, err, api.HintOf(err), tc.err, tc.hint)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "disk*")); err != nil || len(left) > 0 {
			t.Errorf("%+v: %v are left, %v", tc.limits, left, err)
		}
	}
	if err := convert(api.Limits{Bytes: 30 << 20, Ratio: 1, Entries: 21, MetadataBytes: 4096}); err != nil {
		t.Errorf("below the limits: %v", err)
	}
	if got := allowing(&oci.LimitError{Option: "MaxRatio", Value: 200}); got != "ratio=2000" {
		t.Errorf("got %q, want ratio=2000", got)
	}
}
