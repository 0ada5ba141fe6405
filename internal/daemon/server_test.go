package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/internal/api"
	"banger/internal/client"
)

// serve runs s on a socket and returns a client of it.
func serve(t *testing.T, s *server) (*client.Client, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s.mux, ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ownerOnly{l, os.Getuid()}) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return client.New(socket), socket
}

type echo struct {
	Text string `json:"text"`
}

func TestCall(t *testing.T) {
	s := newServer()
	call(s, "echo", "test", func(_ context.Context, e echo) (echo, error) {
		if e.Text == "" {
			return e, api.Hint(fmt.Errorf("text: %w", api.ErrNotFound), "say something")
		}
		return e, nil
	})
	c, _ := serve(t, s)
	var got echo
	if err := c.Call(t.Context(), "echo", echo{"hi"}, &got); err != nil || got.Text != "hi" {
		t.Errorf("got %+v, %v", got, err)
	}
	err := c.Call(t.Context(), "echo", echo{}, nil)
	if !errors.Is(err, api.ErrNotFound) || err.Error() != "text: not found" || api.HintOf(err) != "say something" {
		t.Errorf("an error came back as %v with hint %q", err, api.HintOf(err))
	}
	if errors.Is(err, api.ErrExists) || errors.Is(err, io.EOF) {
		t.Errorf("%v is also another error", err)
	}
	if err := c.Call(t.Context(), "echo", map[string]string{"txt": "hi"}, nil); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "txt") {
		t.Errorf("an unknown field: got %v", err)
	}
	if err := c.Call(t.Context(), "ech", echo{"hi"}, nil); !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), "verb") {
		t.Errorf("an unknown verb: got %v", err)
	}
	if n := s.busy.Load(); n != 0 {
		t.Errorf("%d calls under way after all have ended", n)
	}
}

func TestRequestIsBounded(t *testing.T) {
	s := newServer()
	call(s, "echo", "test", func(_ context.Context, e echo) (echo, error) { return e, nil })
	c, _ := serve(t, s)
	if err := c.Call(t.Context(), "echo", echo{strings.Repeat("x", maxRequest)}, nil); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a request of more than %d bytes: got %v", maxRequest, err)
	}
}

func TestStream(t *testing.T) {
	s := newServer()
	stream(s, "count", "test", func(_ context.Context, e echo, p api.Progress) (echo, error) {
		p.Say("one", "first")
		p.Count("two", "", 1, 2)
		if e.Text == "fail" {
			return e, fmt.Errorf("in the middle: %w", api.ErrInUse)
		}
		return echo{"done"}, nil
	})
	c, _ := serve(t, s)
	var steps []string
	var got echo
	record := func(e api.Event) { steps = append(steps, e.Phase) }
	if err := c.Stream(t.Context(), "count", echo{}, record, &got); err != nil || got.Text != "done" {
		t.Errorf("got %+v, %v", got, err)
	}
	if want := []string{"one", "two"}; !slices.Equal(steps, want) {
		t.Errorf("events %v, want %v", steps, want)
	}
	if err := c.Stream(t.Context(), "count", echo{"fail"}, nil, &got); !errors.Is(err, api.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

func TestClientThatLeavesEndsTheCall(t *testing.T) {
	s := newServer()
	began, ended := make(chan struct{}), make(chan error, 1)
	stream(s, "wait", "test", func(ctx context.Context, _ none, _ api.Progress) (none, error) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return none{}, ctx.Err()
	})
	c, _ := serve(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if err := c.Stream(ctx, "wait", nil, nil, &none{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the call went on after its client had left")
	}
}

func TestUpgrade(t *testing.T) {
	s := newServer()
	upgrade(s, "pipe", "test", func(_ context.Context, e echo, accept func() (io.ReadWriteCloser, error)) error {
		if e.Text == "no" {
			return fmt.Errorf("pipe: %w", api.ErrNotFound)
		}
		conn, err := accept()
		if err != nil {
			return err
		}
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(there, there); there.Close() }()
		splice(conn, here)
		return nil
	})
	c, _ := serve(t, s)
	if _, err := c.Upgrade(t.Context(), "pipe", echo{"no"}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("refused: got %v, want ErrNotFound", err)
	}
	if err := c.Call(t.Context(), "pipe", echo{}, nil); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("without an upgrade: got %v, want ErrInvalid", err)
	}
	conn, err := c.Upgrade(t.Context(), "pipe", echo{})
	if err != nil {
		t.Fatal(err)
	}
	const text = "there and back"
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Errorf("got %q, %v", got, err)
	}
	conn.Close()
	for deadline := time.Now().Add(10 * time.Second); s.busy.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the call goes on after its connection was closed")
		}
	}
}

func TestOnlyTheOwner(t *testing.T) {
	for _, tt := range []struct {
		peer int
		want bool
	}{{1000, true}, {0, true}, {1001, false}} {
		if got := (ownerOnly{uid: 1000}).admits(tt.peer); got != tt.want {
			t.Errorf("uid %d at the daemon of uid 1000: admitted %v, want %v", tt.peer, got, tt.want)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	if got, err := peerUID(here); err != nil || got != os.Getuid() {
		t.Errorf("peer has uid %d, %v; want %d", got, err, os.Getuid())
	}
}
