package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/oci"
)

// pullKernel fetches Debian's kernel, or one that a catalog names.
func (d *daemon) pullKernel(ctx context.Context, req api.KernelPull, p api.Progress) (api.Kernel, error) {
	if req.Source == "debian" || !catalog.IsName(req.Source) {
		return d.kernels.Pull(ctx, req, p)
	}
	e, err := d.images.Catalogs.FindKernel(req.Source, cmp.Or(req.Arch, runtime.GOARCH))
	if err != nil {
		return api.Kernel{}, api.Hint(err, "kernels can be pulled from: debian; and see what there is: banger catalog list --kernels")
	}
	return d.kernels.PullFile(ctx, cmp.Or(req.Name, e.Name), e, func(ctx context.Context, path string) (err error) {
		o, err := d.fetch()
		if err != nil {
			return err
		}
		o.Progress = p
		release, err := oci.Hold(o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
		return oci.File{URL: e.URL, Digest: "sha256:" + e.SHA256, Size: e.Size}.Save(ctx, path, o)
	}, p)
}

// defaultKernel tells the default kernel, after it has changed it when there is a
// name.
func (d *daemon) defaultKernel(_ context.Context, req api.KernelDefault) (api.Kernel, error) {
	if req.Name != "" {
		if err := d.kernels.SetDefault(req.Name); err != nil {
			return api.Kernel{}, err
		}
	}
	return d.kernels.Default()
}

// removeKernel removes a kernel that no image was made with.
func (d *daemon) removeKernel(ctx context.Context, req api.KernelRemove) (none, error) {
	if !req.Force {
		images, err := d.images.List(ctx)
		if err != nil {
			return none{}, err
		}
		var users []string
		for _, img := range images {
			if img.KernelRef != req.Name {
				continue
			}
			if img.Name == "" {
				img.Name = img.ID
			}
			users = append(users, img.Name)
		}
		if len(users) > 0 {
			return none{}, api.Hint(fmt.Errorf("remove kernel %s: %w by image %s", req.Name, api.ErrInUse, strings.Join(users, ", ")),
				"images keep their copy: --force removes it from the store alone")
		}
	}
	return none{}, d.kernels.Remove(req.Name)
}
