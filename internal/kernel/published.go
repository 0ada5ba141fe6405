package kernel

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"banger/internal/api"
)

// sourceCatalog begins the source of every kernel that a catalog has named.
const sourceCatalog = "catalog "

// PullFile makes the kernel called name from a file that a catalog names: a
// linux-image package or any kernel image. fetch writes the file, verified, to a
// path. A kernel of that very file is returned as it is; one of another file from
// a catalog is replaced.
func (s *Store) PullFile(ctx context.Context, name string, e api.CatalogKernel, fetch func(ctx context.Context, path string) error, p api.Progress) (k api.Kernel, err error) {
	fail := func(err error) (api.Kernel, error) { return api.Kernel{}, fmt.Errorf("pull kernel %s: %w", name, err) }
	if err := api.CheckName("kernel", name); err != nil {
		return api.Kernel{}, err
	}
	old, err := s.Get(name)
	if err != nil && !errors.Is(err, api.ErrNotFound) {
		return api.Kernel{}, err
	}
	if err == nil && !strings.HasPrefix(old.Source, sourceCatalog) {
		return api.Kernel{}, s.exists(name)
	}
	source := fmt.Sprintf("%s%s %s sha256:%s", sourceCatalog, e.Catalog, e.URL, e.SHA256)
	if old.Source == source {
		p.Note("kernel", "up to date: "+e.URL)
		return old, nil
	}
	st, err := s.newStage()
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, st.remove()) }()
	file := filepath.Join(st.dir, "file")
	p.Say("kernel", "download "+e.URL)
	if err := fetch(ctx, file); err != nil {
		return fail(err)
	}
	b, err := convert(ctx, api.KernelChoice{KernelPath: file}, st.out, p)
	if err != nil {
		return fail(err)
	}
	if b.arch != e.Arch {
		return fail(fmt.Errorf("%w: it is for %s, catalog %s says %s", api.ErrInvalid, b.arch, e.Catalog, e.Arch))
	}
	return s.publish(st, manifest{Name: name, Release: b.release, Arch: b.arch, Source: source}, true)
}
