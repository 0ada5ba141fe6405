package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"banger/internal/api"
)

// content is what a test puts into a layout or a registry, by digest: documents
// are made by hand, so that they can lie.
type content map[v1.Hash][]byte

func (c content) put(mt types.MediaType, data []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mt, Digest: sumOf(data), Size: int64(len(data))}
	c[d.Digest] = data
	return d
}

func (c content) putJSON(mt types.MediaType, v any) v1.Descriptor {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return c.put(mt, data)
}

// image adds an image of layers as they are stored, for linux on the host unless
// edit says otherwise. tars are the uncompressed layers.
func (c content) image(stored, tars [][]byte, edit func(*v1.Manifest, *v1.ConfigFile)) v1.Descriptor {
	config := &v1.ConfigFile{OS: "linux", Architecture: hostPlatform().arch, Config: v1.Config{Cmd: []string{"/bin/sh"}}}
	m := &v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for i := range stored {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, sumOf(tars[i]))
		m.Layers = append(m.Layers, c.put(types.OCILayer, stored[i]))
	}
	if edit != nil {
		edit(nil, config)
	}
	m.Config = c.putJSON(types.OCIConfigJSON, config)
	if edit != nil {
		edit(m, nil)
	}
	return c.putJSON(m.MediaType, m)
}

// simple adds an image of plain layers.
func (c content) simple(layers ...[]byte) v1.Descriptor { return c.image(layers, layers, nil) }

func index(manifests ...v1.Descriptor) v1.IndexManifest {
	return v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: manifests}
}

// layout writes an OCI layout whose index.json is the given one.
func (c content) layout(t *testing.T, index v1.IndexManifest) string {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	for h, data := range c {
		if err := os.WriteFile(filepath.Join(blobs, h.Hex), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func hostPlatform() platform {
	p, err := parsePlatform("")
	if err != nil {
		panic(err)
	}
	return p
}

// tarOf makes a tar with one file of random bytes.
func tarOf(seed uint64, size int) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Name: fmt.Sprint("file", seed), Mode: 0o644, Size: int64(size)})
	w.Write(noise(seed, size))
	w.Close()
	return buf.Bytes()
}

func noise(seed uint64, size int) []byte {
	p := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return p
}

func gz(data []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(data)
	w.Close()
	return buf.Bytes()
}

func zst(data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(data, nil)
}

func mustNormalize(t *testing.T, ref string) Ref {
	t.Helper()
	r, err := Normalize(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readLayer reads a whole layer.
func readLayer(t *testing.T, l Layer, p api.Progress) ([]byte, error) {
	t.Helper()
	r, err := l.Open(t.Context(), p)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if cerr := r.Close(); cerr != nil {
		t.Errorf("close: %v", cerr)
	}
	return data, err
}
