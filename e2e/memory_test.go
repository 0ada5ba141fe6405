package e2e

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// TestMemory converts and pulls an image of 10 GiB and 200,000 files in eight
// layers, gzip and zstd in turn, with 300 MiB, however many processors there are.
func TestMemory(t *testing.T) {
	if os.Getenv("BANGER_LONG") == "" {
		t.Skip("takes minutes and 25 GB of disk: BANGER_LONG=1")
	}
	const limit, layers = 300 << 20, 8
	h := newHost(t)
	h.setenv("GOMAXPROCS", "16")
	dir := filepath.Join(h.home, "layout")
	writeHuge(t, dir, layers, 200_000, 10<<30)

	t.Run("convert", func(t *testing.T) {
		disk := filepath.Join(h.home, "disk.ext4")
		cmd := h.command(t.Context(), "convert", "-q", "oci:"+dir, "-o", disk)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var peak int64
		for running := true; running; {
			peak = max(peak, memory(cmd.Process.Pid))
			select {
			case err := <-ended:
				if running = false; err != nil {
					t.Fatalf("%v\n%s", err, stderr.String())
				}
			case <-time.After(20 * time.Millisecond):
			}
		}
		expectMemory(t, peak, limit)
		tool(t, "e2fsck", "-fn", disk)
		if err := os.Remove(disk); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("pull", func(t *testing.T) {
		daemon := h.command(t.Context(), "daemon")
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- daemon.Wait() }()
		for h.try(t, "daemon", "status").code != 0 {
			time.Sleep(20 * time.Millisecond)
		}
		h.banger(t, "image", "pull", "-q", "--name", "huge", "oci:"+dir)
		expectMemory(t, memory(daemon.Process.Pid), limit)
		h.banger(t, "daemon", "stop")
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// memory returns the most bytes that a process has had resident, 0 when it has
// ended (proc_pid_status(5), VmHWM). What wait4 tells would not do: it counts us,
// whose memory the child had until its exec.
func memory(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	_, _ = fmt.Sscan(peak, &kib) // 0 of one that is ending
	return kib << 10
}

func expectMemory(t *testing.T, got, limit int64) {
	t.Helper()
	t.Logf("%d MiB resident at most", got>>20)
	if got == 0 || got > limit {
		t.Errorf("%d MiB resident, want at most %d", got>>20, limit>>20)
	}
}

// writeHuge writes an OCI layout with an image of so many files and bytes.
func writeHuge(t *testing.T, dir string, layers, files int, size int64) {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	descs, diffIDs := make([]v1.Descriptor, layers), make([]v1.Hash, layers)
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for i := range layers {
		group.Go(func() (err error) {
			descs[i], diffIDs[i], err = writeHugeLayer(blobs, i, files/layers, size/int64(layers))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	put := func(mediaType types.MediaType, v any) v1.Descriptor {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		h.Write(data)
		d := v1.Descriptor{MediaType: mediaType, Size: int64(len(data)), Digest: digestOf(h)}
		if err := os.WriteFile(filepath.Join(blobs, d.Digest.Hex), data, 0o644); err != nil {
			t.Fatal(err)
		}
		return d
	}
	config := put(types.OCIConfigJSON, v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs}})
	manifest := put(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: descs})
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{manifest}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644),
	); err != nil {
		t.Fatal(err)
	}
}

// writeHugeLayer writes one layer, whose files are cut from 4 MiB that compress to
// about a third.
func writeHugeLayer(dir string, number, files int, size int64) (d v1.Descriptor, diffID v1.Hash, err error) {
	random := rand.New(rand.NewPCG(uint64(number), 0))
	var corpus bytes.Buffer
	for corpus.Len() < 4<<20 {
		fmt.Fprintf(&corpus, "line %d of %x in %d\n", random.IntN(1000), random.Uint64(), number)
	}
	f, err := os.CreateTemp(dir, "layer-")
	if err != nil {
		return d, diffID, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stored, plain := sha256.New(), sha256.New()
	var compressor io.WriteCloser
	if d.MediaType = types.OCILayer; number%2 == 0 {
		compressor, err = gzip.NewWriterLevel(io.MultiWriter(f, stored), gzip.BestSpeed)
	} else {
		d.MediaType = types.OCILayerZStd
		compressor, err = zstd.NewWriter(io.MultiWriter(f, stored), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	}
	if err != nil {
		return d, diffID, err
	}
	out := bufio.NewWriterSize(io.MultiWriter(compressor, plain), 1<<20)
	w := tar.NewWriter(out)
	for i := range files {
		data := corpus.Bytes()[random.IntN(corpus.Len()/2):][:size/int64(files)]
		h := &tar.Header{Name: fmt.Sprintf("srv/layer-%d/%03d/a-file-of-many-%06d.dat", number, i/500, i), Mode: 0o644, Size: int64(len(data))}
		if err := w.WriteHeader(h); err != nil {
			return d, diffID, err
		}
		if _, err := w.Write(data); err != nil {
			return d, diffID, err
		}
	}
	if err := errors.Join(w.Close(), out.Flush(), compressor.Close()); err != nil {
		return d, diffID, err
	}
	if d.Size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return d, diffID, err
	}
	d.Digest = digestOf(stored)
	return d, digestOf(plain), os.Rename(f.Name(), filepath.Join(dir, d.Digest.Hex))
}

func digestOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}
