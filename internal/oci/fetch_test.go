package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

func TestPull(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	tars := [][]byte{tarOf(1, 2<<20), tarOf(2, 100), {}, tarOf(3, 1<<20)}
	d := c.image([][]byte{gz(tars[0]), zst(tars[1]), {}, tars[3]}, tars, nil)
	root := c.putJSON(types.OCIImageIndex, index(on(d, "linux", hostPlatform().arch, "")))
	ref := s.push(t, c, root, "v1")
	o := testOptions(t)

	for range 2 {
		layers, err := pull(t, ref, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range tars {
			if !bytes.Equal(layers[i], tars[i]) {
				t.Errorf("layer %d differs", i)
			}
		}
	}
	// The tag is asked for each time; whatever has a digest is fetched once.
	if got := s.count("/manifests/v1"); got != 2 {
		t.Errorf("asked for the tag %d times, want 2", got)
	}
	if got := s.count("/manifests/sha256"); got != 1 {
		t.Errorf("asked for the manifest %d times, want 1", got)
	}
	if got, want := s.count("/blobs/"), 4; got != want { // config and three layers that are not empty
		t.Errorf("asked for blobs %d times, want %d", got, want)
	}
	partial, err := filepath.Glob(filepath.Join(o.CacheDir, "blobs", "sha256", "*.partial"))
	if err != nil || len(partial) != 0 {
		t.Errorf("left behind: %v %v", partial, err)
	}

	// By digest there is nothing to ask.
	s.http.Close()
	for _, h := range []v1.Hash{d.Digest, root.Digest} {
		img, err := Resolve(t.Context(), mustNormalize(t, s.host+"/i@"+h.String()), o)
		if err != nil || img.Digest != d.Digest.String() {
			t.Errorf("without a registry: got %+v, %v", img, err)
		}
	}
}

// Each fault happens to the first blob requests and must not be seen by the user.
func TestPullRecovers(t *testing.T) {
	t.Parallel()
	stored := tarOf(1, 6<<20)
	for _, tc := range []struct {
		name     string
		fault    func(s *server, w http.ResponseWriter, r *http.Request, n int) bool
		requests int
		resumed  bool // by the last request
	}{
		{"500", func(_ *server, w http.ResponseWriter, _ *http.Request, n int) bool {
			if n <= 3 {
				w.WriteHeader(500)
			}
			return n <= 3
		}, 4, false},
		{"truncated", func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n <= 2 {
				s.inner.ServeHTTP(&cut{w, 2 << 20}, r)
			}
			return n <= 2
		}, 3, true},
		{"many_cuts_with_progress", func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n <= maxTries {
				s.inner.ServeHTTP(&cut{w, 1<<20 + 4096}, r)
			}
			return n <= maxTries
		}, maxTries + 1, true},
		{"reset", func(_ *server, w http.ResponseWriter, _ *http.Request, n int) bool {
			if n <= 2 {
				reset(w)
			}
			return n <= 2
		}, 3, false},
		{"no_ranges", func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			r.Header.Del("Range")
			if n == 1 {
				s.inner.ServeHTTP(&cut{w, 3 << 20}, r)
				return true
			}
			return false
		}, 2, true},
		{"ranges_of_its_own", func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 1 {
				s.inner.ServeHTTP(&cut{w, 3 << 20}, r)
				return true
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 4096-%d/*", len(stored)-1))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(stored[4096:])
			return true
		}, 2, true},
		{"chunked_short", func(_ *server, w http.ResponseWriter, _ *http.Request, n int) bool {
			if n == 1 {
				w.WriteHeader(200)
				w.Write(stored[:2<<20])
				w.(http.Flusher).Flush()
			}
			return n == 1
		}, 2, true},
		{"stall_in_body", func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 1 {
				w.Header().Set("Content-Length", strconv.Itoa(len(stored)))
				w.Write(stored[:2<<20])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}
			return n == 1
		}, 2, true},
		{"stall_before_headers", func(_ *server, _ http.ResponseWriter, r *http.Request, n int) bool {
			if n == 1 {
				<-r.Context().Done()
			}
			return n == 1
		}, 2, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			c := content{}
			ref := s.push(t, c, c.simple(stored), "v1")
			layer := v1.Descriptor{Digest: sumOf(stored)}
			s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
				return strings.HasSuffix(r.URL.Path, layer.Digest.Hex) && tc.fault(s, w, r, n)
			}
			o := testOptions(t)
			if strings.HasPrefix(tc.name, "stall") {
				o.stall = 500 * time.Millisecond
			}
			var warnings atomic.Int32
			o.Progress = func(e api.Event) {
				if e.Warning {
					warnings.Add(1)
				}
			}
			layers, err := pull(t, ref, o)
			if err != nil || !bytes.Equal(layers[0], stored) {
				t.Fatalf("got %v", err)
			}
			if got := s.count(layer.Digest.Hex); got != tc.requests {
				t.Errorf("took %d requests, want %d", got, tc.requests)
			}
			if got := s.lastRange(layer) != ""; got != tc.resumed {
				t.Errorf("last Range is %q, want resumed %v", s.lastRange(layer), tc.resumed)
			}
			// net/http itself repeats a request that an idle connection lost.
			if got := int(warnings.Load()); got < 1 || got > tc.requests-1 {
				t.Errorf("got %d warnings for %d requests", got, tc.requests)
			}
		})
	}
}

// Each fault is for good, and the blob must not be kept.
func TestPullGivesUp(t *testing.T) {
	t.Parallel()
	stored := tarOf(1, 3<<20)
	for _, tc := range []struct {
		name     string
		fault    func(s *server, w http.ResponseWriter, r *http.Request) bool
		lie      func(d *v1.Descriptor)
		requests int
		what     string // of a MismatchError
		text     string
	}{
		{name: "always_500", fault: func(_ *server, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(500)
			return true
		}, requests: maxTries, text: "gave up after 5 tries"},
		{name: "cut_without_progress", fault: func(s *server, w http.ResponseWriter, r *http.Request) bool {
			s.inner.ServeHTTP(&cut{w, 1000}, r)
			return true
		}, requests: maxTries, text: "gave up after 5 tries"},
		{name: "404", fault: func(_ *server, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(404)
			return true
		}, requests: 1, text: "not found"},
		{name: "long_wait", fault: func(_ *server, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
			return true
		}, requests: 1, text: "asks to wait 1h0m0s"},
		{name: "wrong_bytes", fault: func(s *server, w http.ResponseWriter, r *http.Request) bool {
			s.inner.ServeHTTP(edit{w, func(p []byte) { p[len(p)/2] ^= 1 }}, r)
			return true
		}, requests: 1, what: "digest"},
		{name: "size_too_large", lie: func(d *v1.Descriptor) { d.Size++ }, requests: 1, what: "size"},
		{name: "size_too_small", lie: func(d *v1.Descriptor) { d.Size-- }, requests: 1, what: "size"},
		{name: "size_too_large_chunked", lie: func(d *v1.Descriptor) { d.Size++ }, fault: func(s *server, w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(416)
				return true
			}
			w.Write(stored)
			w.(http.Flusher).Flush()
			return true
		}, requests: 2, what: "size"},
		{name: "size_too_small_chunked", lie: func(d *v1.Descriptor) { d.Size-- }, fault: func(s *server, w http.ResponseWriter, r *http.Request) bool {
			w.Write(stored)
			w.(http.Flusher).Flush()
			return true
		}, requests: 1, what: "size"},
		{name: "wrong_range", fault: func(s *server, w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				s.inner.ServeHTTP(&cut{w, 2 << 20}, r)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", len(stored)-1, len(stored)-1, len(stored)))
			w.WriteHeader(http.StatusPartialContent)
			return true
		}, requests: 2, text: "Content-Range"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			c := content{}
			d := c.image([][]byte{stored}, [][]byte{stored}, func(m *v1.Manifest, _ *v1.ConfigFile) {
				if m != nil && tc.lie != nil {
					tc.lie(&m.Layers[0])
				}
			})
			ref := s.push(t, c, d, "v1")
			hex := sumOf(stored).Hex
			s.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				return strings.HasSuffix(r.URL.Path, hex) && tc.fault != nil && tc.fault(s, w, r)
			}
			o := testOptions(t)
			_, err := pull(t, ref, o)
			if err == nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), hex) {
				t.Fatalf("got %v, want an error that names the layer, with %q", err, tc.text)
			}
			var mismatch *MismatchError
			if errors.As(err, &mismatch) != (tc.what != "") || mismatch != nil && mismatch.What != tc.what {
				t.Errorf("got %v, want a mismatch of %q", err, tc.what)
			}
			if got := s.count(hex); got != tc.requests {
				t.Errorf("made %d requests, want %d", got, tc.requests)
			}
			kept, err := filepath.Glob(filepath.Join(o.CacheDir, "blobs", "sha256", hex+"*"))
			if err != nil {
				t.Fatal(err)
			}
			resumable := tc.what == "" && len(kept) == 1 && strings.HasSuffix(kept[0], ".partial")
			if len(kept) > 0 && !resumable {
				t.Errorf("kept %v", kept)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	ref := s.push(t, c, c.simple(tarOf(1, 100)), "v1")
	var first, second time.Time
	s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			return false
		}
		if n == 1 {
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		second = time.Now()
		return false
	}
	if _, err := pull(t, ref, testOptions(t)); err != nil {
		t.Fatal(err)
	}
	if waited := second.Sub(first); waited < time.Second {
		t.Errorf("waited %v, want the second that was asked for", waited)
	}
	date := http.Header{"Retry-After": {time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)}}
	if got := retryAfter(date); got < 80*time.Second || got > 90*time.Second {
		t.Errorf("a date in 90 s gave %v", got)
	}
}

// The reader gets bytes while the download goes on.
func TestReadFollowsDownload(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 4<<20)
	ref := s.push(t, c, c.simple(stored), "v1")
	goOn := make(chan struct{})
	s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if strings.HasSuffix(r.URL.Path, sumOf(stored).Hex) {
			w.Header().Set("Content-Length", strconv.Itoa(len(stored)))
			w.Write(stored[:2<<20])
			w.(http.Flusher).Flush()
			<-goOn
			w.Write(stored[2<<20:])
			return true
		}
		return false
	}
	img, err := Resolve(t.Context(), mustNormalize(t, ref), testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := img.Layers[0].Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 1<<20)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(join(head, rest), stored) {
		t.Errorf("got %d bytes, %v", len(head)+len(rest), err)
	}
}

// A pull that was canceled leaves what it has for the next, of any process.
func TestResumeAfterCancel(t *testing.T) {
	t.Parallel()
	stored := tarOf(1, 4<<20)
	for _, damaged := range []bool{false, true} {
		s := newServer(t)
		c := content{}
		ref := s.push(t, c, c.simple(stored), "v1")
		layer := v1.Descriptor{Digest: sumOf(stored)}
		ctx, cancel := context.WithCancel(t.Context())
		s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
			if strings.HasSuffix(r.URL.Path, layer.Digest.Hex) && n == 1 {
				w.Header().Set("Content-Length", strconv.Itoa(len(stored)))
				w.Write(stored[:3<<20])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			}
			return false
		}
		o := testOptions(t)
		img, err := Resolve(ctx, mustNormalize(t, ref), o)
		if err != nil {
			t.Fatal(err)
		}
		partial := filepath.Join(o.CacheDir, "blobs", "sha256", layer.Digest.Hex+".partial")
		go func() {
			defer cancel()
			for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(time.Millisecond) {
				if fi, err := os.Stat(partial); err == nil && fi.Size() == 3<<20 {
					return
				}
			}
		}()
		if err := img.Prefetch(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want Canceled", err)
		}
		requests := 2
		if damaged {
			requests = 3 // the rest, then all of it
			if err := os.WriteFile(partial, make([]byte, 3<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		layers, err := pull(t, ref, o)
		if err != nil || !bytes.Equal(layers[0], stored) {
			t.Fatalf("damaged %v: got %v", damaged, err)
		}
		if got := s.count(layer.Digest.Hex); got != requests {
			t.Errorf("damaged %v: took %d requests, want %d", damaged, got, requests)
		}
		if got, want := s.lastRange(layer), fmt.Sprintf("bytes=%d-%d", 3<<20, len(stored)-1); !damaged && got != want {
			t.Errorf("resumed by %q, want %q", got, want)
		}
	}
}

// When who downloads is canceled, who waits goes on with it.
func TestFetchTakesOver(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 4<<20)
	ref := s.push(t, c, c.simple(stored), "v1")
	begun := make(chan struct{})
	s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if strings.HasSuffix(r.URL.Path, sumOf(stored).Hex) && n == 1 {
			w.Header().Set("Content-Length", strconv.Itoa(len(stored)))
			w.Write(stored[:1<<20])
			w.(http.Flusher).Flush()
			close(begun)
			<-r.Context().Done()
			return true
		}
		return false
	}
	img, err := Resolve(t.Context(), mustNormalize(t, ref), testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	fetched := make(chan error)
	go func() { fetched <- img.Prefetch(ctx, nil) }()
	<-begun
	r, err := img.Layers[0].Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-fetched; !errors.Is(err, context.Canceled) {
		t.Errorf("prefetch: got %v, want Canceled", err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(join(head, rest), stored) {
		t.Errorf("got %d bytes, %v", len(head)+len(rest), err)
	}
}

func TestConcurrentPulls(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	var stored [][]byte
	for i := range 6 {
		stored = append(stored, tarOf(uint64(i), 100<<10))
	}
	ref := s.push(t, c, c.simple(stored...), "v1")
	o := testOptions(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			layers, err := pull(t, ref, o)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range stored {
				if !bytes.Equal(layers[i], stored[i]) {
					t.Errorf("layer %d differs", i)
				}
			}
		})
	}
	wg.Wait()
	for _, data := range stored {
		if got := s.count(sumOf(data).Hex); got != 1 {
			t.Errorf("a layer was downloaded %d times", got)
		}
	}
}

// A blob that rotted on disk is found out when it is read, and goes.
func TestDamagedCache(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 1<<20)
	ref := s.push(t, c, c.simple(stored), "v1")
	o := testOptions(t)
	path := filepath.Join(o.CacheDir, "blobs", "sha256", sumOf(stored).Hex)
	if _, err := pull(t, ref, o); err != nil {
		t.Fatal(err)
	}
	rotten := bytes.Clone(stored)
	rotten[len(rotten)/2] ^= 1
	if err := os.WriteFile(path, rotten, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := pull(t, ref, o)
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || mismatch.What != "digest" || !strings.Contains(api.HintOf(err), "pull again") {
		t.Errorf("got %v, hint %q, want a MismatchError and what to do", err, api.HintOf(err))
	}
	if _, err := pull(t, ref, o); err != nil {
		t.Errorf("again: %v", err)
	}
	// One that was cut off is found out before.
	if err := os.Truncate(path, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(t, ref, o); err != nil {
		t.Errorf("cut off: %v", err)
	}
	// So is a manifest that calls a good blob's size another.
	d := c.image([][]byte{stored}, [][]byte{stored}, func(m *v1.Manifest, _ *v1.ConfigFile) {
		if m != nil {
			m.Layers[0].Size = 17
		}
	})
	_, err = pull(t, s.push(t, c, d, "v2"), o)
	if !errors.As(err, &mismatch) || mismatch.What != "size" || mismatch.Got != fmt.Sprint(len(stored)) {
		t.Errorf("lying size: got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the good blob is gone: %v", err)
	}
}

func TestDiskTooSmall(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 1000)
	d := c.image([][]byte{stored}, [][]byte{stored}, func(m *v1.Manifest, _ *v1.ConfigFile) {
		if m != nil {
			m.Layers[0].Size = 1 << 60
		}
	})
	img, err := Resolve(t.Context(), mustNormalize(t, s.push(t, c, d, "v1")), testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	err = img.Prefetch(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "MiB are free") || api.HintOf(err) == "" {
		t.Errorf("got %v, want how much is free and a hint", err)
	}
	if got := s.count(sumOf(stored).Hex); got != 0 {
		t.Errorf("asked for the blob %d times", got)
	}
}
