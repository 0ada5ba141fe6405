package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"banger/internal/api"
)

// reportLimit is how long the guest waits for the host to have read an exit
// status; after that of the main process it powers off.
const reportLimit = time.Second

// Handler does what hosts ask of a guest. Its methods are called at the same
// time by several requests.
type Handler interface {
	Health() Info
	SetTime(now time.Time) error
	// PowerOff begins to end the guest. The host has its answer by then.
	PowerOff(grace time.Duration)
	// Exec runs a command and calls call.Exit at its end, or returns an error
	// when the request cannot be met.
	Exec(call *Call) error
	// Wait calls exit when the main process has ended. It returns early when gone
	// is closed.
	Wait(gone <-chan struct{}, exit func(ExitStatus)) error
}

// Server is the guest's end of the protocol.
type Server struct {
	Handler Handler

	requests sync.WaitGroup
}

// Serve answers one host on the raw byte pipe conn and returns when the host is
// gone; it closes conn. Requests of that host may still be winding up then.
func (s *Server) Serve(conn io.ReadWriteCloser) error {
	defer conn.Close()
	r, err := answer(conn)
	if err != nil {
		return fmt.Errorf("await a host: %w", err)
	}
	mux, err := yamux.Server(&pipe{Closer: conn, r: &guard{r: r, mayOpen: true}, w: conn}, muxConfig(false))
	if err != nil {
		return err
	}
	defer mux.Close()
	for {
		request, err := mux.Accept()
		if err != nil {
			return fmt.Errorf("await a request: %w", err)
		}
		s.requests.Go(func() { s.serve(stream{request}) })
	}
}

// Wait returns when no request is under way.
func (s *Server) Wait() { s.requests.Wait() }

// serve answers the one request on a stream.
func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	f := newFrames(conn)
	if err := s.dispatch(f, conn); err != nil {
		_ = f.writeJSON(frameError, api.AsError(err)) // a host that is gone has no use for it
	}
}

func (s *Server) dispatch(f *frames, conn net.Conn) error {
	r, err := readRequest(f)
	switch {
	case err != nil:
		return fmt.Errorf("read request: %w", err)
	case r.Version != Version:
		return fmt.Errorf("protocol %d, this agent speaks %d: %w", r.Version, Version, errors.ErrUnsupported)
	}
	reply := any(struct{}{})
	switch r.Verb {
	case verbHealth:
		reply = s.Handler.Health()
	case verbSetTime:
		err = s.Handler.SetTime(r.Time)
	case verbPowerOff:
		defer s.Handler.PowerOff(r.Grace)
	case verbExec:
		if r.Exec == nil {
			return fmt.Errorf("exec without a command: %w", api.ErrInvalid)
		}
		call := newCall(*r.Exec, f)
		defer call.end()
		return s.Handler.Exec(call)
	case verbWait:
		return s.wait(f, conn)
	default:
		err = fmt.Errorf("verb %q: %w", r.Verb, errors.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	return f.writeJSON(frameReply, reply)
}

func (s *Server) wait(f *frames, conn net.Conn) error {
	gone := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, f.r) // the host says nothing more, but may leave
	})
	defer reader.Wait()
	defer func() { _ = conn.SetReadDeadline(time.Now()) }() // fails only where no Read is waiting
	return s.Handler.Wait(gone, func(status ExitStatus) {
		if f.writeJSON(frameExit, status) == nil {
			select {
			case <-gone:
			case <-time.After(reportLimit):
			}
		}
	})
}
