package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"banger/internal/api"
)

// Embedded is the name of the catalog that is part of the program. It comes
// after all others.
const Embedded = "embedded"

// Set is all the catalogs there are.
type Set struct {
	ConfigDir string // a file for each catalog of the user
	StateDir  string // what was fetched
	Remote    Remote

	mu sync.Mutex // held while catalogs are added, fetched or removed
}

// member is one catalog of the set, or why it cannot be used.
type member struct {
	config
	loaded
	err error
}

// members returns the catalogs in the order in which names are looked up.
func (s *Set) members() ([]member, error) {
	configs, errs, err := readConfigs(s.ConfigDir)
	if err != nil {
		return nil, err
	}
	var all []member
	for i, c := range configs {
		m := member{config: c, err: errs[i]}
		if m.err == nil {
			m.loaded, m.err = s.load(c)
		}
		all = append(all, m)
	}
	ours := member{config: config{name: Embedded, Source: Embedded}}
	ours.document, ours.err = parse(embedded, Embedded, Embedded)
	return append(all, ours), nil
}

// Find returns the image of that name for the architecture, else
// [api.ErrNotFound]. One that is there for others only, and a catalog that cannot
// be used and may have it, are other errors.
func (s *Set) Find(name, arch string) (api.CatalogEntry, error) {
	return find(s, "image", name, arch, func(m member) []api.CatalogEntry { return m.Entries },
		func(e api.CatalogEntry) (string, string) { return e.Name, e.Arch })
}

// FindKernel returns the kernel of that name for the architecture, with the
// errors of [Set.Find].
func (s *Set) FindKernel(name, arch string) (api.CatalogKernel, error) {
	return find(s, "kernel", name, arch, func(m member) []api.CatalogKernel { return m.Kernels },
		func(k api.CatalogKernel) (string, string) { return k.Name, k.Arch })
}

func find[T any](s *Set, what, name, arch string, in func(member) []T, id func(T) (name, arch string)) (found T, err error) {
	all, err := s.members()
	if err != nil {
		return found, err
	}
	var others []string
	for _, m := range all {
		if m.err != nil {
			return found, m.explain(fmt.Errorf("look for %s %s: %w", what, name, m.problem()))
		}
		for _, e := range in(m) {
			switch n, a := id(e); {
			case n == name && (a == "" || a == arch):
				return e, nil
			case n == name:
				others = append(others, a)
			}
		}
	}
	if len(others) > 0 {
		return found, fmt.Errorf("%w: %s %s is not there for %s, only for %s", api.ErrInvalid, what, name, arch, strings.Join(others, ", "))
	}
	return found, fmt.Errorf("%s %s: %w in any catalog", what, name, api.ErrNotFound)
}

// problem names the catalog in its error.
func (m member) problem() error { return fmt.Errorf("catalog %s: %w", m.name, m.err) }

// explain adds to an error of m what the user can do about it.
func (m member) explain(err error) error {
	return api.Hint(err, fmt.Sprintf("repair it: banger catalog update %s; or drop it: banger catalog remove %s", m.name, m.name))
}

