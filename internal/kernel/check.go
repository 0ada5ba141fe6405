package kernel

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"banger/internal/api"
	"banger/internal/du"
)

// Check looks for what must not be: a kernel whose files are not those of its
// manifest, a default that is not there, a leftover that nobody works in.
func (s *Store) Check(ctx context.Context, c *api.Checkup) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.Dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check kernels: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if checkEntry(e.Name()) == nil {
			s.checkKernel(e, c)
		}
	}
	if name := s.defaultName(); name != "" {
		if _, err := os.Lstat(filepath.Join(s.Dir, name)); os.IsNotExist(err) {
			c.Found(api.Problem{
				Kind: "kernel", Name: name, Message: "it is the default, and it is not there", Repair: "make another the default",
			}, s.electDefault)
		}
	}
	leftovers, err := s.leftovers()
	if err != nil {
		return err
	}
	for _, name := range leftovers {
		path := filepath.Join(s.Dir, name)
		c.Found(api.Problem{
			Kind: "staging", Name: name, Message: path + " is left of a kernel that was never made, or is removed", Repair: "remove it",
		}, func() error { return os.RemoveAll(path) })
	}
	return nil
}

// checkKernel compares the files of a kernel with its manifest; s.mu is held.
func (s *Store) checkKernel(e fs.DirEntry, c *api.Checkup) {
	name := e.Name()
	found := func(format string, args ...any) {
		c.Found(api.Problem{Kind: "kernel", Name: name, Message: fmt.Sprintf(format, args...)}, nil)
	}
	dir := filepath.Join(s.Dir, name)
	if _, err := os.Lstat(filepath.Join(dir, manifestFile)); err != nil {
		found("%s is no kernel: it has no %s", dir, manifestFile)
		return
	}
	k, err := s.get(name)
	if err != nil {
		found("%v", err)
		return
	}
	if k.KernelPath == "" {
		found("%s has no kernel in it", dir)
	}
	sums, err := hashFiles(dir)
	if err != nil {
		found("%v", err)
		return
	}
	for file, want := range k.SHA256 {
		if sums[file] != want {
			found("%s is damaged: sha256 %s, want %s", filepath.Join(dir, file), sums[file], want)
		}
		delete(sums, file)
	}
	delete(sums, manifestFile)
	for file := range sums {
		path := filepath.Join(dir, file)
		c.Found(api.Problem{
			Kind: "kernel", Name: name, Message: path + " belongs to no part of the kernel", Repair: "remove it",
		}, func() error { return os.Remove(path) })
	}
}

// Prune removes leftovers that nobody works in, and with r.All the kernels that
// are neither the default nor used. It returns what went, or what would go:
// tally knows what went before, and learns of this.
func (s *Store) Prune(ctx context.Context, r api.Prune, tally *du.Tally, used func(name string) bool) ([]api.Pruned, error) {
	pruned := []api.Pruned{}
	remove := func(kind, name string, gone func() error) error {
		freed, err := tally.Add(filepath.Join(s.Dir, name))
		if err == nil && !r.DryRun {
			tally.Reset()
			err = gone()
		}
		if err != nil {
			return fmt.Errorf("prune kernel %s: %w", name, err)
		}
		pruned = append(pruned, api.Pruned{Kind: kind, Name: name, FreedBytes: freed})
		return nil
	}
	leftovers, err := s.leftovers()
	if err != nil {
		return pruned, err
	}
	for _, name := range leftovers {
		if err := remove("staging", name, func() error { return os.RemoveAll(filepath.Join(s.Dir, name)) }); err != nil {
			return pruned, err
		}
	}
	if !r.All {
		return pruned, nil
	}
	kernels, err := s.List(ctx)
	if err != nil {
		return pruned, err
	}
	for _, k := range kernels {
		if k.Default || used(k.Name) {
			continue
		}
		if err := remove("kernel", k.Name, func() error { return s.Remove(k.Name) }); err != nil {
			return pruned, err
		}
	}
	return pruned, nil
}
