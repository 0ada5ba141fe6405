package oci

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

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
	fi, err := os.Stat(ref.path)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	m := newMeter(o.Progress, api.PhaseHash, "", fi.Size())
	size, err := io.CopyBuffer(sum, &meteredReader{ctx, f, m}, make([]byte, chunkSize))
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
		Source:   api.Source{Layers: []api.SourceLayer{{Digest: digest, Size: size}}},
		Size:     size,
		Layers:   []Layer{{Digest: digest, Size: size, blob: file, ahead: newAhead(o.ReadAhead), limit: o.limit()}},
	}, nil
}

// meteredReader counts what is read, and ends with its context.
type meteredReader struct {
	ctx   context.Context //nolint:containedctx // a Reader is given none
	r     io.Reader
	meter *meter
}

func (r *meteredReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.r.Read(p)
	r.meter.add(int64(n))
	return n, err
}
