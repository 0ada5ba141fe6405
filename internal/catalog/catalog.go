// Package catalog is the list of published images and kernels: what a name such
// as debian-bookworm means. One catalog is part of the program; the user adds
// others, from files, the web or registries. Start with [Set.Find].
//
// A catalog is JSON:
//
//	{"version": 1,
//	 "entries": [{"name", "distro", "arch", "description", "kernel_ref",
//	              and one of
//	              "bundle": {"url", "sha256", "size"},
//	              "oci": {"ref"},
//	              "apt": {"suite", "packages"}}],
//	 "kernels": [{"name", "arch", "description", "url", "sha256", "size"}]}
//
// Fields that are not known are ignored. What comes from elsewhere is signed with
// minisign, by a key that the user has given, or was taken without a signature by
// the user's word. It is fetched when the user says so and never else: finding a
// name needs no network. A catalog that cannot be trusted or read hides whatever
// comes after it, for a name must not change its meaning because a file is gone.
package catalog

import (
	_ "embed" // catalog.json
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"banger/internal/api"
)

// Version is the version of the format.
const Version = 1

const (
	maxCatalog     = 8 << 20 // bytes
	maxEntries     = 10_000
	maxDescription = 300     // bytes
	maxFile        = 1 << 40 // bytes that a bundle or a kernel may have
)

//go:embed catalog.json
var embedded []byte

// document is a catalog as it is stored.
type document struct {
	Version int                 `json:"version"`
	Entries []api.CatalogEntry  `json:"entries"`
	Kernels []api.CatalogKernel `json:"kernels"`
}

