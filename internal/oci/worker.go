package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"banger/internal/api"
)

// lead is the first worker. When there is nothing to take any more it waits for
// the helpers, who may leave something after all.
func (t *transfer) lead(ctx context.Context, group *errgroup.Group) error {
	again := func(cause error, wait time.Duration) { warnRetry(t.progress, cause, wait) }
	for {
		i, ok := t.take()
		if !ok {
			t.helpers.Wait()
			if i, ok = t.take(); !ok {
				t.meter.end()
				return nil
			}
		}
		err := retry(ctx, t.blob.backoff, again, func() (bool, error) {
			n, err := t.bring(ctx, group, &i)
			if err == nil || !temporary(err) || !t.helped() {
				return n >= progressBytes, err
			}
			// A server that refuses us may go on with the helpers, and until they
			// have ended that is no reason to give up.
			t.giveBack(i)
			t.helpers.Wait()
			if i, ok = t.take(); !ok {
				return true, nil
			}
			return true, err
		})
		if err != nil {
			return t.blob.origin.explain(err)
		}
	}
}

// help is another worker, for as long as its connection is to spare.
func (t *transfer) help(ctx context.Context, group *errgroup.Group) error {
	for !t.blob.lines.crowded() {
		i, ok := t.take()
		if !ok {
			return nil
		}
		n, err := t.bring(ctx, group, &i)
		if err == nil {
			continue
		}
		status := (*statusError)(nil)
		if ctx.Err() != nil || !temporary(err) && !errors.As(err, &status) {
			return err
		}
		t.giveBack(i)
		if n < progressBytes {
			t.mu.Lock()
			t.limit = t.active - 1 // it is one too many for the server
			t.mu.Unlock()
		}
		t.progress.Warn(api.PhaseFetch, fmt.Sprintf("one of several connections failed: %v; going on with the others", err))
		return nil
	}
	return nil
}

// defaultPatience is how long a part may take before others help: 16 MiB in 100 ms
// are 160 MB/s, where disk and processor bound us and more connections only cost.
const defaultPatience = 100 * time.Millisecond

// spread starts as many workers as there is work and room for.
func (t *transfer) spread(ctx context.Context, group *errgroup.Group) {
	t.mu.Lock()
	defer t.mu.Unlock()
	untaken := 0
	for _, p := range t.parts {
		if p.open() {
			untaken++
		}
	}
	for ; untaken > 0 && t.active < t.limit && t.blob.lines.joinSpare(); untaken-- {
		t.active++
		t.helpers.Add(1)
		group.Go(func() error {
			defer t.helpers.Done()
			defer t.blob.lines.leave()
			defer func() {
				t.mu.Lock()
				t.active--
				t.mu.Unlock()
			}()
			return t.help(ctx, group)
		})
	}
}

// bring makes one try to complete part *i, and returns how much it has brought.
// From a server that sends more it takes the next parts too, and *i is the last.
func (t *transfer) bring(ctx context.Context, group *errgroup.Group, i *int) (n int64, err error) {
	for p := t.part(*i); p.done < p.end-p.start; p = t.part(*i) {
		got, err := t.request(ctx, group, i)
		n += got
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// request makes one request for the rest of part *i.
func (t *transfer) request(ctx context.Context, group *errgroup.Group, i *int) (n int64, err error) {
	d := t.blob.desc
	p := t.part(*i)
	at := p.start + p.done
	begun := time.Now()
	body, err := t.blob.origin.blobAt(ctx, d, at, p.end)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return 0, brokenBody{err} // it sent the manifest: this is a restart, not a wrong port
	}
	if err != nil {
		return 0, err
	}
	defer body.Close()
	t.mu.Lock()
	t.mirror = cmp.Or(body.mirror, t.mirror)
	t.mu.Unlock()
	buf := make([]byte, chunkSize)
	for noted := int64(0); at < body.end; {
		if at == p.end {
			if !t.takeBehind(*i) {
				return n, nil
			}
			*i++
			p = t.part(*i)
		}
		m, rerr := body.Read(buf[:min(int64(len(buf)), p.end-at, body.end-at)])
		at += int64(m)
		n += int64(m)
		noted += int64(m)
		note := noted >= progressBytes || at == p.end || rerr != nil
		if note {
			noted = 0
		}
		if err := t.write(*i, buf[:m], note); err != nil {
			return n, err
		}
		if body.ranged && time.Since(begun) > t.blob.patience {
			t.spread(ctx, group)
		}
		ended := errors.Is(rerr, io.EOF)
		switch {
		case ended && at < body.end:
			body.fault()
			return n, fmt.Errorf("body ended after %d of %d bytes: %w", at, d.Size, io.ErrUnexpectedEOF)
		case rerr != nil && !ended && ctx.Err() == nil:
			body.fault()
			return n, fmt.Errorf("read body: %w", brokenBody{rerr})
		case rerr != nil && !ended:
			return n, rerr
		}
	}
	// Its end lets the connection serve again.
	if m, _ := body.Read(buf[:1]); m > 0 && body.end == d.Size {
		return n, wrongSize(d, "more")
	}
	return n, nil
}
