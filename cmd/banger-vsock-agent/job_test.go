package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/agent"
	"banger/internal/api"
)

// newGuest serves a guest without a machine, and returns a way to open streams
// to it.
func newGuest(t *testing.T, p agent.Process) func() net.Conn {
	t.Helper()
	c, stop := newChildren()
	g := &guest{cfg: agent.Config{Process: p}, init: initBanger, phases: &phases{}, children: c, main: newMainProcess()}
	host, far := net.Pipe()
	s := &agent.Server{Handler: g}
	go s.Serve(far)
	session, err := agent.Connect(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		session.Close()
		s.Wait()
		stop()
	})
	return func() net.Conn {
		conn, err := session.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

// Only one collector may run in a process: it takes in every child. So the
// tests that start processes share this one and do not run in parallel.
func TestExec(t *testing.T) {
	open := newGuest(t, agent.Process{Env: []string{"FROM=image", "BOTH=image"}})
	script := filepath.Join(t.TempDir(), "script")
	noInterpreter := filepath.Join(t.TempDir(), "no-interpreter")
	for file, text := range map[string]string{script: "echo no first line\n", noInterpreter: "#!/no/such/shell\n"} {
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		r      agent.ExecRequest
		stdin  string
		status agent.ExitStatus // of Reason only that it contains this
		stdout string
		stderr string
	}{
		{name: "zero", r: agent.ExecRequest{Args: []string{"true"}}},
		{name: "seven", r: agent.ExecRequest{Args: []string{"sh", "-c", "exit 7"}}, status: agent.ExitStatus{Code: 7}},
		{name: "killed", r: agent.ExecRequest{Args: []string{"sh", "-c", "kill -9 $$"}}, status: agent.ExitStatus{Code: 137, Signal: 9}},
		{name: "137 by itself", r: agent.ExecRequest{Args: []string{"sh", "-c", "exit 137"}}, status: agent.ExitStatus{Code: 137}},
		{name: "not in PATH", r: agent.ExecRequest{Args: []string{"no-such-command"}}, status: agent.ExitStatus{Code: 127, Reason: "not found in PATH"}},
		{name: "no such file", r: agent.ExecRequest{Args: []string{"/no/such/file"}}, status: agent.ExitStatus{Code: 127, Reason: "no such file"}},
		{name: "no interpreter", r: agent.ExecRequest{Args: []string{noInterpreter}}, status: agent.ExitStatus{Code: 127, Reason: "interpreter"}},
		{name: "no program", r: agent.ExecRequest{Args: []string{script}}, status: agent.ExitStatus{Code: 126, Reason: "#! line"}},
		{name: "not executable", r: agent.ExecRequest{Args: []string{"/etc/passwd"}}, status: agent.ExitStatus{Code: 126, Reason: "permission denied"}},
		{name: "directory", r: agent.ExecRequest{Args: []string{"/etc"}}, status: agent.ExitStatus{Code: 126, Reason: "directory"}},
		{name: "no working directory", r: agent.ExecRequest{Args: []string{"true"}, Dir: "/no/such/dir"}, status: agent.ExitStatus{Code: 126, Reason: "/no/such/dir"}},
		{name: "no such user", r: agent.ExecRequest{Args: []string{"true"}, User: "no-such-user"}, status: agent.ExitStatus{Code: 126, Reason: "no-such-user"}},
		{name: "no command", status: agent.ExitStatus{Code: 127, Reason: "no command"}},
		{name: "outputs apart", r: agent.ExecRequest{Args: []string{"sh", "-c", "echo out; echo err >&2"}}, stdout: "out\n", stderr: "err\n"},
		{name: "stdin", r: agent.ExecRequest{Args: []string{"wc", "-c"}, Stdin: true}, stdin: "12345", stdout: "5\n"},
		{name: "no stdin", r: agent.ExecRequest{Args: []string{"wc", "-c"}}, stdin: "unseen", stdout: "0\n"},
		{name: "stdin closed early", r: agent.ExecRequest{Args: []string{"sh", "-c", "exec <&-; sleep .1; echo done"}, Stdin: true}, stdin: strings.Repeat("x", 1<<20), stdout: "done\n"},
		{name: "environment", r: agent.ExecRequest{Args: []string{"sh", "-c", `echo "$FROM $BOTH $OWN"`}, Env: []string{"BOTH=request", "OWN=1"}}, stdout: "image request 1\n"},
		{name: "working directory", r: agent.ExecRequest{Args: []string{"pwd"}, Dir: "/etc"}, stdout: "/etc\n"},
		{name: "terminal", r: agent.ExecRequest{Args: []string{"sh", "-c", "stty size; echo $TERM; exit 3"}, TTY: true, Rows: 33, Cols: 111, Term: "vt100"}, stdout: "33 111\r\nvt100\r\n", status: agent.ExitStatus{Code: 3}},
		{name: "end of input on a terminal", r: agent.ExecRequest{Args: []string{"cat"}, TTY: true, Stdin: true}, stdin: "line\n", stdout: "line\r\nline\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status, err := agent.Exec(t.Context(), open(), tt.r, agent.IO{Stdin: strings.NewReader(tt.stdin), Stdout: &stdout, Stderr: &stderr})
			if err != nil {
				t.Fatal(err)
			}
			if status.Code != tt.status.Code || status.Signal != tt.status.Signal || !strings.Contains(status.Reason, tt.status.Reason) {
				t.Errorf("status: got %+v, want %+v", status, tt.status)
			}
			if tt.status.Reason == "" && status.Reason != "" {
				t.Errorf("reason: got %q, want none", status.Reason)
			}
			if got := stdout.String(); got != tt.stdout {
				t.Errorf("stdout: got %q, want %q", got, tt.stdout)
			}
			if got := stderr.String(); got != tt.stderr {
				t.Errorf("stderr: got %q, want %q", got, tt.stderr)
			}
		})
	}
}

