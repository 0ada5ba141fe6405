// Package kernel keeps bootable kernels. A kernel in the store is a directory:
//
//	<Dir>/<name>/vmlinux         uncompressed ELF with a PVH entry (amd64), or
//	<Dir>/<name>/Image           flat image (arm64)
//	<Dir>/<name>/modules.ext4    read-only disk; its root is /lib/modules/<release>
//	<Dir>/<name>/initrd          the user's own, kept as it came
//	<Dir>/<name>/config          what the kernel was configured with
//	<Dir>/<name>/manifest.json   release, architecture, source, sha256 of each file
//
// [Store.Pull] takes a kernel from the host's package sources, [Store.Import]
// takes files; either publishes a whole kernel or leaves nothing.
// [Store.Resolve] puts what a user chose beside an image. All of it works as an
// ordinary user and runs nothing that came with a kernel.
package kernel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"banger/internal/api"
	"banger/internal/dirs"
)

// The files of a kernel.
const (
	vmlinuxFile  = "vmlinux"
	imageFile    = "Image"
	modulesFile  = "modules.ext4"
	initrdFile   = "initrd"
	configFile   = "config"
	manifestFile = "manifest.json"
)

// defaultFile holds the name of the default kernel. The dot keeps it apart from
// every kernel, "default" included.
const defaultFile = ".default"

// pullHint is what to do when there is no kernel.
const pullHint = "banger kernel pull debian"

// Store is a directory of kernels. It must not be copied.
type Store struct {
	Dir  string // made when the first kernel comes
	Arch string // of the default kernel and of those that are pulled, as Go names it; "": the host's

	mu sync.RWMutex // guards the entries of Dir: written by publish and Remove, read while files are linked

	stagesMu sync.Mutex      // guards stages
	stages   map[string]bool // the staging directories that are worked in
}

// manifest is manifest.json.
type manifest struct {
	Name      string            `json:"name"`
	Release   string            `json:"release"`
	Arch      string            `json:"arch"`
	Source    string            `json:"source"`
	SHA256    map[string]string `json:"sha256"`
	CreatedAt time.Time         `json:"created_at"`
}

// checkEntry says whether name can be an entry of the store. It admits more than
// [api.CheckName], which new names must pass: what was stored under an older rule
// is found, and nothing outside the store is.
func checkEntry(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsRune(name, '/') {
		return fmt.Errorf("%w kernel name %q", api.ErrInvalid, name)
	}
	return nil
}

// List returns the kernels, sorted by name.
func (s *Store) List(ctx context.Context) ([]api.Kernel, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list kernels: %w", err)
	}
	kernels := []api.Kernel{}
	for _, e := range entries {
		if !e.IsDir() || checkEntry(e.Name()) != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k, err := s.get(e.Name())
		if errors.Is(err, api.ErrNotFound) {
			continue // a directory of someone else's
		}
		if err != nil {
			return nil, err
		}
		kernels = append(kernels, k)
	}
	return kernels, nil
}

