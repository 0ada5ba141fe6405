package export

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The head of an archive is written last, into the blocks that were left for it.
func TestHeadFits(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 8<<30 - 1, 8 << 30, 1 << 50} {
		d := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("f", 64)}, Size: size}
		b, err := head(d)
		if err != nil || len(b) != headSize {
			t.Errorf("size %d: %d bytes, %v; want %d", size, len(b), err, headSize)
		}
		r := tar.NewReader(bytes.NewReader(b))
		for _, want := range []string{"blobs/", "blobs/sha256/", "blobs/sha256/" + d.Digest.Hex} {
			h, err := r.Next()
			if err != nil || h.Name != want || h.Typeflag == tar.TypeReg && h.Size != size {
				t.Errorf("size %d: read %+v, %v; want %s", size, h, err, want)
			}
		}
	}
}
