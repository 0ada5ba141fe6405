package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"banger/ext4"
	"banger/internal/api"
)

// Check looks for what must not be: a row whose files are not as it says, a
// directory that no row names, a leftover that nobody works in. What is being
// made or removed at the moment is left out.
func (s *Store) Check(ctx context.Context, c *api.Checkup) error {
	images, err := s.Rows.Images(ctx)
	if err != nil {
		return err
	}
	for _, img := range images {
		if err := s.checkImage(ctx, img.ID, c); err != nil {
			return err
		}
	}
	e, err := s.entries()
	if err != nil {
		return err
	}
	for _, id := range e.images {
		if err := s.checkOrphan(ctx, id, c); err != nil {
			return err
		}
	}
	for _, id := range e.staging {
		s.checkStaging(id, c)
	}
	for _, name := range e.others {
		c.Found(api.Problem{Kind: "image", Name: name, Message: filepath.Join(s.Dir, name) + " is not ours"}, nil)
	}
	return nil
}

// checkOrphan looks for the row of a directory.
func (s *Store) checkOrphan(ctx context.Context, id string, c *api.Checkup) error {
	free, ok := s.tryLock(id)
	if !ok {
		return nil // in the making, or on its way out
	}
	defer free()
	_, err := s.Rows.Image(ctx, id)
	if !errors.Is(err, api.ErrNotFound) {
		return err
	}
	path := filepath.Join(s.Dir, id)
	if exists(path) {
		c.Found(api.Problem{
			Kind: "image", Name: id, Message: path + " is an image that the database does not know", Repair: "remove it",
		}, func() error { return s.removeDir(id) })
	}
	return nil
}

// checkStaging looks for who works in a staging directory.
func (s *Store) checkStaging(id string, c *api.Checkup) {
	free, ok := s.tryLock(id)
	if !ok {
		return
	}
	defer free()
	path := filepath.Join(s.Dir, id+stagingSuffix)
	if exists(path) {
		c.Found(api.Problem{
			Kind: "staging", Name: filepath.Base(path), Message: path + " is left of an image that was never made, or is removed", Repair: "remove it",
		}, func() error { return os.RemoveAll(path) })
	}
}

// exists says whether something is still there by the time that it is locked.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// checkImage compares an image's row with its files.
func (s *Store) checkImage(ctx context.Context, id string, c *api.Checkup) error {
	free, err := s.lock(ctx, id)
	if err != nil {
		return err
	}
	defer free()
	img, err := s.Rows.Image(ctx, id)
	if errors.Is(err, api.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	found := func(format string, args ...any) {
		c.Found(api.Problem{Kind: "image", Name: display(img), Message: fmt.Sprintf(format, args...)}, nil)
	}
	dir := filepath.Join(s.Dir, id)
	if img.Managed && img.RootfsPath != filepath.Join(dir, rootfsFile) {
		found("its disk is %s, want it in %s", img.RootfsPath, dir)
	}
	if err := unchanged(img); err != nil {
		found("%v", err)
	} else if err := checkDisk(img.RootfsPath); err != nil && !errors.Is(err, ext4.ErrUnclean) {
		found("disk %s: %v", img.RootfsPath, err)
	}
	for _, path := range []string{img.KernelPath, img.InitrdPath, img.ModulesDir} {
		if path == "" {
			continue
		}
		if filepath.Dir(path) != dir {
			found("%s is not in %s", path, dir)
		} else if info, err := os.Stat(path); err != nil {
			found("%v", err)
		} else if !info.Mode().IsRegular() || info.Size() == 0 {
			found("%s is empty, or not a file", path)
		}
	}
	s.checkExtra(img, c)
	return nil
}

// checkExtra looks for files in an image's directory that its row does not name:
// the kernel of a [Store.WithKernel] that was killed.
func (s *Store) checkExtra(img api.Image, c *api.Checkup) {
	dir := filepath.Join(s.Dir, img.ID)
	known := []string{rootfsFile}
	for _, path := range []string{img.KernelPath, img.InitrdPath, img.ModulesDir} {
		known = append(known, filepath.Base(path)) // "." for none, which no entry is
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		c.Found(api.Problem{Kind: "image", Name: display(img), Message: err.Error()}, nil)
		return
	}
	for _, f := range files {
		if slices.Contains(known, f.Name()) {
			continue
		}
		path := filepath.Join(dir, f.Name())
		c.Found(api.Problem{
			Kind: "image", Name: display(img), Message: path + " belongs to no part of the image", Repair: "remove it",
		}, func() error { return os.RemoveAll(path) })
	}
}
