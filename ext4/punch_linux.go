package ext4

import (
	"errors"
	"syscall"
)

// fallocate(2) modes; include/uapi/linux/falloc.h.
const (
	fallocKeepSize  = 0x1
	fallocPunchHole = 0x2
)

// punchHole makes n bytes of f read as zeros, and frees the space where the
// host's file system can.
func punchHole(f File, off, n int64) error {
	if c, ok := f.(syscall.Conn); ok {
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		var punchErr error
		err = raw.Control(func(fd uintptr) {
			for punchErr = syscall.EINTR; punchErr == syscall.EINTR; {
				punchErr = syscall.Fallocate(int(fd), fallocPunchHole|fallocKeepSize, off, n)
			}
		})
		if err != nil || !errors.Is(punchErr, errors.ErrUnsupported) {
			return errors.Join(err, punchErr)
		}
	}
	return writeZeros(f, off, n)
}
