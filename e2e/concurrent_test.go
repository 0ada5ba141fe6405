package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
	"banger/internal/client"
)

// heldRegistry is a registry in memory that answers nobody who asks for a blob
// before it is opened, and counts who asks for what.
type heldRegistry struct {
	addr string
	open func()

	mu    sync.Mutex
	asked map[string]int // by repository, and by path of a blob
}

func newHeldRegistry(t *testing.T) *heldRegistry {
	t.Helper()
	opened := make(chan struct{})
	r := &heldRegistry{asked: map[string]int{}, open: sync.OnceFunc(func() { close(opened) })}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		blob := strings.Contains(req.URL.Path, "/blobs/sha256:")
		if req.Method == http.MethodGet {
			repository, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/")
			r.mu.Lock()
			r.asked[repository]++
			if blob {
				r.asked[path.Base(req.URL.Path)]++
			}
			r.mu.Unlock()
		}
		if blob && req.Method == http.MethodGet {
			select {
			case <-opened:
			case <-req.Context().Done():
			}
		}
		store.ServeHTTP(w, req)
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(r.open) // before that, or it would wait
	r.addr = strings.TrimPrefix(srv.URL, "http://")
	return r
}

// count says how often somebody asked for a repository or for a blob.
func (r *heldRegistry) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[what]
}

// puller is a host whose daemon is called without the command line.
type puller struct {
	t   *testing.T
	api *client.Client
}

func newPuller(t *testing.T) *puller {
	h := newHost(t)
	h.banger(t, "image", "list")
	return &puller{t, client.New(filepath.Join(h.home, "run", "banger.sock"))}
}

// pulled is how a pull ended.
type pulled struct {
	img api.Image
	err error
}

// pull pulls in the background.
func (p *puller) pull(ref, name string, progress api.Progress) <-chan pulled {
	ended := make(chan pulled, 1)
	go func() {
		var r pulled
		r.err = p.api.Stream(p.t.Context(), "image.pull", api.ImagePull{Ref: ref, Name: name, NoGuestFiles: true}, progress, &r.img)
		ended <- r
	}()
	return ended
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestPullTogether pulls one ref several times at once: each blob is fetched
// once, and all get the same image.
func TestPullTogether(t *testing.T) {
	p, r := newPuller(t), newHeldRegistry(t)
	img := oneFile(t, "together")
	push(t, r.addr+"/together:1", img)
	first := p.pull(r.addr+"/together:1", "together", nil)
	await(t, "the first pull fetches", func() bool { return r.count("together") > 1 })
	pulls := []<-chan pulled{first}
	for range 3 {
		watching := make(chan struct{})
		once := sync.OnceFunc(func() { close(watching) })
		pulls = append(pulls, p.pull(r.addr+"/together:1", "together", func(api.Event) { once() }))
		select {
		case <-watching:
		case <-time.After(30 * time.Second):
			t.Fatal("a pull of what is being pulled says nothing")
		}
	}
	r.open()
	ids := map[string]bool{}
	for _, ended := range pulls {
		got := <-ended
		if got.err != nil {
			t.Error(got.err)
		}
		ids[got.img.ID] = true
	}
	if len(ids) != 1 {
		t.Errorf("the pulls made the images %q, want one", slices.Collect(maps.Keys(ids)))
	}
	for _, digest := range blobs(t, img) {
		if n := r.count(digest); n != 1 {
			t.Errorf("%s was fetched %d times, want 1", digest, n)
		}
	}
}

// blobs returns the digests of an image's config and layers.
func blobs(t *testing.T, img v1.Image) []string {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	digests := []string{m.Config.Digest.String()}
	for _, l := range m.Layers {
		digests = append(digests, l.Digest.String())
	}
	return digests
}

// TestPullSideBySide pulls two refs at once: each is at work before the other
// has come to anything.
func TestPullSideBySide(t *testing.T) {
	p, r := newPuller(t), newHeldRegistry(t)
	var pulls []<-chan pulled
	for _, name := range []string{"left", "right"} {
		ref := fmt.Sprintf("%s/%s:1", r.addr, name)
		push(t, ref, oneFile(t, name))
		pulls = append(pulls, p.pull(ref, name, nil))
	}
	for _, name := range []string{"left", "right"} {
		await(t, name+" is fetched", func() bool { return r.count(name) > 1 })
	}
	r.open()
	for _, ended := range pulls {
		if got := <-ended; got.err != nil {
			t.Error(got.err)
		}
	}
}

// TestPullNameBusy pulls to a name that another source is being pulled to: it is
// refused while that one is at work, and nobody is asked for anything.
func TestPullNameBusy(t *testing.T) {
	p, r := newPuller(t), newHeldRegistry(t)
	push(t, r.addr+"/first:1", oneFile(t, "first"))
	push(t, r.addr+"/second:1", oneFile(t, "second"))
	first := p.pull(r.addr+"/first:1", "name", nil)
	await(t, "the first is fetched", func() bool { return r.count("first") > 1 })
	before := r.count("second")
	second := <-p.pull(r.addr+"/second:1", "name", nil)
	if !errors.Is(second.err, api.ErrInUse) || !strings.Contains(second.err.Error(), r.addr+"/first:1") {
		t.Errorf("the second pull: got %v, want %v by %s/first:1", second.err, api.ErrInUse, r.addr)
	}
	if n := r.count("second") - before; n != 0 {
		t.Errorf("the registry was asked for the second one %d times, want 0", n)
	}
	r.open()
	if got := <-first; got.err != nil {
		t.Error(got.err)
	}
}

// TestSecondDaemon starts a daemon where there is one: it says which, and that
// one works on.
func TestSecondDaemon(t *testing.T) {
	h := newHost(t)
	h.banger(t, "image", "list")
	pid, err := os.ReadFile(filepath.Join(h.home, "state", "daemon.lock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r := run(t, h.command(ctx, "daemon"))
	if want := "pid " + string(pid); r.code != 1 || !strings.Contains(r.stderr, want) || !strings.Contains(r.stderr, "hint:") {
		t.Errorf("exit status %d, want 1, %q and a hint\n%s", r.code, want, r.stderr)
	}
	var now api.Version
	if err := json.Unmarshal([]byte(h.banger(t, "daemon", "status", "--json")), &now); err != nil || fmt.Sprint(now.PID) != string(pid) {
		t.Errorf("the daemon has pid %d now, want %s (%v)", now.PID, pid, err)
	}
}
