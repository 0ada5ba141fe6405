package oci

import (
	"context"
	"io"
)

// chunkSize is what one stage of a stream hands to the next, in bytes.
const chunkSize = 256 << 10

// chunk is a buffer on its way through the stages.
type chunk struct {
	data []byte
	home chan *chunk // where it is put when it has been read; has room for it
}

func (c *chunk) release() { c.home <- c }

// ahead is buffers that the streams of an image share, beyond the few that each
// has: whoever inflates ahead takes them, and whoever reads gives them back. They
// are made when they are first needed: an empty place is nil.
type ahead chan *chunk

func newAhead(bytes int64) ahead {
	a := make(ahead, max(0, bytes/chunkSize))
	for range cap(a) {
		a <- nil
	}
	return a
}

func (a ahead) made(c *chunk) *chunk {
	if c == nil {
		c = &chunk{data: make([]byte, chunkSize), home: a}
	}
	return c
}

// pipe hands chunks of bytes from one goroutine to the next. It has some of its
// own, made when they are first needed, and then those that are shared. Closing
// full is the end of a good stream; one that failed is never closed, its context
// ends.
type pipe struct {
	full   chan *chunk
	free   chan *chunk
	unmade int   // belongs to the writer
	shared ahead // nil: none
}

func newPipe(own int, shared ahead) *pipe {
	return &pipe{full: make(chan *chunk, own+cap(shared)), free: make(chan *chunk, own), unmade: own, shared: shared}
}

// next returns a pipe for a stage that passes the same chunks on.
func (p *pipe) next() *pipe {
	return &pipe{full: make(chan *chunk, cap(p.full))}
}

// buffer returns a chunk to fill: one that is warm in a cache, if there is one.
func (p *pipe) buffer(ctx context.Context) (c *chunk, err error) {
	select {
	case c = <-p.free:
		return c, nil
	default:
	}
	if p.unmade > 0 {
		p.unmade--
		return &chunk{data: make([]byte, chunkSize), home: p.free}, nil
	}
	select {
	case c = <-p.free:
		return c, nil
	case c = <-p.shared:
		return p.shared.made(c), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pipe) send(ctx context.Context, c *chunk) error {
	select {
	case p.full <- c:
		return nil
	case <-ctx.Done():
		c.release()
		return context.Cause(ctx)
	}
}

// receive returns the next chunk, or io.EOF.
func (p *pipe) receive(ctx context.Context) (*chunk, error) {
	select {
	case c, ok := <-p.full:
		if !ok {
			return nil, io.EOF
		}
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// drain releases what nobody will receive. The stages on both sides have ended.
func (p *pipe) drain() {
	for {
		select {
		case c, ok := <-p.full:
			if !ok {
				return
			}
			c.release()
		default:
			return
		}
	}
}

// fill sends what r has in full chunks, each seen by tap, and returns the error
// that r ended with, nil for io.EOF.
func (p *pipe) fill(ctx context.Context, r io.Reader, tap func(data []byte) error) error {
	for {
		c, err := p.buffer(ctx)
		if err != nil {
			return err
		}
		n, rerr := readFull(r, c.data[:chunkSize])
		c.data = c.data[:n]
		if n == 0 {
			c.release()
		} else {
			if err := tap(c.data); err != nil {
				c.release()
				return err
			}
			if err := p.send(ctx, c); err != nil {
				return err
			}
		}
		if rerr == io.EOF { //nolint:errorlint // a Reader ends with this very one
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
	chunk *chunk
	rest  []byte // of chunk
}

// Read implements [io.Reader].
func (r *pipeReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		r.release()
		c, err := r.pipe.receive(r.ctx)
		if err != nil {
			return 0, err
		}
		r.chunk, r.rest = c, c.data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// release gives back the chunk that is being read.
func (r *pipeReader) release() {
	if r.chunk != nil {
		r.chunk.release()
		r.chunk, r.rest = nil, nil
	}
}
