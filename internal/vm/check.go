package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/api"
)

// Entries returns what is in the directory of VMs: the IDs of VMs, and the names
// of what is half made or half removed.
func (h *Host) Entries() (ids, leftovers []string, err error) {
	entries, err := os.ReadDir(h.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("list vms: %w", err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, stagingPrefix), strings.HasPrefix(name, removingPrefix):
			leftovers = append(leftovers, name)
		case !strings.HasPrefix(name, "."):
			ids = append(ids, name)
		}
	}
	return ids, leftovers, nil
}

// Problems returns what is wrong with the files of a VM, nothing when all is
// well, and [api.ErrNotFound] when there are none.
func (h *Host) Problems(id string) (problems []string, err error) {
	dir := h.dir(id)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, api.ErrNotFound
	}
	s, err := readSpec(dir)
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", specFile, err)}, nil
	}
	if _, err := readState(dir); err != nil {
		problems = append(problems, fmt.Sprintf("%s: %v", stateFile, err))
	}
	disk, err := os.Stat(filepath.Join(dir, diskFile))
	switch {
	case err != nil:
		problems = append(problems, err.Error())
	case disk.Size() < s.VM.DiskBytes:
		problems = append(problems, fmt.Sprintf("%s has %d bytes, want %d", diskFile, disk.Size(), s.VM.DiskBytes))
	}
	for _, path := range []string{s.Machine.Kernel, s.Modules, s.Initrd} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			problems = append(problems, err.Error())
		}
	}
	return problems, nil
}
