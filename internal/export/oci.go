package export

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"banger/internal/api"
)

// An archive is written in one pass into a file: the layer, whose name is its
// digest, comes first, and the head of the tar before it last.
type archive struct {
	f   io.WriteSeeker
	out *tar.Writer // behind the layer
}

const (
	tarBlock = 512          // bytes
	headSize = 3 * tarBlock // of two directories, and the layer's header
)

// tagAnnotation is what index.json says an image is called (image-spec
// annotations.md).
const tagAnnotation = "org.opencontainers.image.ref.name"

// OCI writes the disk as an image of one layer to f, which is empty: an OCI
// image layout as a tar (image-spec image-layout.md). tag is its name there.
func OCI(ctx context.Context, f io.WriteSeeker, s Source, tag string, p api.Progress) error {
	a := &archive{f: f}
	layer, diffID, err := a.layer(ctx, s, p)
	if err != nil {
		return err
	}
	a.out = tar.NewWriter(f)
	configJSON, err := json.Marshal(config(s.Image, diffID))
	if err != nil {
		return err
	}
	configBlob, err := a.blob(types.OCIConfigJSON, configJSON)
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: configBlob, Layers: []v1.Descriptor{layer}})
	if err != nil {
		return err
	}
	manifestBlob, err := a.blob(types.OCIManifestSchema1, manifest)
	if err != nil {
		return err
	}
	manifestBlob.Annotations = map[string]string{tagAnnotation: tag}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{manifestBlob}})
	if err != nil {
		return err
	}
	return errors.Join(a.file("index.json", index), a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)), a.out.Close())
}

// layer writes the tree as a gzip layer, with room for its header before it.
func (a *archive) layer(ctx context.Context, s Source, p api.Progress) (d v1.Descriptor, diffID v1.Hash, err error) {
	if _, err := a.f.Seek(headSize, io.SeekStart); err != nil {
		return d, diffID, err
	}
	stored, inflated := sha256.New(), sha256.New()
	buf := bufio.NewWriterSize(a.f, 1<<20)
	z := gzip.NewWriter(io.MultiWriter(buf, stored))
	err = Tar(ctx, io.MultiWriter(z, inflated), s, p)
	if err = errors.Join(err, z.Close(), buf.Flush()); err != nil {
		return d, diffID, err
	}
	end, err := a.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return d, diffID, err
	}
	d = v1.Descriptor{MediaType: types.OCILayer, Digest: digest(stored), Size: end - headSize}
	if _, err := a.f.Write(make([]byte, -end&(tarBlock-1))); err != nil {
		return d, diffID, err
	}
	if _, err := a.f.Seek(0, io.SeekStart); err != nil {
		return d, diffID, err
	}
	b, err := head(d)
	if err != nil {
		return d, diffID, err
	}
	if _, err := a.f.Write(b); err != nil {
		return d, diffID, err
	}
	_, err = a.f.Seek(0, io.SeekEnd)
	return d, digest(inflated), err
}

// head is what the tar begins with. Directories that are not in an archive are a
// problem for skopeo when its user is not root.
func head(layer v1.Descriptor) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := errors.Join(
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "blobs/", Mode: 0o755, Format: tar.FormatGNU}),
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "blobs/sha256/", Mode: 0o755, Format: tar.FormatGNU}),
		w.WriteHeader(header(blobPath(layer.Digest), layer.Size)),
	)
	if err == nil && b.Len() != headSize {
		err = fmt.Errorf("header of a layer of %d bytes does not fit", layer.Size)
	}
	return b.Bytes(), err
}

func (a *archive) blob(kind types.MediaType, content []byte) (v1.Descriptor, error) {
	h := sha256.New()
	h.Write(content)
	d := v1.Descriptor{MediaType: kind, Digest: digest(h), Size: int64(len(content))}
	return d, a.file(blobPath(d.Digest), content)
}

func (a *archive) file(name string, content []byte) error {
	if err := a.out.WriteHeader(header(name, int64(len(content)))); err != nil {
		return err
	}
	_, err := a.out.Write(content)
	return err
}

// header is of one block: GNU's form has room for large sizes.
func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, Format: tar.FormatGNU}
}

func digest(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// config describes an image of one layer. The steps by which the image was built
// stay in its history, as steps that made no layer.
func config(img api.Image, diffID v1.Hash) *v1.ConfigFile {
	platform := strings.Split(img.Platform, "/")
	if len(platform) < 2 {
		platform = []string{"linux", runtime.GOARCH}
	}
	created := v1.Time{Time: img.Source.Created.UTC()}
	c := &v1.ConfigFile{
		OS: platform[0], Architecture: platform[1], Author: img.Source.Author, Created: created,
		Config: v1.Config{
			Entrypoint: img.Process.Entrypoint, Cmd: img.Process.Cmd, Env: img.Process.Env, User: img.Process.User,
			WorkingDir: img.Process.WorkingDir, StopSignal: img.Process.StopSignal, Labels: img.Source.Labels,
			ExposedPorts: set(img.Source.ExposedPorts), Volumes: set(img.Source.Volumes),
		},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}},
	}
	if len(platform) > 2 {
		c.Variant = platform[2]
	}
	for _, h := range img.Source.History {
		c.History = append(c.History, v1.History{
			Created: v1.Time{Time: h.Created.UTC()}, CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment, EmptyLayer: true,
		})
	}
	comment := "one layer of all"
	if img.Ref != "" {
		comment = "one layer of all that is in " + img.Ref
	}
	c.History = append(c.History, v1.History{Created: created, CreatedBy: "banger image export", Comment: comment})
	return c
}

func set(list []string) map[string]struct{} {
	if len(list) == 0 {
		return nil
	}
	all := map[string]struct{}{}
	for _, s := range list {
		all[s] = struct{}{}
	}
	return all
}