// parse reads a catalog that is at source, and makes its URLs absolute.
func parse(data []byte, name, source string) (doc document, err error) {
	if err := json.Unmarshal(data, &doc); err != nil {
		return doc, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	if doc.Version != Version {
		return doc, api.Hint(fmt.Errorf("%w: version %d, this build reads version %d", api.ErrInvalid, doc.Version, Version),
			"a newer banger may read it")
	}
	if n := len(doc.Entries) + len(doc.Kernels); n > maxEntries {
		return doc, fmt.Errorf("%w: %d entries, the limit is %d", api.ErrInvalid, n, maxEntries)
	}
	seen := map[string]bool{}
	once := func(what, name, arch string) error {
		key := what + " " + name + " " + arch
		if seen[key] {
			return fmt.Errorf("%w: it is there twice", api.ErrInvalid)
		}
		seen[key] = true
		return nil
	}
	for i := range doc.Entries {
		e := &doc.Entries[i]
		e.Catalog, e.Shadowed = name, ""
		if err := errors.Join(checkEntry(e, source), once("image", e.Name, e.Arch)); err != nil {
			return doc, fmt.Errorf("entry %d, %.100q: %w", i+1, e.Name, err)
		}
	}
	for i := range doc.Kernels {
		k := &doc.Kernels[i]
		k.Catalog = name
		err := errors.Join(checkNames(k.Name, k.Arch, k.Description), checkFile(&k.CatalogFile, source), once("kernel", k.Name, k.Arch))
		if err == nil && k.Arch == "" {
			err = fmt.Errorf("%w: its arch is missing", api.ErrInvalid)
		}
		if err != nil {
			return doc, fmt.Errorf("kernel %d, %.100q: %w", i+1, k.Name, err)
		}
	}
	return doc, nil
}

var (
	validArch    = regexp.MustCompile(`^[a-z0-9]{1,20}$`)
	validDistro  = regexp.MustCompile(`^[a-z0-9._-]{0,40}$`) // os-release(5), ID=
	validSuite   = regexp.MustCompile(`^[a-z][a-z0-9.-]{0,40}$`)
	validPackage = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,100}$`) // Debian Policy, 5.6.7
	validSHA256  = regexp.MustCompile(`^[0-9a-f]{64}$`)

	// validRef admits full references to registries: what a short name means is
	// the reader's business, and oci:dir and tar:file are files of this machine.
	validRef = regexp.MustCompile(`^(localhost|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+)(:[0-9]+)?/[a-z0-9._/-]+(:[a-zA-Z0-9_][a-zA-Z0-9._-]*)?(@sha256:[0-9a-f]{64})?$`)
)

func checkEntry(e *api.CatalogEntry, source string) error {
	if err := checkNames(e.Name, e.Arch, e.Description); err != nil {
		return err
	}
	if !validDistro.MatchString(e.Distro) {
		return fmt.Errorf("%w: distro %.100q", api.ErrInvalid, e.Distro)
	}
	if e.KernelRef != "" {
		if err := api.CheckName("kernel", e.KernelRef); err != nil {
			return err
		}
	}
	sources := 0
	var err error
	if e.Bundle != nil {
		sources++
		if err = checkFile(e.Bundle, source); err == nil && e.Arch == "" {
			err = fmt.Errorf("%w: a bundle needs an arch", api.ErrInvalid)
		}
	}
	if e.OCI != nil {
		sources++
		if !validRef.MatchString(e.OCI.Ref) {
			err = fmt.Errorf("%w: oci.ref %.200q: want registry/repository with a tag or a digest", api.ErrInvalid, e.OCI.Ref)
		}
	}
	if e.Apt != nil {
		sources++
		if !validSuite.MatchString(e.Apt.Suite) {
			err = fmt.Errorf("%w: apt.suite %.100q", api.ErrInvalid, e.Apt.Suite)
		}
		for _, p := range e.Apt.Packages {
			if !validPackage.MatchString(p) {
				err = fmt.Errorf("%w: package %.100q", api.ErrInvalid, p)
			}
		}
	}
	if sources != 1 {
		return fmt.Errorf("%w: it has %d of bundle, oci and apt, want one", api.ErrInvalid, sources)
	}
	return err
}

func checkNames(name, arch, description string) error {
	if err := api.CheckName("entry", name); err != nil {
		return err
	}
	if arch != "" && !validArch.MatchString(arch) {
		return fmt.Errorf("%w: arch %.100q", api.ErrInvalid, arch)
	}
	control := strings.ContainsFunc(description, func(r rune) bool { return r < ' ' || r == 0x7f })
	if len(description) > maxDescription || control {
		return fmt.Errorf("%w: the description is not one line of at most %d bytes", api.ErrInvalid, maxDescription)
	}
	return nil
}

// checkFile makes the URL absolute. Only a catalog that is a file of this
// machine may name others.
func checkFile(f *api.CatalogFile, source string) error {
	if !validSHA256.MatchString(f.SHA256) {
		return fmt.Errorf("%w: sha256 %.100q is not 64 lower-case hex digits", api.ErrInvalid, f.SHA256)
	}
	if f.Size <= 0 || f.Size > maxFile {
		return fmt.Errorf("%w: size %d", api.ErrInvalid, f.Size)
	}
	abs, err := absolute(f.URL, source)
	if err != nil {
		return fmt.Errorf("%w: url %.200q: %w", api.ErrInvalid, f.URL, err)
	}
	f.URL = abs
	return nil
}

func absolute(ref, source string) (string, error) {
	if rest, ok := strings.CutPrefix(ref, "oci:"); ok {
		if !validRef.MatchString(rest) {
			return "", errors.New("want oci:registry/repository")
		}
		return ref, nil
	}
	u, err := url.Parse(ref)
	if err != nil || ref == "" {
		return "", errors.Join(errors.New("it is no URL"), err)
	}
	local := filepath.IsAbs(source)
	if !u.IsAbs() {
		base, err := url.Parse(source)
		switch {
		case local:
			base = &url.URL{Scheme: "file", Path: source}
		case err != nil || base.Host == "":
			return "", errors.New("it is relative, and its catalog has no place that it could be relative to")
		}
		u = base.ResolveReference(u)
	}
	if u.Scheme == "file" && local && u.Host == "" && filepath.IsAbs(u.Path) {
		return u.String(), nil
	}
	return u.String(), checkWeb(u)
}

// checkWeb admits https, and http where nobody is in between.
func checkWeb(u *url.URL) error {
	switch {
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("want https://")
	case u.User != nil:
		return errors.New("a URL must not hold a password")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("want https://: plain http is for this machine only")
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// IsName says whether a reference can be a name in a catalog: one without
// anything that only references to registries and files have.
func IsName(ref string) bool { return !strings.ContainsAny(ref, "/:@") && ref != "-" }
