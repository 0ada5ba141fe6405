package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"banger/internal/api"
)

// ExecRequest is a command to run in the guest. What it leaves empty is taken
// from the guest's [Config.Process]; Env is added to that of the image.
type ExecRequest struct {
	Args []string `json:"args,omitempty"`
	Env  []string `json:"env,omitempty"`
	User string   `json:"user,omitempty"`
	Dir  string   `json:"dir,omitempty"`

	TTY  bool   `json:"tty,omitempty"` // then stderr is part of stdout
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
	Term string `json:"term,omitempty"`

	Stdin bool `json:"stdin,omitempty"` // else the command reads /dev/null

	// Main makes this the guest's main process, of which there is one: without
	// Args it is the image's ENTRYPOINT and CMD. Its end powers the guest off.
	// Only where banger is PID 1.
	Main bool `json:"main,omitempty"`
}

// ExitStatus is how a command ended.
type ExitStatus struct {
	// Code is its exit status; 128+Signal when a signal ended it; 127 when it was
	// not found, 126 when it could not be run.
	Code   int    `json:"code"`
	Signal int    `json:"signal,omitempty"` // Linux number
	Reason string `json:"reason,omitempty"` // why it could not be run, for the user
}

// Size is that of a terminal in characters.
type Size struct{ Rows, Cols uint16 }

// IO is the host's side of a command's streams. Nil means none.
type IO struct {
	Stdin          io.Reader // used if the request says Stdin; its end is the command's end of input
	Stdout, Stderr io.Writer
	Resize         <-chan Size           // changes of the terminal's size
	Signals        <-chan syscall.Signal // for the command and its process group
}

// stdinWindow is how many bytes of stdin may be under way to a command that
// does not read. They wait in the guest, beside which signals and sizes pass.
const stdinWindow = 256 << 10

// Exec runs a command and returns when it has ended and its output is written.
// When ctx is cancelled or the connection breaks, the guest ends the command.
// It closes conn. A Read of Stdin that is under way is left behind.
func Exec(ctx context.Context, conn net.Conn, r ExecRequest, streams IO) (ExitStatus, error) {
	stop := context.AfterFunc(ctx, func() { abort(conn) })
	defer stop()

	r.Stdin = r.Stdin && streams.Stdin != nil
	f := newFrames(conn)
	err := f.writeJSON(frameRequest, request{Version: Version, Verb: verbExec, Exec: &r})
	if err != nil {
		conn.Close()
		return ExitStatus{}, fmt.Errorf("ask the guest's agent for exec: %w", err)
	}
	credit := newWindow(stdinWindow)
	if r.Stdin {
		go sendStdin(f, streams.Stdin, credit)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { sendControl(f, streams, done) })

	status, err := receive(f, streams, credit)
	close(done)
	conn.Close()
	credit.close()
	wg.Wait()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return ExitStatus{}, fmt.Errorf("exec in the guest: %w", err)
	}
	return status, nil
}

// receive handles what the guest sends until the command has ended.
func receive(f *frames, streams IO, credit *window) (ExitStatus, error) {
	for {
		t, payload, err := f.read()
		if err != nil {
			return ExitStatus{}, noEOF(err)
		}
		switch t {
		case frameStdout, frameStderr:
			w := streams.Stdout
			if t == frameStderr {
				w = streams.Stderr
			}
			if w == nil {
				continue
			}
			if _, err := w.Write(payload); err != nil {
				return ExitStatus{}, fmt.Errorf("write the command's output: %w", err)
			}
		case frameCredit:
			if len(payload) != 4 {
				return ExitStatus{}, fmt.Errorf("credit of %d bytes: %w", len(payload), api.ErrInvalid)
			}
			credit.add(int(binary.BigEndian.Uint32(payload)))
		case frameExit:
			var status ExitStatus
			if err := json.Unmarshal(payload, &status); err != nil {
				return ExitStatus{}, fmt.Errorf("exit status: %w", err)
			}
			return status, nil
		default:
			return ExitStatus{}, decodeReply(t, payload, nil)
		}
	}
}

// sendStdin sends what r has, as far as the guest has room for it. It ends with
// r, or with the window that is closed.
func sendStdin(f *frames, r io.Reader, credit *window) {
	buf := make([]byte, maxData)
	for {
		room := credit.await()
		if room == 0 {
			return
		}
		n, err := r.Read(buf[:min(room, len(buf))])
		if n > 0 {
			credit.take(n)
			if f.write(frameStdin, buf[:n]) != nil {
				return
			}
		}
		if err != nil {
			_ = f.write(frameStdinEnd, nil) // fails only with the whole connection, which receive reports
			return
		}
	}
}

// sendControl sends sizes and signals until the command is done. An error is
// that of the whole connection, which receive reports.
func sendControl(f *frames, streams IO, done <-chan struct{}) {
	for {
		var err error
		select {
		case <-done:
			return
		case size, ok := <-streams.Resize:
			if !ok {
				streams.Resize = nil
				continue
			}
			var b [4]byte
			binary.BigEndian.PutUint16(b[:], size.Rows)
			binary.BigEndian.PutUint16(b[2:], size.Cols)
			err = f.write(frameSize, b[:])
		case signal, ok := <-streams.Signals:
			if !ok {
				streams.Signals = nil
				continue
			}
			err = f.write(frameSignal, []byte{byte(signal)})
		}
		if err != nil {
			return
		}
	}
}

// window is how much one end may send before the other has made room.
type window struct {
	mu     sync.Mutex // guards room and closed
	change sync.Cond
	room   int
	closed bool
}

func newWindow(room int) *window {
	w := &window{room: room}
	w.change.L = &w.mu
	return w
}

// await returns how much room there is as soon as there is any, or 0 when the
// window is closed.
func (w *window) await() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.room <= 0 && !w.closed {
		w.change.Wait()
	}
	if w.closed {
		return 0
	}
	return w.room
}

func (w *window) take(n int) {
	w.mu.Lock()
	w.room -= n
	w.mu.Unlock()
}

func (w *window) add(n int) {
	w.mu.Lock()
	w.room = min(w.room+n, stdinWindow)
	w.mu.Unlock()
	w.change.Signal()
}

func (w *window) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.change.Broadcast()
}
