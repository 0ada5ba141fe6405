package image

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"banger/internal/api"
	"banger/internal/oci"
)

// Pull makes req.Ref an image of the store: a name in a catalog, or what
// oci.Normalize takes. The same name and the same source
// again is "up to date" when the digest is the same, else the image is replaced;
// the same name and another source is [api.ErrExists], said before any download.
// Two pulls of the same at once are one. On any error nothing is left behind but
// cached blobs.
func (s *Store) Pull(ctx context.Context, req api.ImagePull, p api.Progress) (api.Image, error) {
	from, err := s.origin(&req, p)
	if err != nil {
		return api.Image{}, err
	}
	if err := api.CheckName("image", req.Name); err != nil {
		return api.Image{}, err
	}
	return s.flights.join(ctx, req, p, func(ctx context.Context, p api.Progress) (api.Image, error) {
		return s.pull(ctx, req, from, p)
	})
}

// pull reads from top to bottom as what a pull is.
func (s *Store) pull(ctx context.Context, req api.ImagePull, from origin, p api.Progress) (img api.Image, err error) {
	t := newTimeline()
	name := req.Name
	free, err := s.lock(ctx, name)
	if err != nil {
		return img, err
	}
	defer free()
	old, err := s.Rows.Image(ctx, name)
	known := err == nil && old.Name == name
	if err != nil && !errors.Is(err, api.ErrNotFound) {
		return img, err
	}
	if known && old.Ref != req.Ref {
		return img, s.nameTaken(ctx, old)
	}

	fetch, err := s.Fetch()
	if err != nil {
		return img, err
	}
	fetch.Progress = p
	release, err := oci.Hold(fetch)
	if err != nil {
		return img, fmt.Errorf("pull %s: %w", req.Ref, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	stage, err := s.newStage(ctx)
	if err != nil {
		return img, fmt.Errorf("pull %s: %w", req.Ref, err)
	}
	defer func() { err = stage.end(err) }()
	img = api.Image{ID: stage.id, Name: name, Names: []string{name}, Ref: req.Ref, Managed: true, RootfsPath: filepath.Join(stage.final, rootfsFile)}
	if err := from.find(ctx, stage.dir, &img, p); err != nil {
		return img, err
	}
	t.add(img.Phases)
	img.Phases = nil
	t.mark("resolve")
	if known && upToDate(old, img, req) {
		p.Note("image", fmt.Sprintf("%s is up to date", name))
		img, err = s.Show(ctx, old.ID)
		img.Phases = t.phases
		return img, err
	}
	// The kernel is staged first: a kernel that does not exist should not cost a
	// download.
	kernel, err := s.Kernels.Stage(ctx, req.KernelChoice, stage.dir, p)
	if err != nil {
		return img, fmt.Errorf("pull %s: %w", req.Ref, err)
	}
	t.mark("kernel")
	disk := filepath.Join(stage.dir, rootfsFile)
	if err := from.write(ctx, disk, &img, p); err != nil {
		return img, fmt.Errorf("pull %s: %w", req.Ref, err)
	}
	t.add(img.Phases)

	img.AllocatedBytes, img.CreatedAt = allocated(disk), time.Now().UTC()
	kernelPaths(&img, kernel, stage.final)
	if err := stage.publish(ctx, img); err != nil {
		return img, fmt.Errorf("pull %s: %w", req.Ref, err)
	}
	t.mark("publish")
	img.Phases = t.phases
	noKernel(img, p)
	if err := s.DropUnused(context.WithoutCancel(ctx)); err != nil {
		// The new image is whole; the next start tries again.
		p.Warn("image", fmt.Sprintf("the replaced image could not be removed: %v", err))
	}
	return img, nil
}

// upToDate says whether pulling req, which would give what img says, would give
// what old is.
func upToDate(old, img api.Image, req api.ImagePull) bool {
	sameKernel := req.KernelPath == "" && (req.KernelRef == "" || req.KernelRef == old.KernelRef)
	sameSize := req.SizeBytes == 0 || req.SizeBytes == old.SizeBytes
	sameFiles := req.NoGuestFiles == (old.Added != nil && len(old.Added) == 0) // nil: from before this was stored, when it was the rule
	return img.Digest != "" && old.Digest == img.Digest && old.Platform == img.Platform && sameKernel && sameSize && sameFiles
}
