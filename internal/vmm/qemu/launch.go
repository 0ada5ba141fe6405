package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/vmm"
)

// launch is one machine about to be run.
type launch struct {
	binary  string
	machine vmm.Machine
	log     *slog.Logger
}

// kvm runs the machine with KVM; a guest that is silent for longer than
// patience is killed.
func (l launch) kvm(ctx context.Context, patience time.Duration) (*instance, error) {
	in, err := l.spawn(tuning{accel: "kvm"})
	if err != nil {
		return nil, err
	}
	alive, err := in.awaken(ctx, patience)
	if err == nil && !alive {
		err = errors.Join(fmt.Errorf("the kernel printed nothing for %v", patience), in.end())
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// tcg runs the machine with software emulation. A silent guest is not killed:
// on a busy host it may be slow, and nothing else is left to try.
func (l launch) tcg(ctx context.Context) (*instance, error) {
	in, err := l.spawn(tuning{accel: "tcg", tscKHz: measureTSC(20 * time.Millisecond), tscStable: stableTSC()})
	if err != nil {
		return nil, err
	}
	if _, err := in.awaken(ctx, trialPatience); err != nil {
		return nil, err
	}
	return in, nil
}

// spawn starts QEMU. The agent's socket is bound here and inherited by it, so it
// takes connections when spawn returns.
func (l launch) spawn(t tuning) (*instance, error) {
	m := l.machine
	in := &instance{
		accel:     t.accel,
		agentPath: filepath.Join(m.RunDir, "agent.sock"),
		output:    make(chan struct{}),
		done:      make(chan struct{}),
	}
	console, err := openConsoleLog(m.Dir)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := in.connections()
	if err != nil {
		return nil, errors.Join(err, console.close())
	}
	defer closeAll(theirs[:]) // QEMU has its own by then
	//nolint:noctx // it outlives this call
	in.cmd = exec.Command(l.binary, args(m, t)...)
	in.cmd.Dir = m.Dir
	in.cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // no secrets of ours
	in.cmd.Stderr = &in.stderr
	in.cmd.Stdout = &in.stderr
	in.cmd.WaitDelay = time.Second
	in.cmd.ExtraFiles = theirs[:]
	in.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go in.run(started, ours, console, l.log)
	if err := <-started; err != nil {
		return nil, err
	}
	return in, nil
}

// connections makes what leads to QEMU: our ends, which are the console's and
// that of QMP, and QEMU's in the order of their descriptors.
func (in *instance) connections() (ours [2]*os.File, theirs [3]*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(ours[:])
			closeAll(theirs[:])
		}
	}()
	if ours[0], theirs[consoleFD-3], err = os.Pipe(); err != nil {
		return ours, theirs, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return ours, theirs, os.NewSyscallError("socketpair", err)
	}
	ours[1], theirs[qmpFD-3] = os.NewFile(uintptr(pair[0]), "qmp"), os.NewFile(uintptr(pair[1]), "qmp")
	theirs[agentFD-3], err = listen(in.agentPath)
	return ours, theirs, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // a nil one, too
	}
}

// run starts the process and sees it to its end, on one thread: the kernel sends
// the parent-death signal when the *thread* that forked ends (prctl(2)), and the
// Go runtime ends idle threads as it likes.
func (in *instance) run(started chan<- error, ours [2]*os.File, console *consoleLog, log *slog.Logger) {
	runtime.LockOSThread()
	in.startedAt = time.Now()
	if err := in.cmd.Start(); err != nil {
		closeAll(ours[:])
		started <- errors.Join(err, console.close(), in.removeSocket())
		return
	}
	var readers sync.WaitGroup
	readers.Go(func() { in.logErr = console.copy(ours[0], in.sawOutput) })
	readers.Go(func() {
		if err := resumeWhenFull(ours[1], fullDiskPause, log); err != nil && !in.killed.Load() {
			log.Debug("end of QMP", "error", err)
		}
	})
	started <- nil
	in.err = in.cmd.Wait()
	readers.Wait()
	closeAll(ours[:])
	in.closeErr = errors.Join(console.close(), in.removeSocket())
	close(in.done)
}

// listen binds a unix socket and returns it as a file.
func listen(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	return f, errors.Join(err, l.Close())
}
