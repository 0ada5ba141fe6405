package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

// registry is one repository of a registry, as a source. The first request
// connects it, so what is cached by digest needs no network.
type registry struct {
	ref      Ref
	repo     name.Repository
	wire     *wire
	cache    cache
	backoff  time.Duration
	progress api.Progress

	mu     sync.Mutex
	client *http.Client // guarded by mu; nil until connected
	login  bool         // guarded by mu; there are credentials
}

func newRegistry(ref Ref, o Options) (*registry, error) {
	plain := o.Insecure || loopback(hostname(ref.registry))
	var opts []name.Option
	if plain {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(ref.registry, opts...)
	if err != nil {
		return nil, err
	}
	c, err := openCache(o.CacheDir)
	if err != nil {
		return nil, err
	}
	return &registry{
		ref:      ref,
		repo:     reg.Repo(ref.repository),
		wire:     newWire(reg.RegistryStr(), plain, o.stall),
		cache:    c,
		backoff:  o.backoff,
		progress: o.Progress,
	}, nil
}

// connect finds credentials and the way to log in.
func (r *registry) connect(ctx context.Context) (*http.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		return r.client, nil
	}
	auth, err := authn.Resolve(ctx, keychain{}, r.repo)
	if err != nil {
		return nil, err
	}
	r.login = auth != authn.Anonymous
	rt, err := transport.NewWithContext(ctx, r.repo.Registry, auth,
		transport.NewUserAgent(r.wire, "banger"), []string{r.repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	r.client = &http.Client{Transport: rt}
	return r.client, nil
}

// get makes one GET and returns an answer of the 2xx kind.
func (r *registry) get(ctx context.Context, url string, header http.Header) (*http.Response, error) {
	client, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	return do(ctx, client, url, header)
}

func do(ctx context.Context, client *http.Client, url string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return nil, redact(err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, newStatusError(resp)
	}
	return resp, nil
}

func (r *registry) url(what, identifier string) string {
	u := url.URL{Scheme: "https", Host: r.repo.RegistryStr(), Path: "/v2/" + r.repo.RepositoryStr() + "/" + what + "/" + identifier}
	return u.String()
}

func (r *registry) root(ctx context.Context) ([]byte, error) {
	if r.ref.digest == "" {
		return r.fetchManifest(ctx, r.ref.tag, nil)
	}
	h, err := v1.NewHash(r.ref.digest)
	if err != nil {
		return nil, err
	}
	return r.document(ctx, v1.Descriptor{Digest: h, Size: -1})
}

// document returns a manifest by digest, from the cache when it is there. Size -1
// is not known.
func (r *registry) document(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if err := checkDocument(d); err != nil {
		return nil, err
	}
	if data, ok := r.cache.read(d); ok {
		return data, nil
	}
	return r.fetchManifest(ctx, d.Digest.String(), &d)
}

// accept lists what we read and what we name in an error; a registry that is
// not asked for it answers "not found", or converts.
var accept = []string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1),
	string(types.DockerManifestList), string(types.DockerManifestSchema2),
	string(types.DockerManifestSchema1Signed), string(types.DockerManifestSchema1),
	"application/vnd.oci.artifact.manifest.v1+json",
}

