package oci

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

// platform is what a kernel and its processor run. Level is the variant as a
// number (arm64/v8 is 8), each including those below it; an unusual variant is
// kept as text and matches only itself.
type platform struct {
	os, arch string
	level    float64
	variant  string
}

// parsePlatform reads "os/arch[/variant]"; "" is linux on the host's architecture.
func parsePlatform(s string) (platform, error) {
	if s == "" {
		return newPlatform("linux", runtime.GOARCH, ""), nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return platform{}, fmt.Errorf("%w: platform %q is not os/arch[/variant]", api.ErrInvalid, s)
	}
	return newPlatform(parts[0], parts[1], strings.Join(parts[2:], "")), nil
}

func newPlatform(os, arch, variant string) platform {
	p := platform{os: strings.ToLower(os), arch: strings.ToLower(arch), variant: strings.ToLower(variant)}
	switch p.arch {
	case "x86_64", "x86-64":
		p.arch = "amd64"
	case "aarch64":
		p.arch = "arm64"
	case "armhf":
		p.arch = "arm"
	case "armel":
		p.arch, p.variant = "arm", "v6"
	}
	// What an image that names no variant means; GOARM's default is 7 as well.
	base := map[string]string{"amd64": "v1", "arm64": "v8", "arm": "v7"}[p.arch]
	if p.variant == "" {
		p.variant = base
	}
	if n, err := strconv.ParseFloat(strings.TrimPrefix(p.variant, "v"), 64); err == nil {
		p.level, p.variant = n, "v"+strings.TrimPrefix(p.variant, "v")
	}
	if p.variant == base && p.arch != "arm" {
		p.variant = ""
	}
	return p
}

// String returns os/arch, and the variant where it is not the usual one.
func (p platform) String() string {
	s := p.os + "/" + p.arch
	if p.variant != "" {
		s += "/" + p.variant
	}
	return s
}

// runs reports whether a machine of platform p runs an image for q.
func (p platform) runs(q platform) bool {
	if p.os != q.os || p.arch != q.arch {
		return false
	}
	return p.variant == q.variant || p.level > 0 && q.level > 0 && q.level <= p.level
}

// platformOf reads the platform of a descriptor or a config; false when it says
// nothing of use.
func platformOf(p *v1.Platform) (platform, bool) {
	if p == nil || p.OS == "" || p.Architecture == "" {
		return platform{}, false
	}
	return newPlatform(p.OS, p.Architecture, p.Variant), true
}
