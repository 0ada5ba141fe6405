package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
	"banger/internal/oci"
	"banger/internal/store"
)

// noKernels stages nothing.
type noKernels struct{}

func (noKernels) Stage(context.Context, api.KernelChoice, string, api.Progress) (api.KernelChoice, error) {
	return api.KernelChoice{}, nil
}

// need skips a test without a program, or fails where it must not be missing.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	required := strings.Split(os.Getenv("BANGER_REQUIRE"), ",")
	if slices.Contains(required, program) || slices.Contains(required, "all") {
		t.Fatalf("%s is required and missing", program)
	}
	t.Skipf("needs %s", program)
}

func layerOf(t *testing.T, file string, size int) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	w.Write(bytes.Repeat([]byte(file), size)[:size])
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(buf.Bytes(), types.OCIUncompressedLayer)
}

// 32 images from 8 refs with shared layers, all at once and one of them given up:
// each blob comes once, and each ref gives the same good disk four times.
func TestManyImages(t *testing.T) {
	t.Parallel()
	need(t, "e2fsck")
	var mu sync.Mutex
	asked := map[string]int{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			mu.Lock()
			asked[r.URL.Path]++
			mu.Unlock()
		}
		inner.ServeHTTP(w, r)
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	base, half := layerOf(t, "base", 3<<20), []v1.Layer{layerOf(t, "even", 1<<20), layerOf(t, "odd", 1<<20)}
	for i := range 8 {
		img, err := mutate.AppendLayers(empty.Image, base, half[i%2], layerOf(t, fmt.Sprint("own", i), 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(fmt.Sprintf("%s/i:v%d", host, i))
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
	}

	dir := t.TempDir()
	rows, err := store.Open(t.Context(), filepath.Join(dir, "banger.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	cache := filepath.Join(dir, "cache")
	s := &Store{
		Dir: filepath.Join(dir, "images"), Rows: rows, Kernels: noKernels{},
		Fetch: func() (oci.Options, error) { return oci.Options{CacheDir: cache}, nil },
	}
	var made [32]api.Image
	var pulls sync.WaitGroup
	for i := range made {
		pulls.Go(func() {
			req := api.ImagePull{Ref: fmt.Sprintf("%s/i:v%d", host, i%8), Name: fmt.Sprint("image-", i), NoGuestFiles: true, SizeBytes: 16 << 20}
			ctx := t.Context()
			if i == 13 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				p := func(e api.Event) {
					if e.Phase == api.PhaseConvert {
						cancel()
					}
				}
				if _, err := s.Pull(ctx, req, p); !errors.Is(err, context.Canceled) {
					t.Errorf("given up: got %v", err)
				}
				return
			}
			var err error
			if made[i], err = s.Pull(ctx, req, nil); err != nil {
				t.Errorf("pull %d: %v", i, err)
			}
		})
	}
	pulls.Wait()
	if t.Failed() {
		return
	}
	again := 0
	for _, n := range asked {
		again += n - 1
	}
	if again > oci.DefaultParallel { // what the one that was given up had begun
		t.Errorf("asked for %d blobs again: %v", again, asked)
	}
	if want := 8 + 1 + 2 + 8; len(asked) != want {
		t.Errorf("%d blobs were asked for, want %d", len(asked), want)
	}
	sums := map[string]string{}
	for i, img := range made {
		if i == 13 {
			continue
		}
		disk, err := os.ReadFile(img.RootfsPath)
		if err != nil {
			t.Fatal(err)
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(disk))
		if was, seen := sums[img.Ref]; seen && was != sum {
			t.Errorf("%s gave disk %s, and %s", img.Ref, was, sum)
		} else if !seen {
			sums[img.Ref] = sum
			if out, err := exec.CommandContext(t.Context(), "e2fsck", "-fn", img.RootfsPath).CombinedOutput(); err != nil {
				t.Errorf("%s: e2fsck: %v\n%s", img.Ref, err, out)
			}
		}
	}
	if len(sums) != 8 {
		t.Errorf("%d refs have disks, want 8", len(sums))
	}
	staging, err := filepath.Glob(filepath.Join(s.Dir, "*"+stagingSuffix))
	if err != nil || len(staging) > 0 {
		t.Errorf("left behind: %v, %v", staging, err)
	}
}
