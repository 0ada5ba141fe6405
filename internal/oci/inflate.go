package oci

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"banger/internal/api"
	gunzip "banger/internal/inflate"
)

// maxWindow bounds the memory that a zstd frame may ask for, in bytes: what
// `zstd --long` goes up to without a warning.
const maxWindow = 128 << 20

// Signatures that we know to name in an error.
var unsupported = []struct{ magic, name, tool string }{
	{"BZh", "bzip2", "bzip2 -d"},
	{"\xfd7zXZ\x00", "xz", "xz -d"},
	{"\x04\x22\x4d\x18", "lz4", "lz4 -d"},
}

// inflate returns the uncompressed stream of r. What it is compressed with is
// told by its first bytes: media types are often wrong.
func inflate(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 128<<10)
	head, err := br.Peek(8)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")): // RFC 1952, 2.3.1
		return io.NopCloser(gunzip.NewReader(br)), nil
	case isZstd(head):
		d, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<62))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	for _, u := range unsupported {
		if bytes.HasPrefix(head, []byte(u.magic)) {
			return nil, api.Hint(fmt.Errorf("%s compression: %w", u.name, errors.ErrUnsupported),
				fmt.Sprintf("use gzip, zstd or none; for a file: `%s`", u.tool))
		}
	}
	return io.NopCloser(br), nil
}

// isZstd recognizes a frame, or a skippable frame in front of one (RFC 8878, 3.1).
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")) ||
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte("\x2a\x4d\x18"))
}
