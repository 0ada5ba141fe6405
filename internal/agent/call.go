package agent

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"
	"syscall"
	"time"
)

// Call is the guest's end of an [Exec].
type Call struct {
	ExecRequest

	Stdin          io.Reader // ends with io.EOF, also when the host is gone
	Stdout, Stderr io.Writer
	Resize         <-chan Size
	Signals        <-chan syscall.Signal
	Gone           <-chan struct{} // closed when the host is gone

	f     *frames
	input *input
	gone  chan struct{}
	over  chan struct{}
}

func newCall(r ExecRequest, f *frames) *Call {
	resize, signals := make(chan Size, 1), make(chan syscall.Signal, 8)
	c := &Call{
		ExecRequest: r,
		Stdout:      dataWriter{f, frameStdout},
		Stderr:      dataWriter{f, frameStderr},
		Resize:      resize,
		Signals:     signals,
		f:           f,
		input:       newInput(f),
		gone:        make(chan struct{}),
		over:        make(chan struct{}),
	}
	c.Stdin, c.Gone = c.input, c.gone
	go c.receive(resize, signals) // ends with the stream, which end and Serve close
	return c
}

// Exit tells the host how the command ended and returns when the host knows,
// or after a second. All output must have been written.
func (c *Call) Exit(status ExitStatus) {
	if c.f.writeJSON(frameExit, status) != nil {
		return
	}
	select {
	case <-c.gone:
	case <-time.After(reportLimit):
	}
}

// end releases what waits for the host.
func (c *Call) end() {
	close(c.over)
	c.input.close()
}

// receive handles what the host sends. It never waits for the command: stdin
// that is not read stays in the window that the host has to respect.
func (c *Call) receive(resize chan Size, signals chan<- syscall.Signal) {
	defer close(c.gone)
	defer c.input.close()
	for {
		t, payload, err := c.f.read()
		if err != nil {
			return
		}
		switch {
		case t == frameStdin && c.input.add(payload):
		case t == frameStdinEnd:
			c.input.close()
		case t == frameSize && len(payload) == 4:
			size := Size{binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])}
			select {
			case <-resize: // only the last one counts
			default:
			}
			resize <- size
		case t == frameSignal && len(payload) == 1:
			select {
			case signals <- syscall.Signal(payload[0]):
			case <-c.over:
				return
			}
		default:
			return // a host that does not keep to the protocol is as good as gone
		}
	}
}

// input holds stdin between the host and the command.
type input struct {
	f *frames

	mu     sync.Mutex // guards all below
	change sync.Cond
	buf    bytes.Buffer
	closed bool
	taken  int // not yet told the host
}

func newInput(f *frames) *input {
	in := &input{f: f}
	in.change.L = &in.mu
	return in
}

// add reports false when the host sent more than it may.
func (in *input) add(p []byte) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.buf.Len()+in.taken+len(p) > stdinWindow {
		return false
	}
	in.buf.Write(p)
	in.change.Signal()
	return true
}

func (in *input) close() {
	in.mu.Lock()
	in.closed = true
	in.mu.Unlock()
	in.change.Broadcast()
}

// Read implements io.Reader.
func (in *input) Read(p []byte) (int, error) {
	in.mu.Lock()
	for in.buf.Len() == 0 && !in.closed {
		in.change.Wait()
	}
	n, err := in.buf.Read(p) // io.EOF if it is empty
	in.taken += n
	credit := 0
	if in.taken >= stdinWindow/4 {
		credit, in.taken = in.taken, 0
	}
	in.mu.Unlock()
	if credit > 0 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(credit))
		_ = in.f.write(frameCredit, b[:]) // a host that is gone closes the input as well
	}
	return n, err
}
