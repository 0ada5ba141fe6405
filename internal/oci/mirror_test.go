package oci

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"banger/internal/api"
)

// warned collects warnings.
type warned struct {
	mu  sync.Mutex
	all []string
}

func (w *warned) progress(e api.Event) {
	if e.Warning {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, e.Message)
	}
}

func (w *warned) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.all, "\n")
}

func TestMirror(t *testing.T) {
	t.Parallel()
	stored := tarOf(1, 4<<20)
	hex := sumOf(stored).Hex
	isLayer := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, hex) }
	status := func(code int) func(*server, http.ResponseWriter, *http.Request, int) bool {
		return func(_ *server, w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.WriteHeader(code)
			return true
		}
	}
	for _, tc := range []struct {
		name     string
		fault    func(m *server, w http.ResponseWriter, r *http.Request, n int) bool // of the mirror
		byDigest bool
		asked    int    // requests for the layer to the registry
		first    string // Range of the last of them
		warns    string
	}{
		{"has_all", nil, false, 0, "", ""},
		{"has_nothing", func(_ *server, w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.URL.Path != "/v2/" {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			return false
		}, false, 1, "", ""},
		{"is_no_registry", status(http.StatusNotFound), false, 1, "", "404 Not Found; asking elsewhere"},
		{"wants_login", status(http.StatusUnauthorized), false, 1, "", "answered 401"},
		{"is_down", status(http.StatusBadGateway), false, 1, "", "502 Bad Gateway; asking elsewhere"},
		{"resets", func(_ *server, w http.ResponseWriter, _ *http.Request, _ int) bool {
			reset(w)
			return true
		}, false, 1, "", "asking elsewhere"},
		{"has_no_layers", func(_ *server, w http.ResponseWriter, r *http.Request, _ int) bool {
			if isLayer(r) {
				w.WriteHeader(http.StatusNotFound)
			}
			return isLayer(r)
		}, false, 1, "", ""},
		{"breaks_off", func(m *server, w http.ResponseWriter, r *http.Request, _ int) bool {
			if isLayer(r) {
				m.inner.ServeHTTP(&cut{w, 3 << 20}, r)
			}
			return isLayer(r)
		}, false, 1, fmt.Sprintf("bytes=%d-%d", 3<<20, len(stored)-1), "trying again"},
		{"has_another_size", func(_ *server, w http.ResponseWriter, r *http.Request, _ int) bool {
			if isLayer(r) {
				w.Write([]byte("short"))
			}
			return isLayer(r)
		}, false, 1, "", "wrong size"},
		{"lies_about_manifests", func(m *server, w http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				m.inner.ServeHTTP(edit{w, func(p []byte) { p[len(p)-1] = ' ' }}, r)
				return true
			}
			return false
		}, true, 1, "", "wrong digest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, m := newServer(t), newServer(t)
			c := content{}
			root := c.simple(stored)
			ref := s.push(t, c, root, "v1")
			m.push(t, c, root, "v1")
			if tc.byDigest {
				ref = s.host + "/i@" + root.Digest.String()
			}
			m.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
				return tc.fault != nil && tc.fault(m, w, r, n)
			}
			var warnings warned
			o := testOptions(t)
			o.Progress = warnings.progress
			o.Registries = map[string]Registry{s.host: {Mirrors: []string{m.host}}}
			layers, err := pull(t, ref, o)
			if err != nil || !bytes.Equal(layers[0], stored) {
				t.Fatalf("got %v", err)
			}
			if got := s.count(hex); got != tc.asked {
				t.Errorf("the registry was asked %d times for the layer, want %d", got, tc.asked)
			}
			if got := s.lastRange(v1.Descriptor{Digest: sumOf(stored)}); got != tc.first {
				t.Errorf("the registry was asked for %q, want %q", got, tc.first)
			}
			if got := warnings.String(); (got != "") != (tc.warns != "") || !strings.Contains(got, tc.warns) ||
				strings.Count(got, "mirror "+m.host) > 1 {
				t.Errorf("warnings %q, want %q once", got, tc.warns)
			}
		})
	}
}

// Mirrors are asked in their order, below their path.
func TestMirrorOrder(t *testing.T) {
	t.Parallel()
	c := content{}
	stored := tarOf(1, 1000)
	root := c.simple(stored)
	first, second := newServer(t), newServer(t)
	second.push(t, c, root, "v1")
	second.http.Config.Handler = http.StripPrefix("/v2", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/v2" + strings.TrimPrefix(r.URL.Path, "/hub/proxy")
		second.ServeHTTP(w, r)
	}))
	o := testOptions(t)
	o.Registries = map[string]Registry{"docker.io": {Mirrors: []string{first.host, second.host + "/hub/proxy", "127.0.0.1:1"}}}
	if _, err := pull(t, "docker.io/i/i:v1", o); err == nil {
		t.Error("want an error: the mirror has i, not i/i")
	}
	if got := first.count("/v2/i/i/manifests/v1"); got != 1 {
		t.Errorf("the first mirror was asked %d times, want 1", got)
	}
	if got := second.count("/v2/i/i/manifests/v1"); got != 1 {
		t.Errorf("the second mirror was asked %d times below its path, want 1", got)
	}
}

