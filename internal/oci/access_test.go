package oci

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

const secret = "correct-horse"

// authHome makes a home directory with nothing in it, and returns it.
func authHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	for _, env := range []string{"REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(env, "")
	}
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home+"/.docker") // docker/cli looks up HOME once only
	return home
}

func writeAuth(t *testing.T, path, key string) {
	t.Helper()
	auth := base64.StdEncoding.EncodeToString([]byte("user:" + secret))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, key, auth)
	if key == "" {
		text = "{}"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// basic lets in who knows the secret.
func basic(w http.ResponseWriter, r *http.Request, _ int) bool {
	if _, pass, _ := r.BasicAuth(); pass == secret {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
	http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
	return true
}

// bearer has a token service at /token that does so.
func bearer(s *server) func(w http.ResponseWriter, r *http.Request, n int) bool {
	return func(w http.ResponseWriter, r *http.Request, n int) bool {
		switch {
		case r.URL.Path == "/token" && !basic(w, r, n):
			fmt.Fprintf(w, `{"token":"t-%s"}`, r.URL.Query().Get("scope"))
		case r.URL.Path == "/token":
		case r.Header.Get("Authorization") == "Bearer t-repository:i:pull":
			return false
		default:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x"`, s.host))
			w.WriteHeader(http.StatusUnauthorized)
		}
		return true
	}
}

func TestCredentials(t *testing.T) {
	c := content{}
	d := c.simple(tarOf(1, 1000))
	for _, tc := range []struct {
		name  string
		place func(home, host string)
	}{
		{"docker", func(home, host string) { writeAuth(t, home+"/.docker/config.json", host) }},
		{"podman", func(home, host string) { writeAuth(t, home+"/.config/containers/auth.json", host) }},
		{"podman_repository", func(home, host string) { writeAuth(t, home+"/.config/containers/auth.json", host+"/i") }},
		{"podman_beside_empty_docker", func(home, host string) {
			writeAuth(t, home+"/.docker/config.json", "")
			writeAuth(t, home+"/.config/containers/auth.json", host)
		}},
		{"file_of_environment", func(home, host string) {
			t.Setenv("REGISTRY_AUTH_FILE", home+"/mine.json")
			writeAuth(t, home+"/mine.json", host)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, scheme := range []string{"basic", "bearer"} {
				s := newServer(t)
				ref := s.push(t, c, d, "v1")
				s.fault = basic
				if scheme == "bearer" {
					s.fault = bearer(s)
				}
				home := authHome(t)
				_, err := pull(t, ref, testOptions(t))
				if err == nil || !strings.Contains(err.Error(), "registry "+s.host+" refused access, no credentials for it in "+home+"/.docker/config.json") ||
					!strings.Contains(api.HintOf(err), "podman login "+s.host) {
					t.Errorf("%s, without: got %v, hint %q", scheme, err, api.HintOf(err))
				}
				tc.place(home, s.host)
				if _, err := pull(t, ref, testOptions(t)); err != nil {
					t.Errorf("%s: %v", scheme, err)
				}
			}
		})
	}
}

func TestCredentialsStaySecret(t *testing.T) {
	home := authHome(t)
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 1000)
	ref := s.push(t, c, c.simple(stored), "v1")
	writeAuth(t, home+"/.docker/config.json", s.host)

	var leaked atomic.Bool
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		http.Error(w, "SignatureDoesNotMatch sig="+secret, http.StatusForbidden)
	}))
	defer storage.Close()
	dead := httptest.NewServer(nil)
	dead.Close()

	encoded := base64.StdEncoding.EncodeToString([]byte("user:" + secret))
	for _, to := range []string{storage.URL, dead.URL} {
		s.fault = func(w http.ResponseWriter, r *http.Request, n int) bool {
			if basic(w, r, n) {
				return true
			}
			if strings.HasSuffix(r.URL.Path, sumOf(stored).Hex) {
				http.Redirect(w, r, to+"/bucket/x?sig="+secret, http.StatusTemporaryRedirect)
				return true
			}
			return false
		}
		_, err := pull(t, ref, testOptions(t))
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), encoded) {
			t.Errorf("%s: got %v, want an error without a secret", to, err)
		}
	}
	if leaked.Load() {
		t.Error("the credentials went to the target of a redirect")
	}
	// Wrong credentials are not repeated either.
	s.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	_, err := pull(t, ref, testOptions(t))
	if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "credentials found in one of "+home) {
		t.Errorf("got %v, want the files and no secret", err)
	}
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	s.push(t, c, c.simple(), "v1")
	for _, ref := range []string{s.host + "/i:v2", s.host + "/none:v1", s.host + "/i@" + someDigest} {
		_, err := Resolve(t.Context(), mustNormalize(t, ref), testOptions(t))
		if !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), ref) || api.HintOf(err) == "" {
			t.Errorf("%s: got %v, hint %q, want ErrNotFound", ref, err, api.HintOf(err))
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.http.Close()
	_, err := Resolve(t.Context(), mustNormalize(t, s.host+"/i"), testOptions(t))
	if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(api.HintOf(err), s.host) {
		t.Errorf("got %v, hint %q, want the cause and which registry", err, api.HintOf(err))
	}
}

