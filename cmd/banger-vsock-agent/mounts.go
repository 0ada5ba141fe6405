package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	hardened = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
)

type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func (m mountPoint) mount() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

// mountKernelFS mounts what every program expects of the kernel.
func mountKernelFS() error {
	for _, m := range []mountPoint{
		{"proc", "/proc", "proc", hardened, ""},
		{"sysfs", "/sys", "sysfs", hardened, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	} {
		if err := m.mount(); err != nil {
			return err
		}
	}
	return nil
}

// switchRoot makes root the root directory, takes the kernel's file systems
// along and frees the memory of the initramfs.
func switchRoot(root string) error {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		target, err := inside(root, dir)
		if err != nil {
			return fmt.Errorf("switch root: %w", err)
		}
		if err := (mountPoint{dir, target, "", unix.MS_MOVE, ""}).mount(); err != nil {
			return fmt.Errorf("switch root: %w", err)
		}
	}
	if err := empty("/", root); err != nil {
		warn("init: free the initramfs: %v", err)
	}
	if err := os.Chdir(root); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	return os.Chdir("/")
}

// empty removes all in the initramfs at dir but keep, which is a mount. It
// checks that dir is in memory: elsewhere it would delete somebody's disk.
func empty(dir, keep string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type != unix.RAMFS_MAGIC && fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not in memory", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := filepath.Join(dir, e.Name()); name != keep {
			err = errors.Join(err, os.RemoveAll(name))
		}
	}
	return err
}

// mountRun mounts /run, or under ourselves only our part of it: images without
// an init, made for container engines, bring directories in /run that their
// programs need.
func mountRun(ours bool) error {
	m := mountPoint{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME, "mode=0755"}
	if ours {
		m.target = runDir
	}
	if err := m.mount(); err != nil {
		return err
	}
	return os.MkdirAll(runDir, 0o755)
}

// mountForPrograms mounts the rest of what container engines give a program.
// None of it is worth failing for.
func mountForPrograms() {
	for _, m := range []mountPoint{
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"shm", "/dev/shm", "tmpfs", hardened, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", hardened, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", hardened, ""},
	} {
		if err := m.mount(); err != nil && !errors.Is(err, unix.ENODEV) { // not in this kernel
			warn("init: %v", err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join("/dev", name)); err != nil && !os.IsExist(err) {
			warn("init: %v", err)
		}
	}
}
