package kernel

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"banger/internal/api"
)

// Staged says where [Store.Resolve] has put a kernel. The zero value means that
// there is none.
type Staged struct {
	KernelRef  string // name in the store; "" when it was given by path
	KernelPath string
	InitrdPath string // "" for none
	ModulesDir string // path of modules.ext4; "" for none
	Release    string // as uname -r prints it
	Arch       string // as Go names it
}

// In returns st as it is after the directory it was staged in has become dir.
func (st Staged) In(dir string) Staged {
	for _, p := range []*string{&st.KernelPath, &st.InitrdPath, &st.ModulesDir} {
		if *p != "" {
			*p = filepath.Join(dir, filepath.Base(*p))
		}
	}
	return st
}

// CheckChoice says whether c makes sense, without a look at any file.
func CheckChoice(c api.KernelChoice) error {
	switch {
	case c.KernelRef != "" && (c.KernelPath != "" || c.InitrdPath != "" || c.ModulesDir != ""):
		return api.Hint(fmt.Errorf("kernel %s is named, and files are given as well: %w", c.KernelRef, api.ErrInvalid),
			"give --kernel-ref, or --kernel with --initrd and --modules")
	case c.KernelPath == "" && (c.InitrdPath != "" || c.ModulesDir != ""):
		return api.Hint(fmt.Errorf("an initrd or modules without a kernel: %w", api.ErrInvalid),
			"give --kernel as well")
	case c.KernelRef != "":
		return checkEntry(c.KernelRef)
	}
	return nil
}

// CheckPaths says whether the files that c names are there and of the right
// kind. Their paths must be absolute: ours is another working directory.
func CheckPaths(c api.KernelChoice) error {
	for _, f := range []struct {
		what, path string
		dir        bool
	}{
		{"kernel", c.KernelPath, false},
		{"initrd", c.InitrdPath, false},
		{"modules directory", c.ModulesDir, true},
	} {
		if f.path == "" {
			continue
		}
		if !filepath.IsAbs(f.path) {
			return fmt.Errorf("%s %s: path is not absolute: %w", f.what, f.path, api.ErrInvalid)
		}
		fi, err := os.Stat(f.path)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s %s: %w", f.what, f.path, api.ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("check %s: %w", f.what, err)
		}
		if f.dir && !fi.IsDir() || !f.dir && !fi.Mode().IsRegular() {
			return fmt.Errorf("%s %s is of the wrong type (%s): %w", f.what, f.path, fi.Mode().Type(), api.ErrInvalid)
		}
	}
	return nil
}

// Resolve puts the kernel that c chooses into dir, the staging directory of an
// image: hard links to a kernel of the store, or files made from the user's. No
// choice means the default kernel; when there is none the result is zero, which
// is the caller's to warn about. On an error the caller removes dir.
func (s *Store) Resolve(ctx context.Context, c api.KernelChoice, dir string, p api.Progress) (Staged, error) {
	if err := errors.Join(CheckChoice(c), CheckPaths(c)); err != nil {
		return Staged{}, err
	}
	if c.KernelPath != "" {
		b, err := convert(ctx, c, dir, p)
		if err != nil {
			return Staged{}, err
		}
		st := Staged{KernelPath: b.file, Release: b.release, Arch: b.arch}
		if c.InitrdPath != "" {
			st.InitrdPath = initrdFile
		}
		if b.modules {
			st.ModulesDir = modulesFile
		}
		return st.In(dir), nil
	}

	s.mu.RLock() // a kernel that is replaced meanwhile must not be staged by halves
	defer s.mu.RUnlock()
	k, err := s.defaultKernel()
	if c.KernelRef != "" {
		k, err = s.get(c.KernelRef)
	} else if errors.Is(err, api.ErrNotFound) {
		return Staged{}, nil
	}
	if err != nil {
		return Staged{}, err
	}
	for _, path := range []string{k.KernelPath, k.InitrdPath, k.ModulesDir} {
		if path == "" {
			continue
		}
		if err := linkFile(filepath.Join(dir, filepath.Base(path)), path); err != nil {
			return Staged{}, fmt.Errorf("stage kernel %s: %w", k.Name, err)
		}
	}
	st := Staged{
		KernelRef: k.Name, KernelPath: k.KernelPath, InitrdPath: k.InitrdPath, ModulesDir: k.ModulesDir,
		Release: k.Release, Arch: k.Arch,
	}
	return st.In(dir), nil
}

// convert makes the files of a kernel in dir from the user's files: from any
// kernel image, or from a linux-image package.
func convert(ctx context.Context, c api.KernelChoice, dir string, p api.Progress) (*bootable, error) {
	p.Say("kernel", "unpack "+filepath.Base(c.KernelPath))
	raw, err := readKernel(c.KernelPath)
	if err != nil {
		return nil, err
	}
	var b *bootable
	if isDeb(raw) {
		b, err = unpackDeb(ctx, raw, dir, p)
	} else if b, err = extract(raw); err == nil {
		err = writeFile(filepath.Join(dir, b.file), b.data)
	}
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", filepath.Base(c.KernelPath), err)
	}
	if c.InitrdPath != "" {
		if err := copyFile(filepath.Join(dir, initrdFile), c.InitrdPath); err != nil {
			return nil, fmt.Errorf("copy initrd: %w", err)
		}
	}
	if c.ModulesDir != "" {
		if b.modules {
			return nil, fmt.Errorf("modules directory %s: %s has modules of its own: %w", c.ModulesDir, filepath.Base(c.KernelPath), api.ErrInvalid)
		}
		p.Say("kernel", "pack modules "+c.ModulesDir)
		if err := packModules(ctx, dir, c.ModulesDir, b.release, sha256.Sum256(raw), p); err != nil {
			return nil, err
		}
		b.modules = true
	}
	return b, nil
}

func readKernel(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read kernel: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxKernel+1))
	if err != nil {
		return nil, fmt.Errorf("read kernel: %w", err)
	}
	if len(b) > maxKernel {
		return nil, fmt.Errorf("kernel %s is larger than %d MiB: %w", path, maxKernel>>20, api.ErrInvalid)
	}
	return b, nil
}

// linkFile makes dst another name of src, or a copy where that is not possible
// (another file system, too many links).
func linkFile(dst, src string) error {
	if os.Link(src, dst) == nil {
		return nil
	}
	return copyFile(dst, src)
}
