package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/compare"
	"banger/internal/guest"
	"banger/internal/oci"
)

// Verify reads the layers of an image again and compares its disk with them and
// with what we added. The layers come from the cache, or from where the image was
// pulled from, by digest.
func (s *Store) Verify(ctx context.Context, req api.ImageVerify, p api.Progress) (v api.ImageVerified, err error) {
	img, err := s.Show(ctx, req.Name)
	if err != nil {
		return v, err
	}
	ref, err := layersOf(img)
	if err != nil {
		return v, fmt.Errorf("verify image %s: %w", display(img), err)
	}
	ours := img.Added
	if ours == nil { // from before this was stored
		files, err := guest.Files()
		if err != nil {
			return v, err
		}
		ours = added(files)
	}
	r, err := s.compareLayers(ctx, img, ref, ours, req.Insecure, p)
	if err != nil {
		return v, fmt.Errorf("verify image %s: %w", display(img), err)
	}
	return api.ImageVerified{
		Image: display(img), Digest: img.Digest, Equal: len(r.Differences) == 0, Paths: r.Paths, Bytes: r.Bytes,
		Added: orEmpty(r.Added), Replaced: orEmpty(r.Replaced), Differences: orEmpty(r.Differences),
	}, nil
}

// Diff tells how an image's disk is not what its layers are: what we added, and
// what that changed.
func (s *Store) Diff(ctx context.Context, img api.Image, insecure bool, p api.Progress) ([]api.Change, error) {
	ref, err := layersOf(img)
	if err != nil {
		return nil, fmt.Errorf("diff image %s: %w", display(img), err)
	}
	r, err := s.compareLayers(ctx, img, ref, nil, insecure, p)
	if err != nil {
		return nil, fmt.Errorf("diff image %s: %w", display(img), err)
	}
	return compare.Changes(r.Differences), nil
}

// compareLayers holds an image's disk against the layers at ref and what came on
// top of them.
func (s *Store) compareLayers(ctx context.Context, img api.Image, ref oci.Ref, ours []api.AddedFile, insecure bool, p api.Progress) (r compare.Report, err error) {
	f, err := os.Open(img.RootfsPath)
	if err != nil {
		return r, err
	}
	defer f.Close()
	disk, err := ext4.Open(f)
	if err != nil {
		return r, fmt.Errorf("disk %s: %w", img.RootfsPath, err)
	}
	fetch, err := s.fetchOptions(api.ImagePull{Platform: img.Platform, Insecure: insecure})
	if err != nil {
		return r, err
	}
	fetch.Progress = p
	// They were let through once, and nothing of them is kept now.
	fetch.MaxLayerBytes, fetch.MaxRatio = math.MaxInt64, math.MaxInt64
	release, err := oci.Hold(fetch)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, release()) }()
	src, err := oci.ResolveDigest(ctx, ref, img.Digest, fetch)
	if err != nil {
		return r, api.Hint(err, fmt.Sprintf("the layers that it was made from are needed, at %s or in the cache", ref))
	}
	made := compare.Made{Created: src.Created, Added: ours}
	if !made.Created.IsZero() {
		made.Created = ext4.ClampTime(made.Created) // as Convert does
	}
	count := rereading{total: 2 * src.Size}
	for _, l := range src.Layers {
		made.Layers = append(made.Layers, compare.Layer{Digest: l.Digest, Open: func(ctx context.Context, p api.Progress) (io.ReadCloser, error) {
			return l.Open(ctx, count.next(p))
		}})
	}
	r, err = compare.Layers(ctx, disk, made, p)
	if err == nil {
		p.Count(api.PhaseVerify, "", count.total, count.total) // layers of which nothing is left are read once
	}
	return r, err
}

// rereading counts layers that are read one after the other, each of them twice.
type rereading struct {
	done, current, total int64 // bytes as they are stored; done is without the current layer
}

// next is the progress of the next layer to be read. A stream counts for its
// reader, and nobody else does.
func (c *rereading) next(p api.Progress) api.Progress {
	c.done, c.current = c.done+c.current, 0
	if p == nil {
		return nil
	}
	return func(e api.Event) {
		if e.Phase != api.PhaseConvert {
			p(e)
			return
		}
		c.current = e.Done
		p.Count(api.PhaseVerify, "", c.done+c.current, c.total)
	}
}

// layersOf returns where the layers of an image are, or why it has none.
func layersOf(img api.Image) (oci.Ref, error) {
	none := func(why, hint string) (oci.Ref, error) {
		return oci.Ref{}, api.Hint(fmt.Errorf("%w: it has no layers to compare with: %s", api.ErrInvalid, why), hint)
	}
	kind, rest, _ := strings.Cut(img.Ref, ":")
	switch {
	case img.Ref == "":
		return none("it was registered as a disk", "banger system check tells whether the disk is still the file that was registered")
	case kind == "vm":
		return none("it was made of the disk of VM "+rest, "verify the image that the VM was made of")
	case strings.HasPrefix(img.Ref, api.CatalogPrefix) && len(img.Source.Layers) > 0:
		return none("it was made on this machine by the recipe "+rest+", whose archive is not kept", "")
	case strings.HasPrefix(img.Ref, api.CatalogPrefix):
		return none(fmt.Sprintf("it came as a bundle, which was held against its digest %s when it was pulled", img.Digest),
			fmt.Sprintf("its bundle always gives the same disk: banger image pull %s --name %s-again, and cmp the files that image show calls rootfs", rest, rest))
	}
	return oci.Normalize(img.Ref)
}

// orEmpty is what JSON shows as a list, not as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
