package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"banger/internal/api"
	"banger/internal/client"
	"banger/internal/daemon"
	"banger/internal/dirs"
)

// daemonStart bounds how long a daemon may take to answer after its start; it
// clears up what a crash has left before it listens.
const daemonStart = 20 * time.Second

// connect returns a client of a daemon of this very build, which it starts when
// there is none. An idle daemon of another build is replaced.
func (c *cli) connect(ctx context.Context) (*client.Client, error) {
	d, err := dirs.Find(c.getenv)
	if err != nil {
		return nil, err
	}
	conn := client.New(filepath.Join(d.Run, daemon.SocketName))
	status, err := daemonStatus(ctx, conn)
	switch build := buildID(); {
	case err != nil && !notRunning(err):
		return nil, err
	case err != nil:
	case status.Build == build:
		return conn, nil
	case status.BusyCalls > 0:
		return nil, api.Hint(
			fmt.Errorf("the daemon (pid %d, version %s) is of another build and has %d calls under way", status.PID, status.Version, status.BusyCalls),
			"wait for them, or end them with: banger daemon stop")
	default:
		if err := stopDaemon(ctx, conn); err != nil {
			return nil, fmt.Errorf("replace the daemon of another build: %w", err)
		}
	}
	return conn, c.startDaemon(ctx, d, conn)
}

// startDaemon starts a daemon that outlives us and waits until it answers.
func (c *cli) startDaemon(ctx context.Context, d dirs.Dirs, conn *client.Client) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.State, 0o700); err != nil {
		return err
	}
	logPath := filepath.Join(d.State, daemonLog)
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// Not CommandContext: the daemon outlives this command.
	cmd := exec.Command(exe, "daemon") //nolint:noctx // see above
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(daemonStart)
	for {
		if _, err := daemonStatus(ctx, conn); err == nil {
			return nil
		} else if !notRunning(err) {
			return err
		}
		select {
		case err := <-ended:
			// Another command may have started one at the same moment, and won.
			if _, err := daemonStatus(ctx, conn); err == nil {
				return nil
			}
			return api.Hint(fmt.Errorf("start the daemon: it ended at once: %w: %s", err, lastLine(logPath)), "its log is "+logPath)
		case <-deadline:
			return api.Hint(fmt.Errorf("start the daemon: no answer in %v", daemonStart), "its log is "+logPath)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// daemonLog is the daemon's log in the state directory.
const daemonLog = "daemon.log"

func daemonStatus(ctx context.Context, conn *client.Client) (api.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var v api.Version
	err := conn.Call(ctx, "daemon.status", nil, &v)
	return v, err
}

// stopDaemon asks the daemon to stop and waits until it is gone.
func stopDaemon(ctx context.Context, conn *client.Client) error {
	status, err := daemonStatus(ctx, conn)
	if err != nil {
		return err
	}
	if err := conn.Call(ctx, "daemon.stop", nil, nil); err != nil {
		return err
	}
	for start := time.Now(); time.Since(start) < daemonStart; {
		if err := syscall.Kill(status.PID, 0); err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("the daemon (pid %d) does not end", status.PID)
}

// notRunning says whether err means that nobody listens at the socket.
func notRunning(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// buildID tells builds apart without reading the executable: a build has its
// own size and time.
func buildID() string {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return version
	}
	return fmt.Sprintf("%s-%x-%x", version, info.Size(), info.ModTime().UnixNano())
}

// lastLine returns the end of a log for an error message.
func lastLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 300 // bytes
	b = b[max(0, len(b)-most):]
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] == '\n' {
			return string(b[i+1:])
		}
	}
	return string(b)
}