// Get returns the kernel called name, or an error that is [api.ErrNotFound].
func (s *Store) Get(name string) (api.Kernel, error) {
	if err := checkEntry(name); err != nil {
		return api.Kernel{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.get(name)
}

// Default returns the kernel that is used when none is named, or an error that
// is [api.ErrNotFound].
func (s *Store) Default() (api.Kernel, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.defaultKernel()
}

// SetDefault makes the kernel called name the default. One for another
// architecture than this machine's is [api.ErrInvalid].
func (s *Store) SetDefault(name string) error {
	if err := checkEntry(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.get(name)
	if err != nil {
		return err
	}
	if k.Arch != s.arch() {
		return api.Hint(fmt.Errorf("%w default kernel %s: it is for %s, and this machine is %s", api.ErrInvalid, name, k.Arch, s.arch()),
			"name it where it is wanted: --kernel-ref "+name)
	}
	return s.writeDefault(name)
}

// arch is the architecture of the default kernel.
func (s *Store) arch() string { return cmp.Or(s.Arch, runtime.GOARCH) }

// Remove deletes the kernel called name. Images keep the files they were given.
// When it was the default, the newest of the others takes its place.
func (s *Store) Remove(name string) error {
	if err := checkEntry(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Lstat(filepath.Join(s.Dir, name)); errors.Is(err, fs.ErrNotExist) {
		return notFound(name)
	}
	// Renaming it first makes the removal one step for everyone who looks, also
	// when it is interrupted: Clean finishes it.
	trash, err := s.newStage()
	if err != nil {
		return fmt.Errorf("remove kernel %s: %w", name, err)
	}
	wasDefault := s.defaultName() == name
	if err := os.Rename(filepath.Join(s.Dir, name), filepath.Join(trash.dir, name)); err != nil {
		return errors.Join(fmt.Errorf("remove kernel %s: %w", name, err), trash.remove())
	}
	err = trash.remove()
	if wasDefault {
		err = errors.Join(err, s.electDefault())
	}
	if err != nil {
		return fmt.Errorf("remove kernel %s: %w", name, err)
	}
	return dirs.Sync(s.Dir)
}

// get reads the kernel called name; s.mu is held.
func (s *Store) get(name string) (api.Kernel, error) {
	dir := filepath.Join(s.Dir, name)
	b, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return api.Kernel{}, notFound(name)
	}
	if err != nil {
		return api.Kernel{}, fmt.Errorf("read kernel %s: %w", name, err)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return api.Kernel{}, api.Hint(fmt.Errorf("read kernel %s: %s: %w", name, manifestFile, err), "banger kernel rm "+name)
	}
	k := api.Kernel{
		Name: name, Release: m.Release, Arch: m.Arch, Source: m.Source,
		SHA256: m.SHA256, CreatedAt: m.CreatedAt, Default: s.defaultName() == name,
	}
	for file := range m.SHA256 {
		path := filepath.Join(dir, file)
		fi, err := os.Stat(path)
		if err != nil {
			return api.Kernel{}, api.Hint(fmt.Errorf("read kernel %s: %w", name, err), "banger kernel rm "+name)
		}
		// What it takes on the disk: modules.ext4 is mostly holes.
		k.SizeBytes += fi.Sys().(*syscall.Stat_t).Blocks * 512
		switch file {
		case vmlinuxFile, imageFile:
			k.KernelPath = path
		case modulesFile:
			k.ModulesDir = path
		case initrdFile:
			k.InitrdPath = path
		}
	}
	return k, nil
}

// defaultKernel returns the default kernel; s.mu is held. A name that has lost
// its kernel behind our back names none.
func (s *Store) defaultKernel() (api.Kernel, error) {
	name := s.defaultName()
	if name == "" {
		return api.Kernel{}, api.Hint(fmt.Errorf("default kernel: %w", api.ErrNotFound), pullHint)
	}
	return s.get(name)
}

// defaultName returns the name in the default file, or "".
func (s *Store) defaultName() string {
	b, err := os.ReadFile(filepath.Join(s.Dir, defaultFile))
	name := strings.TrimSpace(string(b))
	if err != nil || checkEntry(name) != nil {
		return ""
	}
	return name
}

// writeDefault replaces the default file in one step; s.mu is held.
func (s *Store) writeDefault(name string) error {
	st, err := s.newStage()
	if err != nil {
		return fmt.Errorf("set default kernel: %w", err)
	}
	tmp := filepath.Join(st.dir, defaultFile)
	err = writeFile(tmp, []byte(name+"\n"))
	if err == nil {
		err = os.Rename(tmp, filepath.Join(s.Dir, defaultFile))
	}
	if err = errors.Join(err, st.remove()); err != nil {
		return fmt.Errorf("set default kernel: %w", err)
	}
	return dirs.Sync(s.Dir)
}

// electDefault makes the newest kernel for this machine the default, or forgets
// the default when there is none; s.mu is held.
func (s *Store) electDefault() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return err
	}
	var newest api.Kernel
	for _, e := range entries {
		if checkEntry(e.Name()) != nil {
			continue
		}
		if k, err := s.get(e.Name()); err == nil && k.Arch == s.arch() && k.CreatedAt.After(newest.CreatedAt) {
			newest = k
		}
	}
	if newest.Name == "" {
		return os.Remove(filepath.Join(s.Dir, defaultFile))
	}
	return s.writeDefault(newest.Name)
}

func notFound(name string) error {
	return api.Hint(fmt.Errorf("kernel %s: %w", name, api.ErrNotFound), pullHint)
}
