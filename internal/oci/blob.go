package oci

import (
	"context"
	"errors"
	"fmt"
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
	// vouched reports whether what has been read so far came from a download of this
	// process, which verifies all of it before it lets a reader see the end.
	vouched() bool
	// damaged is told that what was read is not what it should be. It drops the
	// file if it is ours, and returns err with what it did.
	damaged(err error) error
	// waited returns how long Read has waited for bytes that were not here yet.
	waited() time.Duration
}

// object names a blob in errors.
func object(d v1.Descriptor) string {
	switch {
	case d.MediaType.IsConfig():
		return "config " + d.Digest.String()
	case d.MediaType == typeFile:
		return "file " + d.Digest.String()
	}
	return "layer " + d.Digest.String()
}

func wrongSize(d v1.Descriptor, got string) error {
	return &MismatchError{Object: object(d), What: "size", Want: fmt.Sprint(d.Size), Got: got}
}

// origin is where a blob can be downloaded from.
type origin interface {
	// blobAt makes one try to open the bytes from start to end. It may get less,
	// or more.
	blobAt(ctx context.Context, d v1.Descriptor, start, end int64) (*body, error)
	// explain says what the user can do about an error of the last try.
	explain(error) error
}

// body is the bytes of a blob from where they were asked for.
type body struct {
	io.ReadCloser
	end    int64  // where in the blob it ends
	ranged bool   // the server knows ranges
	mirror string // that sends it; "" for none
	blame  func() // may be nil
}

// fault says that it did not go on to its end.
func (b *body) fault() {
	if b.blame != nil {
		b.blame()
	}
}

// cachedBlob is a blob on its way into the cache, or there.
type cachedBlob struct {
	origin   origin
	cache    cache
	backoff  time.Duration // before the first further try
	partSize int64
	patience time.Duration // before other connections help
	lines    *lines
	desc     v1.Descriptor

	mu      sync.Mutex
	flight  *flight       // the download under way or done, or nil
	file    *os.File      // the partial file of the flight, when it may be followed
	ready   int64         // bytes of file that may be followed; 0 without file
	whole   bool          // the blob is verified; it is in file or, without one, in the cache
	writer  *flight       // whose file that is
	changed chan struct{} // closed and replaced when any of these changes
}

// cachedBlob makes a blob that comes from an origin.
func (o Options) cachedBlob(from origin, c cache, l *lines, d v1.Descriptor) *cachedBlob {
	c.touch(d) // it may be long until it is fetched
	return &cachedBlob{
		origin: from, cache: c, backoff: o.backoff, partSize: o.partSize, patience: o.patience, lines: l, desc: d,
		changed: make(chan struct{}),
	}
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
