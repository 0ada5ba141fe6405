package daemon

import (
	"context"
	"fmt"
	"strings"

	"banger/internal/api"
)

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
