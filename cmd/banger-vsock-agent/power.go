package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// restart ends the machine: the VMM is told not to reboot, and this is the
// fastest way out of it. It does not return.
func restart() {
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
		// tcdrain(3), for the last words. A console that cannot has none to lose.
		_ = unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1)
	}
	unix.Sync()
	for ; ; time.Sleep(time.Second) {
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
			warn("reboot: %v", err)
		}
	}
}

// settle writes everything to the disks and makes them read-only, so that the
// next mount has no journal to replay. No process may be left.
func settle() {
	unix.Sync()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		warn("read mounts: %v", err)
		return
	}
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		field := strings.Fields(lines[i])
		if len(field) < 4 || !strings.HasPrefix(field[0], "/dev/") || strings.HasPrefix(field[3], "ro") {
			continue
		}
		target := unescape(field[1])
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			warn("remount %s read-only: %v", target, err)
		}
	}
}

// unescape undoes what /proc/self/mounts does to spaces and the like
// (fs/proc_namespace.c, mangle).
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
