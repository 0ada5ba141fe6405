package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

// saved is an image as `docker save` writes it: a manifest.json that names the
// files of configs and layers. It has no manifest, so one is made of it.
// Reference: https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md
type saved struct {
	files *archive
	ref   Ref
	names map[v1.Hash]string // of the files, by digest
}

// savedImage is an image in manifest.json.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (s *saved) root(ctx context.Context) ([]byte, error) {
	data, err := s.files.read(ctx, "manifest.json")
	if err != nil {
		return nil, api.Hint(err, "want what docker save writes; oci-archive:FILE is for OCI layouts, tar:FILE for a root file system")
	}
	var images []savedImage
	if err := json.Unmarshal(data, &images); err != nil {
		return nil, fmt.Errorf("%s: manifest.json: %w", s.files, err)
	}
	img, err := s.pick(images)
	if err != nil {
		return nil, err
	}
	config, err := s.files.read(ctx, img.Config)
	if err != nil {
		return nil, err
	}
	var c v1.ConfigFile
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s.files, img.Config, err)
	}
	if layers, ids := len(img.Layers), len(c.RootFS.DiffIDs); layers != ids {
		return nil, fmt.Errorf("%s: %w: manifest.json has %d layers, the config %d diff_ids", s.files, api.ErrInvalid, layers, ids)
	}
	s.names = map[v1.Hash]string{sumOf(config): img.Config}
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.DockerManifestSchema2,
		Config: v1.Descriptor{MediaType: types.DockerConfigJSON, Digest: sumOf(config), Size: int64(len(config))},
		Layers: []v1.Descriptor{},
	}
	for i, name := range img.Layers {
		file, err := s.files.find(name)
		if err != nil {
			return nil, err
		}
		digest := c.RootFS.DiffIDs[i] // of a layer as it is
		if hex, ok := strings.CutPrefix(path.Clean(name), "blobs/sha256/"); ok {
			digest = v1.Hash{Algorithm: "sha256", Hex: hex} // it may be compressed
		}
		s.names[digest] = name
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types.DockerUncompressedLayer, Digest: digest, Size: file.size})
	}
	return json.Marshal(m)
}

// pick chooses an image by the reference, or the only one.
func (s *saved) pick(images []savedImage) (img savedImage, err error) {
	var tags []string
	for _, img := range images {
		for _, tag := range img.RepoTags {
			if ref, err := parseName(tag); err == nil && ref.named() == s.ref.named() {
				return img, nil
			}
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	list := strings.Join(slices.Compact(tags), ", ")
	switch {
	case s.ref.repository != "":
		return img, api.Hint(fmt.Errorf("image %s in %s: %w", s.ref.named(), s.files, api.ErrNotFound), "there is "+cmp.Or(list, "no name: leave it out"))
	case len(images) == 0:
		return img, fmt.Errorf("%s: %w: it has no image", s.files, api.ErrInvalid)
	case len(images) > 1:
		return img, api.Hint(fmt.Errorf("%w: %s has %d images: %s", api.ErrInvalid, s.files, len(images), list),
			"choose one: docker-archive:FILE:NAME:TAG")
	}
	return images[0], nil
}

func (s *saved) document(_ context.Context, d v1.Descriptor) ([]byte, error) {
	return nil, fmt.Errorf("%s: manifest %s: %w", s.files, d.Digest, api.ErrNotFound) // there are none
}

func (s *saved) blob(d v1.Descriptor) blob { return s.files.blob(s.names[d.Digest]) }

// dockerSocket is where a Docker daemon listens unless $DOCKER_HOST says
// otherwise.
const dockerSocket = "unix:///var/run/docker.sock"

// saveFromDocker has the Docker daemon save an image, and puts its files into the
// cache. Reference: https://docs.docker.com/reference/api/engine/, "Export several
// images".
func saveFromDocker(ctx context.Context, ref Ref, o Options) (*archive, error) {
	host := cmp.Or(o.DockerHost, os.Getenv("DOCKER_HOST"), dockerSocket)
	socket, ok := strings.CutPrefix(host, "unix://")
	if !ok {
		return nil, api.Hint(fmt.Errorf("docker daemon at %s: %w", host, errors.ErrUnsupported),
			"only a local one is asked, by unix://; else: docker save "+ref.named()+" | banger image pull --name NAME docker-archive:-")
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	o.Progress.Say(api.PhaseCopy, "reading "+ref.named()+" from the Docker daemon")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/images/get?names="+url.QueryEscape(ref.named()), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, api.Hint(fmt.Errorf("docker daemon at %s: %w", host, errors.Unwrap(err)),
			"is it running, and are you in the group docker? banger itself needs no Docker: leave out docker-daemon:")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var answer struct{ Message string }
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if json.Unmarshal(text, &answer) != nil {
			answer.Message = resp.Status
		}
		err := fmt.Errorf("docker daemon at %s: %s", host, answer.Message)
		if resp.StatusCode == http.StatusNotFound {
			err = fmt.Errorf("%w: %w", err, api.ErrNotFound)
		}
		return nil, err
	}
	return importArchive(ctx, "docker-daemon:"+ref.named(), resp.Body, o)
}
