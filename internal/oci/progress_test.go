package oci

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banger/internal/api"
)

func TestProgressIsBounded(t *testing.T) {
	t.Parallel()
	var calls []api.Event
	m := newMeter(func(e api.Event) { calls = append(calls, e) }, api.PhaseConvert, "x", 1000)
	start := time.Now()
	for range 1000 {
		m.add(1)
	}
	m.end()
	if limit := int(time.Since(start)/progressPeriod) + 2; len(calls) > limit {
		t.Errorf("got %d events, want at most %d", len(calls), limit)
	}
	if last := calls[len(calls)-1]; last.Done != 1000 || last.Total != 1000 || last.Phase != api.PhaseConvert || last.ID != "x" {
		t.Errorf("last event is %+v", last)
	}
}

// counts are the last counts of each phase and ID.
type counts struct {
	mu   sync.Mutex // guards last
	last map[string]api.Event
}

func (c *counts) add(e api.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[string]api.Event{}
	}
	if e.Total > 0 {
		c.last[e.Phase+" "+e.ID] = e
	}
}

// What counts as converted is what was read, not what was inflated ahead of it.
func TestConvertCountsWhatIsRead(t *testing.T) {
	t.Parallel()
	tar := tarOf(1, 16<<20)
	l, _ := oneLayer(t, tar, tar, Options{ReadAhead: 32 << 20})
	var c counts
	r, err := l.Open(t.Context(), c.add)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for start := time.Now(); r.inflated.Load() < int64(len(tar)); time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("nothing runs ahead")
		}
	}
	if _, err := io.CopyN(io.Discard, r, 8<<20); err != nil {
		t.Fatal(err)
	}
	if got := r.progress.done; got < 7<<20 || got > 8<<20 {
		t.Errorf("after 8 of 16 MiB: counted %d bytes of %d", got, l.Size)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if got := c.last["convert "+l.Digest]; got.Done != l.Size || got.Total != l.Size {
		t.Errorf("the last count is %+v, want %d of as many", got, l.Size)
	}
}

// Waiting for the network is told apart from work; from the cache there is none,
// nor anything to fetch.
func TestWaited(t *testing.T) {
	t.Parallel()
	const pause = 500 * time.Millisecond
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 4<<20)
	ref := s.push(t, c, c.simple(stored), "v1")
	s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasSuffix(r.URL.Path, sumOf(stored).Hex) {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(stored)))
		w.Write(stored[:2<<20])
		w.(http.Flusher).Flush()
		time.Sleep(pause)
		w.Write(stored[2<<20:])
		return true
	}
	o := testOptions(t)
	for _, row := range []struct {
		what        string
		cached      int64
		least, most time.Duration
	}{
		{"from the registry", 0, pause / 2, time.Hour},
		{"from the cache", int64(len(stored)), 0, pause},
	} {
		img, err := Resolve(t.Context(), mustNormalize(t, ref), o)
		if err != nil {
			t.Fatal(err)
		}
		l := img.Layers[0]
		if got, err := l.Cached(); err != nil || got != row.cached {
			t.Errorf("%s: %d bytes are cached, %v; want %d", row.what, got, err, row.cached)
		}
		var seen counts
		r, err := l.Open(t.Context(), seen.add)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if got := r.Waited(); got < row.least || got > row.most {
			t.Errorf("%s: waited %v, want %v to %v", row.what, got, row.least, row.most)
		}
		if got := seen.last["fetch "+l.Digest].Done; got != l.Size-row.cached {
			t.Errorf("%s: counted %d bytes fetched, want %d", row.what, got, l.Size-row.cached)
		}
	}
}

// Who waits for another process's download sees how far that has come.
func TestProgressOfAnotherPull(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 4<<20)
	ref := s.push(t, c, c.simple(stored), "v1")
	img, err := Resolve(t.Context(), mustNormalize(t, ref), testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	b := img.Layers[0].blob.(*cachedBlob)
	f, err := b.cache.lock(t.Context(), b.desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		if _, err := f.Write(data); err != nil {
			t.Error(err)
		}
	}
	write(stored[:3<<20])
	var seen counts
	halfway, reach := context.WithCancel(t.Context())
	fetched := make(chan error, 1)
	go func() {
		fetched <- img.Prefetch(t.Context(), func(e api.Event) {
			seen.add(e)
			if e.Done == 3<<20 && e.ID == img.Layers[0].Digest {
				reach()
			}
		})
	}()
	select {
	case <-halfway.Done():
	case <-time.After(10 * time.Second):
		t.Error("nothing is said of the other's download")
	}
	write(stored[3<<20:])
	if err := errors.Join(b.cache.commit(f, b.desc), unlock(f)); err != nil {
		t.Fatal(err)
	}
	if err := <-fetched; err != nil {
		t.Fatal(err)
	}
	if got := seen.last["fetch "+img.Layers[0].Digest]; got.Done != img.Size {
		t.Errorf("the last count is %+v, want all %d bytes", got, img.Size)
	}
}