func TestExecThroughCat(t *testing.T) {
	open := newGuest(t, agent.Process{})
	in, out := sha256.New(), sha256.New()
	source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), 64<<20), in)
	status, err := agent.Exec(t.Context(), open(), agent.ExecRequest{Args: []string{"cat"}, Stdin: true}, agent.IO{Stdin: source, Stdout: out})
	if err != nil || status.Code != 0 {
		t.Fatalf("got %+v, %v", status, err)
	}
	if !bytes.Equal(in.Sum(nil), out.Sum(nil)) {
		t.Error("what came back is not what was sent")
	}
}

// slowWriter takes its time with each write, as a host behind a slow line.
type slowWriter struct{ n int }

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(outputGrace / 4)
	w.n += len(p)
	return len(p), nil
}

func TestExecOutputComplete(t *testing.T) {
	open := newGuest(t, agent.Process{})
	// The command ends at once and leaves a process that holds its output open.
	w := &slowWriter{}
	begun := time.Now()
	status, err := agent.Exec(t.Context(), open(), agent.ExecRequest{Args: []string{"sh", "-c", "sleep 60 & head -c 1000000 /dev/zero"}}, agent.IO{Stdout: w})
	if err != nil || status.Code != 0 {
		t.Fatalf("got %+v, %v", status, err)
	}
	if w.n != 1000000 {
		t.Errorf("got %d bytes of output, want 1000000", w.n)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("waited %v for a process that was left behind", took)
	}
}

