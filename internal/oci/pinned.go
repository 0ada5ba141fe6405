package oci

import (
	"context"
	"fmt"

	"banger/internal/api"
)

// ResolveDigest resolves the image that a reference meant when its digest was
// this one, wherever a tag points by now. It is [api.ErrNotFound] when that is
// not there any more.
func ResolveDigest(ctx context.Context, ref Ref, digest string, o Options) (*Image, error) {
	pinned := ref
	if ref.kind == inRegistry || ref.kind == inLayout || ref.kind == inArchive { // others are one image, and may have become another
		pinned.tag, pinned.digest = "", digest
	}
	img, err := Resolve(ctx, pinned, o)
	if err == nil && img.Digest != digest {
		err = fmt.Errorf("resolve %s: %w: it has changed, to %s from %s", ref, api.ErrNotFound, img.Digest, digest)
	}
	return img, err
}
