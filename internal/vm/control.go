package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"banger/internal/api"
)

// What can be asked of a supervisor. A connection to the control socket carries
// one order and its replies, each a line of JSON.
const (
	opDial  = "dial"  // one reply; then the connection is a stream to the agent
	opWatch = "watch" // a reply for each event and each change, until the VM has ended
	opStop  = "stop"  // one reply, when the VM has ended
	opKill  = "kill"  // one reply, when the VM has ended
)

type order struct {
	Op      string        `json:"op"`
	Timeout time.Duration `json:"timeout_ns,omitempty"` // of stop: then it is killed
}

type reply struct {
	Error *api.Error `json:"error,omitempty"`
	Event *api.Event `json:"event,omitempty"`
	State *state     `json:"state,omitempty"`
}

// maxLine bounds a line of the control protocol, in bytes; the longest holds a
// state with the console's tail.
const maxLine = 1 << 20

// control opens a connection to the supervisor and gives it an order.
func (h *Host) control(ctx context.Context, id string, o order) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.runDir(id), controlSocket))
	if err != nil {
		return nil, api.Hint(fmt.Errorf("it does not run: %w", err), "start it with: banger vm start")
	}
	line, err := json.Marshal(o)
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// readReply reads one line, and not a byte of what follows it.
func readReply(conn net.Conn) error {
	line, err := readLine(conn)
	if err != nil {
		return err
	}
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("reply of the supervisor: %w", err)
	}
	if r.Error != nil {
		return r.Error
	}
	return nil
}

func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < maxLine; {
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		if b[0] == '\n' {
			return line, nil
		}
		line = append(line, b[0])
	}
	return nil, fmt.Errorf("%w: line of more than %d bytes", api.ErrInvalid, maxLine)
}

// Dial opens a stream to the agent of a running VM, for one verb of package
// agent.
func (h *Host) Dial(ctx context.Context, id string) (net.Conn, error) {
	conn, err := h.control(ctx, id, order{Op: opDial})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = readReply(conn)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("reach the agent: %w", err), conn.Close())
		return nil, api.Hint(err, "does it still run? banger vm list")
	}
	return conn, nil
}

// Stop asks the guest to power off, kills the VM when it has not ended after
// timeout, and returns when it has ended. Stopping one that does not run is no
// error.
func (h *Host) Stop(ctx context.Context, id string, timeout time.Duration) error {
	return h.end(ctx, id, order{Op: opStop, Timeout: timeout})
}

// Kill ends the VM at once and returns when it has ended. Killing one that does
// not run is no error.
func (h *Host) Kill(ctx context.Context, id string) error {
	return h.end(ctx, id, order{Op: opKill})
}

func (h *Host) end(ctx context.Context, id string, o order) error {
	vm, err := h.Status(id)
	if err != nil || !vm.State.Live() {
		return err
	}
	conn, err := h.control(ctx, id, o)
	if err != nil {
		return h.unlessEnded(id, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := readReply(conn); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return h.unlessEnded(id, err)
	}
	return nil
}

// unlessEnded is err, or nil if the VM has ended meanwhile.
func (h *Host) unlessEnded(id string, err error) error {
	if vm, statusErr := h.Status(id); statusErr == nil && !vm.State.Live() {
		return nil
	}
	return err
}

// Wait returns the VM when it does not run any more.
func (h *Host) Wait(ctx context.Context, id string) (api.VM, error) {
	return h.watch(ctx, id, func(reply) bool { return false })
}

// watch calls each with what the supervisor reports, until it returns true or
// the VM has ended, and returns the VM as it is then.
func (h *Host) watch(ctx context.Context, id string, each func(reply) bool) (api.VM, error) {
	vm, err := h.Status(id)
	if err != nil {
		return vm, err
	}
	conn, err := h.control(ctx, id, order{Op: opWatch})
	if err != nil {
		return vm, h.unlessEnded(id, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	for lines := json.NewDecoder(conn); ; {
		var r reply
		if err := lines.Decode(&r); err != nil {
			break // at the end of the VM, or of its supervisor; state.json tells which
		}
		if each(r) {
			return h.Status(id)
		}
	}
	// A supervisor that is killed loses its connections a moment before it is
	// seen to be dead.
	for deadline := time.Now().Add(endOfSupervisor); ; time.Sleep(5 * time.Millisecond) {
		if ctx.Err() != nil {
			return vm, ctx.Err()
		}
		if vm, err = h.Status(id); err != nil || !vm.State.Live() || time.Now().After(deadline) {
			return vm, err
		}
	}
}
