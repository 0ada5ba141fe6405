package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/agent"
)

// findPort returns the device of the virtio-serial port to the host.
func findPort() (string, error) {
	const class = "/sys/class/virtio-ports"
	entries, err := os.ReadDir(class)
	if err != nil {
		return "", fmt.Errorf("find port: %w", err)
	}
	for _, e := range entries {
		name, err := os.ReadFile(filepath.Join(class, e.Name(), "name"))
		if err == nil && strings.TrimSpace(string(name)) == agent.PortName {
			return filepath.Join("/dev", e.Name()), nil
		}
	}
	return "", fmt.Errorf("find port %q in %s: %w", agent.PortName, class, fs.ErrNotExist)
}

// openPort opens the port. Doing so anew for each host drops what an earlier
// one left in it.
func openPort(device string) (*os.File, error) {
	// Non-blocking makes the runtime poll it: only then does Close end a Read.
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open port: %w", err)
	}
	return f, nil
}

// awaitHost waits until a host is there. Without one a Read returns 0 at once
// and poll says POLLHUP for ever, so neither can be waited with. A host that
// comes wakes those who wait for room to write, and the runtime's poller tells
// of wakings (EPOLLET), not of states.
func awaitHost(port *os.File) error {
	raw, err := port.SyscallConn()
	if err == nil {
		err = raw.Write(func(fd uintptr) bool { return !hungUp(fd) })
	}
	if err != nil {
		return fmt.Errorf("await a host on the port: %w", err)
	}
	return nil
}

func hungUp(fd uintptr) bool {
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(set, 0)
	return err == nil && n > 0 && set[0].Revents&unix.POLLHUP != 0
}

// servePort answers one host after the other. It does not return.
func servePort(s *agent.Server, device string, ready func()) {
	for pause := time.Duration(0); ; time.Sleep(pause) {
		port, err := openPort(device)
		if err != nil {
			warn("%v", err) // such as an old agent that still has it open
			pause = min(2*pause+10*time.Millisecond, time.Second)
			continue
		}
		ready()
		pause = 0
		if err := awaitHost(port); err != nil {
			warn("%v", err)
			port.Close()
			pause = time.Second
			continue
		}
		_ = s.Serve(port) // ends with the host; why is of no interest to the next one
	}
}
