package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// DefaultCacheBytes is how large the cache stays unless it is told otherwise: a
// hundred usual images or a handful of large ones. Disks do not need it: it saves
// downloading what the next image shares with the last.
const DefaultCacheBytes = 10 << 30

// Who pulls has a file in the cache's directory of pulls, locked by flock(2) for
// as long as it lives, and so also when it is killed. The file's time is the
// start of the pull. Every use of a blob sets the blob's time. Hence a blob with
// a time before that of all pulls under way is none that they use, and may go.
//
// The directory itself is locked, shared, to add such a file, and exclusively to
// remove blobs: a pull begins before or after.

// Hold says that a pull begins. What it resolves and fetches stays in the cache
// until release is called, which then removes what was not used for the longest
// time while there is more than o.CacheBytes.
func Hold(o Options) (release func() error, err error) {
	o = o.withDefaults()
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, err
	}
	unlockPulls, err := c.lockPulls(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(c.pulls, "pull-")
	if err == nil {
		err = flock(f, unix.LOCK_EX)
	}
	if err := errors.Join(err, unlockPulls()); err != nil {
		return nil, fmt.Errorf("hold blob cache: %w", err)
	}
	return func() error {
		// Closing alone leaves the lock to a child that is being started just now.
		if err := errors.Join(os.Remove(f.Name()), unlock(f)); err != nil {
			return fmt.Errorf("release blob cache: %w", err)
		}
		if err := c.trim(o.CacheBytes, o.Progress); err != nil {
			o.Progress.Warn("cache", err.Error()) // what was pulled is none the worse
		}
		return nil
	}, nil
}

func (c cache) lockPulls(how int) (release func() error, err error) {
	if err := os.MkdirAll(c.pulls, 0o700); err != nil {
		return nil, fmt.Errorf("lock blob cache: %w", err)
	}
	f, err := os.Open(c.pulls)
	if err != nil {
		return nil, fmt.Errorf("lock blob cache: %w", err)
	}
	if err := flock(f, how); err != nil {
		return nil, errors.Join(fmt.Errorf("lock blob cache: %w", err), f.Close())
	}
	return func() error { return unlock(f) }, nil
}

// firstPull returns when the oldest pull under way began, and whether there is
// one. The caller has the pulls locked. What dead ones have left goes.
func (c cache) firstPull() (first time.Time, found bool, err error) {
	entries, err := os.ReadDir(c.pulls)
	if err != nil {
		return first, false, err
	}
	for _, e := range entries {
		began, live, err := pullAt(filepath.Join(c.pulls, e.Name()))
		if err != nil {
			return first, false, err
		}
		if live && (!found || began.Before(first)) {
			first, found = began, true
		}
	}
	return first, found, nil
}

// pullAt looks at the file of one pull, and removes it when that has died.
func pullAt(path string) (began time.Time, live bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return began, false, nil // it has ended
	} else if err != nil {
		return began, false, err
	}
	defer f.Close()
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		fi, err := f.Stat()
		if err != nil {
			return began, false, err
		}
		return fi.ModTime(), true, nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return began, false, err
}

// touch marks whatever there is of a blob as used now.
func (c cache) touch(d v1.Descriptor) {
	for _, path := range []string{c.path(d), c.partial(d)} {
		if f, err := os.Open(path); err == nil {
			_ = c.use(f) // a hint, and checked when it counts
			f.Close()
		}
	}
}

// use marks an open file of the cache as used now. It is [os.ErrNotExist] when
// somebody has removed it meanwhile: the lock is against those.
func (c cache) use(f *os.File) error {
	how := unix.LOCK_SH
	if filepath.Ext(f.Name()) == partialSuffix {
		how |= unix.LOCK_NB // else its writer has it, for long, and it is in use
	}
	if err := flock(f, how); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil
		}
		return err
	}
	defer flock(f, unix.LOCK_UN) //nolint:errcheck // it is closed next
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Nlink == 0 {
		return os.ErrNotExist
	}
	// The kernel's own clock, by which files of pulls get their time.
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, f.Name(), now, 0)
}

// flock is flock(2), which signals may interrupt.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// CacheUsage says what is in the cache.
func CacheUsage(o Options) (api.Cache, error) {
	o = o.withDefaults()
	c, err := openCache(o.CacheDir)
	if err != nil {
		return api.Cache{}, err
	}
	files, err := c.files()
	if err != nil {
		return api.Cache{}, err
	}
	u := api.Cache{Path: c.dir, LimitBytes: max(0, o.CacheBytes)}
	for i, f := range files {
		if f.partial {
			u.Partials++
			u.PartialBytes += f.size
		} else {
			u.Blobs++
			u.BlobBytes += f.size
		}
		if i == 0 {
			u.OldestUse = f.used.UTC()
		}
		u.NewestUse = f.used.UTC()
	}
	return u, nil
}
