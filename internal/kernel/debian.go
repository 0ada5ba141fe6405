package kernel

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"banger/internal/api"
)

// sourceDebian is the source of kernels that every Debian host has: its own
// package sources.
const sourceDebian = "debian"

// importHint is what to do when there is nothing to pull from.
const importHint = "banger kernel import <vmlinuz> --modules <dir>"

// arches are the architectures whose kernels we know how to unpack.
var arches = []string{"amd64", "arm64"}

// Pull takes Debian's kernel for virtual machines from the host's package
// sources. A kernel that is there already in that version is returned as it is;
// an older one is replaced. The first kernel of the store becomes the default.
func (s *Store) Pull(ctx context.Context, r api.KernelPull, p api.Progress) (k api.Kernel, err error) {
	if r.Source != sourceDebian {
		return api.Kernel{}, api.Hint(fmt.Errorf("pull kernel from %q: %w", r.Source, api.ErrInvalid),
			"kernels can be pulled from: "+sourceDebian)
	}
	arch := cmp.Or(r.Arch, s.arch())
	if !slices.Contains(arches, arch) {
		return api.Kernel{}, fmt.Errorf("%w architecture %q of a kernel: want one of %s", api.ErrInvalid, arch, strings.Join(arches, ", "))
	}
	name := r.Source
	if arch != s.arch() {
		name += "-" + arch
	}
	name = cmp.Or(r.Name, name)
	if err := api.CheckName("kernel", name); err != nil {
		return api.Kernel{}, err
	}
	old, err := s.Get(name)
	if err != nil && !errors.Is(err, api.ErrNotFound) {
		return api.Kernel{}, err
	}
	if err == nil && !strings.HasPrefix(old.Source, sourceDebian+" ") {
		return api.Kernel{}, s.exists(name)
	}
	st, err := s.newStage()
	if err != nil {
		return api.Kernel{}, fmt.Errorf("pull kernel: %w", err)
	}
	defer func() { err = errors.Join(err, st.remove()) }()

	a, err := newApt(ctx, filepath.Join(st.dir, "apt"), arch)
	if err != nil {
		return api.Kernel{}, api.Hint(fmt.Errorf("pull kernel: %w", err), importHint)
	}
	p.Say("kernel", "read the package lists of this host's apt sources")
	pkg, err := a.kernelPackage(ctx, p)
	if err != nil {
		return api.Kernel{}, api.Hint(fmt.Errorf("pull kernel: %w", err), importHint)
	}
	source := fmt.Sprintf("%s %s %s", sourceDebian, pkg.name, pkg.version)
	if old.Source == source && old.Arch == arch {
		p.Note("kernel", "up to date: "+pkg.name+" "+pkg.version)
		return old, nil
	}
	p.Say("kernel", "download "+pkg.name+" "+pkg.version)
	deb, err := a.download(ctx, pkg, p)
	if err != nil {
		return api.Kernel{}, api.Hint(fmt.Errorf("pull kernel: %w", err), importHint)
	}
	b, err := convert(ctx, api.KernelChoice{KernelPath: deb}, st.out, p)
	if err != nil {
		return api.Kernel{}, fmt.Errorf("pull kernel: %w", err)
	}
	return s.publish(st, manifest{Name: name, Release: b.release, Arch: b.arch, Source: source}, true)
}

// isDeb says whether b is a Debian package.
func isDeb(b []byte) bool { return bytes.HasPrefix(b, []byte(arMagic)) }

// unpackDeb makes the files of a kernel in dir from a linux-image package.
func unpackDeb(ctx context.Context, deb []byte, dir string, p api.Progress) (b *bootable, err error) {
	var disk *moduleDisk
	defer func() {
		if disk != nil {
			p.Say("kernel", "index the modules")
			err = disk.finish(err)
		}
	}()
	seed := sha256.Sum256(deb)
	in := &counted{r: bytes.NewReader(deb), total: int64(len(deb)), progress: p}
	err = readDeb(ctx, in, func(name string, h *tar.Header, data []byte) error {
		switch {
		case b == nil && strings.HasPrefix(name, "boot/vmlinu"):
			if b, err = extract(data); err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			return writeFile(filepath.Join(dir, b.file), b.data)
		case strings.HasPrefix(name, "boot/config-"):
			return writeFile(filepath.Join(dir, configFile), data)
		}
		rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/")
		if !ok {
			return nil
		}
		release, below, ok := strings.Cut(rest, "/")
		if !ok {
			below = "."
		}
		if disk == nil {
			p.Say("kernel", "pack modules of "+release)
			if disk, err = newModuleDisk(dir, release, seed, h.ModTime); err != nil {
				return err
			}
		}
		if release != disk.release {
			return fmt.Errorf("package has modules for %s and %s: %w", disk.release, release, api.ErrInvalid)
		}
		return disk.add(moduleEntry{
			path: below, mode: h.FileInfo().Mode(), mtime: h.ModTime.Truncate(time.Second), target: h.Linkname, data: data,
		})
	})
	in.end()
	switch {
	case err != nil:
		return nil, err
	case b == nil:
		return nil, fmt.Errorf("package has no boot/vmlinuz: %w", api.ErrInvalid)
	case disk == nil:
		p.Warn("kernel", "the package has no modules")
	case disk.release != b.release:
		return nil, fmt.Errorf("package has kernel %s and modules for %s: %w", b.release, disk.release, api.ErrInvalid)
	}
	b.modules = disk != nil
	return b, nil
}

// counted counts what is read of a package.
type counted struct {
	r           io.Reader
	done, total int64
	told        time.Time
	progress    api.Progress
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	if now := time.Now(); now.Sub(c.told) >= 200*time.Millisecond {
		c.told = now
		c.progress.Count(api.PhaseUnpack, "", c.done, c.total)
	}
	return n, err
}

// end counts the rest as well: what follows the last file is not read.
func (c *counted) end() { c.progress.Count(api.PhaseUnpack, "", c.total, c.total) }
