package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// follower reads a blob of the cache, or its partial file while it grows.
type follower struct {
	ctx    context.Context //nolint:containedctx // of the whole reading: a Reader is given none
	blob   *cachedBlob
	offset int64
	idle   stopwatch // runs while it waits for bytes to come
	file   *os.File  // nil until there is something to read
	writer *flight   // whose file that is
	cached bool      // some of it was in the cache already
}

func (b *cachedBlob) open(ctx context.Context) (blobReader, error) {
	return &follower{ctx: ctx, blob: b}, nil
}

// Read waits for bytes beyond offset. The end is reported when the download was
// verified, so that its verdict comes before any of ours.
func (r *follower) Read(p []byte) (int, error) {
	for {
		limit, whole, changed, err := r.state()
		switch {
		case err != nil:
			return 0, err
		case r.offset < limit:
			n, err := r.file.ReadAt(p[:min(int64(len(p)), limit-r.offset)], r.offset)
			r.offset += int64(n)
			switch {
			case n > 0:
				return n, nil
			case errors.Is(err, io.EOF):
				err = fmt.Errorf("%s: %w at %d of %d bytes", object(r.blob.desc), io.ErrUnexpectedEOF, r.offset, limit)
			}
			return 0, err
		case whole:
			return 0, io.EOF
		}
		if err := r.wait(changed); err != nil {
			return 0, err
		}
	}
}

func (r *follower) wait(changed chan struct{}) error {
	r.idle.start()
	defer r.idle.stop()
	select {
	case <-changed:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

func (r *follower) waited() time.Duration { return r.idle.read() }

// state returns how many bytes there are, with file open if that is beyond offset.
func (r *follower) state() (limit int64, whole bool, changed chan struct{}, err error) {
	b := r.blob
	b.mu.Lock()
	defer b.mu.Unlock()
	limit = b.ready
	if b.whole {
		limit = b.desc.Size
	}
	if r.offset >= limit {
		return limit, b.whole, b.changed, nil
	}
	if r.file != nil && r.writer == b.writer {
		return limit, b.whole, b.changed, nil
	}
	// Nothing was open yet, or a flight took over, whose file may be another.
	r.Close()
	r.writer = b.writer
	if r.cached = r.cached || b.file == nil; b.file == nil {
		r.file, err = os.Open(b.cache.path(b.desc))
	} else {
		r.file, err = dup(b.file)
	}
	return limit, b.whole, b.changed, err
}

func (r *follower) vouched() bool { return !r.cached }

func (r *follower) damaged(err error) error {
	path := r.blob.cache.path(r.blob.desc)
	read, rerr := r.file.Stat()
	named, nerr := os.Stat(path)
	if rerr != nil || nerr != nil || !os.SameFile(read, named) {
		return err // replaced meanwhile
	}
	os.Remove(path)
	r.blob.update(func() { r.blob.whole, r.blob.flight = false, nil })
	return api.Hint(err, "the damaged blob was removed from the cache: pull again")
}

// Close implements [io.Closer].
func (r *follower) Close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.Close()
}

// dup opens f again, so that it can be read after its owner has closed it.
func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
