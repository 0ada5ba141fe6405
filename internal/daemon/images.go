package daemon

import (
	"context"
	"errors"
	"fmt"

	"banger/internal/api"
	"banger/internal/image"
)

// removeImage removes an image; with force the VMs that use it go first, also
// those that somebody makes meanwhile.
func (d *daemon) removeImage(ctx context.Context, req api.ImageRemove) (api.ImageRemoved, error) {
	var vms []string
	for {
		removed, err := d.images.Remove(ctx, req)
		removed.VMs = vms
		if !req.Force || !errors.Is(err, api.ErrInUse) {
			return removed, err
		}
		gone, err := d.removeUsers(ctx, removed.Image.ID)
		if vms = append(vms, gone...); err != nil {
			return removed, fmt.Errorf("remove image %s: %w", req.Name, err)
		}
	}
}

// removeUsers kills and removes the VMs that use an image and returns their names.
func (d *daemon) removeUsers(ctx context.Context, imageID string) (gone []string, err error) {
	all, err := d.rows.VMs(ctx)
	if err != nil {
		return nil, err
	}
	for _, row := range all {
		if row.ImageID != imageID {
			continue
		}
		if _, err := d.removeVM(ctx, api.VMRemove{Name: row.ID, Force: true}); err != nil && !errors.Is(err, api.ErrNotFound) {
			return gone, err
		}
		gone = append(gone, row.Name)
	}
	return gone, nil
}

// promoteImage makes the disk of a VM that does not run an image.
func (d *daemon) promoteImage(ctx context.Context, req api.ImagePromote, p api.Progress) (img api.Image, err error) {
	row, err := d.rows.VM(ctx, req.VM)
	if err != nil {
		return img, vmHint(err)
	}
	if req.Name == "" {
		req.Name = row.Name
	}
	base, err := d.images.Show(ctx, row.ImageID)
	if err != nil {
		return img, err
	}
	disk, release, err := d.vms.Hold(row.ID)
	if err != nil {
		return img, fmt.Errorf("promote vm %s: %w", row.Name, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	return d.images.Promote(ctx, image.Promotion{Name: req.Name, VM: row.Name, Disk: disk, Base: base}, p)
}
