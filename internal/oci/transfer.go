package oci

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"banger/internal/api"
)

// progressBytes is how much a failed try must have brought to count as progress,
// and how much a killed process forgets of each part at most.
const progressBytes = 1 << 20

// transfer brings the parts of a blob into its partial file. One worker brings
// them in their order. When a server knows ranges, and a part takes so long that
// it is the connection that bounds us, others help, while the pull has connections
// to spare; one of them that fails leaves its part to the first. The bytes are
// hashed in their order: as they come, or from the file when what was missing
// before them has.
type transfer struct {
	blob     *cachedBlob
	file     *os.File
	progress api.Progress
	follow   bool // readers may: nothing is left over from another process

	grown   chan struct{} // holds a token when there is something to hash in the file
	helpers sync.WaitGroup

	hashing sync.Mutex // guards sum and the growth of hashed
	sum     hash.Hash
	hashed  atomic.Int64 // bytes from the start on

	mu     sync.Mutex // guards what follows
	parts  []part
	prefix int64 // bytes from the start on that the file has
	limit  int   // of workers
	active int   // workers
	meter  *meter
	mirror string // that sent something; the last of several
}

func newTransfer(b *cachedBlob, f *os.File, parts []part, p api.Progress) *transfer {
	t := &transfer{
		blob: b, file: f, progress: p, follow: doneOf(parts) == 0, grown: make(chan struct{}, 1),
		sum: sha256.New(), parts: parts, limit: b.lines.max, meter: newMeter(p, api.PhaseFetch, b.desc.Digest.String(), b.desc.Size),
	}
	t.meter.add(doneOf(parts))
	t.advance()
	return t
}

// run completes the file and verifies it.
func (t *transfer) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.catchUp(ctx) })
	group.Go(func() error {
		t.blob.lines.join()
		defer t.blob.lines.leave()
		t.mu.Lock()
		t.active++
		t.mu.Unlock()
		return t.lead(ctx, group)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	d := t.blob.desc
	digest := digestText(t.sum)
	if digest == d.Digest.String() {
		return nil
	}
	err := &MismatchError{Object: object(d), What: "digest", Want: d.Digest.String(), Got: digest, Mirror: t.mirror}
	if t.mirror == "" {
		return err
	}
	return api.Hint(err, "nothing of it is kept; take the mirror out of config.toml, or have it repaired")
}

// catchUp hashes what has come out of order, until all is hashed.
func (t *transfer) catchUp(ctx context.Context) error {
	buf := make([]byte, chunkSize)
	for t.hashed.Load() < t.blob.desc.Size {
		select {
		case <-t.grown:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		t.mu.Lock()
		limit := t.prefix
		t.mu.Unlock()
		if err := t.hashTo(limit, buf); err != nil {
			return err
		}
	}
	return nil
}

// hashTo hashes the file up to limit.
func (t *transfer) hashTo(limit int64, buf []byte) error {
	t.hashing.Lock()
	defer t.hashing.Unlock()
	for at := t.hashed.Load(); at < limit; at = t.hashed.Load() {
		n, err := t.file.ReadAt(buf[:min(int64(len(buf)), limit-at)], at)
		if n == 0 && err != nil {
			return fmt.Errorf("read partial blob: %w", err)
		}
		t.sum.Write(buf[:n])
		t.hashed.Add(int64(n))
	}
	return nil
}

// hashNow hashes what has come if it is next, which saves reading it again.
func (t *transfer) hashNow(at int64, data []byte) {
	if !t.hashing.TryLock() {
		return
	}
	defer t.hashing.Unlock()
	if t.hashed.Load() == at {
		t.sum.Write(data)
		t.hashed.Add(int64(len(data)))
	}
}

// next returns the first part that is nobody's, or -1; t.mu is held.
func (t *transfer) next() int {
	for i, p := range t.parts {
		if p.open() {
			return i
		}
	}
	return -1
}

// take makes the next part the caller's.
func (t *transfer) take() (i int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i = t.next(); i < 0 {
		return i, false
	}
	t.parts[i].taken = true
	return i, true
}

// takeBehind takes the part behind i, if nothing of it is there or on its way.
func (t *transfer) takeBehind(i int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i+1 == len(t.parts) || t.parts[i+1].taken || t.parts[i+1].done > 0 {
		return false
	}
	t.parts[i+1].taken = true
	return true
}

// giveBack leaves part i to others.
func (t *transfer) giveBack(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parts[i].taken = false
}

// helped says whether there are helpers.
func (t *transfer) helped() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.active > 1
}

func (t *transfer) part(i int) part {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.parts[i]
}

// write adds to part i, and with note tells it to a later process.
func (t *transfer) write(i int, data []byte, note bool) error {
	p := t.part(i)
	if _, err := t.file.WriteAt(data, p.start+p.done); err != nil {
		return t.blob.cache.writeError(t.file, err, p.end-p.start-p.done)
	}
	t.hashNow(p.start+p.done, data)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parts[i].done += int64(len(data))
	t.meter.add(int64(len(data)))
	t.advance()
	if !note || len(t.parts) == 1 {
		return nil
	}
	if err := noteDone(t.file, t.parts, i); err != nil {
		return t.blob.cache.writeError(t.file, err, t.blob.desc.Size-doneOf(t.parts))
	}
	return nil
}

// advance moves prefix over what has come; t.mu is held.
func (t *transfer) advance() {
	before := t.prefix
	for i := range t.parts {
		p := t.parts[i]
		if p.end <= t.prefix {
			continue
		}
		t.prefix = p.start + p.done
		if t.prefix < p.end {
			break
		}
	}
	if t.prefix == before {
		return
	}
	if t.hashed.Load() < t.prefix || t.prefix == t.blob.desc.Size {
		select {
		case t.grown <- struct{}{}:
		default:
		}
	}
	if t.follow {
		t.blob.update(func() { t.blob.ready = t.prefix })
	}
}
