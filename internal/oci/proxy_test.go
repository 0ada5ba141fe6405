package oci

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// The proxy of the environment is asked for a registry, by CONNECT and with its
// password, and for nothing on this machine. net/http reads the environment once,
// hence another process.
func TestProxy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := content{}
	local := s.push(t, c, c.simple(tarOf(1, 1000)), "v1")
	registry := tlsServer(t, s, tls.NoClientCert, nil)
	ca := writePEM(t, filepath.Join(t.TempDir(), "ca.pem"), "CERTIFICATE", registry.Certificate().Raw)
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+secret))
		if r.Method != http.MethodConnect || r.Host != "example.com:443" || r.Header.Get("Proxy-Authorization") != want {
			t.Errorf("the proxy was asked %s %s with %q", r.Method, r.Host, r.Header.Get("Proxy-Authorization"))
			w.WriteHeader(http.StatusForbidden)
			return
		}
		tunnel(t, w, registry.Listener.Addr().String())
	}))
	defer proxy.Close()
	address := strings.Replace(proxy.URL, "http://", "http://me:"+secret+"@", 1)
	for _, row := range []struct {
		ref     string
		proxied bool
	}{{"example.com/i:v1", true}, {local, false}} {
		asked.Store(0)
		child := childCommand(t, row.ref, testOptions(t))
		child.Env = append(child.Env, "HTTPS_PROXY="+address, "HTTP_PROXY="+address, "NO_PROXY=", "SSL_CERT_FILE="+ca)
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", row.ref, err, out)
		}
		if got := asked.Load() > 0; got != row.proxied {
			t.Errorf("%s: asked the proxy: %v, want %v", row.ref, got, row.proxied)
		}
	}
}

// tunnel connects who asked with address, until one of them ends.
func tunnel(t *testing.T, w http.ResponseWriter, address string) {
	there, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	w.WriteHeader(http.StatusOK)
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	go func() {
		io.Copy(there, here)
		there.Close()
	}()
	io.Copy(here, there)
	here.Close()
}
