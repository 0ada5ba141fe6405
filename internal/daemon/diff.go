package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/compare"
	"banger/internal/image"
)

// diff tells what has changed: in an image since its layers, or on the disk of a
// VM since its image. A name that both have is nobody's.
func (d *daemon) diff(ctx context.Context, req api.ImageDiff, p api.Progress) ([]api.Change, error) {
	kind, name, ok := strings.Cut(req.Name, ":")
	if !ok || kind != "image" && kind != "vm" {
		kind, name = "", req.Name
	}
	img, imgErr := d.images.Show(ctx, name)
	row, vmErr := d.rows.VM(ctx, name)
	switch {
	case kind == "" && imgErr == nil && vmErr == nil:
		return nil, api.Hint(fmt.Errorf("%w name %s: it is an image's and a VM's", api.ErrInvalid, name), fmt.Sprintf("say image:%s or vm:%s", name, name))
	case kind == "vm" && vmErr != nil:
		return nil, vmHint(vmErr)
	case kind == "vm", kind == "" && vmErr == nil:
		return d.diffVM(ctx, row, p)
	case errors.Is(imgErr, api.ErrNotFound) && kind == "":
		return nil, api.Hint(fmt.Errorf("image or vm %s: %w", name, api.ErrNotFound), "see what there is: banger image list, banger vm list")
	case imgErr != nil:
		return nil, imgErr
	}
	return d.images.Diff(ctx, img, req.Insecure, p)
}

// diffVM compares the disk of a VM with the image it was made of. The VM does not
// start meanwhile.
func (d *daemon) diffVM(ctx context.Context, row api.VM, p api.Progress) (changes []api.Change, err error) {
	fail := func(err error) error { return fmt.Errorf("diff vm %s: %w", row.Name, err) }
	img, err := d.images.Show(ctx, row.ImageID)
	if err != nil {
		return nil, fail(err)
	}
	if err := image.Unchanged(img); err != nil {
		return nil, fail(err)
	}
	path, release, err := d.vms.Hold(row.ID)
	if err != nil {
		return nil, fail(err)
	}
	defer func() { err = errors.Join(err, release()) }()
	was, closeImage, err := openDisk(img.RootfsPath)
	if err != nil {
		return nil, fail(err)
	}
	defer func() { err = errors.Join(err, closeImage()) }()
	is, closeVM, err := openDisk(path)
	if errors.Is(err, ext4.ErrUnclean) {
		err = api.Hint(err, fmt.Sprintf("it was not shut down; a boot replays the journal: banger vm start %s && banger vm stop %s", row.Name, row.Name))
	}
	if err != nil {
		return nil, fail(err)
	}
	defer func() { err = errors.Join(err, closeVM()) }()
	r, err := compare.Disks(ctx, was, is, p)
	if err != nil {
		return nil, fail(err)
	}
	return compare.Changes(r.Differences), nil
}

// openDisk opens the file system in a file.
func openDisk(path string) (*ext4.FS, func() error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	disk, err := ext4.Open(f)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("disk %s: %w", path, err), f.Close())
	}
	return disk, f.Close, nil
}
