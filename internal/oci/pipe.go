package oci

import (
	"context"
	"io"
)

// chunkSize is what one stage of a stream hands to the next, in bytes.
const chunkSize = 256 << 10

// pipe hands chunks of bytes from one goroutine to the next. It holds a fixed
// number of buffers, made when they are first needed. Closing full is the end of
// a good stream; one that failed is never closed, its context ends.
type pipe struct {
	full   chan []byte
	free   chan []byte
	unmade int // belongs to the writer
}

func newPipe(buffers int) *pipe {
	return &pipe{full: make(chan []byte, buffers), free: make(chan []byte, buffers), unmade: buffers}
}

// next returns a pipe for a stage that passes the same buffers on.
func (p *pipe) next() *pipe {
	return &pipe{full: make(chan []byte, cap(p.full)), free: p.free}
}

// buffer returns a chunk to fill.
func (p *pipe) buffer(ctx context.Context) ([]byte, error) {
	select {
	case b := <-p.free:
		return b[:chunkSize], nil
	default:
	}
	if p.unmade > 0 {
		p.unmade--
		return make([]byte, chunkSize), nil
	}
	select {
	case b := <-p.free:
		return b[:chunkSize], nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pipe) send(ctx context.Context, chunk []byte) error {
	select {
	case p.full <- chunk:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// receive returns the next chunk, or io.EOF.
func (p *pipe) receive(ctx context.Context) ([]byte, error) {
	select {
	case b, ok := <-p.full:
		if !ok {
			return nil, io.EOF
		}
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// fill sends what r has in full chunks, each seen by tap, and returns the error
// that r ended with, nil for io.EOF.
func (p *pipe) fill(ctx context.Context, r io.Reader, tap func(chunk []byte) error) error {
	for {
		chunk, err := p.buffer(ctx)
		if err != nil {
			return err
		}
		n, rerr := readFull(r, chunk)
		if n > 0 {
			if err := tap(chunk[:n]); err != nil {
				return err
			}
			if err := p.send(ctx, chunk[:n]); err != nil {
				return err
			}
		}
		if rerr == io.EOF {
			return nil
		} else if rerr != nil {
			return rerr
		}
	}
}

// readFull fills p and returns the error that r ended with. [io.ReadFull] makes
// io.ErrUnexpectedEOF of a plain end, which is what a truncated gzip ends with.
func readFull(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// pipeReader is the reading end of a pipe.
type pipeReader struct {
	ctx   context.Context //nolint:containedctx // of the stream: a Reader is given none
	pipe  *pipe
	chunk []byte
	rest  []byte // of chunk
}

// Read implements [io.Reader].
func (r *pipeReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.chunk != nil {
			r.pipe.free <- r.chunk // has room for all buffers
			r.chunk = nil
		}
		chunk, err := r.pipe.receive(r.ctx)
		if err != nil {
			return 0, err
		}
		r.chunk, r.rest = chunk, chunk
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
