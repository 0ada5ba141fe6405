package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// partsServer is a registry with one layer of 16 parts of 64 KiB and a bit, and
// options that fetch it so.
func partsServer(t *testing.T) (s *server, ref string, stored []byte, layer v1.Descriptor, o Options) {
	t.Helper()
	s = newServer(t)
	c := content{}
	stored = tarOf(1, 1<<20)
	ref = s.push(t, c, c.simple(stored), "v1")
	o = testOptions(t)
	o.partSize = 64 << 10
	return s, ref, stored, v1.Descriptor{Digest: sumOf(stored)}, o
}

func TestPartsComeAtOnce(t *testing.T) {
	t.Parallel()
	s, ref, stored, layer, o := partsServer(t)
	var atOnce, sent atomic.Int64
	all := make(chan struct{})
	open := sync.OnceFunc(func() { close(all) })
	s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.Hex) {
			return false
		}
		if n > 1 { // the first shows that we know ranges
			if atOnce.Add(1) == DefaultParallel {
				open()
			}
			defer atOnce.Add(-1)
			select {
			case <-all:
			case <-time.After(5 * time.Second):
				t.Errorf("%d connections at once, want %d", atOnce.Load(), DefaultParallel)
				open()
			}
		}
		s.inner.ServeHTTP(countBytes{w, &sent}, r)
		return true
	}
	layers, err := pull(t, ref, o)
	if err != nil || !bytes.Equal(layers[0], stored) {
		t.Fatalf("got %v", err)
	}
	if got, want := s.count(layer.Digest.Hex), len(plan(int64(len(stored)), o.partSize)); got != want {
		t.Errorf("made %d requests, want %d: one for each part", got, want)
	}
	if got := sent.Load(); got != int64(len(stored)) {
		t.Errorf("got %d bytes sent, want %d: each once", got, len(stored))
	}
	kept, err := os.ReadFile(filepath.Join(o.CacheDir, "blobs", "sha256", layer.Digest.Hex))
	if err != nil || !bytes.Equal(kept, stored) {
		t.Errorf("cached: %d bytes, %v; want the %d of the layer", len(kept), err, len(stored))
	}
}

// countBytes adds up what is sent.
type countBytes struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c countBytes) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// Whatever a server makes of ranges, the layer arrives.
func TestPartsFallBack(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		fault    func(s *server, w http.ResponseWriter, r *http.Request, n int) bool
		requests int // 0: not told
		warns    string
	}{
		{"no_ranges", func(_ *server, _ http.ResponseWriter, r *http.Request, _ int) bool {
			r.Header.Del("Range")
			return false
		}, 1, ""},
		{"refuses_ranges", func(_ *server, w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusNotImplemented)
				return true
			}
			return false
		}, 2, ""},
		{"refuses_ranges_by_416", func(_ *server, w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return true
			}
			return false
		}, 2, ""},
		{"no_ranges_and_cut", func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			r.Header.Del("Range")
			if n == 1 {
				s.inner.ServeHTTP(&cut{w, 500_000}, r)
			}
			return n == 1
		}, 2, "trying again"},
		{"ranges_longer_than_asked", func(_ *server, _ http.ResponseWriter, r *http.Request, _ int) bool {
			from, _, _ := strings.Cut(r.Header.Get("Range"), "-")
			r.Header.Set("Range", from+"-1050111")
			return false
		}, 0, ""},
		{"ranges_shorter_than_asked", func(_ *server, _ http.ResponseWriter, r *http.Request, _ int) bool {
			var from, to int64
			fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, min(to, from+40_000)))
			return false
		}, 0, ""},
		{"every_third_breaks", func(s *server, w http.ResponseWriter, r *http.Request, n int) bool {
			if n%3 == 0 {
				s.inner.ServeHTTP(&cut{w, 10_000}, r)
			}
			return n%3 == 0
		}, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, ref, stored, layer, o := partsServer(t)
			s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
				return strings.HasSuffix(r.URL.Path, layer.Digest.Hex) && tc.fault(s, w, r, n)
			}
			var warnings warned
			o.Progress = warnings.progress
			layers, err := pull(t, ref, o)
			if err != nil || !bytes.Equal(layers[0], stored) {
				t.Fatalf("got %v", err)
			}
			if got := s.count(layer.Digest.Hex); tc.requests > 0 && got != tc.requests {
				t.Errorf("took %d requests, want %d", got, tc.requests)
			}
			if all := warnings.String(); !strings.Contains(all, tc.warns) {
				t.Errorf("warnings %q, want %q", all, tc.warns)
			}
		})
	}
}