// fetchManifest asks the registry and keeps the answer. want is nil for a tag.
func (r *registry) fetchManifest(ctx context.Context, identifier string, want *v1.Descriptor) ([]byte, error) {
	var data []byte
	again := func(cause error, wait time.Duration) { warnRetry(r.progress, cause, wait) }
	err := retry(ctx, r.backoff, again, func() (bool, error) {
		resp, err := r.get(ctx, r.url("manifests", identifier), http.Header{"Accept": {strings.Join(accept, ", ")}})
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
		return nil, r.explain(err)
	}
	got := v1.Descriptor{Digest: sumOf(data), Size: int64(len(data))}
	if want != nil {
		if err := verifyDocument(data, *want); err != nil {
			return nil, err
		}
	}
	if err := r.cache.write(ctx, got, data); err != nil {
		return nil, err
	}
	return data, nil
}

func (r *registry) blob(d v1.Descriptor) blob {
	return &cachedBlob{origin: r, cache: r.cache, backoff: r.backoff, desc: d, changed: make(chan struct{})}
}

func (r *registry) blobAt(ctx context.Context, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	return openAt(d, offset, func(header http.Header) (*http.Response, error) { return r.openBlob(ctx, d, header) })
}

// openAt opens the bytes of a blob from offset on. A server that knows no ranges
// sends the beginning again, which is dropped.
func openAt(d v1.Descriptor, offset int64, get func(http.Header) (*http.Response, error)) (io.ReadCloser, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, d.Size-1))
	}
	resp, err := get(header)
	if status := (*statusError)(nil); errors.As(err, &status) && status.code == http.StatusRequestedRangeNotSatisfiable && offset > 0 {
		return nil, wrongSize(d, fmt.Sprintf("at most %d", offset)) // the blob ends before
	}
	if err != nil {
		return nil, err
	}
	start, total := int64(0), resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		if start, total, err = contentRange(resp.Header.Get("Content-Range")); err != nil || start > offset {
			resp.Body.Close()
			return nil, fmt.Errorf("%w: asked for bytes from %d, got Content-Range %q", api.ErrInvalid, offset, resp.Header.Get("Content-Range"))
		}
	}
	if total >= 0 && total != d.Size {
		resp.Body.Close()
		return nil, wrongSize(d, fmt.Sprint(total))
	}
	if _, err := io.CopyN(io.Discard, resp.Body, offset-start); err != nil {
		resp.Body.Close()
		return nil, noEOF(err)
	}
	return resp.Body, nil
}

// contentRange reads "bytes start-end/total" (RFC 9110, 14.4); total is -1 for "*".
func contentRange(s string) (start, total int64, err error) {
	span, all, _ := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	if start, err = strconv.ParseInt(first, 10, 64); err != nil {
		return 0, 0, err
	}
	if all == "*" {
		return start, -1, nil
	}
	total, err = strconv.ParseInt(all, 10, 64)
	return start, total, err
}

// openBlob asks the URLs of a foreign layer first, without credentials, and then
// the registry.
func (r *registry) openBlob(ctx context.Context, d v1.Descriptor, header http.Header) (*http.Response, error) {
	if !d.MediaType.IsDistributable() {
		for _, u := range d.URLs {
			resp, err := do(ctx, &http.Client{Transport: r.wire}, u, header.Clone())
			if err == nil || ctx.Err() != nil || temporary(err) {
				return resp, err
			}
		}
	}
	return r.get(ctx, r.url("blobs", d.Digest.String()), header)
}

// explain says what the user can do about an answer of the registry.
func (r *registry) explain(err error) error {
	code := 0
	var status *statusError
	var answer *transport.Error
	switch {
	case errors.As(err, &status):
		code = status.code
	case errors.As(err, &answer): // of the token service
		status = &statusError{host: r.ref.registry, code: answer.StatusCode, detail: diagnostics(answer)}
		err, code = status, answer.StatusCode
	case strings.Contains(err.Error(), "no token in bearer response"):
		return fmt.Errorf("log in to %s: the token service sent no token", r.ref.registry)
	}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		r.mu.Lock()
		login := r.login
		r.mu.Unlock()
		which := "no credentials for it in "
		if login {
			which = "with the credentials found in one of "
		}
		reg := r.ref.registry
		return api.Hint(fmt.Errorf("registry %s refused access, %s%s: %w", reg, which, strings.Join(credentialFiles(), ", "), err),
			fmt.Sprintf("check the name (many registries refuse what does not exist), or log in: `docker login %s`, `podman login %s` or `skopeo login %s`", reg, reg, reg))
	case http.StatusNotFound:
		return api.Hint(fmt.Errorf("%w: %w", api.ErrNotFound, err),
			fmt.Sprintf("check the name and the tag; `skopeo list-tags docker://%s/%s` lists the tags there are", r.ref.registry, r.ref.repository))
	case http.StatusTooManyRequests:
		return api.Hint(err, "the registry limits how much one may pull: wait, or log in for a higher limit")
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return api.Hint(err, fmt.Sprintf("check that %s is the right name and can be reached from here; a proxy is taken from HTTPS_PROXY", r.ref.registry))
	}
	return err
}

// warnRetry says that something went wrong and will be tried again.
func warnRetry(p api.Progress, cause error, wait time.Duration) {
	p.Warn(api.PhaseFetch, fmt.Sprintf("%v; trying again in %v", cause, wait.Round(100*time.Millisecond)))
}

// noEOF makes the end of a stream that should go on an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
