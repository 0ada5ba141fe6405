package oci

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// cache is a directory of blobs, named by digest: dir/<hex>. A blob takes its name
// when it is verified and on disk. Until then it is <hex>.partial, which whoever
// appends to it holds a flock on, and which stays for a later process to go on
// from.
type cache struct {
	dir   string
	pulls string // has a file for each pull under way
}

// partialSuffix marks a blob that is not whole.
const partialSuffix = ".partial"

// lockPoll is how often a lock that another pull holds is tried.
const lockPoll = 50 * time.Millisecond

func openCache(dir string) (cache, error) {
	if dir == "" {
		return cache{}, fmt.Errorf("%w: the cache directory is missing", api.ErrInvalid)
	}
	c := cache{dir: filepath.Join(dir, "blobs", "sha256"), pulls: filepath.Join(dir, "pulls")}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return cache{}, fmt.Errorf("make blob cache: %w", err)
	}
	return c, nil
}

func (c cache) path(d v1.Descriptor) string    { return filepath.Join(c.dir, d.Digest.Hex) }
func (c cache) partial(d v1.Descriptor) string { return c.path(d) + partialSuffix }

// has reports whether the blob is there, and marks it as used. Readers verify it;
// only a size that is not the descriptor's is looked into here: either the
// descriptor lies, or the file is damaged, and the next download takes its place.
func (c cache) has(d v1.Descriptor) (bool, error) {
	f, err := os.Open(c.path(d))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("look into blob cache: %w", err)
	}
	defer f.Close()
	if err := c.use(f); errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("look into blob cache: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("look into blob cache: %w", err)
	}
	if fi.Size() == d.Size {
		return true, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return false, fmt.Errorf("look into blob cache: %w", err)
	}
	if digestText(sum) == d.Digest.String() {
		return false, wrongSize(d, fmt.Sprint(fi.Size()))
	}
	return false, nil
}

// lock returns the partial file of a blob, locked against other pulls in any
// process, or nil when the blob is in the cache by the time it is our turn.
// waiting is called now and again while somebody else holds the lock.
func (c cache) lock(ctx context.Context, d v1.Descriptor, waiting func()) (*os.File, error) {
	for {
		if ok, err := c.has(d); ok || err != nil {
			return nil, err
		}
		f, err := os.OpenFile(c.partial(d), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open partial blob: %w", err)
		}
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && c.current(f, d) {
			if ok, err := c.has(d); ok || err != nil {
				os.Remove(f.Name())
				return nil, errors.Join(err, unlock(f))
			}
			return f, nil
		}
		f.Close()
		switch {
		case err == nil: // renamed or removed by whoever held it
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		waiting()
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// unlock ends the lock and closes the file. Closing alone keeps the lock for
// readers that follow by a duplicate of f.
func unlock(f *os.File) error {
	return errors.Join(flock(f, unix.LOCK_UN), f.Close())
}

// current reports whether f still is the partial file by its name.
func (c cache) current(f *os.File, d v1.Descriptor) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(c.partial(d))
	return err == nil && os.SameFile(open, named)
}

// commit gives a verified partial file its name.
func (c cache) commit(f *os.File, d v1.Descriptor) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync blob: %w", err)
	}
	if err := os.Rename(f.Name(), c.path(d)); err != nil {
		return fmt.Errorf("publish blob: %w", err)
	}
	dir, err := os.Open(c.dir)
	if err != nil {
		return fmt.Errorf("sync blob cache: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync blob cache: %w", err)
	}
	return nil
}

// write puts a small blob, which the caller has verified, into the cache.
func (c cache) write(ctx context.Context, d v1.Descriptor, data []byte) error {
	f, err := c.lock(ctx, d, func() {})
	if err != nil || f == nil {
		return err
	}
	defer func() { _ = unlock(f) }() // what had to be durable has been synced
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return c.writeError(f, err, int64(len(data)))
	}
	return c.commit(f, d)
}

// read returns a document if the cache has it whole; one that is damaged goes.
// Size -1 is not known.
func (c cache) read(d v1.Descriptor) ([]byte, bool) {
	f, err := os.Open(c.path(d))
	if err != nil {
		return nil, false
	}
	defer f.Close()
	if c.use(f) != nil {
		return nil, false
	}
	data, err := readAll(f)
	if err != nil {
		return nil, false
	}
	if err := verifyDocument(data, d); err != nil {
		os.Remove(f.Name())
		return nil, false
	}
	return data, true
}

// writeError explains a write that did not work. On a full disk the partial file
// goes, for it is in the way of whatever else runs here.
func (c cache) writeError(f *os.File, err error, need int64) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		os.Remove(f.Name())
		return c.fullError(err, need)
	}
	return fmt.Errorf("write blob: %w", err)
}

func (c cache) fullError(err error, need int64) error {
	free, _ := c.free()
	return api.Hint(fmt.Errorf("write to blob cache %s: %w: needs %d MiB more, %d MiB are free", c.dir, err, need>>20+1, free>>20),
		"make room there, or move the cache: XDG_CACHE_HOME or BANGER_HOME")
}

// free returns the bytes that an ordinary user may still write.
func (c cache) free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(c.dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// reserve fails early when so many bytes are not free.
func (c cache) reserve(need int64) error {
	if free, err := c.free(); err == nil && free < need {
		return c.fullError(unix.ENOSPC, need-free)
	}
	return nil
}
