package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

// loadModules loads files, or when there are none what a machine needs from the
// modules that the user's initrd has for this kernel. What does not load is
// said and not fatal: what it was for may be missing or not.
func loadModules(files []string) {
	if len(files) == 0 {
		files = initrdModules()
	}
	for _, file := range files {
		if err := loadModule(file); err != nil {
			warn("init: load %s: %v", filepath.Base(file), err)
		}
	}
}

func initrdModules() []string {
	release, err := kernelRelease()
	if err != nil {
		warn("init: %v", err)
		return nil
	}
	dir := filepath.Join("/lib/modules", release)
	if _, err := os.Stat(filepath.Join(dir, "modules.dep")); err != nil {
		return nil // a kernel that needs no modules
	}
	files, _, err := agent.ModuleFiles(os.DirFS(dir), agent.BootModules())
	if err != nil {
		warn("init: %v", err)
	}
	for i, file := range files {
		files[i] = filepath.Join(dir, file)
	}
	return files
}

// kernelRelease is what uname -r prints.
func kernelRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

// loadModule loads one file. The kernel itself knows compressed ones (since
// 5.17, where it was built so).
func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(file, ".ko") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("finit_module: %w", err)
	}
	return nil
}
