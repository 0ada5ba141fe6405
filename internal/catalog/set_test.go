package catalog

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"aead.dev/minisign"

	"banger/internal/api"
)

// web is a [Remote] in memory: what is at URLs, and artifacts by "ref file".
type web map[string][]byte

func (w web) Document(_ context.Context, url string) ([]byte, error) {
	if w[url] == nil {
		return nil, fmt.Errorf("%s: %w", url, api.ErrNotFound)
	}
	return w[url], nil
}

func (w web) Artifact(_ context.Context, ref string, names ...string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for key, data := range w {
		if name, ok := strings.CutPrefix(key, ref+" "); ok && slices.Contains(names, name) {
			files[name] = data
		}
	}
	return files, nil
}

// signer is somebody who publishes catalogs.
type signer struct {
	public  string
	private minisign.PrivateKey
}

func newSigner(t *testing.T) signer {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(public.String())
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, private}
}

// sign signs at a time in Unix seconds.
func (s signer) sign(data string, at int) []byte {
	return minisign.SignWithComments(s.private, []byte(data), fmt.Sprintf("timestamp:%d\tfile:catalog.json", at), "signature")
}

func newSet(t *testing.T, w web) *Set {
	t.Helper()
	dir := t.TempDir()
	return &Set{ConfigDir: filepath.Join(dir, "catalogs"), StateDir: filepath.Join(dir, "state"), Remote: w}
}

// named makes a catalog of images in a registry.
func named(names ...string) string {
	var entries []string
	for _, n := range names {
		entries = append(entries, fmt.Sprintf(`{"name": %q, "oci": {"ref": "example.org/%s"}}`, n, n))
	}
	return fmt.Sprintf(`{"version": 1, "entries": [%s]}`, strings.Join(entries, ","))
}

// write writes a file and returns its path.
func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const listURL = "https://example.org/catalog.json"

