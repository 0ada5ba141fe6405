package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"banger/internal/oci"
)

// Whatever arrives, is inflated or is written first, the bytes are the same.
func TestConvertIsDeterministic(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(dawdling(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	t.Cleanup(server.Close)
	at := strings.TrimPrefix(server.URL, "http://") + "/test/image:latest"
	push(t, at)
	ref, err := oci.Normalize(at)
	if err != nil {
		t.Fatal(err)
	}

	cache := t.TempDir()
	var want [sha256.Size]byte
	for i, run := range []struct {
		cache     string // "": a new one, which is filled slowly
		readAhead int64
		sync      bool
	}{
		{"", 64 << 20, false}, {"", 1, true}, {"", 1 << 20, true}, {cache, 64 << 20, true}, {cache, 64 << 20, false}, {cache, 1, false},
	} {
		if run.cache == "" {
			run.cache = t.TempDir()
		}
		src, err := oci.Resolve(t.Context(), ref, oci.Options{CacheDir: run.cache, ReadAhead: run.readAhead})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "disk.ext4")
		if _, err := ConvertFile(t.Context(), src, path, Options{NoGuestFiles: true, Sync: run.sync, SizeBytes: 64 << 20}, nil); err != nil {
			t.Fatal(err)
		}
		disk, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(disk); i == 0 {
			want = got
		} else if got != want {
			t.Errorf("run %d, %+v: got other bytes", i, run)
		}
	}
}

// push pushes an image of five layers, each of which replaces files of those
// below.
func push(t *testing.T, at string) {
	t.Helper()
	img := empty.Image
	for l := range uint64(5) {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			random := rand.New(rand.NewPCG(l, 0))
			for range 100 {
				data := make([]byte, random.IntN(50_000))
				for i := range data {
					data[i] = byte(random.IntN(20))
				}
				name := fmt.Sprintf("dir%d/file%d", random.IntN(5), random.IntN(50))
				if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
					return nil, err
				}
				if _, err := w.Write(data); err != nil {
					return nil, err
				}
			}
			return io.NopCloser(&b), w.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.ConfigFile(img, configFor(t, img))
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.ParseReference(at)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
}

// configFor names the platform, as every image should.
func configFor(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	return config
}

// dawdling delays every piece of an answer by up to 2 ms.
func dawdling(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&slowWriter{w}, r) })
}

type slowWriter struct{ http.ResponseWriter }

func (s *slowWriter) Write(p []byte) (n int, err error) {
	for piece := range slices.Chunk(p, 10_000) {
		time.Sleep(rand.N(2 * time.Millisecond))
		m, err := s.ResponseWriter.Write(piece)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// What has been written is given to the disk in spans, and all of it that follows
// on what was before; the rest is left to the fsync.
func TestWriteback(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &writeback{File: f, spans: make(chan span, 1)}
	const mib = 1 << 20
	write := func(from, to int64) {
		for off := from; off < to; off += mib {
			if n, err := w.WriteAt(bytes.Repeat([]byte{byte(off / mib)}, mib), off); n != mib || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	write(0, 7*mib)
	write(100*mib, 109*mib) // from another place on
	write(109*mib, 130*mib) // while nobody takes spans
	if got, want := <-w.spans, (span{100 * mib, 108 * mib}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	write(130*mib, 131*mib)
	if got, want := <-w.spans, (span{108 * mib, 131 * mib}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, 101*mib); err != nil || b[0] != 101 {
		t.Errorf("read back %d, %v", b[0], err)
	}
	w = newWriteback(f)
	write(200*mib, 220*mib)
	w.stop() // does not hang
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
}
