package oci

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// BenchmarkFetch downloads one layer of 128 MiB into the cache: in one stream and
// in parts, from a server that gives each connection all it can, and from one
// that gives it 40 MB/s.
func BenchmarkFetch(b *testing.B) {
	const size = 128 << 20
	data := noise(1, size)
	d := v1.Descriptor{MediaType: typeFile, Digest: sumOf(data), Size: size}
	for _, server := range []struct {
		name string
		rate int
	}{{"unbounded", 0}, {"40MBps", 40e6}} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if server.rate > 0 {
				w = &paced{ResponseWriter: w, rate: server.rate, begun: time.Now()}
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}))
		u, err := url.Parse(srv.URL)
		if err != nil {
			b.Fatal(err)
		}
		for _, way := range []struct {
			name     string
			partSize int64
		}{{"stream", size}, {"parts", defaultPartSize}} {
			b.Run(server.name+"/"+way.name, func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					o := Options{CacheDir: b.TempDir(), partSize: way.partSize}.withDefaults()
					c, err := openCache(o.CacheDir)
					if err != nil {
						b.Fatal(err)
					}
					if err := o.cachedBlob(newSite(u, o), c, &lines{max: o.Parallel}, d).fetch(b.Context(), nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		srv.Close()
	}
}

// paced sends at most so many bytes in a second.
type paced struct {
	http.ResponseWriter
	rate  int
	begun time.Time
	sent  int
}

func (p *paced) Write(data []byte) (int, error) {
	n, err := p.ResponseWriter.Write(data)
	p.sent += n
	time.Sleep(time.Until(p.begun.Add(time.Duration(p.sent) * time.Second / time.Duration(p.rate))))
	return n, err
}
