package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"banger/internal/api"
)

// request is the first frame on a stream.
type request struct {
	Version int           `json:"version"`
	Verb    string        `json:"verb"`
	Exec    *ExecRequest  `json:"exec,omitempty"`
	Time    time.Time     `json:"time,omitzero"`
	Grace   time.Duration `json:"grace_ns,omitempty"`
}

// The verbs.
const (
	verbHealth   = "health"
	verbExec     = "exec"
	verbWait     = "wait"
	verbPowerOff = "poweroff"
	verbSetTime  = "settime"
)

// Health asks the agent how the guest is. It closes conn.
func Health(ctx context.Context, conn net.Conn) (Info, error) {
	var info Info
	err := ask(ctx, conn, request{Verb: verbHealth}, &info)
	return info, err
}

// SetTime sets the guest's clock. It closes conn.
func SetTime(ctx context.Context, conn net.Conn, now time.Time) error {
	return ask(ctx, conn, request{Verb: verbSetTime, Time: now}, nil)
}

// PowerOff asks the guest to end, and returns as soon as it has begun to. With
// banger as PID 1 the main process is sent its stop signal, and killed when it
// still runs after grace; an init of the image has its own ideas. Whoever waits
// for the machine must be ready to kill it. It closes conn.
func PowerOff(ctx context.Context, conn net.Conn, grace time.Duration) error {
	return ask(ctx, conn, request{Verb: verbPowerOff, Grace: grace}, nil)
}

// Wait returns how the guest's main process ended, when it has. The guest
// powers itself off a moment later. It closes conn.
func Wait(ctx context.Context, conn net.Conn) (ExitStatus, error) {
	var status ExitStatus
	err := ask(ctx, conn, request{Verb: verbWait}, &status)
	return status, err
}

// ask makes a request that has one answer, and closes conn.
func ask(ctx context.Context, conn net.Conn, r request, result any) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { abort(conn) })
	defer stop()
	err := func() error {
		f := newFrames(conn)
		r.Version = Version
		if err := f.writeJSON(frameRequest, r); err != nil {
			return err
		}
		t, payload, err := f.read()
		if err != nil {
			return noEOF(err)
		}
		return decodeReply(t, payload, result)
	}()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("ask the guest's agent for %s: %w", r.Verb, err)
	}
	return nil
}

// abort closes conn and ends a Read that is under way: a stream that is closed
// here can still be read to the end of what the guest sends.
func abort(conn net.Conn) {
	conn.Close()
	_ = conn.SetReadDeadline(time.Unix(1, 0)) // fails where Close was enough
}

func decodeReply(t frameType, payload []byte, result any) error {
	switch t {
	case frameReply, frameExit:
		if result == nil {
			return nil
		}
		return json.Unmarshal(payload, result)
	case frameError:
		e := new(api.Error)
		if err := json.Unmarshal(payload, e); err != nil {
			return err
		}
		return e
	}
	return fmt.Errorf("frame of type %d for an answer: %w", t, api.ErrInvalid)
}

// readRequest is the guest's end of the first frame.
func readRequest(f *frames) (request, error) {
	var r request
	t, payload, err := f.read()
	if err != nil {
		return r, err
	}
	if t != frameRequest {
		return r, fmt.Errorf("frame of type %d for a request: %w", t, api.ErrInvalid)
	}
	return r, json.Unmarshal(payload, &r)
}
