package oci

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// childEnv holds the reference that a child process pulls; childCache the cache,
// childParts the size of parts.
const (
	childEnv   = "BANGER_OCI_TEST_PULL"
	childCache = "BANGER_OCI_TEST_CACHE"
	childParts = "BANGER_OCI_TEST_PARTS"
)

// pullInChild is the test binary as a second process that pulls.
func pullInChild() bool {
	text := os.Getenv(childEnv)
	if text == "" {
		return false
	}
	err := func() error {
		ref, err := Normalize(text)
		if err != nil {
			return err
		}
		o := Options{CacheDir: os.Getenv(childCache)}
		fmt.Sscan(os.Getenv(childParts), &o.partSize)
		img, err := Resolve(context.Background(), ref, o)
		if err != nil {
			return err
		}
		for _, l := range img.Layers {
			r, err := l.Open(context.Background(), nil)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
			if err := r.Close(); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// Two processes that pull at once download a blob once.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 1<<20)
	ref := s.push(t, c, c.simple(stored), "v1")
	s.fault = func(_ http.ResponseWriter, r *http.Request, n int) bool {
		if strings.HasSuffix(r.URL.Path, sumOf(stored).Hex) {
			// Both are at it by now: one of them here, the other at the lock.
			for start := time.Now(); s.count("/manifests/v1") < 2 && time.Since(start) < 10*time.Second; {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(200 * time.Millisecond)
		}
		return false
	}
	o := testOptions(t)
	child := childPull(t, ref, o)
	if _, err := pull(t, ref, o); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
	if got := s.count("/manifests/v1"); got != 2 {
		t.Errorf("%d processes pulled, want 2", got)
	}
	if got := s.count(sumOf(stored).Hex); got != 1 {
		t.Errorf("the layer was downloaded %d times", got)
	}
}