// What is wrong for good ends the download of all parts, and nothing of it is
// taken for the blob.
func TestPartsGiveUp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		lie   int64 // about the size
		fault func(s *server, w http.ResponseWriter, r *http.Request) bool
		what  string // of a MismatchError
		text  string
	}{
		{"wrong_bytes", 0, func(s *server, w http.ResponseWriter, r *http.Request) bool {
			s.inner.ServeHTTP(edit{w, func(p []byte) { p[len(p)/2] ^= 1 }}, r)
			return true
		}, "digest", ""},
		{"one_part_wrong", 0, func(s *server, w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.Header.Get("Range"), "bytes=262144-") {
				s.inner.ServeHTTP(edit{w, func(p []byte) { p[0] ^= 1 }}, r)
				return true
			}
			return false
		}, "digest", ""},
		{"size_too_large", 1, nil, "size", ""},
		{"size_too_small", -1, nil, "size", ""},
		{"always_500", 0, func(_ *server, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(500)
			return true
		}, "", "gave up after 5 tries"},
		{"one_part_missing", 0, func(_ *server, w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.Header.Get("Range"), "bytes=262144-") {
				w.WriteHeader(404)
				return true
			}
			return false
		}, "", "not found"},
		{"one_part_breaks", 0, func(s *server, w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.Header.Get("Range"), "bytes=2621") {
				s.inner.ServeHTTP(&cut{w, 0}, r)
				return true
			}
			return false
		}, "", "gave up after 5 tries"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			c := content{}
			stored := tarOf(1, 1<<20)
			d := c.image([][]byte{stored}, [][]byte{stored}, func(m *v1.Manifest, _ *v1.ConfigFile) {
				if m != nil {
					m.Layers[0].Size += tc.lie
				}
			})
			ref := s.push(t, c, d, "v1")
			hex := sumOf(stored).Hex
			s.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				return strings.HasSuffix(r.URL.Path, hex) && tc.fault != nil && tc.fault(s, w, r)
			}
			o := testOptions(t)
			o.partSize = 64 << 10
			_, err := pull(t, ref, o)
			if err == nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), hex) {
				t.Fatalf("got %v, want an error that names the layer, with %q", err, tc.text)
			}
			var mismatch *MismatchError
			if errors.As(err, &mismatch) != (tc.what != "") || mismatch != nil && mismatch.What != tc.what {
				t.Errorf("got %v, want a mismatch of %q", err, tc.what)
			}
			kept, err := filepath.Glob(filepath.Join(o.CacheDir, "blobs", "sha256", hex+"*"))
			if err != nil {
				t.Fatal(err)
			}
			if len(kept) > 0 && (tc.what != "" || !strings.HasSuffix(kept[0], partialSuffix)) {
				t.Errorf("kept %v", kept)
			}
		})
	}
}