func TestExecSignalsAndSizes(t *testing.T) {
	open := newGuest(t, agent.Process{})
	resize, signals := make(chan agent.Size), make(chan syscall.Signal)
	r, w := io.Pipe()
	go func() {
		line := make([]byte, 64)
		r.Read(line) // "ready"
		resize <- agent.Size{Rows: 7, Cols: 77}
		signals <- syscall.SIGUSR1
		io.Copy(io.Discard, r)
	}()
	script := `trap 'test "$(stty size)" = "7 77" && exit 9' USR1; trap : WINCH; echo ready; while :; do sleep 0.05; done`
	req := agent.ExecRequest{Args: []string{"sh", "-c", script}, TTY: true, Stdin: true, Rows: 1, Cols: 1}
	in, _ := io.Pipe()
	status, err := agent.Exec(t.Context(), open(), req, agent.IO{Stdin: in, Stdout: w, Resize: resize, Signals: signals})
	if err != nil || status.Code != 9 {
		t.Errorf("got %+v, %v, want code 9", status, err)
	}
}

func TestExecHostGone(t *testing.T) {
	open := newGuest(t, agent.Process{})
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	pids := make(chan string, 1)
	go func() {
		buf := make([]byte, 64)
		n, _ := r.Read(buf)
		pids <- strings.TrimSpace(string(buf[:n]))
		cancel()
		io.Copy(io.Discard, r)
	}()
	// It ignores SIGHUP, and so does the process it has started.
	_, err := agent.Exec(ctx, open(), agent.ExecRequest{Args: []string{"sh", "-c", "trap '' HUP; sleep 100 & echo $!; wait"}}, agent.IO{Stdout: w})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want cancelled", err)
	}
	pid, err := strconv.Atoi(<-pids)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(3 * hangupGrace); ; time.Sleep(10 * time.Millisecond) {
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the process group outlived its host: %s", state)
		}
	}
}

func TestMainProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for", "it")
	open := newGuest(t, agent.Process{Args: []string{"sh", "-c", "pwd; echo $A; exit 5"}, Env: []string{"A=b"}, Dir: dir})
	waited := make(chan agent.ExitStatus, 1)
	conn := open()
	go func() {
		status, err := agent.Wait(t.Context(), conn)
		if err != nil {
			t.Error(err)
		}
		waited <- status
	}()
	var stdout bytes.Buffer
	status, err := agent.Exec(t.Context(), open(), agent.ExecRequest{Main: true}, agent.IO{Stdout: &stdout})
	if err != nil || status.Code != 5 {
		t.Fatalf("got %+v, %v, want code 5", status, err)
	}
	if got, want := stdout.String(), dir+"\nb\n"; got != want {
		t.Errorf("stdout: got %q, want %q", got, want)
	}
	if got := <-waited; got != status {
		t.Errorf("Wait: got %+v, want %+v", got, status)
	}
	if _, err := agent.Exec(t.Context(), open(), agent.ExecRequest{Main: true}, agent.IO{}); !errors.Is(err, api.ErrInUse) {
		t.Errorf("a second main process: got %v, want in use", err)
	}
}

func TestMainProcessStop(t *testing.T) {
	c, stop := newChildren()
	defer stop()
	for _, tt := range []struct {
		script string
		want   int
	}{
		{"trap 'exit 4' INT; echo ready; while :; do sleep 0.02; done", 4},
		{"trap '' INT; echo ready; while :; do sleep 0.02; done", 137},
	} {
		m := newMainProcess()
		r, w := io.Pipe()
		var status agent.ExitStatus
		done := make(chan error)
		go func() {
			j := job{ExecRequest: agent.ExecRequest{Args: []string{"sh", "-c", tt.script}}, stdout: w}
			done <- m.run(c, j, func(s agent.ExitStatus) { status = s })
		}()
		r.Read(make([]byte, 16))
		go io.Copy(io.Discard, r)
		m.stop(stopSignal("SIGINT"), 300*time.Millisecond)
		if err := <-done; err != nil || status.Code != tt.want {
			t.Errorf("%s: got %+v, %v, want code %d", tt.script, status, err, tt.want)
		}
		m.close(time.Second)
		if err := m.wait(nil, nil); err == nil {
			t.Error("a report began after the last one")
		}
	}
}
