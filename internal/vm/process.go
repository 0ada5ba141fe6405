package vm

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// process names a process for good: its pid alone may be another's by now.
type process struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"`   // clock ticks after the host's boot
	BootID string `json:"boot_id"` // of the host
}

// self is this process.
func self() (process, error) {
	p := process{PID: os.Getpid()}
	var err error
	if p.BootID, err = bootID(); err != nil {
		return p, err
	}
	p.Start, _, err = stat(p.PID)
	return p, err
}

// alive reports whether the process exists and is more than a zombie.
func (p process) alive() bool {
	boot, err := bootID()
	if err != nil || boot != p.BootID {
		return false
	}
	start, status, err := stat(p.PID)
	return err == nil && start == p.Start && status != "Z" && status != "X"
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// stat reads fields 22 (start time) and 3 (state) of /proc/PID/stat (proc(5)).
func stat(pid int) (start uint64, status string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	// The name in parentheses may hold anything, parentheses too.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return 0, "", fmt.Errorf("/proc/%d/stat: %d fields after the name, want at least 20", pid, len(fields))
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0], err
}
