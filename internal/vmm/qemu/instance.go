package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banger/internal/vmm"
)

// instance is one QEMU process. It implements [vmm.Instance] and [vmm.Answerer].
type instance struct {
	cmd       *exec.Cmd
	accel     string
	agentPath string
	startedAt time.Time
	warnings  []string
	stderr    tail
	proof     proof // of KVM; the zero value when it does not run with it

	output  chan struct{}             // closed at the first byte from the console
	firstAt atomic.Pointer[time.Time] // when that was
	killed  atomic.Bool

	done                  chan struct{} // closed when the process has been reaped
	err, logErr, closeErr error         // how that went; read after done
}

// Dial implements [vmm.Instance].
func (in *instance) Dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", in.agentPath)
}

// Kill implements [vmm.Instance].
func (in *instance) Kill() error {
	in.killed.Store(true)
	if err := in.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill QEMU: %w", err)
	}
	return nil
}

// Wait implements [vmm.Instance].
func (in *instance) Wait(ctx context.Context) error {
	select {
	case <-in.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case in.err != nil && !in.killed.Load():
		return in.exitError()
	case in.logErr != nil:
		return fmt.Errorf("write the console log: %w", in.logErr)
	}
	return in.closeErr
}

// Info implements [vmm.Instance].
func (in *instance) Info() vmm.Info {
	return vmm.Info{
		PID:         in.cmd.Process.Pid,
		Accel:       in.accel,
		StartedAt:   in.startedAt,
		FirstOutput: in.firstOutput(),
		Warnings:    in.warnings,
	}
}

// Answered implements [vmm.Answerer].
func (in *instance) Answered() { _ = in.proof.write(kvmWorks) } // without it the next start is guarded again

func (in *instance) sawOutput() {
	now := time.Now()
	in.firstAt.Store(&now)
	close(in.output)
}

func (in *instance) firstOutput() time.Time {
	if at := in.firstAt.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// awaken waits for the first byte from the console and says whether it came. It
// is an error when the machine ended instead; after an error it has ended.
func (in *instance) awaken(ctx context.Context, patience time.Duration) (alive bool, err error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-in.output:
		return true, nil
	case <-in.done:
		return false, in.exitError()
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, errors.Join(ctx.Err(), in.end())
	}
}

// end kills the machine and waits until nothing of it is left.
func (in *instance) end() error {
	err := in.Kill()
	<-in.done
	return err
}

// exitError says how QEMU ended, with its own last words. Call it after done.
func (in *instance) exitError() error {
	how := "exit status 0"
	if in.err != nil {
		how = in.err.Error()
	}
	if words := in.stderr.String(); words != "" {
		return fmt.Errorf("QEMU ended (%s): %s", how, words)
	}
	return fmt.Errorf("QEMU ended (%s)", how)
}

func (in *instance) removeSocket() error {
	if err := os.Remove(in.agentPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// tail is a writer that keeps the last maxTail bytes.
type tail struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

const maxTail = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if cut := len(t.buf) - maxTail; cut > 0 {
		t.buf = append(t.buf[:0], t.buf[cut:]...)
	}
	return len(p), nil
}

// String returns the lines kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.buf))
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
