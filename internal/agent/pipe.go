package agent

import (
	"encoding/binary"
	"fmt"
	"io"

	"banger/internal/api"
)

// The header of a yamux frame: version, type, flags, stream, length;
// github.com/hashicorp/yamux/blob/master/spec.md.
const (
	muxHeader  = 12
	muxFlagSYN = 1
)

// pipe is what yamux runs on. It joins each header with the data that follows:
// yamux writes them apart, and each write to a virtio port is an exit from the
// guest. Only yamux's one sender writes.
type pipe struct {
	io.Closer
	r    io.Reader
	w    io.Writer
	held []byte
}

// Read implements io.Reader.
func (p *pipe) Read(b []byte) (int, error) { return p.r.Read(b) }

// Write implements io.Writer.
func (p *pipe) Write(b []byte) (int, error) {
	if len(p.held) == 0 && len(b) == muxHeader && bodySize(b) > 0 {
		p.held = append(p.held, b...)
		return len(b), nil
	}
	whole := b
	if len(p.held) > 0 {
		whole = append(p.held, b...)
		p.held = whole[:0]
	}
	if _, err := p.w.Write(whole); err != nil {
		return 0, err
	}
	return len(b), nil
}

// bodySize is how many bytes follow a header: only data (type 0) has any.
func bodySize(header []byte) uint32 {
	if header[1] != 0 {
		return 0
	}
	return binary.BigEndian.Uint32(header[8:])
}

// guard ends a session whose guest begins anything: a stream, which would
// collect data that nobody reads, or a ping, each of which costs a goroutine
// that waits to answer. Our agent does neither.
type guard struct {
	r      io.Reader
	header [muxHeader]byte
	have   int    // bytes of header
	body   uint32 // bytes still to skip
}

// Read implements io.Reader.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if g.body > 0 {
			skip := min(uint32(len(rest)), g.body)
			g.body -= skip
			rest = rest[skip:]
			continue
		}
		c := copy(g.header[g.have:], rest)
		g.have += c
		rest = rest[c:]
		if g.have < muxHeader {
			break
		}
		g.have = 0
		if binary.BigEndian.Uint16(g.header[2:])&muxFlagSYN != 0 {
			return 0, fmt.Errorf("the guest opened a stream: %w", api.ErrInvalid)
		}
		g.body = bodySize(g.header[:])
	}
	return n, err
}
