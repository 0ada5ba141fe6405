package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"banger/internal/api"
)

const (
	// lineTimeout is how long a client may take for its order or to read a reply.
	lineTimeout = 2 * time.Second
	// openTimeout is how long a guest may take to open a stream.
	openTimeout = 30 * time.Second
)

// serve takes orders until the listener is closed and the orders are carried out.
func (s *supervisor) serve(l net.Listener) {
	var orders sync.WaitGroup
	defer orders.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("accept", "error", err)
			time.Sleep(100 * time.Millisecond) // such as too many open files
			continue
		}
		orders.Go(func() {
			defer conn.Close()
			if err := s.obey(conn); err != nil {
				s.log.Debug("control", "error", err)
			}
		})
	}
}

// obey carries out one order. The error is of the connection, and nobody's loss
// but the client's.
func (s *supervisor) obey(conn net.Conn) error {
	if err := conn.SetReadDeadline(time.Now().Add(lineTimeout)); err != nil {
		return err
	}
	line, err := readLine(conn)
	if err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return send(conn, reply{Error: api.AsError(fmt.Errorf("%w: order: %w", api.ErrInvalid, err))})
	}
	switch o.Op {
	case opDial:
		return s.dial(conn)
	case opWatch:
		return s.report(conn)
	case opStop:
		s.stop(o.Timeout)
	case opKill:
		s.kill()
	default:
		return send(conn, reply{Error: api.AsError(fmt.Errorf("%w: order %q", api.ErrInvalid, o.Op))})
	}
	return send(conn, reply{})
}

func send(conn net.Conn, r reply) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(lineTimeout)); err != nil {
		return err
	}
	_, err = conn.Write(append(line, '\n'))
	return errors.Join(err, conn.SetWriteDeadline(time.Time{}))
}

// dial makes conn a stream to the agent.
func (s *supervisor) dial(conn net.Conn) error {
	ctx, cancel := context.WithTimeout(s.life, openTimeout)
	defer cancel()
	stream, err := s.link.open(ctx)
	if err != nil {
		return send(conn, reply{Error: api.AsError(err)})
	}
	if err := send(conn, reply{}); err != nil {
		return errors.Join(err, stream.Close())
	}
	// No verb needs a half-closed stream: when one end is gone the other goes too.
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(stream, conn) // the error is that of the end that is gone
		_ = stream.Close()
	})
	_, err = io.Copy(conn, stream)
	err = errors.Join(err, conn.Close())
	up.Wait()
	return err
}

// report sends all events and changes until the VM has ended or conn is closed.
func (s *supervisor) report(conn net.Conn) error {
	closed := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, conn) // a client that watches says nothing more
	})
	defer reader.Wait()
	defer conn.Close()
	for sent := 0; ; {
		st, events, changed := s.board.look(sent)
		for _, e := range events {
			if err := send(conn, reply{Event: &e}); err != nil {
				return err
			}
		}
		sent += len(events)
		if err := send(conn, reply{State: &st}); err != nil || !st.State.Live() {
			return err
		}
		select {
		case <-changed:
		case <-closed:
			return nil
		}
	}
}
