package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/du"
)

// cacheFile is a blob in the cache, whole or not.
type cacheFile struct {
	name    string
	digest  string
	partial bool
	size    int64 // on the disk
	used    time.Time
}

// files returns what is in the cache, what was not used for the longest time
// first. What we cannot name as ours is not in it.
func (c cache) files() ([]cacheFile, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("look into blob cache: %w", err)
	}
	var all []cacheFile
	for _, e := range entries {
		hex, partial := strings.CutSuffix(e.Name(), partialSuffix)
		if !validDigest.MatchString("sha256:" + hex) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var size int64
		if err == nil {
			size, err = new(du.Tally).Add(filepath.Join(c.dir, e.Name()))
		}
		if err != nil {
			return nil, fmt.Errorf("look into blob cache: %w", err)
		}
		all = append(all, cacheFile{e.Name(), "sha256:" + hex, partial, size, info.ModTime()})
	}
	slices.SortStableFunc(all, func(a, b cacheFile) int { return a.used.Compare(b.used) })
	return all, nil
}

// Prune removes blobs of the cache, whole or not, but those whose digest keep
// wants and those that a pull uses, in any process. It returns what went, or with
// dryRun what would go, and how many a pull uses.
func Prune(cacheDir string, keep func(digest string) bool, dryRun bool) (pruned []api.Pruned, inUse int, err error) {
	c, err := openCache(cacheDir)
	if err != nil {
		return nil, 0, err
	}
	err = c.remove(func(f cacheFile, remove func(dryRun bool) (bool, error)) (bool, error) {
		if keep(f.digest) {
			return true, nil
		}
		gone, err := remove(dryRun)
		if gone {
			pruned = append(pruned, api.Pruned{Kind: "blob", Name: f.name, FreedBytes: f.size})
		} else {
			inUse++
		}
		return true, err
	})
	return pruned, inUse, err
}

// trim removes what was not used for the longest time until there are at most
// limit bytes, or no more that no pull uses. A negative limit is none.
func (c cache) trim(limit int64, p api.Progress) error {
	files, err := c.files()
	if err != nil || limit < 0 {
		return err
	}
	var total, freed int64
	for _, f := range files {
		total += f.size
	}
	if total <= limit {
		return nil
	}
	count := 0
	err = c.remove(func(f cacheFile, remove func(dryRun bool) (bool, error)) (bool, error) {
		gone, err := remove(false)
		if gone {
			count++
			freed += f.size
		}
		return total-freed > limit, err
	})
	if count > 0 {
		p.Note("cache", fmt.Sprintf("removed %s in %d blobs from the cache, those not used for the longest time: its limit is %s",
			units.BytesSize(float64(freed)), count, units.BytesSize(float64(limit))))
	}
	return err
}

// remove goes through the cache, what was not used for the longest time first, as
// long as visit wants to. What visit may call removes the file, unless a pull
// uses it.
func (c cache) remove(visit func(f cacheFile, remove func(dryRun bool) (gone bool, err error)) (more bool, err error)) (err error) {
	release, err := c.lockPulls(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	first, pulls, err := c.firstPull()
	if err != nil {
		return fmt.Errorf("look for pulls: %w", err)
	}
	files, err := c.files()
	if err != nil {
		return err
	}
	for _, f := range files {
		more, err := visit(f, func(dryRun bool) (bool, error) {
			return c.removeUnused(f.name, func(used time.Time) bool { return !pulls || used.Before(first) }, dryRun)
		})
		if err != nil {
			return fmt.Errorf("prune blob cache: %w", err)
		}
		if !more {
			break
		}
	}
	return nil
}

// removeUnused removes a file of the cache that nobody downloads into, if its
// time says that nobody else uses it.
func (c cache) removeUnused(name string, unused func(used time.Time) bool, dryRun bool) (gone bool, err error) {
	path := filepath.Join(c.dir, name)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock(f)) }()
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, err
	}
	fi, err := f.Stat() // its time counts only now: who uses it needs the lock
	if err != nil || !unused(fi.ModTime()) {
		return false, err
	}
	if dryRun {
		return true, nil
	}
	return true, os.Remove(path)
}
