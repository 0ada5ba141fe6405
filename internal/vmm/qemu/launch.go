package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"banger/internal/vmm"
)

// launch is one machine about to be run.
type launch struct {
	binary  string
	machine vmm.Machine
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

// spawn starts QEMU. The sockets are bound here and inherited by it, so they
// accept connections when spawn returns.
func (l launch) spawn(t tuning) (*instance, error) {
	m := l.machine
	in := &instance{
		accel:     t.accel,
		agentPath: filepath.Join(m.RunDir, "agent.sock"),
		qmpPath:   filepath.Join(m.RunDir, "qmp.sock"),
		output:    make(chan struct{}),
		done:      make(chan struct{}),
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // ours, after QEMU has inherited its own
		}
	}()
	log, err := openConsoleLog(m.Dir)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, log.close())
	}
	files = append(files, w)
	for _, path := range []string{in.agentPath, in.qmpPath} {
		f, err := listen(path)
		if err != nil {
			return nil, errors.Join(err, r.Close(), log.close())
		}
		files = append(files, f)
	}
	in.cmd = exec.Command(l.binary, args(m, t)...)
	in.cmd.Dir = m.Dir
	in.cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // no secrets of ours
	in.cmd.Stderr = &in.stderr
	in.cmd.Stdout = &in.stderr
	in.cmd.WaitDelay = time.Second
	in.cmd.ExtraFiles = files
	in.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go in.run(started, r, log)
	if err := <-started; err != nil {
		return nil, err
	}
	return in, nil
}

// run starts the process and sees it to its end, on one thread: the kernel sends
// the parent-death signal when the *thread* that forked ends (prctl(2)), and the
// Go runtime ends idle threads as it likes.
func (in *instance) run(started chan<- error, console *os.File, log *consoleLog) {
	runtime.LockOSThread()
	in.startedAt = time.Now()
	if err := in.cmd.Start(); err != nil {
		started <- errors.Join(err, console.Close(), log.close(), in.removeSockets())
		return
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		in.logErr = log.copy(console, in.sawOutput)
	}()
	started <- nil
	in.err = in.cmd.Wait()
	<-drained
	in.closeErr = errors.Join(console.Close(), log.close(), in.removeSockets())
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
