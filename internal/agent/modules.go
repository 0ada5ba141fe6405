package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"banger/internal/api"
)

// BootModules are the kernel modules by which a guest finds its disks, its
// network and its host.
func BootModules() []string {
	return []string{
		"virtio_mmio", "virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng",
		"crc32c_generic", // what ext4 asks modprobe for at mount
		"ext4",
	}
}

// ModuleFiles returns the files of the wanted modules and of all they depend
// on, each after what it needs, and which of the wanted are neither there nor
// built into the kernel. The root of fsys is what is in /lib/modules/RELEASE.
func ModuleFiles(fsys fs.FS, wanted []string) (files, missing []string, err error) {
	dep, err := fs.ReadFile(fsys, "modules.dep")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, api.Hint(fmt.Errorf("find kernel modules: %w", err),
			"depmod makes modules.dep; import the kernel with a complete modules directory")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("find kernel modules: %w", err)
	}
	builtin, err := fs.ReadFile(fsys, "modules.builtin")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("find kernel modules: %w", err)
	}

	needs, file := map[string][]string{}, map[string]string{}
	for line := range bytes.Lines(dep) {
		name, list, ok := strings.Cut(string(line), ":")
		if !ok || !fs.ValidPath(name) {
			return nil, nil, fmt.Errorf("modules.dep: line %q: %w", line, api.ErrInvalid)
		}
		needs[name] = strings.Fields(list)
		file[moduleName(name)] = name
	}
	inKernel := map[string]bool{}
	for line := range bytes.Lines(builtin) {
		inKernel[moduleName(strings.TrimSpace(string(line)))] = true
	}

	seen := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		// depmod lists those first that are to be loaded last.
		for _, need := range slices.Backward(needs[name]) {
			add(need)
		}
		files = append(files, name)
	}
	for _, module := range wanted {
		switch name, ok := file[module]; {
		case ok:
			add(name)
		case !inKernel[module]:
			missing = append(missing, module)
		}
	}
	return files, missing, nil
}

// moduleName is what a module's file is called by everyone else: "virtio_rng"
// for kernel/drivers/char/hw_random/virtio-rng.ko.xz.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}
