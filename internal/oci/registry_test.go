package oci

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// server is a registry in memory behind a handler that misbehaves as a test says.
type server struct {
	http  *httptest.Server
	host  string
	inner http.Handler

	// fault answers the nth request (from 1) of a path itself, by returning true.
	// Nil behaves.
	fault func(w http.ResponseWriter, r *http.Request, n int) bool

	mu     sync.Mutex
	counts map[string]int    // GET requests by path
	ranges map[string]string // last Range by path
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{
		inner:  ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))),
		counts: map[string]int{}, ranges: map[string]string{},
	}
	s.http = httptest.NewServer(s)
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.http.Close)
	s.host = s.http.Listener.Addr().String()
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.URL.Path == "/token" {
		s.mu.Lock()
		s.counts[r.URL.Path]++
		s.ranges[r.URL.Path] = r.Header.Get("Range")
		n := s.counts[r.URL.Path]
		s.mu.Unlock()
		if s.fault != nil && s.fault(w, r, n) {
			return
		}
	}
	s.inner.ServeHTTP(w, r)
}

// count returns how often paths that contain part were asked for.
func (s *server) count(part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for path, n := range s.counts {
		if strings.Contains(path, part) {
			total += n
		}
	}
	return total
}

func (s *server) lastRange(d v1.Descriptor) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ranges["/v2/i/blobs/"+d.Digest.String()]
}

// push uploads c and tags root; it returns the reference.
func (s *server) push(t *testing.T, c content, root v1.Descriptor, tag string) string {
	t.Helper()
	send := func(method, path, mediaType string, data []byte) {
		r := httptest.NewRequest(method, path, bytes.NewReader(data))
		r.Header.Set("Content-Type", mediaType)
		w := httptest.NewRecorder()
		s.inner.ServeHTTP(w, r)
		if w.Code != http.StatusCreated {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	// Everything as a blob and, unchecked, as a manifest: a registry does not
	// care which digest is what.
	for h, data := range c {
		send(http.MethodPost, "/v2/i/blobs/uploads/?digest="+h.String(), "", data)
		send(http.MethodPut, "/v2/i/manifests/"+h.String(), "", data)
	}
	send(http.MethodPut, "/v2/i/manifests/"+tag, string(root.MediaType), c[root.Digest])
	return s.host + "/i:" + tag
}

// testOptions are Options with patience for tests.
func testOptions(t *testing.T) Options {
	return Options{CacheDir: t.TempDir(), backoff: time.Millisecond, stall: 20 * time.Second, patience: 1}
}

// pull resolves and reads a whole image as a caller does.
func pull(t *testing.T, ref string, o Options) ([][]byte, error) {
	t.Helper()
	img, err := Resolve(t.Context(), mustNormalize(t, ref), o)
	if err != nil {
		return nil, err
	}
	fetched := make(chan error, 1)
	go func() { fetched <- img.Prefetch(t.Context(), o.Progress) }()
	var layers [][]byte
	for _, l := range img.Layers {
		data, rerr := readLayer(t, l, o.Progress)
		if rerr != nil {
			err = rerr
			break
		}
		layers = append(layers, data)
	}
	if ferr := <-fetched; err == nil {
		err = ferr
	}
	return layers, err
}

// cut sends the first n bytes of a body and breaks the connection.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) >= c.left {
		c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// reset ends the connection by a TCP RST.
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// edit changes every byte slice that is written.
type edit struct {
	http.ResponseWriter
	change func([]byte)
}

func (e edit) Write(p []byte) (int, error) {
	p = bytes.Clone(p)
	e.change(p)
	return e.ResponseWriter.Write(p)
}
