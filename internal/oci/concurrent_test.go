package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fleet is 8 images: a layer that all share and that comes in parts, one that
// every other shares, and one of their own.
type fleet struct {
	s    *server
	refs []string
	tars [][][]byte // by image
	size map[string]int
	sent map[string]*atomic.Int64 // bytes, by digest
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{s: newServer(t), size: map[string]int{}, sent: map[string]*atomic.Int64{}}
	base := tarOf(100, 1<<20)
	for i := range 8 {
		c := content{}
		tars := [][]byte{base, tarOf(uint64(200+i%2), 200<<10), tarOf(uint64(300+i), 200<<10)}
		f.refs = append(f.refs, f.s.push(t, c, c.simple(tars...), fmt.Sprint("v", i)))
		f.tars = append(f.tars, tars)
		for h, data := range c {
			f.size[h.Hex], f.sent[h.Hex] = len(data), new(atomic.Int64)
		}
	}
	f.s.fault = f.serve
	return f
}

func (f *fleet) serve(w http.ResponseWriter, r *http.Request, _ int) bool {
	_, hex, ok := strings.Cut(path.Base(r.URL.Path), "sha256:")
	if !ok || f.sent[hex] == nil || !strings.Contains(r.URL.Path, "/blobs/") {
		return false
	}
	f.s.inner.ServeHTTP(countBytes{&slow{w, 4 << 20}, f.sent[hex]}, r)
	return true
}

// check pulls an image and compares its layers.
func (f *fleet) check(ctx context.Context, t *testing.T, i int, o Options) error {
	img, err := Resolve(ctx, mustNormalize(t, f.refs[i]), o)
	if err != nil {
		return err
	}
	fetched := make(chan error, 1)
	go func() { fetched <- img.Prefetch(ctx, nil) }()
	for k, l := range img.Layers {
		data, err := readLayer(t, l, nil)
		if err != nil {
			<-fetched
			return err
		}
		if !bytes.Equal(data, f.tars[i][k]) {
			t.Errorf("image %d: layer %d differs", i, k)
		}
	}
	return <-fetched
}

// 32 pulls here and 4 in processes of their own, of 8 images that share layers:
// each byte comes once.
func TestManyPulls(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	o := testOptions(t)
	o.partSize = 64 << 10
	var pulls sync.WaitGroup
	for i := range 32 {
		pulls.Go(func() {
			release, err := Hold(o)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(f.check(t.Context(), t, i%8, o), release()); err != nil {
				t.Errorf("pull %d: %v", i, err)
			}
		})
	}
	for i := range 4 {
		child := childPull(t, f.refs[2*i], o)
		pulls.Go(func() {
			if err := child.Wait(); err != nil {
				t.Errorf("child %d: %v", i, err)
			}
		})
	}
	pulls.Wait()
	for hex, n := range f.sent {
		want := f.size[hex]
		if f.s.count("/blobs/sha256:"+hex) == 0 {
			want = 0 // a manifest
		}
		if n.Load() != int64(want) {
			t.Errorf("blob %s of %d bytes: %d were sent", hex, f.size[hex], n.Load())
		}
	}
	if got := f.s.count("/blobs/"); got == 0 {
		t.Error("nothing was counted")
	}
}

// Pulls that each leave nothing in the cache, side by side: what one of them
// uses, no other takes away, and the last one clears it all.
func TestManyPullsWithoutRoom(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	o := testOptions(t)
	o.partSize, o.CacheBytes = 64<<10, 1
	var pulls sync.WaitGroup
	for i := range 8 {
		pulls.Go(func() {
			for k := range 4 {
				release, err := Hold(o)
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(f.check(t.Context(), t, (i+k)%8, o), release()); err != nil {
					t.Errorf("pull %d of %d: %v", k, i, err)
				}
			}
		})
	}
	pulls.Wait()
	u, err := CacheUsage(o)
	if err != nil || u.Blobs+u.Partials > 0 {
		t.Errorf("left: %+v, %v", u, err)
	}
}

// One of 32 pulls is canceled in the middle of a layer that others wait for.
func TestOneOfManyIsCanceled(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	o := testOptions(t)
	canceled, cancel := context.WithCancel(t.Context())
	defer cancel()
	own := sumOf(f.tars[0][2]).Hex
	const begin = 100 << 10
	f.s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 1 && strings.HasSuffix(r.URL.Path, own) {
			w.Header().Set("Content-Length", fmt.Sprint(f.size[own]))
			w.Write(f.tars[0][2][:begin])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}
		return f.serve(w, r, n)
	}
	img, err := Resolve(t.Context(), mustNormalize(t, f.refs[0]), o)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { first <- img.Layers[2].blob.fetch(canceled, nil) }()
	partial := filepath.Join(o.CacheDir, "blobs", "sha256", own+partialSuffix)
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if fi, err := os.Stat(partial); err == nil && fi.Size() == begin {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("the first does not begin")
		}
	}
	time.AfterFunc(200*time.Millisecond, cancel) // the others wait by then
	var pulls sync.WaitGroup
	for i := range 31 {
		pulls.Go(func() {
			if err := f.check(t.Context(), t, i%8, o); err != nil {
				t.Errorf("pull %d: %v", i, err)
			}
		})
	}
	pulls.Wait()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v", err)
	}
	for hex, n := range f.sent {
		if got := f.s.count("/blobs/sha256:" + hex); hex != own && got > 1 || hex == own && got != 2 {
			t.Errorf("blob %s: %d requests, %d bytes", hex, got, n.Load())
		}
	}
	if got, want := f.sent[own].Load(), int64(f.size[own]-begin); got != want {
		t.Errorf("the canceled layer: %d bytes came later, want %d", got, want)
	}
}
