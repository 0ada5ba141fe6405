package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

// layout is an OCI image layout (image-spec image-layout.md).
type layout struct {
	files  files
	scheme string // of references to it
	tag    string // "" when the layout has one image only
	digest string // of a manifest, which then is meant; "" to go by the tag
}

// files is where a layout has its files: a directory or an archive. Its text is
// the path.
type files interface {
	fmt.Stringer
	read(ctx context.Context, name string) ([]byte, error) // a small one; api.ErrNotFound
	blob(name string) blob
}

// directory is the files of a layout that is one.
type directory string

func (d directory) String() string { return string(d) }

func (d directory) read(_ context.Context, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(d), name))
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%s: no file %s in it: %w", d, name, api.ErrNotFound)
	}
	return data, err
}

func (d directory) blob(name string) blob { return fileBlob(filepath.Join(string(d), name)) }

// refName is the annotation that holds a tag in index.json
// (image-spec annotations.md).
const refName = "org.opencontainers.image.ref.name"

// root returns what index.json has under the tag, as an index: it may be the
// same image for several platforms.
func (l *layout) root(ctx context.Context) ([]byte, error) {
	if l.digest != "" {
		h, err := v1.NewHash(l.digest)
		if err != nil {
			return nil, err
		}
		return l.document(ctx, v1.Descriptor{Digest: h, Size: -1})
	}
	data, err := l.files.read(ctx, "index.json")
	if errors.Is(err, api.ErrNotFound) {
		return nil, api.Hint(fmt.Errorf("OCI layout in %s: %w", l.files, api.ErrNotFound), "it must have an index.json")
	} else if err != nil {
		return nil, fmt.Errorf("read layout: %w", err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("read layout: %s: %w", filepath.Join(l.files.String(), "index.json"), err)
	}
	var tags []string
	for _, d := range index.Manifests {
		if tag := d.Annotations[refName]; tag != "" {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	list := strings.Join(tags, ", ")
	switch {
	case l.tag != "" && !slices.Contains(tags, l.tag):
		return nil, api.Hint(fmt.Errorf("tag %s in layout %s: %w", l.tag, l.files, api.ErrNotFound),
			"there is "+cmp.Or(list, "no tag: leave it out"))
	case l.tag == "" && len(tags) > 1:
		return nil, api.Hint(fmt.Errorf("%w: layout %s has several images: %s", api.ErrInvalid, l.files, list),
			fmt.Sprintf("choose one: %s:%s:%s", l.scheme, l.files, tags[0]))
	}
	if l.tag != "" {
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Annotations[refName] != l.tag })
	}
	if index.Manifests == nil {
		index.Manifests = []v1.Descriptor{}
	}
	index.SchemaVersion, index.MediaType = 2, types.OCIImageIndex
	return json.Marshal(index)
}

func (l *layout) document(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	return readDocument(ctx, l.blob(d), d)
}

func (l *layout) blob(d v1.Descriptor) blob {
	return l.files.blob(path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex))
}

// fileBlob is a file of the user's that is read where it is.
type fileBlob string

func (b fileBlob) fetch(context.Context, api.Progress) error { return nil }

func (b fileBlob) open(context.Context) (blobReader, error) {
	fi, err := os.Stat(string(b))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", string(b), api.ErrNotFound)
	} else if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() { // opening a fifo would hang
		return nil, fmt.Errorf("%w: %s is not a regular file", api.ErrInvalid, string(b))
	}
	f, err := os.Open(string(b))
	if err != nil {
		return nil, err
	}
	return fileReader{f}, nil
}

type fileReader struct{ *os.File }

func (f fileReader) waited() time.Duration { return 0 }

func (f fileReader) vouched() bool { return false }

func (f fileReader) damaged(err error) error { return fmt.Errorf("%s: %w", f.Name(), err) }
