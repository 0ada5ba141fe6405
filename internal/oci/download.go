package oci

import (
	"context"
	"errors"
	"fmt"
	"os"

	"banger/internal/api"
)

// download brings the blob into the cache: from nothing, or from what an earlier
// try left there. What is left over from another process may be damaged, so
// readers follow only what was written here, and a mismatch means to start over.
func (b *cachedBlob) download(ctx context.Context, p api.Progress) error {
	c := b.cache
	var others *meter // of the one who fetches it for us
	f, err := c.lock(ctx, b.desc, func() {
		if others == nil {
			p.Say(api.PhaseFetch, "another pull fetches it: waiting")
			others = newMeter(p, api.PhaseFetch, b.desc.Digest.String(), b.desc.Size)
		}
		if missing, err := c.missing(b.desc, b.partSize); err == nil {
			others.add(b.desc.Size - missing - others.done)
		}
	})
	if err != nil {
		return err
	}
	if f == nil {
		if others != nil {
			others.done = others.total
			others.end()
		}
		b.update(func() { b.whole, b.writer = true, b.flight })
		return nil
	}
	defer func() { _ = unlock(f) }() // what had to be durable has been synced
	defer b.update(func() { b.file, b.ready = nil, 0 })
	parts, err := keptParts(f, b.desc.Size, b.partSize)
	if err != nil {
		return err
	}
	kept := doneOf(parts) > 0
	err = b.fill(ctx, f, parts, p)
	if mismatch := (*MismatchError)(nil); kept && errors.As(err, &mismatch) {
		p.Warn(api.PhaseFetch, "what an earlier pull left of it is damaged: starting over")
		err = b.fill(ctx, f, plan(b.desc.Size, b.partSize), p)
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

// fill completes the partial file, which has what parts say is done, and
// verifies it.
func (b *cachedBlob) fill(ctx context.Context, f *os.File, parts []part, p api.Progress) error {
	have := doneOf(parts)
	if have == 0 || len(parts) == 1 {
		if err := f.Truncate(have); err != nil {
			return fmt.Errorf("truncate partial blob: %w", err)
		}
	}
	if len(parts) > 1 {
		if _, err := f.WriteAt(record(parts), b.desc.Size); err != nil {
			return b.cache.writeError(f, err, b.desc.Size-have)
		}
	}
	if have == 0 {
		b.update(func() { b.file, b.ready, b.writer = f, 0, b.flight })
	}
	if err := newTransfer(b, f, parts, p).run(ctx); err != nil {
		return err
	}
	if err := f.Truncate(b.desc.Size); err != nil { // the record goes
		return fmt.Errorf("truncate partial blob: %w", err)
	}
	return nil
}
