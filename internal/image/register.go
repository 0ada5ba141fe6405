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
	"banger/internal/clone"
)

// Register makes a rootfs that exists an image. In place, the file stays where it
// is, is only ever read, and stays when the image is removed; with req.Copy the
// image has a copy of its own. The kernel is chosen by the same rule as in a pull.
func (s *Store) Register(ctx context.Context, req api.ImageRegister, platform string, p api.Progress) (img api.Image, err error) {
	free, err := s.newName(ctx, req.Name)
	if err != nil {
		return img, err
	}
	defer free()
	rootfs, info, err := checkRootfs(req.RootfsPath)
	if err != nil {
		return img, fmt.Errorf("register %s: %w", req.Name, err)
	}
	stage, err := s.newStage(ctx)
	if err != nil {
		return img, fmt.Errorf("register %s: %w", req.Name, err)
	}
	defer func() { err = stage.end(err) }()
	kernel, err := s.Kernels.Stage(ctx, req.KernelChoice, stage.dir, p)
	if err != nil {
		return img, fmt.Errorf("register %s: %w", req.Name, err)
	}
	img = api.Image{
		ID: stage.id, Name: req.Name, Names: []string{req.Name}, Platform: platform,
		RootfsPath: rootfs, SizeBytes: info.Size(), AllocatedBytes: allocated(rootfs),
		RootfsModTime: info.ModTime(), CreatedAt: time.Now().UTC(), Added: []api.AddedFile{},
	}
	if req.Copy {
		if err := stage.copyDisk(ctx, &img, rootfs, p); err != nil {
			return img, fmt.Errorf("register %s: %w", req.Name, err)
		}
		if now, err := os.Stat(rootfs); err != nil || !sameAs(now, info) {
			return img, errors.Join(fmt.Errorf("register %s: %s has changed while it was copied", req.Name, rootfs), err)
		}
	}
	kernelPaths(&img, kernel, stage.final)
	if err := stage.publish(ctx, img); err != nil {
		return img, fmt.Errorf("register %s: %w", req.Name, err)
	}
	noKernel(img, p)
	return img, nil
}

// copyDisk gives img a copy of a disk, which then is ours.
func (st *stage) copyDisk(ctx context.Context, img *api.Image, disk string, p api.Progress) error {
	path := filepath.Join(st.dir, rootfsFile)
	if err := clone.File(ctx, path, disk, clone.Options{Sync: true}, p); err != nil {
		return explain(err, st.store.Dir)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	img.Managed, img.RootfsPath = true, filepath.Join(st.final, rootfsFile)
	img.SizeBytes, img.AllocatedBytes, img.RootfsModTime = info.Size(), allocated(path), info.ModTime()
	return nil
}

func sameAs(a, b os.FileInfo) bool { return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) }

// Unchanged returns an error if the rootfs of a registered image is not the
// file it was when it was registered.
func Unchanged(img api.Image) error {
	if img.Managed {
		return nil
	}
	if err := unchanged(img); err != nil {
		return api.Hint(fmt.Errorf("image %s: %w", img.Name, err),
			fmt.Sprintf("register it again: banger image rm %s, then banger image register", img.Name))
	}
	return nil
}

// unchanged returns an error if the rootfs is not the file that it was when the
// row was made.
func unchanged(img api.Image) error {
	info, err := os.Stat(img.RootfsPath)
	switch {
	case err != nil:
		return err
	case info.Size() != img.SizeBytes:
		return fmt.Errorf("%s has changed: %d bytes, want %d", img.RootfsPath, info.Size(), img.SizeBytes)
	case !info.ModTime().Equal(img.RootfsModTime):
		return fmt.Errorf("%s has changed, at %s", img.RootfsPath, info.ModTime().UTC().Format(time.RFC3339))
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
	if _, err := ext4.Open(f); errors.Is(err, ext4.ErrUnclean) {
		return "", nil, api.Hint(fmt.Errorf("%w rootfs %s: %w", api.ErrInvalid, abs, err), "e2fsck -p "+abs)
	} else if err != nil {
		return "", nil, fmt.Errorf("%w rootfs %s: %w", api.ErrInvalid, abs, err)
	}
	return abs, info, nil
}
