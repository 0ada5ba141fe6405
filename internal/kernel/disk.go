package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"banger/ext4"
	"banger/internal/api"
)

// moduleDisk writes modules.ext4: a file system whose root is
// /lib/modules/<release>, owned by root, with the indexes that modprobe needs.
type moduleDisk struct {
	file    *os.File
	w       *ext4.Writer
	release string    // that the modules must be built for
	mtime   time.Time // of what we add
	dirs    map[string]ext4.Ino
	have    map[string]bool // files at the top
	modules modules
}

// minModuleDisk is room for the file system itself, in bytes.
const minModuleDisk = 1 << 20

// newModuleDisk begins dir/modules.ext4. The same entries, seed and mtime make
// the same bytes.
func newModuleDisk(dir, release string, seed [32]byte, mtime time.Time) (*moduleDisk, error) {
	f, err := createFile(filepath.Join(dir, modulesFile))
	if err != nil {
		return nil, err
	}
	o := ext4.Options{MinSize: minModuleDisk, Time: mtime, Label: "modules", NoJournal: true}
	copy(o.UUID[:], seed[:16])
	copy(o.HashSeed[:], seed[16:])
	w, err := ext4.NewWriter(f, o)
	if err != nil {
		return nil, finishFile(f, err)
	}
	return &moduleDisk{
		file: f, w: w, release: release, mtime: mtime,
		dirs: map[string]ext4.Ino{".": ext4.Root}, have: make(map[string]bool),
	}, nil
}

// moduleEntry is a file, directory or symbolic link in a tree of modules.
type moduleEntry struct {
	path   string // below /lib/modules/<release>, clean; "." for itself
	mode   fs.FileMode
	mtime  time.Time
	target string
	data   []byte
}

// add writes one entry. Entries may come in any order.
func (d *moduleDisk) add(e moduleEntry) error {
	switch {
	case e.path == ".":
		return d.w.SetRoot(&ext4.Header{Mode: fs.ModeDir | 0o755, ModTime: e.mtime})
	case e.path == "build" || e.path == "source":
		return nil // links to where the kernel was built
	case e.mode.IsDir():
		_, err := d.dir(e.path, e.mtime)
		return err
	}
	h := &ext4.Header{Mode: e.mode.Type() | 0o644, ModTime: e.mtime, Target: e.target}
	switch e.mode.Type() {
	case fs.ModeSymlink:
		h.Mode = fs.ModeSymlink | 0o777
	case 0:
		content, err := d.w.WriteContent(strings.NewReader(string(e.data)), int64(len(e.data)))
		if err != nil {
			return err
		}
		h.Content = content
		if err := d.learn(e.path, e.data); err != nil {
			return err
		}
	default:
		return fmt.Errorf("module tree has %s of type %s: %w", e.path, e.mode.Type(), api.ErrInvalid)
	}
	parent, err := d.dir(path.Dir(e.path), e.mtime)
	if err != nil {
		return err
	}
	_, err = d.w.Create(parent, path.Base(e.path), h)
	return err
}

// dir returns the directory at p and makes it when it is not there yet.
func (d *moduleDisk) dir(p string, mtime time.Time) (ext4.Ino, error) {
	if ino, ok := d.dirs[p]; ok {
		return ino, nil
	}
	parent, err := d.dir(path.Dir(p), mtime)
	if err != nil {
		return 0, err
	}
	ino, err := d.w.Create(parent, path.Base(p), &ext4.Header{Mode: fs.ModeDir | 0o755, ModTime: mtime})
	if err == nil {
		d.dirs[p] = ino
	}
	return ino, err
}

// learn keeps what the indexes are made of.
func (d *moduleDisk) learn(p string, data []byte) error {
	if path.Dir(p) == "." {
		d.have[p] = true
	}
	switch p {
	case "modules.order":
		d.modules.order = data
	case "modules.builtin":
		d.modules.builtin = data
	case "modules.builtin.modinfo":
		d.modules.builtinModinfo = data
	}
	if _, _, ok := moduleFile(p); !ok {
		return nil
	}
	release, err := d.modules.add(p, data)
	if err == nil && release != "" && release != d.release {
		err = api.Hint(fmt.Errorf("module %s is built for %s, the kernel is %s: %w", p, release, d.release, api.ErrInvalid),
			"give the modules that were built with the kernel")
	}
	return err
}

// finish adds the indexes that the tree does not have, and closes the disk.
// With an error, what was written is removed.
func (d *moduleDisk) finish(err error) error {
	if err == nil && len(d.modules.byName) == 0 {
		err = fmt.Errorf("no modules for %s: %w", d.release, api.ErrNotFound)
	}
	if err == nil {
		err = d.addIndexes()
	}
	if err == nil {
		err = d.w.Close()
	}
	if err = finishFile(d.file, err); err != nil {
		return fmt.Errorf("write %s: %w", modulesFile, err)
	}
	return nil
}

func (d *moduleDisk) addIndexes() error {
	for _, f := range d.modules.files() {
		if d.have[f.name] {
			continue
		}
		if err := d.add(moduleEntry{path: f.name, mtime: d.mtime, data: f.data}); err != nil {
			return err
		}
	}
	return nil
}

// packModules writes dir/modules.ext4 from a directory of the host: see
// findModules.
func packModules(ctx context.Context, dir, source, release string, seed [32]byte, p api.Progress) error {
	root, err := findModules(source, release)
	if err != nil {
		return err
	}
	if root, err = filepath.EvalSymlinks(root); err != nil { // WalkDir would stop at a link
		return err
	}
	fi, err := os.Stat(root)
	if err != nil {
		return err
	}
	d, err := newModuleDisk(dir, release, seed, fi.ModTime())
	if err != nil {
		return err
	}
	return d.finish(filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		// Links are followed: what they lead to is not in the guest.
		fi, err := os.Stat(name)
		if e.Type()&fs.ModeSymlink != 0 && (err != nil || fi.IsDir()) {
			if rel != "build" && rel != "source" {
				p.Warn("kernel", "left out of the modules: "+rel+", a link to a directory or to nothing")
			}
			return nil
		}
		if err != nil {
			return err
		}
		entry := moduleEntry{path: filepath.ToSlash(rel), mode: fi.Mode(), mtime: fi.ModTime()}
		if fi.Mode().IsRegular() {
			if entry.data, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		return d.add(entry)
	}))
}

// findModules returns the tree for release that dir is or has: dir may be
// /lib/modules/<release>, or have lib/modules/<release> below it, as
// `make modules_install INSTALL_MOD_PATH=dir` leaves it.
func findModules(dir, release string) (string, error) {
	for _, below := range []string{"lib/modules", "usr/lib/modules", "."} {
		p := filepath.Join(dir, below, release)
		if fi, err := os.Stat(p); err == nil && fi.IsDir() {
			return p, nil
		}
	}
	for _, mark := range []string{"modules.order", "modules.builtin", "modules.dep", "kernel"} {
		if _, err := os.Stat(filepath.Join(dir, mark)); err == nil {
			return dir, nil
		}
	}
	return "", api.Hint(fmt.Errorf("no modules for %s in %s: %w", release, dir, api.ErrNotFound),
		"give /lib/modules/"+release+" or a directory that has lib/modules/"+release)
}