// What a mirror sends is verified, and the error says who sent it.
func TestMirrorWithWrongBytes(t *testing.T) {
	t.Parallel()
	s, m := newServer(t), newServer(t)
	c := content{}
	stored := tarOf(1, 1<<20)
	root := c.simple(stored)
	ref := s.push(t, c, root, "v1")
	m.push(t, c, root, "v1")
	m.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.HasSuffix(r.URL.Path, sumOf(stored).Hex) {
			m.inner.ServeHTTP(edit{w, func(p []byte) { p[len(p)/2] ^= 1 }}, r)
			return true
		}
		return false
	}
	o := testOptions(t)
	o.Registries = map[string]Registry{s.host: {Mirrors: []string{m.host}}}
	_, err := pull(t, ref, o)
	mismatch := (*MismatchError)(nil)
	if !errors.As(err, &mismatch) || mismatch.Mirror != m.host || !strings.Contains(err.Error(), "from mirror "+m.host) || !strings.Contains(api.HintOf(err), "config.toml") {
		t.Errorf("got %v, hint %q; want a mismatch that names the mirror", err, api.HintOf(err))
	}
}

// Where the registry cannot be reached, a mirror is tried again as a registry is.
func TestMirrorAlone(t *testing.T) {
	t.Parallel()
	m := newServer(t)
	c := content{}
	stored := tarOf(1, 4<<20)
	m.push(t, c, c.simple(stored), "v1")
	m.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		switch {
		case n == 1 && strings.HasSuffix(r.URL.Path, "/manifests/v1"):
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case n <= 2 && strings.HasSuffix(r.URL.Path, sumOf(stored).Hex):
			m.inner.ServeHTTP(&cut{w, 1<<20 + 1000}, r)
			return true
		}
		return false
	}
	o := testOptions(t)
	o.Registries = map[string]Registry{"127.0.0.1:1": {Mirrors: []string{m.host}}}
	layers, err := pull(t, "127.0.0.1:1/i:v1", o)
	if err != nil || !bytes.Equal(layers[0], stored) {
		t.Errorf("got %v", err)
	}

	m.http.Close()
	o.CacheDir = t.TempDir()
	_, err = pull(t, "127.0.0.1:1/i:v1", o)
	if err == nil || !strings.Contains(err.Error(), "mirror "+m.host+": ") || !strings.Contains(err.Error(), "dial tcp 127.0.0.1:1:") {
		t.Errorf("got %v, want what both said", err)
	}
}

// Each host is shown its own credentials.
func TestMirrorCredentials(t *testing.T) {
	home := authHome(t)
	s, m := newServer(t), newServer(t)
	c := content{}
	root := c.simple(tarOf(1, 1000))
	ref := s.push(t, c, root, "v1")
	m.push(t, c, root, "v1")
	writeAuth(t, home+"/.docker/config.json", s.host)
	encoded := base64.StdEncoding.EncodeToString([]byte("user:" + secret))
	s.fault = basic
	m.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if strings.Contains(r.Header.Get("Authorization"), encoded) {
			t.Error("the mirror saw the registry's credentials")
		}
		return basic(w, r, n)
	}
	o := testOptions(t)
	o.Registries = map[string]Registry{s.host: {Mirrors: []string{m.host}}}
	if _, err := pull(t, ref, o); err != nil {
		t.Errorf("from the registry: %v", err)
	}
	s.http.Close()
	m.fault = basic
	writeAuth(t, home+"/.docker/config.json", m.host)
	o.CacheDir = t.TempDir()
	if _, err := pull(t, ref, o); err != nil {
		t.Errorf("from the mirror: %v", err)
	}
}

// A mirror elsewhere speaks HTTPS, unless its own table says otherwise.
func TestMirrorInsecure(t *testing.T) {
	t.Parallel()
	m := newServer(t)
	c := content{}
	m.push(t, c, c.simple(tarOf(1, 1000)), "v1")
	for _, insecure := range []bool{false, true} {
		o := testOptions(t)
		o.dial = dialTo(m.http)
		o.Registries = map[string]Registry{
			"registry.example": {Mirrors: []string{"mirror.example"}},
			"mirror.example":   {Insecure: insecure},
		}
		_, err := Resolve(t.Context(), mustNormalize(t, "registry.example/i:v1"), o)
		if (err == nil) != insecure {
			t.Errorf("insecure %v: got %v", insecure, err)
		}
	}
}

func TestCheckMirror(t *testing.T) {
	t.Parallel()
	for mirror, good := range map[string]bool{
		"mirror.example": true, "mirror.example:5000": true, "[::1]:5000": true, "mirror.example/hub/proxy": true,
		"": false, "https://mirror.example": false, "mirror.example/": true, "mirror.example/Hub": false,
		"mirror.example/../x": false, "a b": false,
	} {
		if err := CheckMirror(mirror); (err == nil) != good {
			t.Errorf("%q: got %v, want good %v", mirror, err, good)
		}
	}
}
