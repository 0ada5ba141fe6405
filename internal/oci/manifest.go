package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

const (
	// maxDocument bounds a manifest, an index and a config, in bytes. Registries
	// need not take manifests above 4 MiB (distribution-spec spec.md).
	maxDocument = 8 << 20

	maxIndexDepth = 4    // of indexes in indexes
	maxManifests  = 1000 // in all the indexes of an image
)

// source is where manifests and blobs come from: a registry or a layout.
type source interface {
	// root returns the document that the reference names.
	root(ctx context.Context) ([]byte, error)
	// document returns the manifest or index of a descriptor, verified.
	document(ctx context.Context, d v1.Descriptor) ([]byte, error)
	// blob returns where the bytes of a config or layer are, without reading them.
	blob(d v1.Descriptor) blob
}

// candidate is one image that a reference may mean.
type candidate struct {
	data     []byte // the manifest, or nil when only desc is known yet
	desc     v1.Descriptor
	platform platform
	known    bool // platform is what the index says
}

// choice is the image that a reference means on one platform.
type choice struct {
	manifest *v1.Manifest
	digest   v1.Hash
	config   *v1.ConfigFile
	platform platform
}

// choose finds the image for a platform. The word of an index is taken for it;
// an image of which no index says the platform is asked itself, by its config.
func choose(ctx context.Context, src source, want platform) (*choice, error) {
	data, err := src.root(ctx)
	if err != nil {
		return nil, err
	}
	l := lister{src: src, want: want}
	if err := l.add(ctx, data, 0); err != nil {
		return nil, err
	}
	// The highest variant that runs is the best; else the first in the index.
	slices.SortStableFunc(l.found, func(a, b candidate) int { return cmp.Compare(b.platform.level, a.platform.level) })
	for _, known := range []bool{true, false} {
		for _, c := range l.found {
			if c.known != known || known && !want.runs(c.platform) {
				continue
			}
			ch, err := load(ctx, src, c, want)
			if err != nil {
				return nil, err
			}
			if known || want.runs(ch.platform) {
				return ch, nil
			}
			l.names = append(l.names, ch.platform.String())
		}
	}
	if len(l.names) == 0 {
		return nil, fmt.Errorf("%w: the index holds no image", api.ErrNotFound)
	}
	slices.Sort(l.names)
	list := strings.Join(slices.Compact(l.names), ", ")
	return nil, api.Hint(fmt.Errorf("image for platform %s: %w; there is %s", want, api.ErrNotFound, list),
		"choose one of them with --platform")
}

// lister flattens nested indexes.
type lister struct {
	src   source
	want  platform
	found []candidate
	names []string // platforms that there are
}

