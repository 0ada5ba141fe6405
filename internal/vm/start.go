package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"banger/internal/api"
)

// Files that a supervisor inherits, in the order of exec.Cmd.ExtraFiles.
const (
	controlFD = 3 + iota // listening socket
	lockFD               // the VM's lock
)

// Boot says how a VM is started.
type Boot struct {
	Accel  string // "auto" (also ""), "kvm" or "tcg"
	Detach bool   // the main process starts by itself, its output on the console
}

// Start starts a VM and returns when its agent has answered. When ctx ends
// before that, the VM is killed; after that ctx means nothing to it.
func (h *Host) Start(ctx context.Context, id string, b Boot, p api.Progress) error {
	if err := h.spawn(id, b); err != nil {
		return err
	}
	vm, err := h.watch(ctx, id, func(r reply) bool {
		if r.Event != nil && p != nil {
			p(*r.Event)
		}
		return r.State != nil && r.State.State == api.VMRunning
	})
	switch {
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), h.Kill(context.WithoutCancel(ctx), id))
	case err != nil:
		return errors.Join(err, h.lastWords(id))
	}
	switch vm.State {
	case api.VMRunning:
		return nil
	case api.VMFailed:
		hint := "the whole console: banger vm logs " + vm.Name
		if vm.Ephemeral { // whoever started it removes it
			hint = "a VM with a --name is kept, and its whole console with it"
		}
		return api.Hint(errors.New(vm.Reason), hint)
	case api.VMStopped:
		return errors.New("it was stopped before its agent had answered")
	}
	return fmt.Errorf("its supervisor died at once: %w", h.lastWords(id))
}

// spawn runs the supervisor. The control socket is bound here, so that it takes
// connections when spawn returns; the lock is handed on, so that there is no
// moment when another could have it.
func (h *Host) spawn(id string, b Boot) (err error) {
	dir := h.dir(id)
	lock, err := acquire(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return api.ErrNotFound
	}
	if err != nil {
		return err
	}
	defer lock.Close() // ours; the supervisor has its own
	s, err := readSpec(dir)
	if err != nil {
		return err
	}
	if err := checkMemory(s.Machine.MemoryMiB); err != nil {
		return err
	}
	s.Machine.Accel, s.Config.Detached = b.Accel, b.Detach
	if err := writeJSON(filepath.Join(dir, specFile), s, true); err != nil {
		return err
	}
	socket, err := listen(h.runDir(id))
	if err != nil {
		return err
	}
	defer socket.Close()
	log, err := os.OpenFile(filepath.Join(dir, supervisorFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	//nolint:noctx // it outlives this call, and this process
	cmd := exec.Command(h.Supervise[0], append(h.Supervise[1:len(h.Supervise):len(h.Supervise)], "--dir", dir)...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{socket, lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a signal for our terminal is none for the VM
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	// Only so that it is no zombie; it may well outlive us.
	go func() { _ = cmd.Wait() }()
	return nil
}

// listen makes a VM's run directory and its control socket, as a file.
func listen(runDir string) (*os.File, error) {
	if err := os.RemoveAll(runDir); err != nil { // of a dead one: we have the lock
		return nil, err
	}
	if err := os.Mkdir(runDir, 0o700); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(runDir, controlSocket), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	return f, errors.Join(err, l.Close())
}

// lastWords is the end of the supervisor's log, as an error.
func (h *Host) lastWords(id string) error {
	// A supervisor that has just died may not be reaped yet, but it has written.
	b, err := os.ReadFile(filepath.Join(h.dir(id), supervisorFile))
	if err != nil {
		return err
	}
	return errors.New(lastLines(b, 10))
}

// lastLines returns the last n lines of text.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
