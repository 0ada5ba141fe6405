package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"
)

// Session is the host's connection to the agent of one guest.
type Session struct {
	mux *yamux.Session
}

// Connect makes a session of conn, a raw byte pipe to the guest. It waits until
// the guest's agent answers, for as long as ctx allows. The session owns conn;
// when Connect fails, conn is closed.
func Connect(ctx context.Context, conn net.Conn) (*Session, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	r, err := greet(ctx, conn)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to the guest's agent: %w", err)
	}
	mux, err := yamux.Client(&pipe{Closer: conn, r: &guard{r: r}, w: conn}, muxConfig(true))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to the guest's agent: %w", err)
	}
	return &Session{mux}, nil
}

// muxConfig is yamux's on either end. Only the host asks for signs of life: the
// guest learns from its port that the host is gone, and the host's socket stays
// open when the agent dies.
func muxConfig(host bool) *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard
	c.AcceptBacklog = 64 // also the streams that may wait for the guest to accept them
	c.EnableKeepAlive = host
	c.KeepAliveInterval = 10 * time.Second
	c.ConnectionWriteTimeout = 30 * time.Second // an emulated guest may be slow, and is not dead
	c.StreamOpenTimeout = 30 * time.Second
	c.StreamCloseTimeout = time.Minute
	return c
}

// Open returns a new stream for one request: give it to a verb, or copy its
// bytes to where the verb is called.
func (s *Session) Open(ctx context.Context) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	opened := make(chan result, 1)
	go func() { // yamux bounds the wait by timeouts of its own
		conn, err := s.mux.Open()
		opened <- result{conn, err}
	}()
	select {
	case <-ctx.Done():
		go func() {
			if r := <-opened; r.err == nil {
				r.conn.Close()
			}
		}()
		return nil, fmt.Errorf("open a stream to the guest: %w", ctx.Err())
	case r := <-opened:
		if r.err != nil {
			return nil, fmt.Errorf("open a stream to the guest: %w", r.err)
		}
		return stream{r.conn}, nil
	}
}

// Done is closed when the session has ended, for whatever reason.
func (s *Session) Done() <-chan struct{} { return s.mux.CloseChan() }

// Close ends the session and with it every stream and the commands behind them.
func (s *Session) Close() error { return s.mux.Close() }
