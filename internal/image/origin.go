package image

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/oci"
)

// origin is where the content of an image comes from.
type origin interface {
	// find fills in what is known of the image before its disk is written: digest
	// and platform at least. dir is there for what has to be made for that; who
	// pulls removes it in the end.
	find(ctx context.Context, dir string, img *api.Image, p api.Progress) error
	// write writes the disk to path, durably, and fills in the rest.
	write(ctx context.Context, path string, img *api.Image, p api.Progress) error
}

// origin says what req.Ref means, and puts what follows from that into req: its
// normalized form, a name, and the kernel that a catalog asks for.
func (s *Store) origin(req *api.ImagePull, p api.Progress) (origin, error) {
	fetch, err := s.fetchOptions(*req)
	if err != nil {
		return nil, err
	}
	name, only := strings.CutPrefix(req.Ref, api.CatalogPrefix)
	if s.Catalogs != nil && (only || catalog.IsName(req.Ref)) {
		e, err := s.Catalogs.Find(name, arch(req.Platform))
		if err == nil {
			return fromCatalog(req, e, fetch, p)
		}
		if only || !errors.Is(err, api.ErrNotFound) {
			return nil, err
		}
	}
	return fromSource(req, fetch)
}

// fromSource makes an origin of whatever oci can read.
func fromSource(req *api.ImagePull, fetch oci.Options) (origin, error) {
	ref, err := oci.Normalize(req.Ref)
	if err != nil {
		return nil, err
	}
	req.Ref = ref.String()
	if req.Name == "" {
		req.Name = ref.Name()
	}
	return &layers{ref: ref, options: fetch, disk: diskOptions(*req)}, nil
}

// fromCatalog makes an origin of an entry of a catalog.
func fromCatalog(req *api.ImagePull, e api.CatalogEntry, fetch oci.Options, p api.Progress) (origin, error) {
	if req.Name == "" {
		req.Name = e.Name
	}
	if e.KernelRef != "" && req.KernelRef == "" {
		if req.KernelChoice != (api.KernelChoice{}) {
			p.Warn("kernel", fmt.Sprintf("%s asks for kernel %s: the files given are not used; --kernel-ref chooses another", e.Name, e.KernelRef))
		}
		req.KernelChoice = api.KernelChoice{KernelRef: e.KernelRef}
	}
	what := fmt.Sprintf("%s is in catalog %s: ", e.Name, e.Catalog)
	switch {
	case e.OCI != nil:
		p.Note("catalog", what+e.OCI.Ref)
		req.Ref = e.OCI.Ref
		return fromSource(req, fetch)
	case e.Apt != nil:
		p.Note("catalog", what+"a recipe for this machine's package sources")
		if a := arch(req.Platform); a != runtime.GOARCH {
			return nil, fmt.Errorf("%w: %s is made on this machine, for %s, not for %s", api.ErrInvalid, e.Name, runtime.GOARCH, a)
		}
		req.Ref = api.CatalogPrefix + e.Name
		return &recipe{entry: e, layers: layers{options: fetch, disk: diskOptions(*req)}}, nil
	}
	p.Note("catalog", what+e.Bundle.URL)
	if req.NoGuestFiles {
		return nil, api.Hint(fmt.Errorf("%w: %s is a bundle, which is taken as it is", api.ErrInvalid, e.Name), "leave --no-guest-files out")
	}
	req.Ref = api.CatalogPrefix + e.Name
	return &published{entry: e, options: fetch, size: req.SizeBytes}, nil
}

// fetchOptions are the user's, for one pull.
func (s *Store) fetchOptions(req api.ImagePull) (oci.Options, error) {
	o, err := s.Fetch()
	o.Platform, o.Insecure, o.ReadAhead = req.Platform, req.Insecure, ReadAhead()
	o.MaxLayerBytes, o.MaxRatio = req.Limits.Bytes, req.Limits.Ratio
	return o, err
}

func diskOptions(req api.ImagePull) Options {
	return Options{SizeBytes: req.SizeBytes, NoGuestFiles: req.NoGuestFiles, Sync: true, Limits: req.Limits}
}

// arch returns the architecture of "os/arch[/variant]"; "" is this machine's.
func arch(platform string) string {
	if parts := strings.Split(platform, "/"); len(parts) > 1 {
		return parts[1]
	}
	return runtime.GOARCH
}

// layers are an image of a registry, a layout or a tar.
type layers struct {
	ref     oci.Ref
	options oci.Options
	disk    Options

	src *oci.Image // once found
}

func (l *layers) find(ctx context.Context, _ string, img *api.Image, p api.Progress) error {
	p.Say("resolve", "resolving "+l.ref.String())
	return l.resolve(ctx, img, p)
}

func (l *layers) resolve(ctx context.Context, img *api.Image, p api.Progress) (err error) {
	l.options.Progress = p
	if l.src, err = oci.Resolve(ctx, l.ref, l.options); err != nil {
		return err
	}
	img.Digest, img.Platform, img.Process, img.Source = l.src.Digest, l.src.Platform, l.src.Config, l.src.Source
	return nil
}

func (l *layers) write(ctx context.Context, path string, img *api.Image, p api.Progress) error {
	disk, err := ConvertFile(ctx, l.src, path, l.disk, p)
	img.SizeBytes, img.RootfsModTime, img.Added, img.Warnings = disk.SizeBytes, disk.ModTime, disk.Added, disk.Warnings
	img.Phases = append(img.Phases, disk.Phases...)
	return err
}