// TestSignatures is the matrix: where a catalog comes from, how it is signed, and
// what the user has said.
func TestSignatures(t *testing.T) {
	t.Parallel()
	ours, theirs := newSigner(t), newSigner(t)
	text := named("web")
	good := ours.sign(text, 100)
	flipped := bytes.Replace(good, []byte("timestamp:100"), []byte("timestamp:999"), 1)
	for _, tt := range []struct {
		name      string
		signature []byte
		key       string
		insecure  bool
		want      string // in the error of a remote one; "" for none
		local     string // the same of a local one
	}{
		{"signed", good, ours.public, false, "", ""},
		{"legacy_signature", legacy(t, ours, text), ours.public, false, "", ""},
		{"unsigned", nil, ours.public, false, "no signature", "no signature"},
		{"other_key", theirs.sign(text, 100), ours.public, false, "by key", "by key"},
		{"other_text", ours.sign(text+" ", 100), ours.public, false, "not what key", "not what key"},
		{"other_comment", flipped, ours.public, false, "not what key", "not what key"},
		{"garbage", []byte("signed: yes"), ours.public, false, "signature", "signature"},
		{"truncated", good[:len(good)/2], ours.public, false, "signature", "signature"},
		{"no_key", good, "", false, "--key", ""},
		{"no_key_unsigned", nil, "", false, "--key", ""},
		{"insecure", nil, "", true, "", ""},
		{"insecure_signed_by_somebody", theirs.sign(text, 100), "", true, "", ""},
		{"key_and_insecure", good, ours.public, true, "want one", "want one"},
		{"bad_key", good, "RWQbad", false, "key", "key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := write(t, "catalog.json", []byte(text))
			if tt.signature != nil {
				if err := os.WriteFile(path+".minisig", tt.signature, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for source, want := range map[string]string{listURL: tt.want, "oci:example.org/catalog:latest": tt.want, path: tt.local} {
				w := web{listURL: []byte(text), "example.org/catalog:latest catalog.json": []byte(text)}
				if tt.signature != nil {
					w[listURL+".minisig"] = tt.signature
					w["example.org/catalog:latest catalog.json.minisig"] = tt.signature
				}
				s := newSet(t, w)
				c, err := s.Add(t.Context(), api.CatalogAdd{Name: "acme", Source: source, Key: tt.key, Insecure: tt.insecure})
				_, findErr := s.Find("web", "amd64")
				if want == "" {
					if err != nil || findErr != nil || c.Images != 1 || c.SignedAt.IsZero() != (tt.key == "") {
						t.Errorf("%s: got %+v, %v and %v; want it added", source, c, err, findErr)
					}
					continue
				}
				if said := fmt.Sprint(err, " ", api.HintOf(err)); err == nil || !strings.Contains(said, want) {
					t.Errorf("%s: got %q, want an error with %q", source, said, want)
				}
				if !errors.Is(findErr, api.ErrNotFound) {
					t.Errorf("%s: it was refused, and finding gives %v, want ErrNotFound", source, findErr)
				}
			}
		})
	}
}

// legacy signs as minisign did at first, without hashing.
func legacy(t *testing.T, s signer, text string) []byte {
	t.Helper()
	b, err := s.private.Sign(nil, []byte(text), crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func add(t *testing.T, s *Set, req api.CatalogAdd) {
	t.Helper()
	if _, err := s.Add(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	s := newSet(t, web{})
	add(t, s, api.CatalogAdd{Name: "b", Source: write(t, "b.json", []byte(named("web", "alpine")))})
	add(t, s, api.CatalogAdd{Name: "a", Source: write(t, "a.json", []byte(named("web")))})
	for name, want := range map[string]string{"web": "a", "alpine": "b", "busybox": Embedded} {
		if e, err := s.Find(name, "amd64"); err != nil || e.Catalog != want {
			t.Errorf("%s: got %+v, %v; want that of %s", name, e, err, want)
		}
	}
	if _, err := s.Find("nothing", "amd64"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("nothing: got %v, want ErrNotFound", err)
	}
	all, err := s.Images()
	if err != nil {
		t.Fatal(err)
	}
	shadowed := map[string]string{}
	for _, e := range all {
		if e.Shadowed != "" {
			shadowed[e.Catalog+"/"+e.Name] = e.Shadowed
		}
	}
	if len(shadowed) != 2 || shadowed["b/web"] != "a" || shadowed["embedded/alpine"] != "b" {
		t.Errorf("shadowed are %v, want b/web by a and embedded/alpine by b", shadowed)
	}
}

func TestArch(t *testing.T) {
	t.Parallel()
	s := newSet(t, web{})
	text := `{"version": 1, "entries": [
		{"name": "two", "arch": "amd64", "oci": {"ref": "example.org/amd64"}},
		{"name": "two", "arch": "arm64", "oci": {"ref": "example.org/arm64"}},
		{"name": "one", "arch": "arm64", "oci": {"ref": "example.org/one"}}],
		"kernels": [{"name": "k", "arch": "amd64", "url": "k.deb", "sha256": "` + sha + `", "size": 3}]}`
	path := write(t, "catalog.json", []byte(text))
	add(t, s, api.CatalogAdd{Name: "acme", Source: path})
	for _, arch := range []string{"amd64", "arm64"} {
		if e, err := s.Find("two", arch); err != nil || e.OCI.Ref != "example.org/"+arch {
			t.Errorf("%s: got %+v, %v", arch, e, err)
		}
	}
	// Not ErrNotFound: the name must not become one of a registry.
	if _, err := s.Find("one", "amd64"); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "arm64") {
		t.Errorf("of another architecture: got %v, want ErrInvalid that says arm64", err)
	}
	if k, err := s.FindKernel("k", "amd64"); err != nil || k.URL != "file://"+filepath.Dir(path)+"/k.deb" || k.Catalog != "acme" {
		t.Errorf("kernel: got %+v, %v", k, err)
	}
	if _, err := s.FindKernel("k", "arm64"); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("kernel of another architecture: got %v, want ErrInvalid", err)
	}
}

// TestBrokenHides holds that a name does not change its meaning because a catalog
// cannot be used: what the broken one may have had is not looked for elsewhere.
func TestBrokenHides(t *testing.T) {
	t.Parallel()
	ours := newSigner(t)
	for name, spoil := range map[string]func(t *testing.T, s *Set, path string){
		"file_gone":      func(t *testing.T, _ *Set, path string) { must(t, os.Remove(path)) },
		"file_changed":   func(t *testing.T, _ *Set, path string) { must(t, os.WriteFile(path, []byte(named("other")), 0o644)) },
		"signature_gone": func(t *testing.T, _ *Set, path string) { must(t, os.Remove(path+".minisig")) },
		"file_is_fifo": func(t *testing.T, _ *Set, path string) {
			must(t, errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)))
		},
		"config_changed": func(t *testing.T, s *Set, _ string) {
			must(t, os.WriteFile(filepath.Join(s.ConfigDir, "acme.toml"), []byte(`source = "/x"`+"\n"+`keey = "RW"`), 0o644))
		},
		"config_damaged": func(t *testing.T, s *Set, _ string) {
			must(t, os.WriteFile(filepath.Join(s.ConfigDir, "acme.toml"), []byte(`source = `), 0o644))
		},
		"config_with_odd_name": func(t *testing.T, s *Set, path string) {
			must(t, os.WriteFile(filepath.Join(s.ConfigDir, "a b.toml"), []byte(`source = "`+path+`"`), 0o644))
		},
		"config_without_key": func(t *testing.T, s *Set, _ string) {
			must(t, os.WriteFile(filepath.Join(s.ConfigDir, "acme.toml"), []byte(`source = "`+listURL+`"`), 0o644))
		},
		"never_fetched": func(t *testing.T, s *Set, _ string) {
			must(t, os.WriteFile(filepath.Join(s.ConfigDir, "acme.toml"), []byte(`source = "`+listURL+`"`+"\ninsecure = true"), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSet(t, web{})
			text := named("web")
			path := write(t, "catalog.json", []byte(text))
			must(t, os.WriteFile(path+".minisig", ours.sign(text, 1), 0o644))
			add(t, s, api.CatalogAdd{Name: "acme", Source: path, Key: ours.public})
			spoil(t, s, path)
			for _, image := range []string{"web", "alpine", "nothing"} {
				if e, err := s.Find(image, "amd64"); err == nil || api.HintOf(err) == "" {
					t.Errorf("%s: got %+v, %v; want an error with a way out", image, e, err)
				}
			}
			all, err := s.Catalogs()
			if err != nil || len(all) < 2 || all[0].Problem == "" || all[len(all)-1].Problem != "" {
				t.Errorf("catalogs: got %+v, %v; want a problem with the first", all, err)
			}
			if images, err := s.Images(); err != nil || len(images) < 5 {
				t.Errorf("images: got %d, %v; want those that can be read", len(images), err)
			}
			for _, c := range all[:len(all)-1] {
				if c.Problem != "" && api.CheckName("catalog", c.Name) == nil {
					must(t, s.Remove(c.Name))
				}
			}
			if name == "config_with_odd_name" {
				return // a file that is not ours to remove
			}
			if _, err := s.Find("alpine", "amd64"); err != nil {
				t.Errorf("after the way out: %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	ours := newSigner(t)
	w := web{}
	publish := func(text string, at int) {
		w[listURL], w[listURL+".minisig"] = []byte(text), ours.sign(text, at)
	}
	publish(named("one"), 100)
	s := newSet(t, w)
	add(t, s, api.CatalogAdd{Name: "acme", Source: listURL, Key: ours.public})
	finds := func(name string, want bool) {
		t.Helper()
		if _, err := s.Find(name, "amd64"); (err == nil) != want {
			t.Errorf("find %s: got %v, want it there: %v", name, err, want)
		}
	}

	publish(named("two"), 200)
	finds("two", false) // nothing is fetched unasked
	all, err := s.Update(t.Context(), "acme", nil)
	if err != nil || len(all) != 1 || all[0].Name != "acme" || all[0].SignedAt.Unix() != 200 || all[0].FetchedAt.IsZero() {
		t.Errorf("update: got %+v, %v", all, err)
	}
	finds("two", true)

	for name, spoil := range map[string]func(){
		"older":    func() { publish(named("one"), 100) },
		"unsigned": func() { publish(named("one"), 300); delete(w, listURL+".minisig") },
		"tampered": func() { publish(named("one"), 300); w[listURL] = []byte(named("evil")) },
		"damaged":  func() { publish("{", 300) },
		"gone":     func() { clear(w) },
	} {
		spoil()
		if _, err := s.Update(t.Context(), "", nil); err == nil || !strings.Contains(err.Error(), "acme") {
			t.Errorf("%s: got %v, want an error that names the catalog", name, err)
		}
		finds("two", true) // as it was
	}
	if _, err := s.Update(t.Context(), "nothing", nil); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("of an unknown name: got %v, want ErrNotFound", err)
	}
	if all, err := s.Update(t.Context(), Embedded, nil); err != nil || len(all) != 1 {
		t.Errorf("of the embedded: got %+v, %v", all, err)
	}
}

func TestAddAndRemove(t *testing.T) {
	t.Parallel()
	s := newSet(t, web{listURL: []byte(named("web"))})
	req := api.CatalogAdd{Name: "acme", Source: listURL, Insecure: true}
	add(t, s, req)
	if _, err := s.Add(t.Context(), req); !errors.Is(err, api.ErrExists) {
		t.Errorf("again: got %v, want ErrExists", err)
	}
	for _, bad := range []api.CatalogAdd{
		{Name: Embedded, Source: listURL, Insecure: true},
		{Name: "../x", Source: listURL, Insecure: true},
		{Name: "x", Source: "http://example.org/c.json", Insecure: true},
		{Name: "x", Source: "ftp://example.org/c.json", Insecure: true},
		{Name: "x", Source: "relative.json"},
		{Name: "x", Source: "oci:short", Insecure: true},
		{Name: "x", Source: "https://me:pw@example.org/c.json", Insecure: true},
		{Name: "x", Source: listURL + "x", Insecure: true},
	} {
		if _, err := s.Add(t.Context(), bad); err == nil {
			t.Errorf("%+v was added", bad)
		}
	}
	b, err := os.ReadFile(filepath.Join(s.ConfigDir, "acme.toml"))
	if want := "# written by banger catalog add\nsource = \"" + listURL + "\"\ninsecure = true\n"; err != nil || string(b) != want {
		t.Errorf("config is %q, %v; want %q", b, err, want)
	}
	if err := s.Remove("acme"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"acme", Embedded, "../x"} {
		if err := s.Remove(name); err == nil {
			t.Errorf("removed %s", name)
		}
	}
	for _, dir := range []string{s.ConfigDir, s.StateDir} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("left in %s: %v, %v", dir, entries, err)
		}
	}
}

// TestConfigByHand reads what a user has written, and fetches it when told to.
func TestConfigByHand(t *testing.T) {
	t.Parallel()
	ours := newSigner(t)
	w := web{listURL: []byte(named("web")), listURL + ".minisig": ours.sign(named("web"), 1)}
	s := newSet(t, w)
	must(t, os.MkdirAll(s.ConfigDir, 0o700))
	must(t, os.WriteFile(filepath.Join(s.ConfigDir, "acme.toml"),
		[]byte("# ours\nsource = '"+listURL+"' # the list\nkey = '"+ours.public+"'\n"), 0o644))
	if _, err := s.Update(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	if e, err := s.Find("web", "amd64"); err != nil || e.Catalog != "acme" {
		t.Errorf("got %+v, %v", e, err)
	}
	// Another key, another verdict, at once.
	must(t, os.WriteFile(filepath.Join(s.ConfigDir, "acme.toml"), []byte("source = '"+listURL+"'\nkey = '"+newSigner(t).public+"'\n"), 0o644))
	if _, err := s.Find("web", "amd64"); err == nil || !strings.Contains(err.Error(), "by key") {
		t.Errorf("with another key: got %v", err)
	}
	// Another source: what was fetched from the first is not what it has.
	must(t, os.WriteFile(filepath.Join(s.ConfigDir, "acme.toml"), []byte("source = '"+listURL+"?2'\nkey = '"+ours.public+"'\n"), 0o644))
	if _, err := s.Find("web", "amd64"); err == nil || !strings.Contains(err.Error(), "never fetched") {
		t.Errorf("with another source: got %v", err)
	}
}

func TestReadKey(t *testing.T) {
	t.Parallel()
	key := newSigner(t).public
	for name, arg := range map[string]string{
		"bare": key,
		"file": write(t, "k.pub", []byte("untrusted comment: minisign public key 1234\n"+key+"\n")),
	} {
		if got, err := ReadKey(arg); err != nil || got != key {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, key)
		}
	}
	for _, arg := range []string{"", "RWQ", filepath.Join(t.TempDir(), "none"), write(t, "bad", []byte("no key"))} {
		if got, err := ReadKey(arg); err == nil {
			t.Errorf("%q: got %s, want an error", arg, got)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	s := newSet(t, web{listURL: []byte(named("web"))})
	must(t, s.Clean())
	add(t, s, api.CatalogAdd{Name: "acme", Source: listURL, Insecure: true})
	for _, dir := range []string{s.ConfigDir, s.StateDir} {
		must(t, os.WriteFile(filepath.Join(dir, tmpPrefix+"1"), nil, 0o600))
	}
	must(t, s.Clean())
	for _, dir := range []string{s.ConfigDir, s.StateDir} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("in %s: %v, %v; want what belongs there", dir, entries, err)
		}
	}
}
