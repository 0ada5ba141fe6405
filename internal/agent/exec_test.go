package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"banger/internal/api"
)

func TestExecCopies(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	s := connect(t, &fakeGuest{exec: func(c *Call) error {
		fmt.Fprintf(c.Stderr, "args %q", c.Args)
		if _, err := io.Copy(c.Stdout, c.Stdin); err != nil {
			return err
		}
		c.Exit(ExitStatus{Code: 7})
		return nil
	}})
	in, out := sha256.New(), sha256.New()
	source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), in)
	var stderr bytes.Buffer
	// Through a hop that only copies bytes, as the daemon does.
	status, err := Exec(t.Context(), hop(t, open(t, s)), ExecRequest{Args: []string{"a", "b c"}, Stdin: true}, IO{Stdin: source, Stdout: out, Stderr: &stderr})
	if err != nil || status.Code != 7 {
		t.Fatalf("got %+v, %v, want code 7", status, err)
	}
	if !bytes.Equal(in.Sum(nil), out.Sum(nil)) {
		t.Error("what came back is not what was sent")
	}
	if got, want := stderr.String(), `args ["a" "b c"]`; got != want {
		t.Errorf("stderr: got %q, want %q", got, want)
	}
}

// hop leads to conn by way of another pipe. The end of one side closes both.
func hop(t *testing.T, conn net.Conn) net.Conn {
	t.Helper()
	near, far := socketPair(t)
	go func() {
		io.Copy(conn, far)
		conn.Close()
		far.Close()
	}()
	go func() {
		io.Copy(far, conn)
		conn.Close()
		far.Close()
	}()
	return near
}

func TestExecSignalPassesUnreadInput(t *testing.T) {
	t.Parallel()
	s := connect(t, &fakeGuest{exec: func(c *Call) error {
		size, sig := <-c.Resize, <-c.Signals // never reads
		c.Exit(ExitStatus{Code: int(sig), Signal: int(size.Cols)})
		return nil
	}})
	endless := rand.NewChaCha8([32]byte{})
	resize, signals := make(chan Size), make(chan syscall.Signal)
	go func() {
		time.Sleep(50 * time.Millisecond) // the window is full by now
		resize <- Size{Rows: 5, Cols: 99}
		signals <- syscall.SIGINT
	}()
	status, err := Exec(t.Context(), open(t, s), ExecRequest{Stdin: true}, IO{Stdin: endless, Resize: resize, Signals: signals})
	if want := (ExitStatus{Code: 2, Signal: 99}); err != nil || status != want {
		t.Errorf("got %+v, %v, want %+v", status, err, want)
	}
}

func TestExecKeepsToWindow(t *testing.T) {
	t.Parallel()
	in := newInput(newFrames(&bytes.Buffer{}))
	chunk := make([]byte, maxData)
	sent := 0
	for in.add(chunk) {
		if sent += len(chunk); sent > stdinWindow {
			t.Fatalf("took %d bytes that nobody read", sent)
		}
	}
	if sent < stdinWindow-maxData {
		t.Errorf("took only %d bytes, the window is %d", sent, stdinWindow)
	}
}

func TestExecError(t *testing.T) {
	t.Parallel()
	s := connect(t, &fakeGuest{exec: func(*Call) error { return fmt.Errorf("main process: %w", api.ErrInUse) }})
	_, err := Exec(t.Context(), open(t, s), ExecRequest{Main: true}, IO{})
	if !errors.Is(err, api.ErrInUse) || !strings.Contains(err.Error(), "main process") {
		t.Errorf("got %v, want in use", err)
	}
}

func TestExecCancelled(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	s := connect(t, &fakeGuest{exec: func(c *Call) error {
		<-c.Gone
		close(gone)
		time.Sleep(100 * time.Millisecond) // while it winds up, the host does not wait
		c.Exit(ExitStatus{Code: 137})
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	r, w := io.Pipe() // a stdin on which a Read waits
	defer w.Close()
	if _, err := Exec(ctx, open(t, s), ExecRequest{Stdin: true}, IO{Stdin: r}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want cancelled", err)
	}
	<-gone
}

func TestExecGuestDies(t *testing.T) {
	t.Parallel()
	var s *Session
	ready := make(chan struct{})
	s = connect(t, &fakeGuest{exec: func(c *Call) error {
		<-ready
		go s.Close()
		<-c.Gone
		return nil
	}})
	close(ready)
	if status, err := Exec(t.Context(), open(t, s), ExecRequest{}, IO{}); err == nil {
		t.Errorf("got %+v without an error", status)
	}
}

func TestExecOutputClosed(t *testing.T) {
	t.Parallel()
	s := connect(t, &fakeGuest{exec: func(c *Call) error {
		for {
			if _, err := c.Stdout.Write(make([]byte, 1000)); err != nil {
				return nil
			}
		}
	}})
	r, w := io.Pipe()
	r.Close()
	if _, err := Exec(t.Context(), open(t, s), ExecRequest{}, IO{Stdout: w}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want closed pipe", err)
	}
}
