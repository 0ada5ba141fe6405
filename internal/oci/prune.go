package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"banger/internal/api"
	"banger/internal/du"
)

// Hold keeps [Prune] away from the cache, in every process, until release is
// called. Who resolves an image and reads its layers holds the cache meanwhile.
func Hold(cacheDir string) (release func() error, err error) {
	return lockCache(cacheDir, unix.LOCK_SH)
}

// lockCache takes the cache's directory with flock(2).
func lockCache(cacheDir string, how int) (release func() error, err error) {
	c, err := openCache(cacheDir)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(c.dir)
	if err != nil {
		return nil, fmt.Errorf("open blob cache: %w", err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), how)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock blob cache: %w", err), f.Close())
	}
	// Closing alone leaves the lock to a child that is being started just now.
	return func() error { return unlock(f) }, nil
}

// Prune removes blobs of the cache, whole or not, but those whose digest keep
// wants. It is [api.ErrInUse] while somebody holds the cache. It returns what
// went, or with dryRun what would go.
func Prune(cacheDir string, keep func(digest string) bool, dryRun bool) (pruned []api.Pruned, err error) {
	release, err := lockCache(cacheDir, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("blob cache: %w by a pull", api.ErrInUse)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	c, err := openCache(cacheDir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("prune blob cache: %w", err)
	}
	for _, e := range entries {
		hex := strings.TrimSuffix(e.Name(), partialSuffix)
		if !validDigest.MatchString("sha256:"+hex) || keep("sha256:"+hex) {
			continue
		}
		one, err := c.prune(e.Name(), dryRun)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return pruned, fmt.Errorf("prune blob cache: %w", err)
		}
		pruned = append(pruned, one)
	}
	return pruned, nil
}

// prune removes a file of the cache. One that somebody downloads into is locked,
// which is EWOULDBLOCK.
func (c cache) prune(name string, dryRun bool) (one api.Pruned, err error) {
	path := filepath.Join(c.dir, name)
	f, err := os.Open(path)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return one, err
	}
	var tally du.Tally
	freed, err := tally.Add(path)
	if err == nil && !dryRun {
		err = os.Remove(path)
	}
	return api.Pruned{Kind: "blob", Name: name, FreedBytes: freed}, err
}
