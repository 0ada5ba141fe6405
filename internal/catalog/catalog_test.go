package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"banger/internal/api"
)

var sha = strings.Repeat("0123456789abcdef", 4)

func TestEmbedded(t *testing.T) {
	t.Parallel()
	doc, err := parse(embedded, Embedded, Embedded)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, e := range doc.Entries {
		kinds[e.Name] = e.Kind()
		if e.Catalog != Embedded || e.Description == "" || e.Distro == "" || e.Arch != "" {
			t.Errorf("%+v: want a distro, a description and any arch", e)
		}
		if e.Apt != nil && e.Distro != "debian" {
			t.Errorf("%s: a recipe of %s", e.Name, e.Distro)
		}
	}
	for name, want := range map[string]string{
		"debian-bookworm": "apt", "debian-trixie": "apt",
		"alpine": "oci", "busybox": "oci", "debian": "oci", "fedora": "oci", "ubuntu": "oci",
	} {
		if kinds[name] != want {
			t.Errorf("%s is of kind %q, want %q", name, kinds[name], want)
		}
	}
}

// entry makes a catalog of one entry with these fields.
func entry(fields string) string {
	return fmt.Sprintf(`{"version": 1, "entries": [{"name": "web", "arch": "amd64", %s}]}`, fields)
}

func bundle(url string) string {
	return entry(fmt.Sprintf(`"bundle": {"url": %q, "sha256": %q, "size": 5}`, url, sha))
}

