package guest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz"

	"banger/internal/agent"
	"banger/internal/api"
)

// moduleDir is where the initramfs has the kernel's modules, away from where a
// user's initrd has its own.
const moduleDir = "banger/modules"

// maxModule bounds what one compressed module may become.
const maxModule = 64 << 20

// Spec is what goes into an initramfs.
type Spec struct {
	Config agent.Config // Modules is filled in
	Agent  []byte       // becomes /init

	// Modules has the content of /lib/modules/RELEASE at its root; nil for a
	// kernel that needs none, or whose modules the user's initrd has.
	Modules fs.FS

	// UserInitrd is the path of an initrd that is unpacked before ours, as it
	// is; "" for none.
	UserInitrd string
}

// Initramfs writes what the kernel boots into: the agent as /init, the modules
// that it needs before there is a disk, and the configuration of this boot. The
// same Spec makes the same bytes.
func Initramfs(w io.Writer, s Spec) error {
	modules, err := bootModules(s.Modules)
	if err != nil {
		return err
	}
	s.Config.Modules = nil
	for _, m := range modules {
		s.Config.Modules = append(s.Config.Modules, "/"+m.name)
	}
	config, err := json.Marshal(s.Config)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}

	c := &cpio{w: w}
	if s.UserInitrd != "" {
		if err := c.include(s.UserInitrd); err != nil {
			return fmt.Errorf("include initrd: %w", err)
		}
	}
	c.dir("dev")
	// The kernel opens it for /init before that could mount anything.
	c.charDev("dev/console", 0o600, 5, 1)
	c.dir("banger")
	c.file(strings.TrimPrefix(agent.ConfigPath, "/"), 0o600, config)
	c.dir(moduleDir)
	for _, m := range modules {
		c.file(m.name, 0o644, m.content)
	}
	c.file("init", 0o755, s.Agent)
	if err := c.close(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}

// include copies a whole initrd, compressed or not. The kernel skips zeros
// between two archives, and wants the second one aligned.
func (c *cpio) include(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(c.w, f)
	c.n += n
	c.pad()
	return errors.Join(err, c.err)
}

type module struct {
	name    string // in the initramfs
	content []byte
}

// bootModules returns the modules that a guest needs to boot, in the order in
// which they load.
func bootModules(fsys fs.FS) ([]module, error) {
	if fsys == nil {
		return nil, nil
	}
	files, missing, err := agent.ModuleFiles(fsys, agent.BootModules())
	if err != nil {
		return nil, err
	}
	if err := essential(missing); err != nil {
		return nil, err
	}
	var modules []module
	for _, file := range files {
		content, err := readModule(fsys, file)
		if err != nil {
			return nil, fmt.Errorf("read kernel module: %w", err)
		}
		base, _, _ := strings.Cut(path.Base(file), ".ko")
		modules = append(modules, module{moduleDir + "/" + base + ".ko", content})
	}
	return modules, nil
}

// essential returns an error when what is missing leaves the guest without its
// disk or its host. Without a network or a fast start of randomness it boots.
func essential(missing []string) error {
	lacks := func(name string) bool { return slices.Contains(missing, name) }
	var names []string
	for _, name := range []string{"virtio_blk", "virtio_console", "ext4"} {
		if lacks(name) {
			names = append(names, name)
		}
	}
	if lacks("virtio_mmio") && lacks("virtio_pci") {
		names = append(names, "virtio_mmio or virtio_pci")
	}
	if len(names) == 0 {
		return nil
	}
	return api.Hint(fmt.Errorf("the kernel has no %s, neither built in nor as a module: %w", strings.Join(names, ", "), api.ErrInvalid),
		"use a kernel for virtual machines, such as that of `banger kernel pull debian`")
}

// readModule returns a module as the kernel loads it.
func readModule(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := decompress(f, path.Ext(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var content bytes.Buffer
	if n, err := io.Copy(&content, io.LimitReader(r, maxModule+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	} else if n > maxModule {
		return nil, fmt.Errorf("%s: over %d bytes: %w", name, maxModule, api.ErrInvalid)
	}
	return content.Bytes(), nil
}

func decompress(r io.Reader, ext string) (io.Reader, error) {
	switch ext {
	case ".ko":
		return r, nil
	case ".gz":
		return gzip.NewReader(r)
	case ".xz":
		return xz.NewReader(r, xz.DefaultDictMax)
	case ".zst":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil // with one goroutine, there is nothing to close
	}
	return nil, fmt.Errorf("compression %q: %w", ext, errors.ErrUnsupported)
}
