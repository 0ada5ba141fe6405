package oci

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"banger/internal/api"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestNormalize(t *testing.T) {
	t.Parallel()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ ref, want, name string }{
		{"alpine", "docker.io/library/alpine:latest", "alpine"},
		{"debian:bookworm", "docker.io/library/debian:bookworm", "debian-bookworm"},
		{"docker://debian:bookworm", "docker.io/library/debian:bookworm", "debian-bookworm"},
		{"docker.io/debian", "docker.io/library/debian:latest", "debian"},
		{"index.docker.io/library/debian", "docker.io/library/debian:latest", "debian"},
		{"owner/image:v1.2", "docker.io/owner/image:v1.2", "image-v1.2"},
		{"ghcr.io/a/b", "ghcr.io/a/b:latest", "b"},
		{"GHCR.io/a/b", "ghcr.io/a/b:latest", "b"},
		{"ghcr.io/a/b:V1_Beta", "ghcr.io/a/b:V1_Beta", "b-v1_beta"},
		{"localhost/x", "localhost/x:latest", "x"},
		{"localhost:5000/x", "localhost:5000/x:latest", "x"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "x"},
		{"localhost", "docker.io/library/localhost:latest", "localhost"},
		{"a__b/c-_d", "", ""},
		{"a__b/c--d", "docker.io/a__b/c--d:latest", "c--d"},
		{"x@" + someDigest, "docker.io/library/x@" + someDigest, "x-0123456789ab"},
		{"x:tag@" + someDigest, "docker.io/library/x@" + someDigest, "x-0123456789ab"},
		{"oci:/srv/images/web", "oci:/srv/images/web", "web"},
		{"oci:web:v1", "oci:" + wd + "/web:v1", "web-v1"},
		{"oci:/srv/web:latest", "oci:/srv/web:latest", "web"},
		{"oci:/srv/Web Dir:docker.io/x:1", "oci:/srv/Web Dir:docker.io/x:1", "web-dir-docker.io-x-1"},
		{"oci:/", "oci:/", "image"},
		{"oci-archive:x.oci:v1", "oci-archive:" + wd + "/x.oci:v1", "x-v1"},
		{"oci-archive:/x.tar.gz", "oci-archive:/x.tar.gz", "x"},
		{"docker-archive:/save.tar", "docker-archive:/save.tar", "save"},
		{"docker-archive:/save.tar:web", "docker-archive:/save.tar:docker.io/library/web:latest", "web"},
		{"docker-archive:/save.tar:ghcr.io/a/b:v1", "docker-archive:/save.tar:ghcr.io/a/b:v1", "b-v1"},
		{"docker-daemon:web:v2", "docker-daemon:docker.io/library/web:v2", "web-v2"},
		{"docker-archive:/save.tar:web@" + someDigest, "", ""},
		{"docker-archive:", "", ""},
		{"docker-daemon:", "", ""},
		{"tar:root.tar.gz", "tar:" + wd + "/root.tar.gz", "root"},
		{"tar:/a/debian-12.5.tar.zst", "tar:/a/debian-12.5.tar.zst", "debian-12.5"},
		{"tar:/a/b:c.tgz", "tar:/a/b:c.tgz", "b-c"},
		{"tar:/a/...tar", "tar:/a/...tar", "image"},
		{"ghcr.io/" + strings.Repeat("a", 80), "ghcr.io/" + strings.Repeat("a", 80) + ":latest", strings.Repeat("a", 63)},

		{"", "", ""},
		{"x:", "", ""},
		{":x", "", ""},
		{"x@", "", ""},
		{"x@sha256:12", "", ""},
		{"x@sha512:" + strings.Repeat("0", 128), "", ""},
		{"Debian", "", ""},
		{"ghcr.io/../x", "", ""},
		{"ghcr.io/a//x", "", ""},
		{"ghcr.io/a/..", "", ""},
		{"ghcr.io/", "", ""},
		{"ghcr.io/a?b", "", ""},
		{"user:pass@ghcr.io/x", "", ""},
		{"https://ghcr.io/x", "", ""},
		{"x y", "", ""},
		{"oci:", "", ""},
		{"oci::tag", "", ""},
		{"tar:", "", ""},
	} {
		got, err := Normalize(tc.ref)
		if tc.want == "" {
			if !errors.Is(err, api.ErrInvalid) {
				t.Errorf("Normalize(%q) = %q, %v, want ErrInvalid", tc.ref, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("Normalize(%q): %v", tc.ref, err)
			continue
		}
		if got.String() != tc.want || got.Name() != tc.name {
			t.Errorf("Normalize(%q) = %q named %q, want %q named %q", tc.ref, got, got.Name(), tc.want, tc.name)
		}
	}
}

func TestNormalizeUnsupported(t *testing.T) {
	t.Parallel()
	for ref, hint := range map[string]string{"-": "banger convert", "docker-archive:-": "banger convert", "containers-storage:x": "skopeo copy"} {
		_, err := Normalize(ref)
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(api.HintOf(err), hint) {
			t.Errorf("Normalize(%q): %v, hint %q, want ErrUnsupported and what to do", ref, err, api.HintOf(err))
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"alpine", "localhost:1/a/b:c", "x@" + someDigest, "oci:a:b", "tar:/x.tar.gz", "docker://a", "-", "oci:..", "tar:/a\x00", "docker-archive:/x:a:b", "docker-daemon:a", "oci-archive:x:y"} {
		f.Add(s)
	}
	valid := regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Normalize(s)
		if err != nil {
			return
		}
		if name := r.Name(); !valid.MatchString(name) {
			t.Errorf("Normalize(%q).Name() = %q", s, name)
		}
		if r.kind != inRegistry && r.kind != inDocker && !filepath.IsAbs(r.path) {
			t.Errorf("Normalize(%q) has path %q", s, r.path)
		}
		again, err := Normalize(r.String())
		if err != nil || again != r {
			t.Errorf("Normalize(%q) = %#v, then %#v, %v", s, r, again, err)
		}
	})
}
