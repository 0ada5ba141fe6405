package oci

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"banger/internal/api"
)

// ownChunks is how many chunks each stream has to work with when all that are
// shared are full of layers that are read later.
const ownChunks = 4

// Stream is the uncompressed tar stream of a layer. Each stage is a goroutine:
//
//	blob, sha256 -> inflate -> sha256 -> Read
//
// A stage ends its output only when all before it have found their sums right, so
// the end of the last is the verdict of all. An error of any stage ends the
// group's context, and is its cause.
type Stream struct {
	layer  Layer
	raw    blobReader
	pipes  []*pipe
	in     pipeReader // of the last
	cancel context.CancelFunc
	group  *errgroup.Group
	ended  bool // by io.EOF
	closed bool

	stored   atomic.Int64 // bytes that inflate has been given
	inflated atomic.Int64 // bytes that it made of them
	taken    int64        // bytes that Read has returned
	progress *meter
	waited   time.Duration
}

// Open starts to read the layer, downloading it if need be, and returns its
// uncompressed tar stream. The last Read returns io.EOF when digest, size and
// diffID are right, and else what is wrong: until then no byte may be trusted.
// ctx bounds the reading as well; Close ends it at any point and waits for all
// that Open started.
//
// Inflating runs ahead of Read, within what [Options.ReadAhead] allows to all
// open layers of the image, so whoever opens the next ones early has them inflated
// on other processors. p is called from other goroutines. It counts what has been read from the stream, and not what is ahead.
func (l Layer) Open(ctx context.Context, p api.Progress) (*Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	raw, err := l.blob.open(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open %s %s: %w", l.object(), l.Digest, err)
	}
	stored := newPipe(ownChunks, nil)
	inflated := newPipe(ownChunks, l.ahead)
	checked := inflated.next()
	s := &Stream{
		layer: l, raw: raw, cancel: cancel, group: group,
		pipes: []*pipe{stored, inflated, checked}, in: pipeReader{ctx: ctx, pipe: checked},
		progress: newMeter(p, api.PhaseConvert, l.Digest, l.Size),
	}
	group.Go(func() error { return l.blob.fetch(ctx, p) })
	group.Go(func() error {
		defer raw.Close()
		return s.readStored(ctx, stored)
	})
	group.Go(func() error { return s.inflate(ctx, stored, inflated) })
	group.Go(func() error { return l.checkDiffID(ctx, inflated, checked) })
	return s, nil
}

// Read implements [io.Reader].
func (s *Stream) Read(p []byte) (int, error) {
	if s.closed {
		return 0, fs.ErrClosed
	}
	if len(s.in.rest) > 0 { // does not block
		n, err := s.in.Read(p)
		s.taken += int64(n)
		return n, err
	}
	before := s.raw.waited()
	n, err := s.in.Read(p)
	s.waited += s.raw.waited() - before
	s.report(err)
	s.taken += int64(n)
	s.ended = s.ended || err == io.EOF //nolint:errorlint // what a pipe ends with
	return n, err
}

// report counts what has been read, in bytes as they are stored: their share of
// what was inflated so far is as large as that of what has been read.
func (s *Stream) report(err error) {
	done := s.progress.done
	if inflated := s.inflated.Load(); inflated > 0 {
		done = max(done, int64(float64(s.stored.Load())*float64(s.taken)/float64(inflated)))
	}
	switch {
	case err == io.EOF && !s.ended: //nolint:errorlint // what a pipe ends with
		s.progress.done = s.layer.Size
		s.progress.end()
	case err == nil:
		s.progress.add(min(done, s.layer.Size) - s.progress.done)
	}
}

// Waited returns how long Read has waited for a download, so far: while it
// inflated what had come it did not.
func (s *Stream) Waited() time.Duration { return s.waited }

// Close ends the stream. After io.EOF its error is one of keeping the blob in the
// cache.
func (s *Stream) Close() error {
	s.closed = true
	s.cancel()
	err := s.group.Wait()
	s.in.release()
	for _, p := range s.pipes {
		p.drain()
	}
	if !s.ended || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// readStored verifies the stored bytes. Those of a download that is under way are
// not hashed a second time: the download hashes them, and what becomes of them
// here has a diffID.
func (s *Stream) readStored(ctx context.Context, out *pipe) error {
	l := s.layer
	sum := sha256.New()
	vouched := false
	err := out.fill(ctx, s.raw, func(chunk []byte) error {
		if s.stored.Add(int64(len(chunk))) == int64(len(chunk)) {
			vouched = l.DiffID != "" && s.raw.vouched()
		}
		if !vouched {
			sum.Write(chunk)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n := s.stored.Load(); n != l.Size {
		return s.raw.damaged(l.mismatch("size", fmt.Sprint(l.Size), fmt.Sprint(n)))
	}
	if got := digestText(sum); !vouched && got != l.Digest {
		return s.raw.damaged(l.mismatch("digest", l.Digest, got))
	}
	close(out.full)
	return nil
}

// inflate turns stored bytes into the tar stream. It reads them to their end,
// whatever the compressed format says of its own: when they are wrong, that is
// the error to report and not what it does to the decompressor.
func (s *Stream) inflate(ctx context.Context, in, out *pipe) error {
	src := &pipeReader{ctx: ctx, pipe: in}
	err := s.inflateTo(ctx, src, out)
	if _, err := io.Copy(io.Discard, src); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("inflate %s %s: %w", s.layer.object(), s.layer.Digest, err)
	}
	close(out.full)
	return nil
}

func (s *Stream) inflateTo(ctx context.Context, src io.Reader, out *pipe) error {
	r, err := inflate(src)
	if err != nil {
		return err
	}
	defer r.Close()
	return out.fill(ctx, r, func(chunk []byte) error {
		return s.layer.limit.check(s.inflated.Add(int64(len(chunk))), s.layer.Size)
	})
}

// checkDiffID verifies the tar stream.
func (l Layer) checkDiffID(ctx context.Context, in, out *pipe) error {
	sum := sha256.New()
	for {
		c, err := in.receive(ctx)
		if err == io.EOF { //nolint:errorlint // what a pipe ends with
			break
		} else if err != nil {
			return err
		}
		if l.DiffID != "" {
			sum.Write(c.data)
		}
		if err := out.send(ctx, c); err != nil {
			return err
		}
	}
	if got := digestText(sum); l.DiffID != "" && got != l.DiffID {
		return l.mismatch("diffID", l.DiffID, got)
	}
	close(out.full)
	return nil
}

// object is what errors and progress call it.
func (l Layer) object() string { return cmp.Or(l.what, "layer") }

func (l Layer) mismatch(what, want, got string) error {
	return &MismatchError{Object: l.object() + " " + l.Digest, What: what, Want: want, Got: got}
}

func digestText(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }
