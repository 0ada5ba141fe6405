package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/api"
	"banger/internal/oci"
)

func write(t *testing.T, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := write(t, `
[registry."docker.io"]
mirrors = ["mirror.example:5000", "mirror.example/hub"]
ca_file = "corp.pem"

[registry."localhost:5000"]
insecure = true
cert_file = "/etc/me.cert"
key_file = "me.key"

[cache]
max_bytes = "20G"

[pull]
parallel = 8
`)
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	limit := Size(20 << 30)
	want := Config{
		Registries: map[string]oci.Registry{
			"docker.io":      {Mirrors: []string{"mirror.example:5000", "mirror.example/hub"}, CAFile: filepath.Join(dir, "corp.pem")},
			"localhost:5000": {Insecure: true, CertFile: "/etc/me.cert", KeyFile: filepath.Join(dir, "me.key")},
		},
		Cache: Cache{MaxBytes: &limit},
		Pull:  Pull{Parallel: 8},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestNoFile(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), "/nowhere", write(t, "")} {
		got, err := Read(dir)
		if diff := cmp.Diff(Config{}, got); err != nil || diff != "" {
			t.Errorf("%s: %v, -want +got\n%s", dir, err, diff)
		}
	}
}

// Each error says in which line what is wrong, and what would be right.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text, at, hint string
	}{
		{"[pull]\nparallel = 4\nthreads = 5\n", "3: unknown key pull.threads", "parallel"},
		{"[registry.\"docker.io\"]\ninsecure = false\n\n[registry.\"ghcr.io\"]\n# here\nmirror = [\n\"a.b\",\n]\n", `8: unknown key registry."ghcr.io".mirror`, "mirrors"},
		{"[registries]\n", "1: unknown key registries", "[registry."},
		{"[pull]\n\nparallel = \"many\"\n", "3: ", "parallel"},
		{"[pull]\nparallel = 65\n", "2: pull.parallel: 65", "1 to 64"},
		{"[pull]\nparallel = -1\n", "2: pull.parallel: -1", "1 to 64"},
		{"[cache]\nmax_bytes = \"lots\"\n", `2: size "lots"`, ""},
		{"[cache]\nmax_bytes = -5\n", "2: size -5 is negative", ""},
		{"[cache]\nmax_bytes = 1.5\n", "2: size 1.5", ""},
		{"[pull\n", "2: expected", ""},
		{"x = 1\nx = 2\n", "2: ", ""},
		{"[registry.\"docker.io\"]\nmirrors = [\"https://a.b\"]\n", `2: registry."docker.io".mirrors: "https://a.b": want host[:port][/path] without a scheme`, "mirrors = ["},
		{"\n[registry.\"https://docker.io\"]\n", `2: registry."https://docker.io": want host[:port]`, "docker.io"},
		{"[registry.\"index.docker.io\"]\n", "docker.io here", ""},
		{"[registry.\"GHCR.io\"]\n", "lower case", ""},
		{"[registry.\"docker.io\"]\ncert_file = \"x\"\n", "cert_file and key_file go together", "key"},
	} {
		dir := write(t, tc.text)
		_, err := Read(dir)
		want := fmt.Sprintf("%s:%s", filepath.Join(dir, File), tc.at)
		if tc.at[0] < '0' || tc.at[0] > '9' {
			want = tc.at
		}
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(api.HintOf(err), tc.hint) || api.HintOf(err) == "" {
			t.Errorf("%q: got %v, hint %q; want %s, hint %q", tc.text, err, api.HintOf(err), want, tc.hint)
		}
	}
}

// What errors say there is, is there.
func TestKeys(t *testing.T) {
	t.Parallel()
	c, err := Read(write(t, `
[registry."a.b"]
mirrors = ["c.d"]
ca_file = "1"
cert_file = "2"
key_file = "3"
insecure = true
[cache]
max_bytes = 0
[pull]
parallel = 1
`))
	if err != nil || c.Cache.MaxBytes == nil || *c.Cache.MaxBytes != 0 {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, key := range []string{"mirrors", "ca_file", "cert_file", "key_file", "insecure", "max_bytes", "parallel"} {
		if !strings.Contains(keys, key) {
			t.Errorf("the hint does not name %s", key)
		}
	}
}
