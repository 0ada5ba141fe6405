package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

// A document is a small JSON blob: an index, a manifest or a config.

// checkDocument refuses a descriptor of a document that cannot be right.
func checkDocument(d v1.Descriptor) error {
	switch {
	case d.Digest.Algorithm != "sha256":
		return fmt.Errorf("digest %s: digests by %q: %w", d.Digest, d.Digest.Algorithm, errors.ErrUnsupported)
	case d.Size > maxDocument:
		return fmt.Errorf("%w: %s of %d bytes; the limit is %d", api.ErrInvalid, d.Digest, d.Size, maxDocument)
	}
	return nil
}

// verifyDocument compares data with its descriptor. Size -1 is not known.
func verifyDocument(data []byte, want v1.Descriptor) error {
	object := "document " + want.Digest.String()
	if got := sumOf(data); got != want.Digest {
		return &MismatchError{Object: object, What: "digest", Want: want.Digest.String(), Got: got.String()}
	}
	if got := int64(len(data)); want.Size >= 0 && got != want.Size {
		return &MismatchError{Object: object, What: "size", Want: fmt.Sprint(want.Size), Got: fmt.Sprint(got)}
	}
	return nil
}

// readDocument fetches and reads a whole blob.
func readDocument(ctx context.Context, b blob, d v1.Descriptor) ([]byte, error) {
	if err := checkDocument(d); err != nil {
		return nil, err
	}
	if err := b.fetch(ctx, nil); err != nil {
		return nil, err
	}
	r, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	if err := verifyDocument(data, d); err != nil {
		return nil, r.damaged(err)
	}
	return data, nil
}

// readAll reads a document, bounded.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%w: more than %d bytes of manifest", api.ErrInvalid, maxDocument)
	}
	return data, err
}

func sumOf(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
