package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"banger/internal/api"
)

// cable is a virtio-serial port: what is under way survives its hosts, and the
// guest need not notice that one has replaced another.
type cable struct {
	toGuest, toHost chan []byte
}

func newCable() *cable {
	return &cable{make(chan []byte, 1<<10), make(chan []byte, 1<<10)}
}

// plugIn connects a new host.
func (c *cable) plugIn(t *testing.T) net.Conn {
	t.Helper()
	host, inner := net.Pipe()
	t.Cleanup(func() { host.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			buf := make([]byte, 4<<10)
			n, err := inner.Read(buf)
			if err != nil {
				return
			}
			c.toGuest <- buf[:n]
		}
	}()
	go func() {
		for {
			select {
			case <-done:
				return
			case b := <-c.toHost:
				inner.Write(b)
			}
		}
	}()
	return host
}

// guestEnd is the guest's file: closing it does not close the cable.
type guestEnd struct {
	*cable
	rest []byte
	done chan struct{}
	once sync.Once
}

func (g *guestEnd) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		select {
		case <-g.done:
			return 0, os.ErrClosed
		case g.rest = <-g.toGuest:
		}
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func (g *guestEnd) Write(p []byte) (int, error) {
	select {
	case <-g.done:
		return 0, os.ErrClosed
	case g.toHost <- bytes.Clone(p):
		return len(p), nil
	}
}

func (g *guestEnd) Close() error {
	g.once.Do(func() { close(g.done) })
	return nil
}

// serve runs a guest on the cable until the test ends.
func (c *cable) serve(t *testing.T, h Handler) {
	t.Helper()
	s := &Server{Handler: h}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			end := &guestEnd{cable: c, done: make(chan struct{})}
			go func() {
				select {
				case <-stop:
					end.Close()
				case <-end.done:
				}
			}()
			s.Serve(end)
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		wg.Wait()
		s.Wait()
	})
}

// socketPair is a raw pipe with buffers and deadlines.
func socketPair(t *testing.T) (host, guest net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if host, err = net.Dial("unix", path); err != nil {
		t.Fatal(err)
	}
	if guest, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close(); guest.Close() })
	return host, guest
}

// connect starts a guest and connects to it.
func connect(t *testing.T, h Handler) *Session {
	t.Helper()
	host, guest := socketPair(t)
	s := &Server{Handler: h}
	served := make(chan error, 1)
	go func() { served <- s.Serve(guest) }()
	session, err := Connect(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		session.Close()
		<-served
		s.Wait()
	})
	return session
}

func open(t *testing.T, s *Session) net.Conn {
	t.Helper()
	conn, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// fakeGuest answers without a machine. Its exec field is the command.
type fakeGuest struct {
	exec  func(*Call) error
	ended chan struct{} // the main process

	mu    sync.Mutex
	clock time.Time
	grace time.Duration
}

func (g *fakeGuest) Health() Info { return Info{Init: "fake"} }

func (g *fakeGuest) SetTime(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clock = now
	return nil
}

func (g *fakeGuest) PowerOff(grace time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grace = grace
}

func (g *fakeGuest) Exec(c *Call) error { return g.exec(c) }

func (g *fakeGuest) Wait(gone <-chan struct{}, exit func(ExitStatus)) error {
	select {
	case <-g.ended:
		exit(ExitStatus{Code: 137, Signal: 9})
	case <-gone:
	}
	return nil
}

func TestVerbs(t *testing.T) {
	t.Parallel()
	g := &fakeGuest{ended: make(chan struct{})}
	s := connect(t, g)

	if info, err := Health(t.Context(), open(t, s)); err != nil || info.Init != "fake" {
		t.Errorf("Health: got %+v, %v", info, err)
	}
	now := time.Unix(1700000000, 5)
	if err := SetTime(t.Context(), open(t, s), now); err != nil || !g.clock.Equal(now) {
		t.Errorf("SetTime: got %v, %v, want %v", g.clock, err, now)
	}
	if err := PowerOff(t.Context(), open(t, s), 3*time.Second); err != nil {
		t.Errorf("PowerOff: %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Wait(ctx, open(t, s)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a process that runs: got %v, want a passed deadline", err)
	}
	close(g.ended)
	if status, err := Wait(t.Context(), open(t, s)); err != nil || status.Code != 137 || status.Signal != 9 {
		t.Errorf("Wait: got %+v, %v", status, err)
	}
}

func TestUnknownVerbAndVersion(t *testing.T) {
	t.Parallel()
	s := connect(t, &fakeGuest{})
	for _, r := range []request{{Version: Version, Verb: "dance"}, {Version: Version + 1, Verb: verbHealth}} {
		conn := open(t, s)
		f := newFrames(conn)
		if err := f.writeJSON(frameRequest, r); err != nil {
			t.Fatal(err)
		}
		frame, payload, err := f.read()
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeReply(frame, payload, nil); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%+v: got %v, want unsupported", r, err)
		}
		conn.Close()
	}
}

