package oci

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"
	"time"

	"banger/internal/api"
)

// progressBytes is how much a failed try must have brought to count as progress.
const progressBytes = 1 << 20

// download brings the blob into the cache: from nothing, or from what an earlier
// try left there. What is left over from another process may be damaged, so
// readers follow only what was written here, and a mismatch means to start over.
func (b *cachedBlob) download(ctx context.Context, p api.Progress) error {
	c := b.cache
	f, err := c.lock(ctx, b.desc, func() { p.Say(api.PhaseFetch, "another pull fetches it: waiting") })
	if err != nil {
		return err
	}
	if f == nil {
		b.update(func() { b.whole, b.writer = true, b.flight })
		return nil
	}
	defer func() { _ = unlock(f) }() // what had to be durable has been synced
	defer b.update(func() { b.file, b.ready = nil, 0 })
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look into partial blob: %w", err)
	}
	have := fi.Size()
	if have > b.desc.Size {
		have = 0
	}
	err = b.fill(ctx, f, have, p)
	if mismatch := (*MismatchError)(nil); have > 0 && errors.As(err, &mismatch) {
		p.Warn(api.PhaseFetch, "what an earlier pull left of it is damaged: starting over")
		err = b.fill(ctx, f, 0, p)
	}
	if mismatch := (*MismatchError)(nil); errors.As(err, &mismatch) {
		os.Remove(f.Name())
	}
	if err != nil {
		return err
	}
	// Followers need not wait for the disk.
	b.update(func() { b.file, b.whole, b.writer = f, true, b.flight })
	if err := c.commit(f, b.desc); err != nil {
		b.update(func() { b.whole = false })
		return err
	}
	return nil
}

// fill completes the partial file, of which the first have bytes are kept, and
// verifies it.
func (b *cachedBlob) fill(ctx context.Context, f *os.File, have int64, p api.Progress) error {
	if err := f.Truncate(have); err != nil {
		return fmt.Errorf("truncate partial blob: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read partial blob: %w", err)
	}
	a := &appender{blob: b, file: f, hash: sha256.New(), meter: newMeter(p, api.PhaseFetch, b.desc.Digest.String(), b.desc.Size)}
	n, err := io.Copy(a.hash, f)
	if err != nil {
		return fmt.Errorf("read partial blob: %w", err)
	}
	a.meter.add(n)
	a.size = n
	if have == 0 {
		b.update(func() { b.file, b.ready, b.writer = f, 0, b.flight })
		a.follow = true
	}
	again := func(cause error, wait time.Duration) { warnRetry(p, cause, wait) }
	err = retry(ctx, b.backoff, again, func() (bool, error) {
		before := a.size
		err := a.get(ctx)
		return a.size-before >= progressBytes, err
	})
	if err != nil {
		return b.origin.explain(err)
	}
	if got := digestText(a.hash); got != b.desc.Digest.String() {
		return &MismatchError{Object: object(b.desc), What: "digest", Want: b.desc.Digest.String(), Got: got}
	}
	return nil
}

// appender writes a download to the end of a partial file.
type appender struct {
	blob   *cachedBlob
	file   *os.File
	hash   hash.Hash
	meter  *meter
	size   int64 // bytes in file
	follow bool  // let readers follow
}

// get makes one try to get the rest.
func (a *appender) get(ctx context.Context) error {
	d := a.blob.desc
	if a.size == d.Size {
		return nil
	}
	body, err := a.blob.origin.blobAt(ctx, d, a.size)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return brokenBody{err} // it sent the manifest: this is a restart, not a wrong port
	}
	if err != nil {
		return err
	}
	defer body.Close()
	buf := make([]byte, chunkSize)
	for {
		n, err := body.Read(buf)
		if int64(n) > d.Size-a.size {
			return wrongSize(d, "more")
		}
		if werr := a.write(buf[:n]); werr != nil {
			return werr
		}
		switch {
		case a.size == d.Size && err == io.EOF:
			a.meter.end()
			return nil
		case err == io.EOF:
			return fmt.Errorf("body ended after %d of %d bytes: %w", a.size, d.Size, io.ErrUnexpectedEOF)
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("read body: %w", brokenBody{err})
		case err != nil:
			return err
		}
	}
}

func (a *appender) write(p []byte) error {
	if _, err := a.file.Write(p); err != nil {
		return a.blob.cache.writeError(a.file, err, a.blob.desc.Size-a.size)
	}
	a.hash.Write(p)
	a.size += int64(len(p))
	a.meter.add(int64(len(p)))
	if a.follow {
		a.blob.update(func() { a.blob.ready = a.size })
	}
	return nil
}