// A server that serves one connection at a time, and not the first one: that is
// no reason to give up, nor to go on asking for more.
func TestPartsOneAtATime(t *testing.T) {
	t.Parallel()
	s, ref, stored, layer, o := partsServer(t)
	var mu sync.Mutex
	var refused atomic.Int32
	helping := make(chan struct{})
	s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.Hex) {
			return false
		}
		if n == 1 {
			s.inner.ServeHTTP(&waitAfter{w, 1000, helping}, r)
			return true
		}
		if !mu.TryLock() {
			refused.Add(1)
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		defer mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		if n == 2 {
			close(helping)
			time.Sleep(500 * time.Millisecond) // many times what the first has patience for
		}
		s.inner.ServeHTTP(w, r)
		return true
	}
	layers, err := pull(t, ref, o)
	if err != nil || !bytes.Equal(layers[0], stored) {
		t.Fatalf("got %v", err)
	}
	if got := refused.Load(); got > 12 {
		t.Errorf("%d requests were refused: it does not learn", got)
	}
}

// waitAfter sends n bytes and then waits.
type waitAfter struct {
	http.ResponseWriter
	n  int
	on chan struct{}
}

func (w *waitAfter) Write(p []byte) (int, error) {
	if w.n > 0 && len(p) > w.n {
		w.ResponseWriter.Write(p[:w.n])
		w.ResponseWriter.(http.Flusher).Flush()
		<-w.on
		m, err := w.ResponseWriter.Write(p[w.n:])
		m, w.n = m+w.n, 0
		return m, err
	}
	return w.ResponseWriter.Write(p)
}

// Readers have what is there from the start on, although the end is not.
func TestPartsAreFollowed(t *testing.T) {
	t.Parallel()
	s, ref, stored, layer, o := partsServer(t)
	last := fmt.Sprintf("bytes=%d-", 10*o.partSize)
	goOn := make(chan struct{})
	s.fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.HasSuffix(r.URL.Path, layer.Digest.Hex) && strings.HasPrefix(r.Header.Get("Range"), last) {
			<-goOn
		}
		return false
	}
	img, err := Resolve(t.Context(), mustNormalize(t, ref), o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := img.Layers[0].Open(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 8*o.partSize)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(join(head, rest), stored) {
		t.Errorf("got %d bytes, %v", len(head)+len(rest), err)
	}
}

// A canceled pull leaves its parts, also those behind a hole, and a record of
// them. A record that lies costs a download and nothing else.
func TestPartsResume(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, partial string, o Options, size int64)
		fresh  bool // nothing is kept
	}{
		{"kept", func(*testing.T, string, Options, int64) {}, false},
		{"kept_and_no_ranges", func(*testing.T, string, Options, int64) {}, false},
		{"bytes_damaged", func(t *testing.T, partial string, _ Options, _ int64) {
			writeAt(t, partial, 100, []byte("not what it was"))
		}, true},
		{"record_says_all", func(t *testing.T, partial string, o Options, size int64) {
			parts := plan(size, o.partSize)
			for i := range parts {
				parts[i].done = parts[i].end - parts[i].start
			}
			writeAt(t, partial, size, record(parts))
		}, true},
		{"record_cut", func(t *testing.T, partial string, _ Options, size int64) {
			if err := os.Truncate(partial, size+20); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"other_part_size", func(t *testing.T, partial string, _ Options, size int64) {
			writeAt(t, partial, size+int64(len(recordMark)), []byte{0, 0, 0, 0, 0, 0, 1, 0})
		}, true},
		{"numbers_too_large", func(t *testing.T, partial string, _ Options, size int64) {
			writeAt(t, partial, size+int64(len(recordMark))+8, bytes.Repeat([]byte{0xff}, 8*17))
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, ref, stored, layer, o := partsServer(t)
			size := int64(len(stored))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var sent atomic.Int64
			var held atomic.Bool
			hole := fmt.Sprintf("bytes=%d-", 2*o.partSize)
			s.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if !strings.HasSuffix(r.URL.Path, layer.Digest.Hex) {
					return false
				}
				if strings.HasPrefix(r.Header.Get("Range"), hole) && held.CompareAndSwap(false, true) {
					<-r.Context().Done()
					return true
				}
				if tc.name == "kept_and_no_ranges" && ctx.Err() != nil {
					r.Header.Del("Range")
				}
				s.inner.ServeHTTP(countBytes{w, &sent}, r)
				return true
			}
			img, err := Resolve(ctx, mustNormalize(t, ref), o)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer cancel()
				for start := time.Now(); time.Since(start) < 10*time.Second && sent.Load() < size-o.partSize; {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(20 * time.Millisecond)
			}()
			if err := img.Prefetch(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want Canceled", err)
			}
			tc.damage(t, filepath.Join(o.CacheDir, "blobs", "sha256", layer.Digest.Hex+partialSuffix), o, size)
			sent.Store(0)
			var warnings warned
			o.Progress = warnings.progress
			layers, err := pull(t, ref, o)
			if err != nil || !bytes.Equal(layers[0], stored) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(warnings.String(), "starting over") && !tc.fresh {
				t.Errorf("warnings %q", warnings.String())
			}
			if tc.name == "kept_and_no_ranges" {
				return
			}
			if got := sent.Load(); (got >= size) != tc.fresh || !tc.fresh && got != o.partSize {
				t.Errorf("%d bytes came again; a part has %d, all %d", got, o.partSize, size)
			}
		})
	}
}