// Images returns the images of all catalogs that can be used, in the order in
// which names are looked up.
func (s *Set) Images() ([]api.CatalogEntry, error) {
	all, err := s.members()
	if err != nil {
		return nil, err
	}
	entries := []api.CatalogEntry{}
	first := map[[2]string]string{} // name and arch to the catalog that wins
	for _, m := range all {
		for _, e := range m.Entries {
			key := [2]string{e.Name, e.Arch}
			if e.Shadowed = first[key]; e.Shadowed == "" {
				first[key] = m.name
			}
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// KernelEntries returns the kernels of all catalogs that can be used, in the
// order in which names are looked up.
func (s *Set) KernelEntries() ([]api.CatalogKernel, error) {
	all, err := s.members()
	kernels := []api.CatalogKernel{}
	for _, m := range all {
		kernels = append(kernels, m.Kernels...)
	}
	return kernels, err
}

// Catalogs returns the catalogs in the order in which names are looked up.
func (s *Set) Catalogs() ([]api.Catalog, error) {
	all, err := s.members()
	catalogs := make([]api.Catalog, len(all))
	for i, m := range all {
		catalogs[i] = m.catalog()
	}
	return catalogs, err
}

func (m member) catalog() api.Catalog {
	c := api.Catalog{
		Name: m.name, Source: m.Source, Key: m.Key, Insecure: m.Insecure,
		Images: len(m.Entries), Kernels: len(m.Kernels), SignedAt: m.signedAt, FetchedAt: m.fetchedAt,
	}
	if m.err != nil {
		c.Images, c.Kernels, c.Problem = 0, 0, m.err.Error()
	}
	return c
}

// Add makes a catalog one of the set: it is read, or fetched, and verified
// before it is written down.
func (s *Set) Add(ctx context.Context, req api.CatalogAdd) (api.Catalog, error) {
	c := config{name: req.Name, Source: req.Source, Key: req.Key, Insecure: req.Insecure}
	m, err := s.add(ctx, c)
	if err != nil {
		return api.Catalog{}, fmt.Errorf("add catalog %s: %w", req.Name, err)
	}
	return m.catalog(), nil
}

func (s *Set) add(ctx context.Context, c config) (m member, err error) {
	if err := api.CheckName("catalog", c.name); err != nil {
		return m, err
	}
	if c.Key != "" {
		if c.Key, err = ParseKey(c.Key); err != nil {
			return m, err
		}
	}
	if err := c.check(); err != nil {
		return m, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := readConfig(s.ConfigDir, c.name); !errors.Is(err, api.ErrNotFound) || c.name == Embedded {
		return m, api.Hint(fmt.Errorf("%w", api.ErrExists), "choose another name, or remove it: banger catalog remove "+c.name)
	}
	// What a catalog that had the name has left says nothing of this one.
	if err := s.forget(c.name); err != nil {
		return m, err
	}
	if c.remote() {
		if err := s.fetch(ctx, c); err != nil {
			return m, err
		}
	}
	m.config = c
	if m.loaded, err = s.load(c); err != nil {
		return m, err
	}
	return m, c.write(s.ConfigDir)
}

// Remove takes a catalog out of the set. Images that were pulled by it stay.
func (s *Set) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == Embedded {
		return fmt.Errorf("remove catalog %s: %w: it is part of banger", name, api.ErrInvalid)
	}
	if _, err := readConfig(s.ConfigDir, name); errors.Is(err, api.ErrNotFound) || api.CheckName("catalog", name) != nil {
		return err
	}
	if err := os.Remove(filepath.Join(s.ConfigDir, name+configSuffix)); err != nil {
		return fmt.Errorf("remove catalog %s: %w", name, err)
	}
	return s.forget(name)
}

// forget removes what was fetched.
func (s *Set) forget(name string) error {
	if err := os.Remove(s.snapshotPath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Update fetches the remote catalog of that name, or all of them for "", and
// returns the catalogs as they are then. One that cannot be fetched stays as it
// was, and does not keep the others from being fetched.
func (s *Set) Update(ctx context.Context, name string, p api.Progress) ([]api.Catalog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	configs, errs, err := readConfigs(s.ConfigDir)
	if err != nil {
		return nil, err
	}
	known := name == "" || name == Embedded
	var failed []error
	for i, c := range configs {
		if name != "" && c.name != name {
			continue
		}
		known = true
		err := errs[i]
		if err == nil && c.remote() {
			p.Say("catalog", fmt.Sprintf("fetching catalog %s from %s", c.name, c.Source))
			err = s.fetch(ctx, c)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("update catalog %s: %w", c.name, err))
		}
	}
	if !known {
		return nil, fmt.Errorf("update catalog %s: %w", name, api.ErrNotFound)
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	all, err := s.Catalogs()
	return slices.DeleteFunc(all, func(c api.Catalog) bool { return name != "" && c.Name != name }), err
}

// Clean removes what a crash has left. Call it when nothing else uses the set.
func (s *Set) Clean() error {
	var errs []error
	for _, dir := range []string{s.ConfigDir, s.StateDir} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), tmpPrefix) {
				errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}
