package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"banger/internal/api"
)

const (
	helloInterval = 100 * time.Millisecond

	// A host that vanished may have left the guest in the middle of a frame;
	// what we send would then be taken for the rest of it. Filling it up ends
	// that session: a newline is no yamux version. Once early, then rarely,
	// because a guest that is still booting has to read it all.
	flushFirst = 20 // hellos
	flushEvery = 100
	flushSize  = 2 * maxPacket

	maxLine = 128
)

// greet is the host's half of the handshake. The reader holds what follows it.
// A guest that floods the line costs time, which ctx bounds, and no memory.
func greet(ctx context.Context, conn net.Conn) (*bufio.Reader, error) {
	var random [16]byte
	rand.Read(random[:])
	id := hex.EncodeToString(random[:])
	hello := []byte(fmt.Sprintf("\nbanger hello %d %s\n", Version, id))

	in := lines{r: bufio.NewReaderSize(conn, 32<<10)}
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		deadline := time.Now().Add(helloInterval)
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
		if n == flushFirst || n > flushFirst && n%flushEvery == 0 {
			if _, err := conn.Write(bytes.Repeat([]byte("\n"), flushSize)); fatal(err) {
				return nil, err
			}
		}
		// A guest that is not up yet does not read, so this may time out half-way.
		// The next one begins with a newline.
		if _, err := conn.Write(hello); fatal(err) {
			return nil, err
		}
		version, err := in.awaitAck(ctx, id)
		if fatal(err) {
			return nil, noEOF(err)
		}
		if err != nil {
			continue
		}
		if version != Version {
			return nil, fmt.Errorf("the guest's agent speaks protocol %d, not %d: %w", version, Version, errors.ErrUnsupported)
		}
		if err := conn.SetDeadline(time.Time{}); err != nil {
			return nil, err
		}
		_, err = fmt.Fprintf(conn, "\nbanger go %s\n", id)
		return in.r, err
	}
}

// fatal reports whether err is more than a deadline that has passed.
func fatal(err error) bool {
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// awaitAck skips everything up to the acknowledgement of id.
func (l *lines) awaitAck(ctx context.Context, id string) (version int, err error) {
	for ctx.Err() == nil {
		line, err := l.next()
		if err != nil {
			return 0, err
		}
		word := strings.Split(line, " ")
		if len(word) != 4 || word[0] != "banger" || word[1] != "ack" || word[3] != id {
			continue
		}
		if version, err = strconv.Atoi(word[2]); err != nil {
			return 0, fmt.Errorf("acknowledgement %q: %w", line, api.ErrInvalid)
		}
		return version, nil
	}
	return 0, ctx.Err()
}

// answer is the guest's half of the handshake. It acknowledges each session
// once: a second acknowledgement would arrive inside the session.
func answer(rw io.ReadWriter) (*bufio.Reader, error) {
	in := lines{r: bufio.NewReaderSize(rw, 32<<10)}
	acked := ""
	for {
		line, err := in.next()
		if err != nil {
			return nil, err
		}
		word := strings.Split(line, " ")
		switch {
		case len(word) == 4 && word[0] == "banger" && word[1] == "hello" && word[3] != acked:
			acked = word[3]
			if _, err := fmt.Fprintf(rw, "\nbanger ack %d %s\n", Version, acked); err != nil {
				return nil, err
			}
		case len(word) == 3 && word[0] == "banger" && word[1] == "go" && word[2] == acked:
			return in.r, nil
		}
	}
}

// lines reads short lines out of what may be anything. Longer ones are dropped.
// An error leaves a line begun as it is, for the call after a passed deadline.
type lines struct {
	r    *bufio.Reader
	line []byte
	long bool
}

func (l *lines) next() (string, error) {
	for {
		b, err := l.r.ReadByte()
		switch {
		case err != nil:
			return "", err
		case b == '\n':
			line, long := string(l.line), l.long
			l.line, l.long = l.line[:0], false
			if !long && line != "" {
				return line, nil
			}
		case len(l.line) == maxLine:
			l.long = true
		default:
			l.line = append(l.line, b)
		}
	}
}
