package oci

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

// typeFile is the media type of a [File], as a blob of an artifact and in errors.
const typeFile types.MediaType = "application/vnd.banger.file"

// File is a file that is published somewhere, by digest.
type File struct {
	URL    string // https://..., http:// to this machine, file:///..., oci:<registry>/<repository>
	Digest string // "sha256:..."
	Size   int64  // bytes
}

// Layer returns the file as a layer without a diffID: [Layer.Open] gives what is
// in it, uncompressed and verified. What comes from elsewhere goes through the
// cache, as layers do.
func (f File) Layer(o Options) (Layer, error) {
	o = o.withDefaults()
	h, err := v1.NewHash(f.Digest)
	if err != nil || h.Algorithm != "sha256" || f.Size <= 0 {
		return Layer{}, fmt.Errorf("%w file %s: digest %q, size %d", api.ErrInvalid, f.URL, f.Digest, f.Size)
	}
	d := v1.Descriptor{MediaType: typeFile, Digest: h, Size: f.Size}
	b, err := f.blob(d, o)
	if err != nil {
		return Layer{}, fmt.Errorf("file %s: %w", f.URL, err)
	}
	// Whoever publishes a disk may leave most of it empty.
	l := Layer{Digest: f.Digest, Size: f.Size, what: "file", blob: b, ahead: newAhead(o.ReadAhead), limit: limit{bytes: o.MaxLayerBytes}}
	if err := reserve([]Layer{l}); err != nil {
		return Layer{}, fmt.Errorf("file %s: %w", f.URL, err)
	}
	return l, nil
}

func (f File) blob(d v1.Descriptor, o Options) (blob, error) {
	if name, ok := strings.CutPrefix(f.URL, "oci:"); ok {
		ref, err := parseName(name)
		if err != nil {
			return nil, err
		}
		r, err := newRegistry(ref, o)
		if err != nil {
			return nil, err
		}
		return r.blob(d), nil
	}
	u, err := url.Parse(f.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	if u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) {
		return fileBlob(u.Path), nil
	}
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, err
	}
	return o.cachedBlob(newSite(u, o), c, &lines{max: o.Parallel}, d), nil
}

// Document returns what is at a URL: https, or http to this machine. It is
// [api.ErrNotFound] when nothing is there.
func Document(ctx context.Context, address string, o Options) ([]byte, error) {
	o = o.withDefaults()
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w: %w", api.ErrInvalid, err)
	}
	s := newSite(u, o)
	var data []byte
	again := func(cause error, wait time.Duration) { warnRetry(o.Progress, cause, wait) }
	err = retry(ctx, o.backoff, again, func() (bool, error) {
		resp, err := s.get(ctx, http.Header{})
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		data, err = readAll(resp.Body)
		if err == nil && resp.ContentLength > int64(len(data)) {
			err = io.ErrUnexpectedEOF
		}
		return false, err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch %w", s.explain(err))
	}
	return data, nil
}

// site is a file on the web.
type site struct {
	url    *url.URL
	client *http.Client
}

func newSite(u *url.URL, o Options) *site {
	o.Insecure = false // that is about registries
	return &site{url: u, client: &http.Client{Transport: newWire(u.Host, u.Host, o)}}
}

// String returns the URL without what may be secret in it.
func (s *site) String() string { return s.url.Scheme + "://" + s.url.Host + s.url.Path }

func (s *site) get(ctx context.Context, header http.Header) (*http.Response, error) {
	header.Set("User-Agent", "banger")
	return do(ctx, s.client, s.url.String(), header)
}

func (s *site) blobAt(ctx context.Context, d v1.Descriptor, start, end int64) (*body, error) {
	return openAt(d, start, end, func(header http.Header) (*http.Response, error) { return s.get(ctx, header) })
}

func (s *site) explain(err error) error {
	if status := (*statusError)(nil); errors.As(err, &status) && (status.code == http.StatusNotFound || status.code == http.StatusGone) {
		return api.Hint(fmt.Errorf("%s: %w: %w", s, api.ErrNotFound, err), "check the URL")
	}
	err = fmt.Errorf("%s: %w", s, err)
	if hinted := explainTLS(err, s.url.Host); hinted != nil {
		return hinted
	}
	if netErr := net.Error(nil); errors.As(err, &netErr) {
		return api.Hint(err, fmt.Sprintf("check that %s can be reached from here; %s", s.url.Host, proxyHint))
	}
	return err
}

// Save writes the file as it is published, verified, to path, which must not
// exist.
func (f File) Save(ctx context.Context, path string, o Options) (err error) {
	l, err := f.Layer(o)
	if err != nil {
		return err
	}
	if err := l.blob.fetch(ctx, o.Progress); err != nil {
		return err
	}
	r, err := l.blob.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), io.LimitReader(&meteredReader{ctx, r, newMeter(o.Progress, api.PhaseCopy, "", f.Size)}, f.Size+1))
	switch got := digestText(sum); {
	case err != nil:
		return fmt.Errorf("file %s: %w", f.URL, err)
	case n != f.Size:
		return r.damaged(l.mismatch("size", fmt.Sprint(f.Size), fmt.Sprint(n)))
	case got != f.Digest:
		return r.damaged(l.mismatch("digest", f.Digest, got))
	}
	return nil
}
