package kernel

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/xi2/xz"

	"banger/internal/api"
)

// codec is a compression that kernels, modules and packages come in.
type codec struct {
	name  string
	magic string
	open  func(io.Reader) (io.Reader, error) // nil: known by name only
}

// codecs lists them by magic. The x86 kernel's xz has a BCJ filter in front of
// LZMA2 (scripts/xz_wrap.sh), which is why the xz reader is the one it is.
var codecs = []codec{
	{"gzip", "\x1f\x8b", openGzip},
	{"xz", "\xfd7zXZ\x00", openXZ},
	{"zstd", "\x28\xb5\x2f\xfd", openZstd},
	{"lz4", "\x02\x21\x4c\x18", openLZ4},
	{"bzip2", "BZh", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{"lzma", "\x5d\x00\x00", nil},
	{"lzo", "\x89LZO", nil},
}

// maxDict bounds the window of xz and zstd. Kernels have 128 MiB at the most
// (scripts/xz_wrap.sh; zstd -22 --ultra).
const maxDict = 128 << 20

// errTooLarge ends a stream that unpacks to more than it may.
var errTooLarge = errors.New("unpacked data is too large")

// codecOf finds the codec of what begins with head, or nil.
func codecOf(head []byte) *codec {
	for i := range codecs {
		if bytes.HasPrefix(head, []byte(codecs[i].magic)) {
			return &codecs[i]
		}
	}
	return nil
}

// decompress unpacks b, whatever compression it is in, to at most limit bytes.
func decompress(b []byte, limit int64) ([]byte, error) {
	c := codecOf(b)
	if c == nil {
		return nil, fmt.Errorf("unknown compression (magic % x): %w", b[:min(len(b), 6)], api.ErrInvalid)
	}
	if c.open == nil {
		return nil, fmt.Errorf("%s compression: %w", c.name, errors.ErrUnsupported)
	}
	r, err := c.open(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if closer, ok := r.(io.Closer); ok {
		defer func() { _ = closer.Close() }() // of a reader: frees memory
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if int64(out.Len()) > limit {
		return nil, fmt.Errorf("%s: %w", c.name, errTooLarge)
	}
	return out.Bytes(), nil
}

// unpackPayload unpacks the payload of a bzImage. All compressions but gzip,
// which has it built in, are followed by the unpacked size as a u32
// (size_append in scripts/Makefile.lib).
func unpackPayload(b []byte) ([]byte, error) {
	c := codecOf(b)
	if c == nil || c.name == "gzip" || len(b) < 4 {
		return decompress(b, maxKernel)
	}
	end := len(b) - 4
	want := int64(binary.LittleEndian.Uint32(b[end:]))
	data, err := decompress(b[:end], min(want, maxKernel))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != want {
		return nil, fmt.Errorf("%s: unpacked %d bytes, want %d: %w", c.name, len(data), want, io.ErrUnexpectedEOF)
	}
	return data, nil
}

func openGzip(r io.Reader) (io.Reader, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	z.Multistream(false) // a kernel may have padding behind it
	return z, nil
}

func openXZ(r io.Reader) (io.Reader, error) { return xz.NewReader(r, maxDict) }

func openZstd(r io.Reader) (io.Reader, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxDict), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

// lz4Block is the size of an unpacked block of the legacy LZ4 format, all but
// the last; lz4_Frame_format.md, "Legacy frame".
const lz4Block = 8 << 20

// lz4Reader reads the legacy LZ4 format, which is the only one kernels use.
type lz4Reader struct {
	r       io.Reader
	packed  []byte
	block   []byte // room for one unpacked block
	pending []byte // of block: not read yet
}

func openLZ4(r io.Reader) (io.Reader, error) {
	if _, err := io.CopyN(io.Discard, r, 4); err != nil { // the magic
		return nil, err
	}
	return &lz4Reader{r: r, packed: make([]byte, lz4.CompressBlockBound(lz4Block)), block: make([]byte, lz4Block)}, nil
}

// Read implements [io.Reader].
func (z *lz4Reader) Read(p []byte) (int, error) {
	for len(z.pending) == 0 {
		var head [4]byte
		if _, err := io.ReadFull(z.r, head[:]); err != nil {
			return 0, err // io.EOF between blocks is the end
		}
		size := binary.LittleEndian.Uint32(head[:])
		if int64(size) > int64(len(z.packed)) {
			return 0, fmt.Errorf("block of %d bytes: %w", size, api.ErrInvalid)
		}
		if _, err := io.ReadFull(z.r, z.packed[:size]); err != nil {
			return 0, fmt.Errorf("read block: %w", noEOF(err))
		}
		n, err := lz4.UncompressBlock(z.packed[:size], z.block)
		if err != nil {
			return 0, err
		}
		z.pending = z.block[:n]
	}
	n := copy(p, z.pending)
	z.pending = z.pending[n:]
	return n, nil
}

// noEOF turns an end that came too early into one that cannot pass for the end
// of the stream.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
