package oci

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"banger/internal/api"
)

// Ref says where an image is, normalized: equal images by name have equal Refs.
// Make one with [Normalize].
type Ref struct {
	kind       kind
	registry   string // "docker.io", "localhost:5000"; of an archive with the repository, "" for its only image
	repository string // "library/debian"
	tag        string // of a registry or a layout; "" when digest is set
	digest     string // "sha256:..."; of a layout only by [ResolveDigest]
	path       string // absolute; of a layout, an archive or a tar
}

type kind int

const (
	inRegistry      kind = iota
	inLayout             // oci:dir[:tag]
	inTar                // tar:file
	inArchive            // oci-archive:file[:tag]
	inDockerArchive      // docker-archive:file[:name]
	inDocker             // docker-daemon:name
)

// dockerHub is the registry that a short name means.
const dockerHub = "docker.io"

// The grammar of distribution-spec spec.md, "Pulling manifests". It also keeps
// ".." and escapes out of the path of a request.
var (
	validRegistry   = regexp.MustCompile(`^([a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]+)?$`)
	validRepository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	validTag        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	validDigest     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// Normalize turns what a user typed into a [Ref], by the names that skopeo and
// podman use:
//
//	debian, ghcr.io/o/i:tag, localhost:5000/i@sha256:...   a registry; docker://debian too
//	oci:dir[:tag]                                          an OCI image layout
//	oci-archive:file[:tag]                                 a tar of one
//	docker-archive:file[:name[:tag]]                       what `docker save` writes
//	docker-daemon:name[:tag]                               an image of the Docker daemon here
//	tar:file                                               one flat root file system
//
// Paths become absolute, so that the Ref means the same to a daemon elsewhere.
// As in skopeo, dir and file end at the first colon. When a name has a tag and a digest
// the digest counts and the tag is dropped.
func Normalize(ref string) (Ref, error) {
	r, err := parse(ref)
	if err != nil {
		return Ref{}, fmt.Errorf("reference %q: %w", ref, err)
	}
	return r, nil
}

func parse(ref string) (Ref, error) {
	if _, ok := OnStdin(ref); ok {
		return Ref{}, api.Hint(fmt.Errorf("reading an image from standard input: %w here", errors.ErrUnsupported),
			"banger image pull and banger convert do; or save it to a file first")
	}
	scheme, rest, _ := strings.Cut(ref, ":")
	switch scheme {
	case "oci", "oci-archive":
		path, tag, err := pathAndName(rest)
		r := Ref{kind: inLayout, path: path, tag: tag}
		if scheme == "oci-archive" {
			r.kind = inArchive
		}
		return r, err
	case "docker-archive":
		path, name, err := pathAndName(rest)
		if err != nil || name == "" {
			return Ref{kind: inDockerArchive, path: path}, err
		}
		r, err := parseName(name)
		if err == nil && r.digest != "" {
			err = fmt.Errorf("%w: images in an archive have no digests: name a tag", api.ErrInvalid)
		}
		r.kind, r.path = inDockerArchive, path
		return r, err
	case "docker-daemon":
		r, err := parseName(rest)
		r.kind = inDocker
		return r, err
	case "tar":
		path, err := absolute(rest)
		return Ref{kind: inTar, path: path}, err
	case "containers-storage":
		return Ref{}, api.Hint(fmt.Errorf("images from %s: %w", scheme, errors.ErrUnsupported),
			fmt.Sprintf("copy it first: skopeo copy %s oci:DIR:TAG, then use oci:DIR:TAG", ref))
	case "docker":
		if name, ok := strings.CutPrefix(rest, "//"); ok {
			return parseName(name)
		}
	}
	return parseName(ref)
}

// OnStdin says whether a reference means standard input, and returns what it
// means when that has been saved to a file: "-" is a tar, "oci-archive:-:tag" an
// archive.
func OnStdin(ref string) (saved func(path string) string, ok bool) {
	scheme, rest, _ := strings.Cut(ref, ":")
	if ref == "-" {
		scheme, rest = "tar", "-"
	}
	file, name, named := strings.Cut(rest, ":")
	if file != "-" || !slices.Contains([]string{"tar", "oci-archive", "docker-archive"}, scheme) {
		return nil, false
	}
	if named {
		name = ":" + name
	}
	return func(path string) string { return scheme + ":" + path + name }, true
}

// pathAndName splits path[:name]. The path becomes absolute.
func pathAndName(rest string) (path, name string, err error) {
	file, name, _ := strings.Cut(rest, ":")
	path, err = absolute(file)
	if err == nil && strings.Contains(path, ":") {
		err = fmt.Errorf("%w: the path %s must not have a colon", api.ErrInvalid, path)
	}
	return path, name, err
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("%w: the path is missing", api.ErrInvalid)
	}
	return filepath.Abs(path)
}

