package main

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlUint64 passes a pointer to v.
func ioctlUint64(f *os.File, request uintptr, v uint64) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&v)))
	if errno != 0 {
		return errno
	}
	return nil
}