func TestManifestIsVerified(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	d := c.simple()
	s.push(t, c, d, "v1")
	s.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		s.inner.ServeHTTP(edit{w, func(p []byte) { p[len(p)-1] = ' ' }}, r)
		return true
	}
	_, err := Resolve(t.Context(), mustNormalize(t, s.host+"/i@"+d.Digest.String()), testOptions(t))
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || mismatch.Want != d.Digest.String() {
		t.Errorf("got %v, want a MismatchError of %s", err, d.Digest)
	}
}

// The blobs may be elsewhere, and foreign layers are.
func TestRedirectAndForeignLayers(t *testing.T) {
	t.Parallel()
	c := content{}
	foreign, plain := tarOf(1, 1000), tarOf(2, 1000)
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/foreign") {
			w.Write(foreign)
			return
		}
		w.Write(plain)
	}))
	defer storage.Close()
	d := c.image([][]byte{foreign, plain}, [][]byte{foreign, plain}, func(m *v1.Manifest, _ *v1.ConfigFile) {
		if m != nil {
			m.Layers[0].MediaType = types.DockerForeignLayer
			m.Layers[0].URLs = []string{"ftp://nowhere/x", storage.URL + "/foreign"}
		}
	})
	s := newServer(t)
	ref := s.push(t, c, d, "v1")
	s.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, sumOf(foreign).Hex):
			t.Error("the registry was asked for a foreign layer")
		case strings.HasSuffix(r.URL.Path, sumOf(plain).Hex):
			http.Redirect(w, r, storage.URL+"/plain", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	if _, err := pull(t, ref, testOptions(t)); err != nil {
		t.Error(err)
	}
}

func TestWireRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		registry string
		plain    bool
		url      string
		refused  bool
	}{
		{"ghcr.io", false, "http://ghcr.io/v2/", true},
		{"ghcr.io", true, "http://ghcr.io/v2/", false},
		{"ghcr.io", true, "ftp://ghcr.io/v2/", true},
		{"ghcr.io", false, "https://169.254.169.254/latest", true},
		{"ghcr.io", false, "https://127.0.0.1/x", true},
		{"ghcr.io", false, "https://localhost/x", true},
		{"ghcr.io", false, "https://[::ffff:10.0.0.1]/x", true},
		{"ghcr.io", false, "https://[fe80::1]/x", true},
		{"10.0.0.1:5000", false, "https://10.0.0.2/x", false},
		{"10.0.0.1:5000", false, "http://10.0.0.1:5000/v2/", true},
		{"localhost:5000", true, "http://localhost:5000/v2/", false},
		{"[::1]:5000", true, "http://[::1]:5000/v2/", false},
	} {
		w := newWire(tc.registry, tc.registry, Options{Insecure: tc.plain})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, tc.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.allow(r.URL); errors.Is(err, errRefused) != tc.refused {
			t.Errorf("%s to %s: got %v, want refused %v", tc.registry, tc.url, err, tc.refused)
		}
	}
}

func TestPlainHTTPNeedsInsecure(t *testing.T) {
	t.Parallel()
	for host, plain := range map[string]bool{
		"localhost:5000": true, "127.0.0.1:5000": true, "127.1.2.3": true, "[::1]:5000": true,
		"10.0.0.1:5000": false, "ghcr.io": false, "x.localhost": false,
	} {
		for _, insecure := range []bool{false, true} {
			r, err := newRegistry(mustNormalize(t, host+"/x"), Options{CacheDir: t.TempDir(), Insecure: insecure})
			if err != nil {
				t.Fatal(err)
			}
			if want := plain || insecure; r.own.wire.plain != want {
				t.Errorf("%s, insecure %v: plain HTTP is %v, want %v", host, insecure, r.own.wire.plain, want)
			}
		}
	}
}
