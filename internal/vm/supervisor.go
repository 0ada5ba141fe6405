package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"banger/internal/api"
	"banger/internal/vmm"
)

// supervisor is the one process that a running VM has.
type supervisor struct {
	dir       string
	spec      spec
	driver    vmm.Driver
	log       *slog.Logger
	initramfs initramfsFunc

	board *board
	link  link

	// over ends the VM's life; the cause says who wanted it.
	life context.Context //nolint:containedctx // of the process
	over context.CancelCauseFunc
	gone chan struct{} // closed when the machine is gone and state.json says so
}

// initramfsFunc writes the initramfs of one start: [buildInitramfs], but in tests.
type initramfsFunc func(io.Writer, spec) error

// Why a life was ended on purpose.
var errStopped = errors.New("stopped")

// defaultStopTimeout is how long a guest has to power off when a supervisor is
// told to end.
const defaultStopTimeout = 10 * time.Second

// Supervise starts the VM in the directory dir and stays with it until it has
// ended; it is the body of a process of its own that [Host.Start] makes, which
// hands it the control socket and the VM's lock as descriptors 3 and 4. When ctx
// ends the guest is asked to power off. The error is the reason for the state
// failed.
func Supervise(ctx context.Context, dir string, driver vmm.Driver, log *slog.Logger) error {
	if err := inherit(ctx, dir, driver, log, buildInitramfs); err != nil {
		return fmt.Errorf("supervise %s: %w", dir, err)
	}
	return nil
}

// inherit takes over what [Host.Start] hands on.
func inherit(ctx context.Context, dir string, driver vmm.Driver, log *slog.Logger, initramfs initramfsFunc) error {
	for _, fd := range []int{controlFD, lockFD} {
		syscall.CloseOnExec(fd) // the VMM must not have them
	}
	socket := os.NewFile(controlFD, controlSocket)
	control, err := net.FileListener(socket)
	if err != nil {
		return fmt.Errorf("descriptor %d is not the control socket; the daemon has to start this: %w", controlFD, err)
	}
	if err := socket.Close(); err != nil {
		return err
	}
	lock := os.NewFile(lockFD, lockFile)
	err = supervise(ctx, dir, driver, log, control, initramfs)
	return errors.Join(err, lock.Close())
}

func supervise(ctx context.Context, dir string, driver vmm.Driver, log *slog.Logger, control net.Listener, initramfs initramfsFunc) error {
	sp, err := readSpec(dir)
	if err != nil {
		return err
	}
	before, err := readState(dir)
	if err != nil {
		return err
	}
	me, err := self()
	if err != nil {
		return err
	}
	st := state{State: api.VMStarting, Supervisor: me, StartedAt: time.Now()}
	if before.State == api.VMCreated {
		st.Phases = before.Phases // it has been cloned for this start
	}
	s := &supervisor{
		dir: dir, spec: sp, driver: driver, log: log, initramfs: initramfs,
		board: newBoard(filepath.Join(dir, stateFile), st), gone: make(chan struct{}),
	}
	s.link = link{log: log, exited: s.mainEnded}
	s.life, s.over = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := s.board.set(func(*state) {}); err != nil {
		return err
	}
	var served sync.WaitGroup
	served.Go(func() { s.serve(control) })
	asked := make(chan struct{})
	unasked := context.AfterFunc(ctx, func() {
		defer close(asked)
		s.stop(defaultStopTimeout)
	})
	err = s.run()
	if !unasked() {
		<-asked
	}
	err = errors.Join(err, control.Close())
	served.Wait()
	return errors.Join(err, os.RemoveAll(sp.Machine.RunDir))
}

// run is the VM's life.
func (s *supervisor) run() error {
	in, failure := s.boot(s.life)
	if failure == nil {
		failure = s.attend(in)
	}
	on := context.Cause(s.life)
	s.over(nil)
	s.link.wait()
	tail := s.consoleTail()
	if failure == nil && panicked(tail) {
		failure = errors.New("the guest's kernel panicked")
	}
	err := s.board.set(func(st *state) {
		st.State, st.PID = api.VMStopped, 0
		if failure != nil && !errors.Is(on, errStopped) {
			st.State, st.Reason = api.VMFailed, failure.Error()
			if tail != "" {
				st.Reason += "\nend of the console:\n" + tail
			}
		}
	})
	if s.spec.VM.Ephemeral {
		// The rest goes with the row; this is what takes space if no daemon is there.
		err = errors.Join(err, os.Remove(filepath.Join(s.dir, diskFile)))
	}
	close(s.gone)
	if errors.Is(on, errStopped) {
		failure = nil
	}
	return errors.Join(failure, err)
}

// attend waits for the end of a machine that runs, and sees to it when someone
// wants it.
func (s *supervisor) attend(in vmm.Instance) error {
	if err := in.Wait(s.life); s.life.Err() == nil {
		return err
	}
	return destroy(in)
}

// destroy kills the machine and waits until it is gone. If it has ended by
// itself, how is of no interest any more.
func destroy(in vmm.Instance) error {
	err := in.Kill()
	_ = in.Wait(context.Background())
	return err
}

// stop asks the guest to power off, kills the machine if it has not after
// timeout, and returns when it is gone.
func (s *supervisor) stop(timeout time.Duration) {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	ctx, cancel := context.WithTimeout(s.life, timeout)
	defer cancel()
	err := s.board.set(func(st *state) {
		if st.State.Live() {
			st.State = api.VMStopping
		}
	})
	if err != nil {
		s.log.Warn("write state", "error", err)
	}
	// The main process has most of the time; the rest is for the guest to unmount.
	if err := s.link.powerOff(ctx, timeout*3/4); err != nil {
		s.log.Info("the guest cannot be asked to power off", "error", err)
		s.over(errStopped)
	}
	select {
	case <-s.gone:
	case <-limit.C:
		s.over(errStopped)
		<-s.gone
	}
}

// kill ends the machine and returns when it is gone.
func (s *supervisor) kill() {
	s.over(errStopped)
	<-s.gone
}

const (
	tailBytes = 8 << 10
	tailLines = 25
)

// consoleTail is the end of the guest's console, for a person.
func (s *supervisor) consoleTail() string {
	f, err := os.Open(filepath.Join(s.dir, vmm.ConsoleLog))
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return ""
	}
	return lastLines(b, tailLines)
}

// panicked says whether the kernel's last words are on the console
// (kernel/panic.c).
func panicked(console string) bool { return strings.Contains(console, "Kernel panic - not syncing") }
