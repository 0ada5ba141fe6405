package oci

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banger/internal/api"
)

// dialTo leads every name to one server, as if it were all of the internet.
func dialTo(s *httptest.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	}
}

// tlsServer is s by HTTPS, as example.com. ask says what it wants of clients.
func tlsServer(t *testing.T, s http.Handler, ask tls.ClientAuthType, clients *x509.CertPool) *httptest.Server {
	t.Helper()
	h := httptest.NewUnstartedServer(s)
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.TLS = &tls.Config{ClientAuth: ask, ClientCAs: clients, MinVersion: tls.VersionTLS12}
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

func writePEM(t *testing.T, path, kind string, der []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clientCertificate makes a certificate that vouches for itself, as two files.
func clientCertificate(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "somebody"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "PRIVATE KEY", keyDER)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "certs.d/example.com/client.cert"), filepath.Join(dir, "certs.d/example.com/client.key")
	clients := clientCertificate(t, cert, key)
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 1000)
	s.push(t, c, c.simple(stored), "v1")
	open := tlsServer(t, s, tls.NoClientCert, nil)
	closed := tlsServer(t, s, tls.RequireAndVerifyClientCert, clients)
	authority := writePEM(t, filepath.Join(dir, "certs.d/example.com/ca.crt"), "CERTIFICATE", open.Certificate().Raw)
	onlyCA := filepath.Join(dir, "only-ca")
	writePEM(t, filepath.Join(onlyCA, "example.com/corp.crt"), "CERTIFICATE", open.Certificate().Raw)
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		server   *httptest.Server
		settings Registry
		certDirs []string
		err      string // "" for none
		hint     string
	}{
		{"unknown_authority", open, Registry{}, nil, "certificate signed by unknown authority", `ca_file, [registry."example.com"] of config.toml, or put it into /etc/containers/certs.d/example.com/ca.crt`},
		{"ca_file", open, Registry{CAFile: authority}, nil, "", ""},
		{"certs.d", open, Registry{}, []string{"/none", onlyCA, dir}, "", ""},
		{"first_certs.d_counts", open, Registry{}, []string{onlyCA + "/../none2", onlyCA}, "", ""},
		{"ca_file_is_none", open, Registry{CAFile: empty}, nil, "certificates for example.com: invalid: no certificate in " + empty, ""},
		{"ca_file_is_missing", open, Registry{CAFile: dir + "/missing.pem"}, nil, "open " + dir + "/missing.pem: no such file", ""},
		{"no_client_certificate", closed, Registry{CAFile: authority}, nil, "remote error: tls:", "cert_file and key_file"},
		{"client_certificate", closed, Registry{CAFile: authority, CertFile: cert, KeyFile: key}, nil, "", ""},
		{"client_certificate_of_certs.d", closed, Registry{}, []string{filepath.Join(dir, "certs.d")}, "", ""},
		{"key_is_no_key", closed, Registry{CAFile: authority, CertFile: cert, KeyFile: empty}, nil, "client certificate " + cert + " with key " + empty, ""},
		{"plain_http", s.http, Registry{}, nil, "HTTP response to HTTPS client", "--insecure"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			o.certDirs = append([]string{"/none"}, tc.certDirs...)
			o.Registries = map[string]Registry{"example.com": tc.settings}
			var dials atomic.Int32
			dial := dialTo(tc.server)
			o.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				dials.Add(1)
				return dial(ctx, network, address)
			}
			layers, err := pull(t, "example.com/i:v1", o)
			if tc.err == "" {
				if err != nil || !bytes.Equal(layers[0], stored) {
					t.Errorf("got %v, hint %q", err, api.HintOf(err))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.Contains(api.HintOf(err), tc.hint) {
				t.Errorf("got %v, hint %q; want %q, hint %q", err, api.HintOf(err), tc.err, tc.hint)
			}
			if got := dials.Load(); got > 1 {
				t.Errorf("tried %d times what cannot get better", got)
			}
		})
	}
}

// The registry's authority is good for its storage, which does not see the client
// certificate.
func TestClientCertificateStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.cert"), filepath.Join(dir, "c.key")
	clients := clientCertificate(t, cert, key)
	s := newServer(t)
	c := content{}
	stored := tarOf(1, 1000)
	s.push(t, c, c.simple(stored), "v1")
	shown := map[string]int{}
	h := tlsServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		shown[host] += len(r.TLS.PeerCertificates)
		if host == "storage.example.com" {
			w.Write(stored)
			return
		}
		if strings.HasSuffix(r.URL.Path, sumOf(stored).Hex) {
			http.Redirect(w, r, "https://storage.example.com/x", http.StatusTemporaryRedirect)
			return
		}
		s.ServeHTTP(w, r)
	}), tls.RequestClientCert, clients)
	o := testOptions(t)
	o.dial = dialTo(h)
	o.Registries = map[string]Registry{"example.com": {
		CAFile: writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", h.Certificate().Raw), CertFile: cert, KeyFile: key,
	}}
	if _, err := pull(t, "example.com/i:v1", o); err != nil {
		t.Fatal(err)
	}
	if storage, asked := shown["storage.example.com"]; shown["example.com"] == 0 || storage != 0 || !asked {
		t.Errorf("shown: %v; want it at example.com and nowhere else", shown)
	}
}

// What is set for a host counts for files from there, too.
func TestTLSOfFiles(t *testing.T) {
	t.Parallel()
	h := tlsServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("a catalog")) }), tls.NoClientCert, nil)
	o := testOptions(t)
	o.dial = dialTo(h)
	_, err := Document(t.Context(), "https://example.com/catalog.json", o)
	if err == nil || !strings.Contains(api.HintOf(err), `[registry."example.com"]`) {
		t.Errorf("unknown authority: got %v, hint %q", err, api.HintOf(err))
	}
	o.Registries = map[string]Registry{"example.com": {CAFile: writePEM(t, filepath.Join(t.TempDir(), "ca.pem"), "CERTIFICATE", h.Certificate().Raw)}}
	if got, err := Document(t.Context(), "https://example.com/catalog.json", o); err != nil || string(got) != "a catalog" {
		t.Errorf("got %q, %v", got, err)
	}
}
