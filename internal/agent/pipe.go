package agent

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"banger/internal/api"
)

// The header of a yamux frame: version, type, flags, stream, length;
// github.com/hashicorp/yamux/blob/master/spec.md.
const (
	muxHeader  = 12
	muxFlagSYN = 1
)

// maxPacket is the longest body of a yamux frame. It is what io.Copy writes at
// once, so that the hops between a verb and its session do not split it.
const maxPacket = 32 << 10

// stream is a yamux stream that keeps to maxPacket.
type stream struct{ net.Conn }

// Write implements net.Conn.
func (s stream) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := s.Conn.Write(p[done:min(len(p), done+maxPacket)])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

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

// guard ends a session whose other end does not keep to what we send.
//
// No packet is longer than ours. In the guest that tells when half a header of
// a host that is gone is completed by the greeting of the next one: yamux would
// skip gigabytes.
//
// And a guest begins nothing: no stream, which would collect data that nobody
// reads, and no ping, each of which costs a goroutine that waits to answer.
type guard struct {
	r       io.Reader
	mayOpen bool // the other end is the host

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
		if !g.mayOpen && binary.BigEndian.Uint16(g.header[2:])&muxFlagSYN != 0 {
			return 0, fmt.Errorf("the guest opened a stream: %w", api.ErrInvalid)
		}
		if g.body = bodySize(g.header[:]); g.body > maxPacket {
			return 0, fmt.Errorf("packet of %d bytes: %w", g.body, api.ErrInvalid)
		}
	}
	return n, err
}
