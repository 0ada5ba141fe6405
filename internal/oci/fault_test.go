package oci

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

func TestTemporary(t *testing.T) {
	t.Parallel()
	get := func(err error) error { return &url.Error{Op: "Get", URL: "https://x/", Err: err} }
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{&statusError{code: 429}, true},
		{&statusError{code: 503}, true},
		{&statusError{code: 501}, false},
		{&statusError{code: 404}, false},
		{get(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), true},
		{get(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), false},
		{brokenBody{get(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})}, true},
		{get(io.ErrUnexpectedEOF), true},
		{get(fmt.Errorf("x: %w", errStalled)), true},
		{get(&net.DNSError{IsNotFound: true}), false},
		{get(&net.DNSError{IsTimeout: true}), true},
		{get(&tls.CertificateVerificationError{}), false},
		{get(errRefused), false},
		{get(context.Canceled), false},
		{&MismatchError{}, false},
		{fmt.Errorf("write: %w", &fs.PathError{Op: "write", Err: syscall.ENOSPC}), false},
	} {
		if got := temporary(tc.err); got != tc.want {
			t.Errorf("temporary(%v) = %v, want %v", tc.err, got, tc.want)
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
