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