func (l *lister) add(ctx context.Context, data []byte, depth int) error {
	isIndex, err := classify(data)
	if err != nil {
		return err
	}
	if !isIndex {
		digest := sumOf(data)
		l.found = append(l.found, candidate{data: data, desc: v1.Descriptor{Digest: digest, Size: int64(len(data))}})
		return nil
	}
	if depth == maxIndexDepth {
		return fmt.Errorf("%w: more than %d indexes in each other", api.ErrInvalid, maxIndexDepth)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	for _, d := range index.Manifests {
		if isAttestation(d) {
			continue
		}
		p, known := platformOf(d.Platform)
		if known {
			l.names = append(l.names, p.String())
		}
		switch {
		case d.MediaType.IsIndex() && (!known || l.want.runs(p)):
			nested, err := l.src.document(ctx, d)
			if err != nil {
				return err
			}
			if err := l.add(ctx, nested, depth+1); err != nil {
				return err
			}
		case d.MediaType.IsImage() || d.MediaType == "":
			l.found = append(l.found, candidate{desc: d, platform: p, known: known})
		}
		if len(l.found) > maxManifests {
			return fmt.Errorf("%w: more than %d manifests in the index", api.ErrInvalid, maxManifests)
		}
	}
	return nil
}

// isAttestation recognizes what BuildKit stores beside images: provenance and
// SBOMs, as manifests of the platform unknown/unknown.
func isAttestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// classify tells an index from an image manifest by its content: media types in
// headers are often wrong, and a document that is both at once is an attack
// (CVE-2021-41190).
func classify(data []byte) (isIndex bool, err error) {
	var doc struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		ArtifactType  string          `json:"artifactType"`
		Config        *struct {
			MediaType types.MediaType `json:"mediaType"`
		} `json:"config"`
		Layers    json.RawMessage `json:"layers"`
		Manifests json.RawMessage `json:"manifests"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return false, fmt.Errorf("read manifest: %w", err)
	}
	image := doc.Config != nil || doc.Layers != nil
	switch {
	case doc.SchemaVersion == 1 || doc.FSLayers != nil:
		return false, api.Hint(fmt.Errorf("manifest of Docker's schema 1: %w", errors.ErrUnsupported),
			"this format was given up in 2017: build or push the image again with a current tool")
	case doc.Manifests != nil && image:
		return false, fmt.Errorf("%w: a manifest that is an index as well", api.ErrInvalid)
	case doc.Manifests != nil:
		return true, nil
	case doc.Config == nil || !doc.Config.MediaType.IsConfig():
		what := cmp.Or(doc.ArtifactType, string(doc.MediaType), "unknown type")
		if doc.ArtifactType == "" && doc.Config != nil {
			what = cmp.Or(string(doc.Config.MediaType), what)
		}
		return false, fmt.Errorf("%w: this is an artifact (%s), not an image", api.ErrInvalid, what)
	}
	return false, nil
}

// load reads the manifest and the config of a candidate and checks what holds
// for every image.
func load(ctx context.Context, src source, c candidate, want platform) (*choice, error) {
	data := c.data
	if data == nil {
		var err error
		if data, err = src.document(ctx, c.desc); err != nil {
			return nil, err
		}
		if isIndex, err := classify(data); err != nil {
			return nil, err
		} else if isIndex {
			return nil, fmt.Errorf("%w: %s is an index where its parent says manifest", api.ErrInvalid, c.desc.Digest)
		}
	}
	ch := &choice{manifest: new(v1.Manifest), config: new(v1.ConfigFile), digest: c.desc.Digest, platform: c.platform}
	if err := json.Unmarshal(data, ch.manifest); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if size := ch.manifest.Config.Size; size < 0 {
		return nil, fmt.Errorf("%w: config of %d bytes", api.ErrInvalid, size)
	}
	config, err := readDocument(ctx, src.blob(ch.manifest.Config), ch.manifest.Config)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if err := json.Unmarshal(config, ch.config); err != nil {
		return nil, fmt.Errorf("read config %s: %w", ch.manifest.Config.Digest, err)
	}
	if !c.known {
		ch.platform = want // an image that says nothing, as one from scratch may
		if p, ok := platformOf(ch.config.Platform()); ok {
			ch.platform = p
		}
	}
	if layers, ids := len(ch.manifest.Layers), len(ch.config.RootFS.DiffIDs); layers != ids {
		return nil, fmt.Errorf("%w: the manifest has %d layers, the config %d diff_ids", api.ErrInvalid, layers, ids)
	}
	for _, d := range ch.manifest.Layers {
		switch {
		case d.Digest.Algorithm != "sha256":
			return nil, fmt.Errorf("layer %s: digests by %s: %w", d.Digest, d.Digest.Algorithm, errors.ErrUnsupported)
		case d.Size < 0:
			return nil, fmt.Errorf("layer %s: %w: size %d", d.Digest, api.ErrInvalid, d.Size)
		case strings.HasSuffix(string(d.MediaType), "+encrypted"):
			return nil, fmt.Errorf("layer %s: encrypted layers: %w", d.Digest, errors.ErrUnsupported)
		}
	}
	return ch, nil
}