func TestParse(t *testing.T) {
	t.Parallel()
	const web = "https://example.org/lists/catalog.json"
	tests := []struct {
		name, source, text string
		want               string // in the error; "" for none
	}{
		{"empty", web, `{"version": 1}`, ""},
		{"unknown_fields", web, strings.Replace(bundle("https://example.org/x"), `"version"`, `"future": [], "version"`, 1), ""},
		{"not_json", web, `version: 1`, "invalid character"},
		{"version_2", web, `{"version": 2}`, "version 2"},
		{"no_version", web, `{"entries": []}`, "version 0"},
		{"no_source", web, entry(`"distro": "debian"`), "0 of bundle, oci and apt"},
		{"two_sources", web, entry(`"oci": {"ref": "docker.io/a/b:c"}, "apt": {"suite": "bookworm"}`), "2 of bundle, oci and apt"},
		{"twice", web, `{"version": 1, "entries": [{"name": "a", "oci": {"ref": "docker.io/a"}}, {"name": "a", "oci": {"ref": "docker.io/b"}}]}`, "twice"},
		{"twice_for_two_archs", web, `{"version": 1, "entries": [{"name": "a", "arch": "amd64", "oci": {"ref": "docker.io/a"}}, {"name": "a", "arch": "arm64", "oci": {"ref": "docker.io/b"}}]}`, ""},
		{"kernel_of_the_same_name", web, `{"version": 1, "entries": [{"name": "a", "oci": {"ref": "docker.io/a"}}], "kernels": [{"name": "a", "arch": "amd64", "url": "k", "sha256": "` + sha + `", "size": 1}]}`, ""},
		{"kernel_without_arch", web, `{"version": 1, "kernels": [{"name": "a", "url": "k", "sha256": "` + sha + `", "size": 1}]}`, "arch is missing"},
		{"name_path", web, strings.Replace(bundle("x"), `"web"`, `"../web"`, 1), "name"},
		{"name_empty", web, strings.Replace(bundle("x"), `"web"`, `""`, 1), "name"},
		{"name_flag", web, strings.Replace(bundle("x"), `"web"`, `"-web"`, 1), "name"},
		{"arch_odd", web, strings.Replace(bundle("x"), `"amd64"`, `"amd64/../x"`, 1), "arch"},
		{"arch_missing", web, strings.Replace(bundle("x"), `"amd64"`, `""`, 1), "needs an arch"},
		{"distro_odd", web, strings.Replace(bundle("x"), `"name"`, `"distro": "a b", "name"`, 1), "distro"},
		{"kernel_ref_odd", web, strings.Replace(bundle("x"), `"name"`, `"kernel_ref": "../k", "name"`, 1), "kernel name"},
		{"description_escape", web, strings.Replace(bundle("x"), `"name"`, `"description": "a\u001b[2J", "name"`, 1), "description"},
		{"description_long", web, strings.Replace(bundle("x"), `"name"`, `"description": "`+strings.Repeat("x", 301)+`", "name"`, 1), "description"},
		{"sha_short", web, strings.Replace(bundle("x"), sha, "12ab", 1), "sha256"},
		{"sha_upper", web, strings.Replace(bundle("x"), sha, strings.ToUpper(sha), 1), "sha256"},
		{"size_zero", web, strings.Replace(bundle("x"), `"size": 5`, `"size": 0`, 1), "size 0"},
		{"size_negative", web, strings.Replace(bundle("x"), `"size": 5`, `"size": -5`, 1), "size -5"},
		{"size_huge", web, strings.Replace(bundle("x"), `"size": 5`, `"size": 2000000000000`, 1), "size"},
		{"url_empty", web, bundle(""), "no URL"},
		{"url_http", web, bundle("http://example.org/x"), "https"},
		{"url_http_loopback", web, bundle("http://127.0.0.1:8000/x"), ""},
		{"url_file_from_web", web, bundle("file:///etc/passwd"), "https"},
		{"url_file_from_file", "/srv/catalog.json", bundle("file:///srv/x"), ""},
		{"url_file_of_host", "/srv/catalog.json", bundle("file://host/srv/x"), "https"},
		{"url_ftp", web, bundle("ftp://example.org/x"), "https"},
		{"url_password", web, bundle("https://me:secret@example.org/x"), "password"},
		{"url_oci", web, bundle("oci:ghcr.io/o/bundles"), ""},
		{"url_oci_layout", web, bundle("oci:/srv/layout"), "oci:registry/repository"},
		{"url_relative_in_artifact", "oci:ghcr.io/o/catalog:latest", bundle("x.tar.zst"), "relative"},
		{"ref_full", web, entry(`"oci": {"ref": "ghcr.io/o/i@sha256:` + sha + `"}`), ""},
		{"ref_localhost", web, entry(`"oci": {"ref": "localhost:5000/i:tag"}`), ""},
		{"ref_short", web, entry(`"oci": {"ref": "alpine"}`), "oci.ref"},
		{"ref_layout", web, entry(`"oci": {"ref": "oci:/srv/layout"}`), "oci.ref"},
		{"ref_layout_like_registry", web, entry(`"oci": {"ref": "oci:5000/layout"}`), "oci.ref"},
		{"ref_tar", web, entry(`"oci": {"ref": "tar:/etc/shadow"}`), "oci.ref"},
		{"suite_option", web, entry(`"apt": {"suite": "--aptopt=x"}`), "apt.suite"},
		{"package_option", web, entry(`"apt": {"suite": "bookworm", "packages": ["--hook"]}`), "package"},
		{"package_list", web, entry(`"apt": {"suite": "bookworm", "packages": ["a,b"]}`), "package"},
		{"package_plus", web, entry(`"apt": {"suite": "bookworm", "packages": ["g++-12"]}`), ""},
		{"many", web, `{"version": 1, "entries": [{}` + strings.Repeat(",{}", maxEntries) + `]}`, "limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse([]byte(tt.text), "test", tt.source)
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v, want none", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, api.ErrInvalid) {
				t.Errorf("got %v, want an ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func TestRelativeURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ source, url, want string }{
		{"https://example.org/lists/catalog.json", "x.tar.zst", "https://example.org/lists/x.tar.zst"},
		{"https://example.org/lists/catalog.json?token=1", "../b/x.tar.zst", "https://example.org/b/x.tar.zst"},
		{"http://localhost:80/c.json", "/x", "http://localhost:80/x"},
		{"/srv/my lists/catalog.json", "x.tar.zst", "file:///srv/my%20lists/x.tar.zst"},
		{"/srv/lists/catalog.json", "https://example.org/x", "https://example.org/x"},
		{"/srv/lists/catalog.json", "oci:ghcr.io/o/b", "oci:ghcr.io/o/b"},
	} {
		doc, err := parse([]byte(bundle(tt.url)), "test", tt.source)
		if err != nil || doc.Entries[0].Bundle.URL != tt.want {
			t.Errorf("%s in %s: got %+v, %v; want %s", tt.url, tt.source, doc.Entries, err, tt.want)
		}
	}
}

func TestIsName(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]bool{
		"debian-bookworm": true, "alpine": true, "debian:bookworm": false, "o/i": false,
		"x@sha256:12": false, "oci:dir": false, "tar:x": false, "-": false, "docker.io/library/alpine": false,
	} {
		if got := IsName(ref); got != want {
			t.Errorf("%s: got %v, want %v", ref, got, want)
		}
	}
}

// FuzzParse holds what is relied on of every catalog that is accepted.
func FuzzParse(f *testing.F) {
	f.Add(string(embedded))
	f.Add(bundle("x"))
	f.Add(entry(`"oci": {"ref": "ghcr.io/o/i:t"}`))
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := parse([]byte(text), "test", "https://example.org/c.json")
		if err != nil {
			return
		}
		for _, e := range doc.Entries {
			if !IsName(e.Name) || e.Catalog != "test" {
				t.Errorf("accepted entry %+v", e)
			}
			if b := e.Bundle; b != nil && (strings.HasPrefix(b.URL, "file:") || b.Size <= 0 || len(b.SHA256) != 64) {
				t.Errorf("accepted bundle %+v", b)
			}
			if a := e.Apt; a != nil && (strings.HasPrefix(a.Suite, "-") || strings.ContainsAny(strings.Join(a.Packages, ""), ", ")) {
				t.Errorf("accepted recipe %+v", a)
			}
		}
	})
}
