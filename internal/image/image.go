// Package image turns refs into bootable images and keeps them: pull, register,
// promote, name, list, show, remove, prune and check. [Store.Pull] is the way in;
// [Convert] is its core, the way from layers to one ext4 file, and needs no store.
//
// An image is a directory named by its ID with rootfs.ext4 and, when a kernel
// is known, vmlinux, modules.ext4 and initrd; and a row. The directory is
// complete before it takes its name, and the row comes after it: a crash leaves
// at most a directory that no row names, which [Store.Clean] removes.
package image

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"banger/internal/api"
	"banger/internal/catalog"
	"banger/internal/dirs"
	"banger/internal/oci"
	"banger/internal/store"
)

// Store is the images of one state directory.
type Store struct {
	Dir     string       // holds a directory for each image
	Fetch   Fetch        // how to fetch
	Rows    *store.Store // the rows
	Kernels Kernels      // where kernels come from

	Catalogs *catalog.Set // what names mean; nil: nothing

	flights flights

	mu   sync.Mutex               // guards busy
	busy map[string]chan struct{} // names that are being written; closed when free again
}

// Fetch says how to fetch, as the user has set it, and where the cache is, which is
// shared with every other puller. It is asked anew for each pull.
type Fetch func() (oci.Options, error)

// Kernels stages what boots an image. It is given a choice and a directory and
// puts vmlinux, modules.ext4 and initrd into the directory; the result says what
// it put there, by path. No kernel chosen and none to be had is the zero result.
type Kernels interface {
	Stage(ctx context.Context, choice api.KernelChoice, dir string, p api.Progress) (api.KernelChoice, error)
}

// WithKernel returns the image of that name or ID with a kernel: one that has none
// gets the default kernel for good. [api.ErrNotFound] when there is none either.
func (s *Store) WithKernel(ctx context.Context, nameOrID string, p api.Progress) (img api.Image, err error) {
	img, err = s.Show(ctx, nameOrID)
	if err != nil || img.KernelPath != "" {
		return img, err
	}
	free, err := s.lock(ctx, img.ID)
	if err != nil {
		return img, err
	}
	defer free()
	// Another may have given it one while we waited.
	if img, err = s.Show(ctx, nameOrID); err != nil || img.KernelPath != "" {
		return img, err
	}
	stage, err := s.newStage(ctx)
	if err != nil {
		return img, err
	}
	defer func() { err = stage.end(err) }()
	kernel, err := s.Kernels.Stage(ctx, api.KernelChoice{}, stage.dir, p)
	if err != nil {
		return img, fmt.Errorf("image %s: %w", img.Name, err)
	}
	if kernel.KernelPath == "" {
		return img, api.Hint(fmt.Errorf("image %s has no kernel, and there is no default one: %w", img.Name, api.ErrNotFound),
			"fetch one: banger kernel pull debian")
	}
	dir := filepath.Join(s.Dir, img.ID)
	for _, path := range []string{kernel.KernelPath, kernel.InitrdPath, kernel.ModulesDir} {
		if path == "" {
			continue
		}
		if err := os.Rename(path, filepath.Join(dir, filepath.Base(path))); err != nil {
			return img, err
		}
	}
	if err := dirs.Sync(dir); err != nil {
		return img, err
	}
	kernelPaths(&img, kernel, dir)
	return img, s.Rows.SetKernel(ctx, img)
}

// List returns all images, newest first.
func (s *Store) List(ctx context.Context) ([]api.Image, error) {
	images, err := s.Rows.Images(ctx)
	if err != nil {
		return nil, err
	}
	for i := range images {
		images[i].AllocatedBytes = allocated(images[i].RootfsPath)
	}
	return images, nil
}

// Show returns the image of that name or ID, else [api.ErrNotFound].
func (s *Store) Show(ctx context.Context, nameOrID string) (api.Image, error) {
	img, err := s.Rows.Image(ctx, nameOrID)
	if errors.Is(err, api.ErrNotFound) {
		return img, api.Hint(err, "see what there is: banger image list; fetch one: banger image pull <ref>")
	}
	img.AllocatedBytes = allocated(img.RootfsPath)
	return img, err
}

// Clean removes what a crash left: staging directories, and directories and files
// that no row names. It is called before anything else uses the store. What it cannot
// name as its own it leaves alone.
func (s *Store) Clean(ctx context.Context) error {
	if err := s.DropUnused(ctx); err != nil {
		return err
	}
	e, err := s.entries()
	if err != nil {
		return err
	}
	for _, id := range e.staging {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.Dir, id+stagingSuffix)))
	}
	for _, id := range e.images {
		if _, rowErr := s.Rows.Image(ctx, id); errors.Is(rowErr, api.ErrNotFound) {
			err = errors.Join(err, s.removeDir(id))
		}
	}
	images, rowsErr := s.Rows.Images(ctx)
	for _, img := range images {
		s.checkExtra(img, &api.Checkup{Repair: true}) // what cannot be removed does not stop the daemon
	}
	return errors.Join(err, rowsErr)
}

// lock waits until nobody else writes name, or the image of that ID, and returns
// what frees it. Who needs both locks the name first.
func (s *Store) lock(ctx context.Context, name string) (free func(), err error) {
	for {
		s.mu.Lock()
		other, taken := s.busy[name]
		if !taken {
			defer s.mu.Unlock()
			return s.take(name), nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryLock is lock for those who do not want to wait.
func (s *Store) tryLock(name string) (free func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.busy[name]; taken {
		return nil, false
	}
	return s.take(name), true
}

// take marks name as busy; s.mu is held.
func (s *Store) take(name string) (free func()) {
	mine := make(chan struct{})
	if s.busy == nil {
		s.busy = map[string]chan struct{}{}
	}
	s.busy[name] = mine
	return func() {
		s.mu.Lock()
		delete(s.busy, name)
		s.mu.Unlock()
		close(mine)
	}
}

// removeDir removes an image's directory in two steps, the first of which is
// atomic: a half-removed image never looks like a whole one.
func (s *Store) removeDir(id string) error {
	dir := filepath.Join(s.Dir, id)
	doomed := dir + stagingSuffix
	if err := os.Rename(dir, doomed); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(doomed)
}

// rootfsFile is the disk in an image's directory.
const rootfsFile = "rootfs.ext4"

// stagingSuffix marks a directory that is not an image: not yet, or no longer.
const stagingSuffix = ".staging"

func newID() string {
	var b [6]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func isID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 6
}

// allocated returns the bytes that the file takes on the host's disk, 0 when it
// cannot be read.
func allocated(path string) int64 {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0
	}
	return st.Blocks * 512
}

// kernelPaths puts the paths of a staged kernel into img, as they are once the
// staging directory is dir.
func kernelPaths(img *api.Image, k api.KernelChoice, dir string) {
	final := func(path string) string {
		if path == "" {
			return ""
		}
		return filepath.Join(dir, filepath.Base(path))
	}
	img.KernelRef, img.KernelPath, img.InitrdPath, img.ModulesDir = k.KernelRef, final(k.KernelPath), final(k.InitrdPath), final(k.ModulesDir)
}

// noKernel warns that img has no kernel yet, or is for a machine of another kind.
func noKernel(img api.Image, p api.Progress) {
	if a := arch(img.Platform); a != runtime.GOARCH {
		p.Warn("image", fmt.Sprintf("image %s is for %s, and this host is %s: it cannot run here", img.Name, a, runtime.GOARCH))
	} else if img.KernelPath == "" {
		p.Warn("kernel", fmt.Sprintf("image %s has no kernel yet: it will boot with the default one; fetch one with: banger kernel pull debian", img.Name))
	}
}