// parseName reads [registry/]repository[:tag][@digest]. The first component is a
// registry when it could be nothing else: it has a dot or a port, or is localhost.
func parseName(ref string) (Ref, error) {
	name, digest, hasDigest := strings.Cut(ref, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
		if !validTag.MatchString(tag) {
			return Ref{}, fmt.Errorf("%w: tag %q", api.ErrInvalid, tag)
		}
	}
	r := Ref{registry: dockerHub, repository: name, tag: tag}
	if host, path, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		r.registry, r.repository = strings.ToLower(host), path
	}
	if r.registry == "index.docker.io" {
		r.registry = dockerHub
	}
	if r.registry == dockerHub && !strings.Contains(r.repository, "/") {
		r.repository = "library/" + r.repository
	}
	if !validRegistry.MatchString(r.registry) {
		return Ref{}, fmt.Errorf("%w: registry %q", api.ErrInvalid, r.registry)
	}
	if !validRepository.MatchString(r.repository) {
		err := fmt.Errorf("%w: repository %q", api.ErrInvalid, r.repository)
		return Ref{}, api.Hint(err, "a name is like debian:bookworm or ghcr.io/owner/image: lower-case letters, digits and single separators")
	}
	switch {
	case hasDigest:
		if !validDigest.MatchString(digest) {
			return Ref{}, fmt.Errorf("%w: digest %q is not sha256: and 64 lower-case hex digits", api.ErrInvalid, digest)
		}
		r.tag, r.digest = "", digest
	case tag == "":
		r.tag = "latest"
	}
	return r, nil
}

// String returns the normalized text: Normalize of it is the same Ref.
func (r Ref) String() string {
	scheme := map[kind]string{
		inTar: "tar:", inLayout: "oci:", inArchive: "oci-archive:", inDockerArchive: "docker-archive:", inDocker: "docker-daemon:",
	}[r.kind]
	switch {
	case r.path == "":
		return scheme + r.named()
	case r.repository != "":
		return scheme + r.path + ":" + r.named()
	case r.digest != "":
		return scheme + r.path + "@" + r.digest
	case r.tag != "":
		return scheme + r.path + ":" + r.tag
	}
	return scheme + r.path
}

// named is the name of the image as one in a registry.
func (r Ref) named() string {
	if r.digest != "" {
		return r.registry + "/" + r.repository + "@" + r.digest
	}
	return r.registry + "/" + r.repository + ":" + r.tag
}

// Name returns a friendly name for the image: "debian-bookworm" for
// docker.io/library/debian:bookworm, "alpine" for alpine:latest, "x-0123456789ab"
// for a digest, "rootfs" for tar:rootfs.tar.gz, "x-v1" for oci-archive:x.oci:v1. It matches
// [a-z0-9][a-z0-9._-]{0,62}.
func (r Ref) Name() string {
	name := filepath.Base(r.repository)
	if r.repository == "" {
		name = filepath.Base(r.path)
		for _, ext := range []string{".gz", ".zst", ".tgz", ".tzst", ".tar", ".oci"} {
			if r.kind != inLayout {
				name = strings.TrimSuffix(name, ext)
			}
		}
	}
	switch {
	case r.digest != "":
		name += "-" + r.digest[len("sha256:"):][:12]
	case r.tag != "" && r.tag != "latest":
		name += "-" + r.tag
	}
	return cmp.Or(api.NameFrom(name), "image")
}
