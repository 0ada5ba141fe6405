package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// layer writes the entries of one layer.
type layer func(w *tar.Writer) error

// compression is how the layers of an image are stored.
type compression struct {
	mediaType types.MediaType
	writer    func(w io.Writer) (io.WriteCloser, error)
}

var (
	gzipped = compression{types.OCILayer, func(w io.Writer) (io.WriteCloser, error) {
		return gzip.NewWriter(w), nil
	}}
	gzippedFast = compression{types.OCILayer, func(w io.Writer) (io.WriteCloser, error) {
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	}}
	zstandard = compression{types.OCILayerZStd, func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}}
)

// layout is an image in an OCI layout of its own, under the tag "bench".
type layout struct {
	dir      string
	manifest v1.Hash
	blobs    []string // files of the layers, base first
	stored   int64    // bytes of the layers
}

// writeLayout makes the layout dir, which must not exist, as many layers at once
// as there are cores.
func writeLayout(dir string, layers []layer, c compression) (err error) {
	blobs := filepath.Join(dir+".tmp", "blobs", "sha256")
	if err := errors.Join(os.RemoveAll(dir+".tmp"), os.MkdirAll(blobs, 0o755)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir+".tmp")) }()
	descs, diffIDs := make([]v1.Descriptor, len(layers)), make([]v1.Hash, len(layers))
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for i, l := range layers {
		group.Go(func() (err error) {
			descs[i], diffIDs[i], err = writeLayer(blobs, l, c)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	config, err := writeJSON(blobs, types.OCIConfigJSON, v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs},
	})
	if err != nil {
		return err
	}
	manifest, err := writeJSON(blobs, types.OCIManifestSchema1, v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: descs,
	})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "bench"}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{manifest}})
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir+".tmp", "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(dir+".tmp", "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644),
	); err != nil {
		return err
	}
	return os.Rename(dir+".tmp", dir)
}

// writeLayer stores one layer, under its digest.
func writeLayer(dir string, l layer, c compression) (d v1.Descriptor, diffID v1.Hash, err error) {
	f, err := os.CreateTemp(dir, "layer-")
	if err != nil {
		return d, diffID, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stored, plain := sha256.New(), sha256.New()
	compressor, err := c.writer(io.MultiWriter(f, stored))
	if err != nil {
		return d, diffID, err
	}
	out := bufio.NewWriterSize(io.MultiWriter(compressor, plain), 1<<20)
	w := tar.NewWriter(out)
	if err := l(w); err != nil {
		return d, diffID, err
	}
	if err := errors.Join(w.Close(), out.Flush(), compressor.Close()); err != nil {
		return d, diffID, err
	}
	info, err := f.Stat()
	if err != nil {
		return d, diffID, err
	}
	d = v1.Descriptor{MediaType: c.mediaType, Size: info.Size(), Digest: hashOf(stored.Sum(nil))}
	return d, hashOf(plain.Sum(nil)), os.Rename(f.Name(), filepath.Join(dir, d.Digest.Hex))
}

func writeJSON(dir string, t types.MediaType, v any) (v1.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	sum := sha256.Sum256(data)
	d := v1.Descriptor{MediaType: t, Size: int64(len(data)), Digest: hashOf(sum[:])}
	return d, os.WriteFile(filepath.Join(dir, d.Digest.Hex), data, 0o644)
}

func hashOf(sum []byte) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum)} }

// openLayout reads what writeLayout wrote.
func openLayout(dir string) (l layout, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return l, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return l, err
	}
	if len(index.Manifests) != 1 {
		return l, fmt.Errorf("%s: %d manifests, want one", dir, len(index.Manifests))
	}
	l.dir, l.manifest = dir, index.Manifests[0].Digest
	f, err := os.Open(filepath.Join(dir, "blobs", "sha256", l.manifest.Hex))
	if err != nil {
		return l, err
	}
	defer f.Close()
	manifest, err := v1.ParseManifest(f)
	if err != nil {
		return l, err
	}
	for _, d := range manifest.Layers {
		l.blobs = append(l.blobs, filepath.Join(dir, "blobs", "sha256", d.Digest.Hex))
		l.stored += d.Size
	}
	return l, nil
}
