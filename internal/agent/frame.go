package agent

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"banger/internal/api"
)

// frameType says what a frame on a stream carries, and who may send it.
type frameType byte

const (
	frameRequest  frameType = 1 + iota // host: JSON request
	frameReply                         // guest: JSON, the verb's result
	frameError                         // guest: JSON api.Error, ends the stream
	frameStdin                         // host: bytes
	frameStdinEnd                      // host: empty
	frameCredit                        // guest: uint32, bytes of stdin the command has taken
	frameStdout                        // guest: bytes
	frameStderr                        // guest: bytes
	frameSize                          // host: uint16 rows, uint16 columns
	frameSignal                        // host: one byte, Linux signal number
	frameExit                          // guest: JSON ExitStatus, ends the stream
)

const (
	headerSize = 1 + 4

	// maxData keeps a data frame and yamux's header within the 32 KiB that a
	// virtio-serial port takes in one write (drivers/char/virtio_console.c,
	// port_fops_write).
	maxData = 32<<10 - muxHeader - headerSize

	// maxJSON leaves room for a command line of the usual 128 KiB and an
	// environment as large, whatever JSON does to them.
	maxJSON = 1 << 20
)

// limit is the longest payload of a frame of type t, and false for no type.
func (t frameType) limit() (int, bool) {
	switch t {
	case frameRequest, frameReply, frameError, frameExit:
		return maxJSON, true
	case frameStdin, frameStdout, frameStderr:
		return maxData, true
	case frameCredit, frameSize:
		return 4, true
	case frameSignal:
		return 1, true
	case frameStdinEnd:
		return 0, true
	}
	return 0, false
}

// frames reads and writes frames on one stream. Writing is safe for several
// goroutines, reading is for one.
type frames struct {
	r  *bufio.Reader
	in []byte // payload of the last frame read

	mu  sync.Mutex // guards out and the order of frames
	out []byte
	w   io.Writer
}

func newFrames(rw io.ReadWriter) *frames {
	return &frames{r: bufio.NewReaderSize(rw, 32<<10), w: rw}
}

// write sends one frame, in one Write.
func (f *frames) write(t frameType, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out = append(f.out[:0], byte(t))
	f.out = binary.BigEndian.AppendUint32(f.out, uint32(len(payload)))
	f.out = append(f.out, payload...)
	_, err := f.w.Write(f.out)
	return err
}

func (f *frames) writeJSON(t frameType, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	if len(payload) > maxJSON {
		return fmt.Errorf("frame of %d bytes, the limit is %d: %w", len(payload), maxJSON, api.ErrInvalid)
	}
	return f.write(t, payload)
}

// read returns the next frame; the payload is valid until the next call. The
// end of the stream between two frames is io.EOF.
func (f *frames) read() (frameType, []byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		return 0, nil, err
	}
	t, size := frameType(header[0]), binary.BigEndian.Uint32(header[1:])
	limit, ok := t.limit()
	if !ok || uint64(size) > uint64(limit) {
		return 0, nil, fmt.Errorf("frame of type %d with %d bytes: %w", t, size, api.ErrInvalid)
	}
	if cap(f.in) < int(size) {
		f.in = make([]byte, size)
	}
	f.in = f.in[:size]
	if _, err := io.ReadFull(f.r, f.in); err != nil {
		return 0, nil, noEOF(err)
	}
	return t, f.in, nil
}

// noEOF turns an end of the stream where there must be more into an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// dataWriter sends what is written to it as frames of one type.
type dataWriter struct {
	f *frames
	t frameType
}

// Write implements io.Writer.
func (d dataWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, maxData)
		if err := d.f.write(d.t, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
