package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"banger/internal/api"
)

// registry is one repository of a registry, as a source. The first request
// connects it, so what is cached by digest needs no network.
type registry struct {
	ref       Ref
	own       *endpoint
	endpoints []*endpoint // the mirrors and then own
	cache     cache
	lines     *lines
	options   Options
}

func newRegistry(ref Ref, o Options) (*registry, error) {
	own, err := newEndpoint(ref.registry, ref.repository, o)
	if err != nil {
		return nil, err
	}
	r := &registry{ref: ref, own: own, lines: &lines{max: o.Parallel}, options: o}
	for _, mirror := range o.Registries[ref.registry].Mirrors {
		host, path := splitMirror(mirror)
		e, err := newEndpoint(host, strings.TrimPrefix(path+"/"+ref.repository, "/"), o)
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w", mirror, err)
		}
		e.mirror = mirror
		r.endpoints = append(r.endpoints, e)
	}
	r.endpoints = append(r.endpoints, own)
	r.cache, err = openCache(o.CacheDir)
	return r, err
}

// ask asks the endpoints, the most reliable first, until one answers well: at
// first that is the order of the settings. When none does the error is that of
// the registry itself, and says what the mirrors said.
func (r *registry) ask(ctx context.Context, ask func(*endpoint) error) error {
	if len(r.endpoints) == 1 {
		return ask(r.own)
	}
	order := slices.Clone(r.endpoints)
	slices.SortStableFunc(order, func(a, b *endpoint) int { return cmp.Compare(a.faultCount(), b.faultCount()) })
	failed := &mirrorError{}
	for _, e := range order {
		err := ask(e)
		if err == nil || ctx.Err() != nil {
			return err
		}
		status := (*statusError)(nil)
		absent := errors.As(err, &status) && status.code == http.StatusNotFound
		first := !absent && e.blame()
		if e == r.own {
			failed.error = err
			continue
		}
		failed.again = failed.again || temporary(err)
		failed.mirrors = append(failed.mirrors, fmt.Errorf("mirror %s: %w", e.mirror, err))
		if first {
			r.options.Progress.Warn(api.PhaseFetch, fmt.Sprintf("mirror %s: %v; asking elsewhere", e.mirror, err))
		}
	}
	return failed
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

// fetchManifest asks for a manifest and keeps the answer. want is nil for a tag.
func (r *registry) fetchManifest(ctx context.Context, identifier string, want *v1.Descriptor) ([]byte, error) {
	var data []byte
	again := func(cause error, wait time.Duration) { warnRetry(r.options.Progress, cause, wait) }
	err := retry(ctx, r.options.backoff, again, func() (bool, error) {
		return false, r.ask(ctx, func(e *endpoint) (err error) {
			data, err = e.manifest(ctx, identifier)
			if err == nil && want != nil {
				err = verifyDocument(data, *want)
			}
			return err
		})
	})
	if err != nil {
		return nil, r.explain(err)
	}
	got := v1.Descriptor{Digest: sumOf(data), Size: int64(len(data))}
	if err := r.cache.write(ctx, got, data); err != nil {
		return nil, err
	}
	return data, nil
}

// manifest makes one try to get a manifest.
func (e *endpoint) manifest(ctx context.Context, identifier string) ([]byte, error) {
	resp, err := e.get(ctx, "manifests", identifier, http.Header{"Accept": {strings.Join(accept, ", ")}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := readAll(resp.Body)
	if err == nil && resp.ContentLength > int64(len(data)) {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}

func (r *registry) blob(d v1.Descriptor) blob {
	return r.options.cachedBlob(r, r.cache, r.lines, d)
}

func (r *registry) blobAt(ctx context.Context, d v1.Descriptor, start, end int64) (b *body, err error) {
	if !d.MediaType.IsDistributable() {
		if b, err := r.foreignAt(ctx, d, start, end); b != nil || err != nil {
			return b, err
		}
	}
	err = r.ask(ctx, func(e *endpoint) error {
		b, err = openAt(d, start, end, func(header http.Header) (*http.Response, error) {
			return e.get(ctx, "blobs", d.Digest.String(), header)
		})
		if err != nil {
			return err
		}
		b.mirror = e.mirror
		b.blame = func() { e.blame() }
		return nil
	})
	return b, err
}

// foreignAt asks the URLs of a foreign layer, without credentials. Nothing and no
// error is for the registry to have it.
func (r *registry) foreignAt(ctx context.Context, d v1.Descriptor, start, end int64) (*body, error) {
	client := &http.Client{Transport: r.own.wire}
	for _, u := range d.URLs {
		b, err := openAt(d, start, end, func(header http.Header) (*http.Response, error) { return do(ctx, client, u, header) })
		if err == nil || ctx.Err() != nil || temporary(err) {
			return b, err
		}
	}
	return nil, nil
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
		which := "no credentials for it in "
		if r.own.hasLogin() {
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
	if hinted := explainTLS(err, r.ref.registry); hinted != nil {
		return hinted
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return api.Hint(err, fmt.Sprintf("check that %s is the right name and can be reached from here; %s", r.ref.registry, proxyHint))
	}
	return err
}

// proxyHint says where a proxy comes from. The daemon lives longer than the shell
// that it was started from.
const proxyHint = "a proxy is taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY as they were when the daemon was started: to change them, banger daemon stop"

// warnRetry says that something went wrong and will be tried again.
func warnRetry(p api.Progress, cause error, wait time.Duration) {
	p.Warn(api.PhaseFetch, fmt.Sprintf("%v; trying again in %v", cause, wait.Round(100*time.Millisecond)))
}

// noEOF makes the end of a stream that should go on an error of its own.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
