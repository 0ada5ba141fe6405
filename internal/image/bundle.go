package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/docker/go-units"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/bundle"
	"banger/internal/oci"
)

// published is a bundle that a catalog names: the disk itself, as one file.
type published struct {
	entry   api.CatalogEntry
	options oci.Options
	size    int64 // of the disk; 0: as it comes
}

func (b *published) find(_ context.Context, _ string, img *api.Image, _ api.Progress) error {
	img.Digest, img.Platform = "sha256:"+b.entry.Bundle.SHA256, "linux/"+b.entry.Arch
	return nil
}

// write streams the bundle into the disk. Its sha256 and size, those of the disk
// in it, and what its manifest says are right when it returns without an error.
func (b *published) write(ctx context.Context, path string, img *api.Image, p api.Progress) error {
	err := b.unpack(ctx, path, img, p)
	return explain(err, filepath.Dir(path))
}

func (b *published) unpack(ctx context.Context, path string, img *api.Image, p api.Progress) (err error) {
	file := oci.File{URL: b.entry.Bundle.URL, Digest: img.Digest, Size: b.entry.Bundle.Size}
	l, err := file.Layer(b.options)
	if err != nil {
		return err
	}
	if err := room(filepath.Dir(path), l); err != nil {
		return err
	}
	if p, err = sumUp([]oci.Layer{l}, p); err != nil {
		return err
	}
	t := newTimeline()
	r, err := l.Open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	disk, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	m, err := bundle.Unpack(r, disk, b.check)
	if err != nil {
		return err
	}
	if _, err := ext4.Open(disk); err != nil {
		return fmt.Errorf("%w rootfs in the bundle: %w", api.ErrInvalid, err)
	}
	if b.size > m.Rootfs.Size {
		// The guest grows its file system to this when it boots.
		if err := disk.Truncate(b.size); err != nil {
			return err
		}
	}
	t.mark("unpack", waiting(r.Waited()))
	p.Say("flush", "flushing to the host's disk")
	if err := disk.Sync(); err != nil {
		return err
	}
	t.mark("flush")
	img.Phases = append(img.Phases, t.phases...)
	info, err := disk.Stat()
	if err != nil {
		return err
	}
	img.SizeBytes, img.RootfsModTime, img.Process = info.Size(), info.ModTime(), m.Process
	return nil
}

// check holds the manifest of the bundle against what the catalog and the user
// say. A manifest need not name a kernel.
func (b *published) check(m bundle.Manifest) error {
	for _, f := range []struct{ what, got, want string }{
		{"name", m.Name, b.entry.Name},
		{"arch", m.Arch, b.entry.Arch},
		{"kernel_ref", m.KernelRef, b.entry.KernelRef},
	} {
		if f.got != f.want && (f.got != "" || f.what != "kernel_ref") {
			return fmt.Errorf("%w: its %s is %q, catalog %s says %q", api.ErrInvalid, f.what, f.got, b.entry.Catalog, f.want)
		}
	}
	if b.size > 0 && b.size < m.Rootfs.Size {
		return api.Hint(fmt.Errorf("%w: the disk of %s has %s, and %s was asked for", api.ErrInvalid, b.entry.Name,
			units.BytesSize(float64(m.Rootfs.Size)), units.BytesSize(float64(b.size))),
			fmt.Sprintf("use --size %d or more, or leave --size out", m.Rootfs.Size))
	}
	return nil
}
