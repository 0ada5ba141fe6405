package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"banger/ext4"
	"banger/internal/api"
	"banger/internal/clone"
)

// Promotion is a VM's disk that is to be an image. The VM does not run, and does
// not start before [Store.Promote] has returned.
type Promotion struct {
	Name string    // of the image to be
	VM   string    // the VM's name
	Disk string    // path of its disk
	Base api.Image // what the VM was made of, with a kernel
}

// Promote makes a copy of a VM's disk an image, with the kernel, the process and
// the labels of the image that the VM was made of. The disk is as it is: with the
// machine ID, the host keys and the logs that the VM has left on it.
func (s *Store) Promote(ctx context.Context, from Promotion, p api.Progress) (img api.Image, err error) {
	free, err := s.newName(ctx, from.Name)
	if err != nil {
		return img, err
	}
	defer free()
	img, err = s.promote(ctx, from, p)
	if err != nil {
		return img, fmt.Errorf("promote vm %s: %w", from.VM, err)
	}
	return img, nil
}

func (s *Store) promote(ctx context.Context, from Promotion, p api.Progress) (img api.Image, err error) {
	stage, err := s.newStage(ctx)
	if err != nil {
		return img, err
	}
	defer func() { err = stage.end(err) }()
	now := time.Now().UTC()
	base := from.Base
	img = api.Image{
		ID: stage.id, Name: from.Name, Names: []string{from.Name}, Ref: "vm:" + from.VM, Platform: base.Platform,
		CreatedAt: now, Process: base.Process, Added: base.Added,
		Source: api.Source{
			Created: now, Author: base.Source.Author, Labels: base.Source.Labels,
			ExposedPorts: base.Source.ExposedPorts, Volumes: base.Source.Volumes,
			History: append(slices.Clone(base.Source.History), api.History{
				Created: now, CreatedBy: "banger image promote " + from.VM, Comment: "from image " + base.ID,
			}),
		},
	}
	if err := stage.copyDisk(ctx, &img, from.Disk, p); err != nil {
		return img, err
	}
	if img.Warnings, err = uncleanWarning(filepath.Join(stage.dir, rootfsFile)); err != nil {
		return img, err
	}
	for _, w := range img.Warnings {
		p.Warn("disk", w.Message)
	}
	for _, path := range []string{base.KernelPath, base.InitrdPath, base.ModulesDir} {
		if path == "" {
			continue
		}
		if err := link(ctx, filepath.Join(stage.dir, filepath.Base(path)), path, p); err != nil {
			return img, fmt.Errorf("stage kernel: %w", err)
		}
	}
	kernelPaths(&img, api.KernelChoice{
		KernelRef: base.KernelRef, KernelPath: base.KernelPath, InitrdPath: base.InitrdPath, ModulesDir: base.ModulesDir,
	}, stage.final)
	return img, stage.publish(ctx, img)
}

// uncleanWarning warns of a disk that was not unmounted, as that of a VM that was
// killed; what is no disk is an error.
func uncleanWarning(path string) ([]api.Warning, error) {
	err := checkDisk(path)
	if errors.Is(err, ext4.ErrUnclean) {
		return []api.Warning{{Kind: "unclean", Message: "the VM was not shut down: the first boot of each VM made of this replays the disk's journal"}}, nil
	}
	return nil, err
}

// checkDisk opens the file system in a file.
func checkDisk(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = ext4.Open(f)
	return errors.Join(err, f.Close())
}

// link makes dst another name of src, or a copy where that cannot be.
func link(ctx context.Context, dst, src string, p api.Progress) error {
	if os.Link(src, dst) == nil {
		return nil
	}
	return clone.File(ctx, dst, src, clone.Options{Sync: true}, p)
}
