package e2e

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
)

// session is a command in a terminal of 40 columns.
type session struct {
	tty  io.Writer // what is typed
	wait func() error

	mu     sync.Mutex // guards output
	output bytes.Buffer
}

func (h *host) inTerminal(t *testing.T, args ...string) *session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	t.Cleanup(cancel)
	cmd := h.command(ctx, args...)
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 40, Rows: 24})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	s := &session{tty: tty}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(s, tty) // EIO when the last who has the terminal is gone (pty(7))
	}()
	s.wait = func() error { err := cmd.Wait(); <-ended; return err }
	return s
}

func (s *session) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.Write(b)
}

func (s *session) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

// left returns what is on the screen below the last that was erased, where the
// bars were.
func (s *session) left() string {
	text := s.text()
	const eraseBelow = "\x1b[J"
	return text[strings.LastIndex(text, eraseBelow)+len(eraseBelow):]
}

// TestBarsInATerminal pulls in a terminal: interrupted, from a registry that does
// not answer; and then to the end.
func TestBarsInATerminal(t *testing.T) {
	h, r := newHost(t), newHeldRegistry(t)
	ref := r.addr + "/bars:1"
	push(t, ref, oneFile(t, "bars"))
	pull := []string{"image", "pull", "--no-guest-files", "--name", "bars", ref}

	s := h.inTerminal(t, pull...)
	await(t, "it waits for the registry", func() bool { return strings.Contains(s.text(), "bars:1  1.") })
	if _, err := s.tty.Write([]byte{'C' & 0x1f}); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err == nil {
		t.Error("an interrupted pull succeeded")
	}
	if got, want := s.left(), "banger: interrupted\r\n"; got != want {
		t.Errorf("interrupted: on the screen is %q, want %q", got, want)
	}
	if strings.Contains(s.text(), "\x1b[?25l") {
		t.Errorf("the cursor was hidden: %q", s.text())
	}

	r.open()
	s = h.inTerminal(t, pull...)
	if err := s.wait(); err != nil {
		t.Errorf("pull: %v\n%s", err, s.text())
	}
	if got := s.left(); !strings.HasSuffix(got, "bars\r\n") || strings.Contains(got, "\x1b") {
		t.Errorf("at the end, on the screen is %q", got)
	}

	h.clean(t, "bars")
}
