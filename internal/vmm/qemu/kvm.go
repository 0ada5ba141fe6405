package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// kvmUsable says in words why KVM cannot even be tried.
func (d *Driver) kvmUsable() error {
	device := d.kvmDevice
	if device == "" {
		device = "/dev/kvm"
	}
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return unix.Close(fd)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s", device)
	case errors.Is(err, fs.ErrPermission):
		return api.Hint(fmt.Errorf("%s is not accessible to you", device), `add yourself to group kvm: sudo usermod -aG kvm "$USER", and log in again`)
	}
	return fmt.Errorf("open %s: %w", device, err)
}

// verdict is what is known of KVM and one kernel.
type verdict string

const (
	kvmUnknown verdict = ""
	kvmWorks   verdict = "works" // the agent of a guest has answered
	kvmFails   verdict = "fails" // silent or dead, where TCG printed something
)

// proof is where the verdict on one kernel is kept: a file named after the
// kernel, in a directory named after the host's boot. The zero value keeps
// nothing and knows nothing.
type proof struct{ path string }

// proof returns the place for a kernel. Hard links to one file are one kernel.
func (d *Driver) proof(kernel string) proof {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	info, statErr := os.Stat(kernel)
	if d.StateDir == "" || err != nil || statErr != nil {
		return proof{}
	}
	st := info.Sys().(*syscall.Stat_t)
	return proof{filepath.Join(d.StateDir, "kvm", strings.TrimSpace(string(boot)),
		fmt.Sprintf("%d-%d-%d-%d", st.Dev, st.Ino, info.Size(), info.ModTime().UnixNano()))}
}

func (p proof) read() verdict {
	if p.path == "" {
		return kvmUnknown
	}
	b, err := os.ReadFile(p.path)
	if v := verdict(b); err == nil && (v == kvmWorks || v == kvmFails) {
		return v
	}
	return kvmUnknown
}

// write keeps the verdict, and forgets those of earlier boots of the host.
func (p proof) write(v verdict) error {
	if p.path == "" || p.read() == v {
		return nil
	}
	dir := filepath.Dir(p.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	boots, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return err
	}
	for _, boot := range boots {
		if boot.Name() != filepath.Base(dir) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(filepath.Dir(dir), boot.Name())))
		}
	}
	temp, createErr := os.CreateTemp(dir, "new-")
	if createErr != nil {
		return errors.Join(err, createErr)
	}
	_, writeErr := temp.WriteString(string(v))
	return errors.Join(err, writeErr, temp.Close(), os.Rename(temp.Name(), p.path))
}
