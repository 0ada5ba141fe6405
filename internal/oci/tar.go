package oci

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"banger/internal/api"
)

// resolveTar makes an image of one flat root file system, as `docker export`
// writes it. Its digest is that of the file as it is stored, which takes one pass
// over it: the disk's identity must be known before its first byte.
func resolveTar(ctx context.Context, ref Ref, want platform, o Options) (*Image, error) {
	file := fileBlob(ref.path)
	f, err := file.open(ctx)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, &contextReader{ctx, f})
	if err != nil {
		return nil, fmt.Errorf("hash %s: %w", ref.path, err)
	}
	if size == 0 {
		return nil, fmt.Errorf("%w: %s is empty", api.ErrInvalid, ref.path)
	}
	digest := digestText(sum)
	return &Image{
		Ref:      ref.String(),
		Digest:   digest,
		Platform: want.String(),
		Size:     size,
		Layers:   []Layer{{Digest: digest, Size: size, blob: file, readAhead: o.ReadAhead, maxBytes: o.MaxLayerBytes}},
	}, nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
