package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

// diskWait is how long a disk may take to appear after its driver is loaded.
const diskWait = 5 * time.Second

// findDisk returns the device of the disk with a serial number.
func findDisk(serial string) (string, error) {
	for deadline := time.Now().Add(diskWait); ; time.Sleep(2 * time.Millisecond) {
		device, seen := lookForDisk(serial)
		if device != "" {
			return device, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no disk with serial %q among %q", serial, seen)
		}
	}
}

func lookForDisk(serial string) (device string, seen []string) {
	files, err := filepath.Glob("/sys/block/*/serial")
	if err != nil {
		return "", nil
	}
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		text, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(text)) == serial {
			return filepath.Join("/dev", name), nil
		}
		seen = append(seen, name)
	}
	return "", seen
}

// mountRoot mounts the root disk and makes its file system as large as it is.
func mountRoot(device string) error {
	m := mountPoint{device, sysroot, "ext4", 0, ""}
	if err := m.mount(); err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	if err := grow(device, sysroot); err != nil {
		warn("init: grow the root file system: %v", err) // as it is, it works
	}
	return nil
}

// grow makes the mounted ext4 as large as its device.
func grow(device, dir string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	var super [1024]byte
	if _, err := f.ReadAt(super[:], 1024); err != nil {
		return err
	}
	blocks, blockSize := extent(super[:])
	want := uint64(size) / blockSize
	if want <= blocks {
		return nil
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// EXT4_IOC_RESIZE_FS is _IOW('f', 16, __u64) (fs/ext4/ext4.h).
	const resizeFS = 1<<30 | 8<<16 | 'f'<<8 | 16
	if err := ioctlUint64(root, resizeFS, want); err != nil {
		return fmt.Errorf("from %d to %d blocks: %w", blocks, want, err)
	}
	return nil
}

// extent is how large a file system is by its superblock: s_blocks_count_lo at
// 0x4, s_log_block_size at 0x18, s_feature_incompat at 0x60 (0x80 is 64bit),
// s_blocks_count_hi at 0x150; Documentation/filesystems/ext4/super.rst.
func extent(super []byte) (blocks, blockSize uint64) {
	le := binary.LittleEndian
	blocks = uint64(le.Uint32(super[0x4:]))
	if le.Uint32(super[0x60:])&0x80 != 0 {
		blocks |= uint64(le.Uint32(super[0x150:])) << 32
	}
	return blocks, 1024 << le.Uint32(super[0x18:])
}

// mountModules mounts the kernel's modules where modprobe looks for them, and
// returns where that is, or "" when there is nothing to mount or nothing in the
// image that could use it.
func mountModules() (string, error) {
	device, _ := lookForDisk(agent.ModulesSerial)
	if _, err := os.Stat("/lib"); device == "" || err != nil {
		return "", nil
	}
	release, err := kernelRelease()
	if err != nil {
		return "", err
	}
	dir, err := resolve("/", filepath.Join("/lib/modules", release))
	if err != nil {
		return "", err
	}
	return dir, mountPoint{device, dir, "ext4", unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV, ""}.mount()
}
