package main

import (
	"context"
	"net"
	"net/http"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// serve is a registry on loopback: as much of the distribution specification as a
// pull needs, straight from the layouts, so that little of what a pull takes is
// the registry's. Each image is a repository. It runs until ctx ends.
func serve(ctx context.Context, images map[string]layout) (host string, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		image, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
		kind, name := path.Split(rest)
		img, ok := images[image]
		switch {
		case r.URL.Path == "/v2/":
		case !ok:
			http.NotFound(w, r)
		case kind == "manifests/":
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			w.Header().Set("Docker-Content-Digest", img.manifest.String())
			http.ServeFile(w, r, filepath.Join(img.dir, "blobs", "sha256", img.manifest.Hex))
		case kind == "blobs/":
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeFile(w, r, filepath.Join(img.dir, "blobs", "sha256", filepath.Base(strings.TrimPrefix(name, "sha256:"))))
		}
	})}
	context.AfterFunc(ctx, func() { s.Close() })
	go func() { _ = s.Serve(l) }() // until it is closed
	return l.Addr().String(), nil
}
