package oci

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"banger/internal/api"
)

// Ref says where an image is, normalized: equal images by name have equal Refs.
// Make one with [Normalize].
type Ref struct {
	kind       kind
	registry   string // "docker.io", "localhost:5000"
	repository string // "library/debian"
	tag        string // of a registry or a layout; "" when digest is set
	digest     string // "sha256:..."; of a layout only by [ResolveDigest]
	path       string // absolute; of a layout or a tar
}

type kind int

const (
	inRegistry kind = iota
	inLayout        // oci:dir[:tag]
	inTar           // tar:file
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
//	tar:file                                               one flat root file system
//
// Paths become absolute, so that the Ref means the same to a daemon elsewhere.
// As in skopeo, dir ends at the first colon. When a name has a tag and a digest
// the digest counts and the tag is dropped.
func Normalize(ref string) (Ref, error) {
	r, err := parse(ref)
	if err != nil {
		return Ref{}, fmt.Errorf("reference %q: %w", ref, err)
	}
	return r, nil
}

func parse(ref string) (Ref, error) {
	if ref == "-" {
		return Ref{}, api.Hint(fmt.Errorf("reading an image from standard input: %w", errors.ErrUnsupported),
			"save it to a file and use tar:FILE for a root file system, or oci:DIR after `skopeo copy`")
	}
	scheme, rest, _ := strings.Cut(ref, ":")
	switch scheme {
	case "oci":
		dir, tag, _ := strings.Cut(rest, ":")
		path, err := absolute(dir)
		if err == nil && strings.Contains(path, ":") {
			err = fmt.Errorf("%w: the path %s of a layout must not have a colon", api.ErrInvalid, path)
		}
		return Ref{kind: inLayout, path: path, tag: tag}, err
	case "tar":
		path, err := absolute(rest)
		return Ref{kind: inTar, path: path}, err
	case "docker-archive", "oci-archive", "docker-daemon", "containers-storage":
		return Ref{}, api.Hint(fmt.Errorf("images from %s: %w", scheme, errors.ErrUnsupported),
			fmt.Sprintf("copy it first: skopeo copy %s oci:DIR:TAG, then use oci:DIR:TAG", ref))
	case "docker":
		if name, ok := strings.CutPrefix(rest, "//"); ok {
			return parseName(name)
		}
	}
	return parseName(ref)
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
	switch {
	case r.kind == inTar:
		return "tar:" + r.path
	case r.kind == inLayout && r.digest != "":
		return "oci:" + r.path + "@" + r.digest
	case r.kind == inLayout && r.tag == "":
		return "oci:" + r.path
	case r.kind == inLayout:
		return "oci:" + r.path + ":" + r.tag
	case r.digest != "":
		return r.registry + "/" + r.repository + "@" + r.digest
	}
	return r.registry + "/" + r.repository + ":" + r.tag
}

// Name returns a friendly name for the image: "debian-bookworm" for
// docker.io/library/debian:bookworm, "alpine" for alpine:latest, "x-0123456789ab"
// for a digest, "rootfs" for tar:rootfs.tar.gz. It matches
// [a-z0-9][a-z0-9._-]{0,62}.
func (r Ref) Name() string {
	name := filepath.Base(r.repository)
	switch r.kind {
	case inLayout:
		name = filepath.Base(r.path)
	case inTar:
		name = filepath.Base(r.path)
		for _, ext := range []string{".gz", ".zst", ".tgz", ".tzst", ".tar"} {
			name = strings.TrimSuffix(name, ext)
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
