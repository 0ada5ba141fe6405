package export

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
)

// The header of a layer is written last, into the block that was left for it.
func TestHeaderIsOneBlock(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 8<<30 - 1, 8 << 30, 1 << 50} {
		var b bytes.Buffer
		name := "blobs/sha256/" + strings.Repeat("f", 64)
		if err := tar.NewWriter(&b).WriteHeader(header(name, size)); err != nil || b.Len() != tarBlock {
			t.Errorf("size %d: %d bytes, %v; want %d", size, b.Len(), err, tarBlock)
		}
		if h, err := tar.NewReader(&b).Next(); err != nil || h.Size != size || h.Name != name {
			t.Errorf("size %d: read %+v, %v", size, h, err)
		}
	}
}
