package kernel

import (
	"context"
	"errors"
	"fmt"

	"banger/internal/api"
)

// Import makes a kernel of the store from files: a bzImage (vmlinuz), an ELF
// vmlinux, an arm64 Image or a linux-image package, and what belongs to it. The first kernel of the
// store becomes the default.
func (s *Store) Import(ctx context.Context, r api.KernelImport, p api.Progress) (k api.Kernel, err error) {
	if r.Name != "" {
		if err := s.checkFree(r.Name, r.Replace); err != nil {
			return api.Kernel{}, err
		}
	}
	c := api.KernelChoice{KernelPath: r.Path, InitrdPath: r.InitrdPath, ModulesDir: r.ModulesDir}
	if r.Path == "" {
		return api.Kernel{}, fmt.Errorf("import kernel: no file is given: %w", api.ErrInvalid)
	}
	if err := CheckPaths(c); err != nil {
		return api.Kernel{}, err
	}
	st, err := s.newStage()
	if err != nil {
		return api.Kernel{}, fmt.Errorf("import kernel: %w", err)
	}
	defer func() { err = errors.Join(err, st.remove()) }()
	b, err := convert(ctx, c, st.out, p)
	if err != nil {
		return api.Kernel{}, err
	}
	if r.Name == "" {
		r.Name = api.NameFrom(b.release)
		if err := s.checkFree(r.Name, r.Replace); err != nil {
			return api.Kernel{}, err
		}
	}
	return s.publish(st, manifest{Name: r.Name, Release: b.release, Arch: b.arch, Source: "import " + r.Path}, r.Replace)
}

// checkFree says whether a kernel may be published as name.
func (s *Store) checkFree(name string, replace bool) error {
	if err := api.CheckName("kernel", name); err != nil {
		return err
	}
	_, err := s.Get(name)
	switch {
	case errors.Is(err, api.ErrNotFound):
		return nil
	case err == nil && !replace:
		return s.exists(name)
	}
	return err
}
