package oci

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"banger/internal/api"
)

// fillCache makes files of 64 KiB in a cache, the first used an hour ago, each of
// the others a minute after the one before.
func fillCache(t *testing.T, names ...string) (o Options, c cache) {
	t.Helper()
	o = Options{CacheDir: t.TempDir()}
	c, err := openCache(o.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		path := filepath.Join(c.dir, name)
		if err := os.WriteFile(path, make([]byte, 64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		used := time.Now().Add(-time.Hour + time.Duration(i)*time.Minute)
		if err := os.Chtimes(path, used, used); err != nil {
			t.Fatal(err)
		}
	}
	return o, c
}

func blobName(c string) string { return strings.Repeat(c, 64) }

func blobOf(c string, size int64) v1.Descriptor {
	return v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: blobName(c)}, Size: size}
}

// left lists the cache by the first letters of what is in it.
func left(t *testing.T, c cache) string {
	t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name()[:1])
	}
	return strings.Join(all, "")
}

func TestPruneCache(t *testing.T) {
	t.Parallel()
	a, b, p := blobName("a"), blobName("b"), blobName("c")+partialSuffix
	o, c := fillCache(t, b, p, a, "somebody's notes")
	keep := func(digest string) bool { return digest == "sha256:"+a }
	prune := func(dryRun bool) (names []string, inUse int) {
		t.Helper()
		pruned, inUse, err := Prune(o.CacheDir, keep, dryRun)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range pruned {
			if one.Kind != "blob" || one.FreedBytes < 64<<10 {
				t.Errorf("got %+v", one)
			}
			names = append(names, one.Name)
		}
		return names, inUse
	}

	// A pull that has begun may have found b here, or will.
	release, err := Hold(o)
	if err != nil {
		t.Fatal(err)
	}
	c.touch(blobOf("b", 64<<10))
	if got, inUse := prune(false); !slices.Equal(got, []string{p}) || inUse != 1 {
		t.Errorf("during a pull: %q went, %d stay; want %q and 1", got, inUse, p)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if got, inUse := prune(true); !slices.Equal(got, []string{b}) || inUse != 0 {
		t.Errorf("dry run: %q, %d in use, want %q", got, inUse, b)
	}

	// So may one that holds nothing.
	download, err := os.Create(filepath.Join(c.dir, p))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(download.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got, inUse := prune(false); !slices.Equal(got, []string{b}) || inUse != 1 {
		t.Errorf("during a download: %q went, %d stay; want %q and 1", got, inUse, b)
	}
	if err := download.Close(); err != nil {
		t.Fatal(err)
	}
	if got := left(t, c); got != "acs" {
		t.Errorf("left: %q; want the blob that is kept, the download, and what is not ours", got)
	}
}

// What a pull brings makes what was not used for the longest time go.
func TestTrim(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		limit int64
		used  string // during the pull
		left  string // after it
		more  func(t *testing.T, c cache)
	}{
		{name: "enough_room", limit: 5 * 64 << 10, left: "abcd"},
		{name: "oldest_go", limit: 2*64<<10 + 100, left: "cd"},
		{name: "used_again", limit: 2*64<<10 + 100, used: "a", left: "ad"},
		{name: "no_limit", limit: -1, left: "abcd"},
		{name: "no_room", limit: 1, left: ""},
		{name: "default", limit: 0, left: "abcd"},
		{name: "another_pull_uses_b", limit: 1, left: "b", more: func(t *testing.T, c cache) {
			release, err := Hold(Options{CacheDir: filepath.Dir(c.pulls), CacheBytes: -1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := release(); err != nil {
					t.Error(err)
				}
			})
			if ok, err := c.has(blobOf("b", 64<<10)); !ok || err != nil {
				t.Errorf("has b: %v, %v", ok, err)
			}
		}},
		{name: "a_dead_pull_counts_for_nothing", limit: 1, left: "", more: func(t *testing.T, c cache) {
			if err := os.MkdirAll(c.pulls, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(c.pulls, "pull-dead")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if _, err := os.Stat(path); !os.IsNotExist(err) {
					t.Errorf("its file is still there: %v", err)
				}
			})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o, c := fillCache(t, blobName("a"), blobName("b"), blobName("c")+partialSuffix, blobName("d"))
			o.CacheBytes = tc.limit
			release, err := Hold(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range tc.used {
				if ok, err := c.has(blobOf(string(name), 64<<10)); !ok || err != nil {
					t.Errorf("has %c: %v, %v", name, ok, err)
				}
			}
			if tc.more != nil {
				tc.more(t, c)
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
			if got := left(t, c); got != tc.left {
				t.Errorf("left %q, want %q", got, tc.left)
			}
		})
	}
}

// What an image needs is in use from the moment on that the image is known.
func TestResolveUses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	ref := s.push(t, c, c.simple(tarOf(1, 100_000), tarOf(2, 100_000)), "v1")
	o := testOptions(t)
	if _, err := pull(t, ref, o); err != nil {
		t.Fatal(err)
	}
	cache, err := openCache(o.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := cache.files()
	if err != nil || len(files) != 4 {
		t.Fatalf("got %d files, %v; want 4", len(files), err)
	}
	old := time.Now().Add(-time.Hour)
	for _, f := range files {
		if err := os.Chtimes(filepath.Join(cache.dir, f.name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	release, err := Hold(o)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	img, err := Resolve(t.Context(), mustNormalize(t, ref), o)
	if err != nil {
		t.Fatal(err)
	}
	if gone, inUse, err := Prune(o.CacheDir, func(string) bool { return false }, false); err != nil || len(gone) != 0 || inUse != 4 {
		t.Errorf("pruned %v, %d in use, %v; want nothing, 4", gone, inUse, err)
	}
	for _, l := range img.Layers {
		if _, err := readLayer(t, l, nil); err != nil {
			t.Error(err)
		}
	}
	if got := s.count("/blobs/"); got != 3 {
		t.Errorf("asked for blobs %d times, want 3: nothing twice", got)
	}
}

func TestCacheUsage(t *testing.T) {
	t.Parallel()
	o, c := fillCache(t, blobName("a"), blobName("b"), blobName("c")+partialSuffix, "x")
	got, err := CacheUsage(o)
	if err != nil {
		t.Fatal(err)
	}
	oldest, newest := got.OldestUse, got.NewestUse
	if newest.Sub(oldest).Round(time.Minute) != 2*time.Minute || time.Since(oldest) < time.Hour {
		t.Errorf("used from %v to %v", oldest, newest)
	}
	got.OldestUse, got.NewestUse = time.Time{}, time.Time{}
	want := api.Cache{Path: c.dir, Blobs: 2, BlobBytes: 128 << 10, Partials: 1, PartialBytes: 64 << 10, LimitBytes: DefaultCacheBytes}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	o.CacheBytes = -1
	if got, err := CacheUsage(o); err != nil || got.LimitBytes != 0 {
		t.Errorf("without a limit: got %d, %v; want 0", got.LimitBytes, err)
	}
}

// Somebody who has found a blob just when it goes learns that it is gone.
func TestUseOfRemoved(t *testing.T) {
	t.Parallel()
	_, c := fillCache(t, blobName("a"))
	f, err := os.Open(c.path(blobOf("a", 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.use(f); err != nil {
		t.Errorf("while it is there: %v", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if err := c.use(f); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed: got %v, want ErrNotExist", err)
	}
	// Nor is the time of what has taken its name changed.
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := errors.Join(os.WriteFile(f.Name(), nil, 0o600), os.Chtimes(f.Name(), old, old)); err != nil {
		t.Fatal(err)
	}
	if err := c.use(f); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("replaced: got %v, want ErrNotExist", err)
	}
	if fi, err := os.Stat(f.Name()); err != nil || !fi.ModTime().Equal(old) {
		t.Errorf("the other's time is %v, %v; want %v", fi.ModTime(), err, old)
	}
}

// A cache that cannot be trimmed is told, and does not spoil the pull.
func TestTrimFails(t *testing.T) {
	t.Parallel()
	o, c := fillCache(t, blobName("a"))
	if err := os.Mkdir(filepath.Join(c.dir, blobName("b")), 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := errors.Join(os.WriteFile(filepath.Join(c.dir, blobName("b"), "x"), nil, 0o600),
		os.Chtimes(filepath.Join(c.dir, blobName("b")), old, old)); err != nil {
		t.Fatal(err)
	}
	var warnings warned
	o.CacheBytes, o.Progress = 1, warnings.progress
	release, err := Hold(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil || !strings.Contains(warnings.String(), "directory not empty") {
		t.Errorf("got %v, warnings %q", err, warnings.String())
	}
}