func TestHandshakeSkipsGarbage(t *testing.T) {
	t.Parallel()
	c := newCable()
	// What earlier sessions left under way, in both directions.
	c.toGuest <- []byte("\x00\x01half a frame\nbanger hello 1 0123\n\nbanger go 0123 \nbanger go 9999\n" + strings.Repeat("x", 300))
	c.toHost <- []byte("\nbanger ack 1 0123\n\x00\x00\x00\x02")
	c.serve(t, &fakeGuest{})
	s, err := Connect(t.Context(), c.plugIn(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info, err := Health(t.Context(), open(t, s)); err != nil || info.Init != "fake" {
		t.Errorf("Health: got %+v, %v", info, err)
	}
}

func TestGuestComesUpLate(t *testing.T) {
	t.Parallel()
	c := newCable()
	go func() {
		time.Sleep(5 * helloInterval / 2)
		c.serve(t, &fakeGuest{})
	}()
	s, err := Connect(t.Context(), c.plugIn(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// The hellos that had piled up must not have become part of the session.
	for range 3 {
		if _, err := Health(t.Context(), open(t, s)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHostReplaced(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		last []byte // what the first host still sends
	}{
		{"between frames", nil},
		{"in a header", []byte{0, 0, 0}},
		{"in mid-upload", append(dataHeader(1, maxData), "the beginning of a file"...)},
		{"in a length", dataHeader(1, 0)[:11]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCable()
			started, gone := make(chan struct{}), make(chan struct{})
			c.serve(t, &fakeGuest{exec: func(call *Call) error {
				close(started)
				<-call.Gone
				close(gone)
				return nil
			}})
			conn := c.plugIn(t)
			first, err := Connect(t.Context(), conn)
			if err != nil {
				t.Fatal(err)
			}
			go Exec(t.Context(), open(t, first), ExecRequest{}, IO{})
			<-started
			if _, err := conn.Write(tt.last); err != nil {
				t.Fatal(err)
			}
			conn.Close()

			second, err := Connect(t.Context(), c.plugIn(t))
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			if _, err := Health(t.Context(), open(t, second)); err != nil {
				t.Error(err)
			}
			select {
			case <-gone:
			case <-time.After(10 * time.Second):
				t.Error("the command of the first host was not told")
			}
			first.Close()
		})
	}
}

// dataHeader is a yamux header of a data frame.
func dataHeader(stream, size uint32) []byte {
	h := make([]byte, muxHeader)
	binary.BigEndian.PutUint32(h[4:], stream)
	binary.BigEndian.PutUint32(h[8:], size)
	return h
}

func TestConnectToFlood(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"without lines": strings.Repeat("A", 4096),
		"short lines":   strings.Repeat("banger ack 1 0123\n", 200),
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := socketPair(t)
			go func() {
				for {
					if _, err := io.WriteString(guest, line); err != nil {
						return
					}
				}
			}()
			go io.Copy(io.Discard, guest)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			_, err := Connect(ctx, host)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want a passed deadline", err)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
				t.Errorf("the flood left %d bytes behind", grown)
			}
		})
	}
}

// handshake is the guest's half, by hand.
func handshake(t *testing.T, guest net.Conn) {
	t.Helper()
	if _, err := answer(guest); err != nil {
		t.Error(err)
	}
}

func TestGuestMayNotBegin(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][]byte{
		"stream":      {0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0},
		"ping":        {0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7},
		"data stream": {0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0},
		"long packet": {0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host, guest := socketPair(t)
			go func() {
				handshake(t, guest)
				for _, b := range frame { // in pieces
					guest.Write([]byte{b})
				}
			}()
			s, err := Connect(t.Context(), host)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			select {
			case <-s.Done():
			case <-time.After(10 * time.Second):
				t.Error("the session goes on")
			}
		})
	}
}

func TestConnectToOtherVersion(t *testing.T) {
	t.Parallel()
	host, guest := socketPair(t)
	go func() {
		buf := make([]byte, 256)
		n, _ := guest.Read(buf)
		id := strings.Fields(string(buf[:n]))[3]
		fmt.Fprintf(guest, "\nbanger ack %d %s\n", Version+1, id)
	}()
	if _, err := Connect(t.Context(), host); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want unsupported", err)
	}
}

func TestConnectCancelled(t *testing.T) {
	t.Parallel()
	host, _ := socketPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := Connect(ctx, host); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want cancelled", err)
	}
	if _, err := host.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after a failed Connect: got %v, want closed", err)
	}
}

func TestFrameLimits(t *testing.T) {
	t.Parallel()
	for _, header := range []string{
		"\x00\x00\x00\x00\x00", // no such type
		"\x63\x00\x00\x00\x00",
		"\x04\x00\x01\x00\x00", // stdin of 64 KiB
		"\x01\xff\xff\xff\xff", // a request of 4 GiB
		"\x0a\x00\x00\x00\x02", // a signal of two bytes
	} {
		f := newFrames(bytes.NewBuffer([]byte(header)))
		if _, _, err := f.read(); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("% x: got %v, want invalid", header, err)
		}
	}
	f := newFrames(bytes.NewBuffer([]byte("\x06\x00\x00\x00\x04\x00")))
	if _, _, err := f.read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: got %v, want unexpected EOF", err)
	}
}
