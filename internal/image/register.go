package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"banger/ext4"
	"banger/internal/api"
)

// Register makes a rootfs that exists an image, in place: the file stays where
// it is, is only ever read, and stays when the image is removed. The kernel is
// chosen by the same rule as in a pull.
func (s *Store) Register(ctx context.Context, req api.ImageRegister, platform string, p api.Progress) (img api.Image, err error) {
	if err := api.CheckName("image", req.Name); err != nil {
		return img, err
	}
	free, err := s.lock(ctx, req.Name)
	if err != nil {
		return img, err
	}
	defer free()
	if old, err := s.Rows.Image(ctx, req.Name); err == nil && old.Name == req.Name {
		return img, nameTaken(req.Name, old)
	} else if err != nil && !errors.Is(err, api.ErrNotFound) {
		return img, err
	}
	rootfs, info, err := checkRootfs(req.RootfsPath)
	if err != nil {
		return img, fmt.Errorf("register %s: %w", req.Name, err)
	}

	id := newID()
	stage, final := filepath.Join(s.Dir, id+stagingSuffix), filepath.Join(s.Dir, id)
	if err := os.MkdirAll(stage, 0o700); err != nil {
		return img, fmt.Errorf("register %s: %w", req.Name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(stage), os.RemoveAll(final))
		}
	}()
	kernel, err := s.Kernels.Stage(ctx, req.KernelChoice, stage, p)
	if err != nil {
		return img, fmt.Errorf("register %s: %w", req.Name, err)
	}
	img = api.Image{
		ID: id, Name: req.Name, Platform: platform,
		RootfsPath: rootfs, SizeBytes: info.Size(), AllocatedBytes: allocated(rootfs),
		RootfsModTime: info.ModTime(), CreatedAt: time.Now().UTC(),
	}
	kernelPaths(&img, kernel, final)
	if err := publish(stage, final); err != nil {
		return img, fmt.Errorf("register %s: %w", req.Name, err)
	}
	if err := s.Rows.PutImage(ctx, img); err != nil {
		return img, err
	}
	noKernel(img, p)
	return img, nil
}

// Unchanged returns an error if the rootfs of a registered image is not the
// file it was when it was registered.
func Unchanged(img api.Image) error {
	if img.Managed {
		return nil
	}
	info, err := os.Stat(img.RootfsPath)
	if err != nil {
		return fmt.Errorf("image %s: %w", img.Name, err)
	}
	if info.Size() != img.SizeBytes || !info.ModTime().Equal(img.RootfsModTime) {
		return api.Hint(fmt.Errorf("image %s: %s has changed since it was registered", img.Name, img.RootfsPath),
			fmt.Sprintf("register it again: banger image rm %s, then banger image register", img.Name))
	}
	return nil
}

// checkRootfs returns the absolute path of a file that holds an ext4 file system.
func checkRootfs(path string) (string, os.FileInfo, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(abs)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() {
		return "", nil, fmt.Errorf("%w rootfs %s: not a regular file", api.ErrInvalid, abs)
	}
	if _, err := ext4.Open(f); err != nil {
		return "", nil, fmt.Errorf("%w rootfs %s: %w", api.ErrInvalid, abs, err)
	}
	return abs, info, nil
}
