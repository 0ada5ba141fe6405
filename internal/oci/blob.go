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
	"os"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

// blob is where the stored bytes of a layer or config are.
type blob interface {
	// fetch returns when the bytes are at hand; that may take a download.
	fetch(context.Context, api.Progress) error
	// open reads from the start. While a fetch runs the reader follows it, ahead
	// of verification: nobody may trust bytes before they have hashed them all.
	open(context.Context) (blobReader, error)
}

// blobReader reads a blob.
type blobReader interface {
	io.ReadCloser
	// damaged is told that what was read is not what it should be. It drops the
	// file if it is ours, and returns err with what it did.
	damaged(err error) error
}

// progressBytes is how much a failed try must have brought to count as progress.
const progressBytes = 1 << 20

// cachedBlob is a blob of a registry on its way into the cache, or there.
type cachedBlob struct {
	registry *registry
	desc     v1.Descriptor

	mu      sync.Mutex
	flight  *flight       // the download under way or done, or nil
	file    *os.File      // the partial file of the flight, when it may be followed
	ready   int64         // bytes of file that may be followed; 0 without file
	whole   bool          // the blob is verified; it is in file or, without one, in the cache
	writer  *flight       // whose file that is
	changed chan struct{} // closed and replaced when any of these changes
}

// flight is one download, shared by all who want the blob. Its error is kept:
// who asks later is not made to wait for as many tries again.
type flight struct {
	done chan struct{}

	// Valid when done is closed.
	err       error
	abandoned bool // err is that of a context
}

// update changes the state that followers watch.
func (b *cachedBlob) update(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	close(b.changed)
	b.changed = make(chan struct{})
}

// fetch downloads the blob, or waits for whoever does. When they were canceled
// and we are not, it takes over.
func (b *cachedBlob) fetch(ctx context.Context, p api.Progress) error {
	for {
		f, ours := b.board()
		if ours {
			f.err = b.download(ctx, p)
			if mismatch := (*MismatchError)(nil); f.err != nil && !errors.As(f.err, &mismatch) {
				f.err = fmt.Errorf("fetch %s: %w", object(b.desc), f.err)
			}
			f.abandoned = f.err != nil && ctx.Err() != nil
			if f.abandoned {
				b.update(func() { b.flight = nil })
			}
			close(f.done)
			return f.err
		}
		select {
		case <-f.done:
			if !f.abandoned {
				return f.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// board returns the flight there is, or a new one, which is the caller's to make.
func (b *cachedBlob) board() (f *flight, ours bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flight != nil {
		return b.flight, false
	}
	b.flight = &flight{done: make(chan struct{})}
	return b.flight, true
}

// download brings the blob into the cache: from nothing, or from what an earlier
// try left there. What is left over from another process may be damaged, so
// readers follow only what was written here, and a mismatch means to start over.
func (b *cachedBlob) download(ctx context.Context, p api.Progress) error {
	c := b.registry.cache
	step := "fetch " + short(b.desc.Digest.String())
	f, err := c.lock(ctx, b.desc, func() { p.Say(step, "another pull fetches it: waiting") })
	if err != nil {
		return err
	}
	if f == nil {
		b.update(func() { b.whole, b.writer = true, b.flight })
		return nil
	}
	defer unlock(f)
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
		p.Warn(step, "what an earlier pull left of it is damaged: starting over")
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
	a := &appender{blob: b, file: f, hash: sha256.New(), meter: newMeter(p, "fetch "+short(b.desc.Digest.String()), b.desc.Size)}
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
	again := func(cause error, wait time.Duration) { warnRetry(p, a.meter.step, cause, wait) }
	err = retry(ctx, b.registry.backoff, again, func() (bool, error) {
		before := a.size
		err := a.get(ctx)
		return a.size-before >= progressBytes, err
	})
	if err != nil {
		return b.registry.explain(err)
	}
	if got := hex.EncodeToString(a.hash.Sum(nil)); got != b.desc.Digest.Hex {
		return wrongDigest(b.desc, got)
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
	body, err := a.blob.registry.blobAt(ctx, d, a.size)
	if err != nil {
		return err
	}
	defer body.Close()
	buf := make([]byte, 256<<10)
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
		return a.blob.registry.cache.writeError(a.file, err, a.blob.desc.Size-a.size)
	}
	a.hash.Write(p)
	a.size += int64(len(p))
	a.meter.add(int64(len(p)))
	if a.follow {
		a.blob.update(func() { a.blob.ready = a.size })
	}
	return nil
}

// object names a blob in errors.
func object(d v1.Descriptor) string {
	if d.MediaType.IsConfig() {
		return "config " + d.Digest.String()
	}
	return "layer " + d.Digest.String()
}

func wrongSize(d v1.Descriptor, got string) error {
	return &MismatchError{Object: object(d), What: "size", Want: fmt.Sprint(d.Size), Got: got}
}

func wrongDigest(d v1.Descriptor, gotHex string) error {
	return &MismatchError{Object: object(d), What: "digest", Want: d.Digest.String(), Got: cmp.Or(d.Digest.Algorithm, "sha256") + ":" + gotHex}
}