func writeAt(t *testing.T, path string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}

// Whoever downloads is killed again and again, at any moment, while another
// process waits for the same blob. What they leave adds up to the right bytes.
func TestPartsOfKilled(t *testing.T) {
	t.Parallel()
	for _, partSize := range []int64{64 << 10, defaultPartSize} {
		t.Run(fmt.Sprint(partSize), func(t *testing.T) {
			t.Parallel()
			s, ref, stored, layer, o := partsServer(t)
			o.partSize = partSize
			s.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if strings.HasSuffix(r.URL.Path, layer.Digest.Hex) {
					s.inner.ServeHTTP(&slow{w, 2 << 20}, r)
					return true
				}
				return false
			}
			first := childPull(t, ref, o)
			for begun := time.Now(); s.count(layer.Digest.Hex) == 0; time.Sleep(time.Millisecond) {
				if time.Since(begun) > 20*time.Second {
					t.Fatal("the child does not download")
				}
			}
			pulled := make(chan error, 1)
			var got [][]byte
			go func() {
				var err error
				got, err = pull(t, ref, o)
				pulled <- err
			}()
			for i := range 3 {
				time.Sleep(time.Duration(20+17*i) * time.Millisecond)
				if err := first.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				first.Wait() // it was killed
				first = childPull(t, ref, o)
			}
			if err := <-pulled; err != nil || !bytes.Equal(got[0], stored) {
				t.Fatalf("who waited: got %v", err)
			}
			if err := first.Wait(); err != nil {
				t.Errorf("last child: %v", err)
			}
			kept, err := os.ReadFile(filepath.Join(o.CacheDir, "blobs", "sha256", layer.Digest.Hex))
			if err != nil || !bytes.Equal(kept, stored) {
				t.Errorf("cached: %d bytes, %v", len(kept), err)
			}
		})
	}
}

// childCommand is a process that pulls.
func childCommand(t *testing.T, ref string, o Options) *exec.Cmd {
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+ref, childCache+"="+o.CacheDir, fmt.Sprint(childParts, "=", o.partSize))
	return child
}

// childPull starts a process that pulls.
func childPull(t *testing.T, ref string, o Options) *exec.Cmd {
	t.Helper()
	child := childCommand(t, ref, o)
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	return child
}

// slow sends so many bytes in a second.
type slow struct {
	http.ResponseWriter
	rate int
}

func (s *slow) Write(p []byte) (n int, err error) {
	const tick = 5 * time.Millisecond
	for step := s.rate / int(time.Second/tick); len(p) > 0 && err == nil; {
		time.Sleep(tick)
		var m int
		m, err = s.ResponseWriter.Write(p[:min(step, len(p))])
		s.ResponseWriter.(http.Flusher).Flush()
		n, p = n+m, p[m:]
	}
	return n, err
}
