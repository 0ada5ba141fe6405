package oci

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

// An artifact is files in a registry, as blobs of a manifest that is not an
// image's (image-spec manifest.md, "Guidelines for Artifact Usage"). Its files
// have names by the annotation that ORAS made a custom.
const titleAnnotation = "org.opencontainers.image.title"

// emptyConfig is the config of an artifact that has none (image-spec
// manifest.md, "Guidance for an Empty Descriptor").
const (
	emptyConfig                 = "{}"
	typeEmpty   types.MediaType = "application/vnd.oci.empty.v1+json"
)

// Artifact returns those of the named files that an artifact has. ref is a
// name as of an image.
func Artifact(ctx context.Context, ref string, o Options, names ...string) (map[string][]byte, error) {
	release, err := Hold(o)
	if err != nil {
		return nil, fmt.Errorf("artifact %s: %w", ref, err)
	}
	files, err := artifact(ctx, ref, o.withDefaults(), names)
	if err := errors.Join(err, release()); err != nil {
		return nil, fmt.Errorf("artifact %s: %w", ref, err)
	}
	return files, nil
}

func artifact(ctx context.Context, text string, o Options, names []string) (map[string][]byte, error) {
	ref, err := parseName(text)
	if err != nil {
		return nil, err
	}
	r, err := newRegistry(ref, o)
	if err != nil {
		return nil, err
	}
	data, err := r.root(ctx)
	if err != nil {
		return nil, err
	}
	var m v1.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	files := map[string][]byte{}
	for _, d := range m.Layers {
		title := d.Annotations[titleAnnotation]
		if !slices.Contains(names, title) {
			continue
		}
		if files[title] != nil {
			return nil, fmt.Errorf("%w: it has %s twice", api.ErrInvalid, title)
		}
		if files[title], err = readDocument(ctx, r.blob(d), d); err != nil {
			return nil, fmt.Errorf("%s: %w", title, err)
		}
	}
	return files, nil
}

// Push is a file to store in a registry.
type Push struct {
	Ref      string // name as of an image
	Path     string
	Type     string // of the artifact, a media type
	Insecure bool   // plain HTTP to any registry

	Registries map[string]Registry // how registries are reached
}

// Do stores the file as an artifact of its own and returns where it is then, by
// digest. What the registry has already is not sent again.
func (p Push) Do(ctx context.Context, progress api.Progress) (File, error) {
	f, err := p.do(ctx, progress)
	if err != nil {
		return f, fmt.Errorf("push %s to %s: %w", p.Path, p.Ref, err)
	}
	return f, nil
}

func (p Push) do(ctx context.Context, progress api.Progress) (f File, err error) {
	ref, err := parseName(p.Ref)
	if err != nil {
		return f, err
	}
	if ref.digest != "" {
		return f, fmt.Errorf("%w: a digest is made by pushing; name a tag", api.ErrInvalid)
	}
	o := Options{Insecure: p.Insecure, Registries: p.Registries}.withDefaults()
	to, err := newEndpoint(ref.registry, ref.repository, o)
	if err != nil {
		return f, err
	}
	progress.Say(api.PhasePush, "hashing "+p.Path)
	img, err := newPushed(p)
	if err != nil {
		return f, err
	}
	updates := make(chan v1.Update, 1)
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		for u := range updates { // Write closes it
			if u.Error == nil {
				progress.Count(api.PhasePush, "", u.Complete, u.Total)
			}
		}
	}()
	err = remote.Write(to.repo.Tag(ref.tag), img.image, remote.WithTransport(to.wire.hosts),
		remote.WithContext(ctx), remote.WithAuthFromKeychain(keychain{}), remote.WithUserAgent("banger"), remote.WithProgress(updates))
	<-reported
	if err != nil {
		err = redact(err)
		return f, cmp.Or(explainTLS(err, ref.registry), err)
	}
	return File{URL: "oci:" + ref.registry + "/" + ref.repository, Digest: img.file.Digest.String(), Size: img.file.Size}, nil
}

// pushed is an artifact of one file, as go-containerregistry wants images.
type pushed struct {
	path     string
	file     v1.Descriptor
	manifest []byte
	image    v1.Image
}

func newPushed(p Push) (*pushed, error) {
	f, err := os.Open(p.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return nil, err
	}
	hash, err := v1.NewHash(digestText(sum))
	if err != nil {
		return nil, err
	}
	a := &pushed{path: p.Path, file: v1.Descriptor{
		MediaType: typeFile, Digest: hash, Size: size,
		Annotations: map[string]string{titleAnnotation: filepath.Base(p.Path)},
	}}
	a.manifest, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: p.Type,
		Config: v1.Descriptor{MediaType: typeEmpty, Digest: sumOf([]byte(emptyConfig)), Size: int64(len(emptyConfig))},
		Layers: []v1.Descriptor{a.file},
	})
	if err != nil {
		return nil, err
	}
	a.image, err = partial.CompressedToImage(a)
	return a, err
}

// RawConfigFile implements [partial.CompressedImageCore].
func (a *pushed) RawConfigFile() ([]byte, error) { return []byte(emptyConfig), nil }

// MediaType implements [partial.CompressedImageCore].
func (a *pushed) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest implements [partial.CompressedImageCore].
func (a *pushed) RawManifest() ([]byte, error) { return a.manifest, nil }

// LayerByDigest implements [partial.CompressedImageCore].
func (a *pushed) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if h != a.file.Digest && h != sumOf([]byte(emptyConfig)) {
		return nil, errors.New("no such blob")
	}
	return pushedBlob{a, h}, nil
}

// pushedBlob is the file of an artifact, or its config.
type pushedBlob struct {
	artifact *pushed
	digest   v1.Hash
}

// Digest implements [partial.CompressedLayer].
func (b pushedBlob) Digest() (v1.Hash, error) { return b.digest, nil }

// Compressed implements [partial.CompressedLayer].
func (b pushedBlob) Compressed() (io.ReadCloser, error) {
	if b.digest == b.artifact.file.Digest {
		return os.Open(b.artifact.path)
	}
	return io.NopCloser(bytes.NewReader([]byte(emptyConfig))), nil
}

// Size implements [partial.CompressedLayer].
func (b pushedBlob) Size() (int64, error) {
	if b.digest == b.artifact.file.Digest {
		return b.artifact.file.Size, nil
	}
	return int64(len(emptyConfig)), nil
}

// MediaType implements [partial.CompressedLayer].
func (b pushedBlob) MediaType() (types.MediaType, error) {
	if b.digest == b.artifact.file.Digest {
		return typeFile, nil
	}
	return typeEmpty, nil
}
